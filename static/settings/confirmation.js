// Asks for the owner's key again before an action of the owner, unless it was entered in the last ten minutes: whoever
// finds an unlocked screen can look around, but change nothing. Only the page checks this, not the server.

import * as api from "../app/api.js";
import { button, field, h, setFieldError } from "../app/dom.js";
import { MINUTE } from "../app/format.js";
import * as session from "../app/session.js";
import { trimKey } from "../app/sign-in.js";

/** Time after which the key is asked for again, in ms. */
const MAX_AGE = 10 * MINUTE;

/** Paths of the requests that change people, keys or the stored entries as a whole. */
const PATHS = /^\/((people|keys)(\/.*)?|pairings|prune|imports|backups\/upload|backups\/[^/]+\/restore)$/;

/** The question that is open, or null. */
let question = null;

function wasEnteredRecently() {
  const age = Date.now() - (session.keyEnteredAt() ?? -Infinity);
  // After the clock was set back, the age is not known.
  return age >= 0 && age < MAX_AGE;
}

/** Asks for the key; resolves to whether it was entered. */
function ask() {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true });
    const confirm = (event) => {
      event.preventDefault();
      if (trimKey(input.value) !== session.key()) {
        setFieldError(input, "Wrong key. Enter the key that you signed in with.");
        input.select();
        return;
      }
      session.recordKeyEntry();
      dialog.close("confirmed");
    };
    const onClose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "confirmed");
    };
    const dialog = h("dialog", { class: "sheet", id: "confirmation", "aria-labelledby": "confirmation-title", onclose: onClose },
      h("h2", { id: "confirmation-title" }, "Confirm it's you"),
      h("p", {}, "Enter the owner's key to continue. You are not asked again for ten minutes."),
      h("form", { onsubmit: confirm },
        field("Owner's key", input),
        h("div", { class: "row dialog-actions" }, button("Cancel", () => dialog.close()), h("button", { class: "button primary" }, "Confirm"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks for the key before a request if that is needed; throws if the user cancels. */
async function confirmOwner(method, path, body) {
  // The preview of a restore changes nothing.
  const isOwnersAction = session.key() !== null && session.may("admin") && PATHS.test(path) && !body?.dry_run;
  if (!isOwnersAction || wasEnteredRecently()) return;
  question ??= ask().finally(() => (question = null));
  if (!(await question)) throw new api.ApiError("cancelled", "Cancelled");
}

export const start = () => api.onBeforeChange(confirmOwner);
