// Dialogs: signing in with an API key, confirming to sign out, and editing an entry. The page behind them
// keeps everything that was typed.

import * as api from "./api.js";
import { button, byId, field, h, setFieldError, setText } from "./dom.js";
import { entryControls, timeControl } from "./entry-fields.js";
import { plural } from "./format.js";
import { closeToasts } from "./notifications.js";
import * as queue from "./queue.js";
import { store } from "./store.js";

const SIGN_IN_ERRORS = {
  unauthorized: "Invalid API key",
  unreachable: "Can't reach the server. Check that it is running and that this device is on the same network.",
  "rate-limited": "Too many failed attempts. Wait a minute and try again.",
};

/** Stores the key if the server accepts it, else returns an error message. A key with only the scope write is accepted too. */
async function tryKey(key, remember) {
  // Other characters cannot be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return "An API key has only letters, digits and symbols, and no spaces.";
  const error = await api.catchApiError(async () => void (await api.get("/coffee/today", { candidateKey: key })), (caught) => caught);
  if (error && error.kind !== "forbidden") return SIGN_IN_ERRORS[error.kind] ?? error.message;
  api.setKey(key, remember);
  return null;
}

/** Opens the sign-in dialog. `isDismissible`: the page can be used without signing in. */
export function openSignIn(onSignedIn, isDismissible) {
  const dialog = byId("sign-in");
  if (dialog.open) return;
  const key = h("input", { type: "password", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true });
  const remember = h("input", { type: "checkbox", checked: api.isRemembered() });
  const onSubmit = async (event) => {
    event.preventDefault();
    const error = await tryKey(key.value.trim().replace(/^Bearer\s+/i, ""), remember.checked);
    setFieldError(key, error ?? "");
    if (error) return key.focus();
    dialog.close();
    onSignedIn();
  };
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: onSubmit },
      h("img", { src: "/static/icon.svg", alt: "", width: 56, height: 56 }),
      h("h2", { id: "sign-in-title" }, "Coffee Tracker"),
      h("p", { class: "muted" }, "Track your caffeine and heart rate."),
      field("API key", key),
      h("label", { class: "checkbox" }, remember, h("span", {}, "Stay signed in on this device. Anyone who uses this browser can then view and log your data.")),
      h("button", { class: "button primary" }, "Sign in"),
      isDismissible && button("Not now", () => dialog.close()),
      h("p", { class: "muted small" }, h("a", { href: "/docs#key" }, "Where do I find my API key?")),
    ),
  );
  dialog.classList.toggle("dismissible", isDismissible);
  dialog.oncancel = (event) => isDismissible || event.preventDefault();
  dialog.showModal();
}

/** Opens the sheet with a title and content. */
function openSheet(title, ...content) {
  byId("sheet").replaceChildren(h("h2", { id: "sheet-title" }, title), ...content);
  byId("sheet").showModal();
}

const closeSheet = () => byId("sheet").close();

/** Signs out; asks first if there are entries that are not on the server yet. */
export function signOut() {
  const unsent = queue.all().length;
  const finish = async () => {
    // Deferred deletions need the key.
    await closeToasts();
    api.clearKey();
    location.reload();
  };
  if (!unsent) return finish();
  const text = unsent === 1 ? "has not been sent yet. If you keep it, it is" : "have not been sent yet. If you keep them, they are";
  openSheet(
    "Sign out?",
    h("p", {}, `${plural(unsent, "entry", "entries")} ${text} sent the next time you sign in.`),
    h(
      "div",
      { class: "row dialog-actions" },
      button("Discard and sign out", () => queue.discardAll().then(finish), { class: "button danger" }),
      button("Cancel", closeSheet),
      button("Keep and sign out", finish, { class: "button primary" }),
    ),
  );
}

/**
 * Opens the sheet to edit an entry of `route`. `onSave` gets the changed fields; if it fails, the sheet stays
 * open and shows the error. `deleteLabel` is the label of the button that calls `onDelete`.
 */
export function openEditor(route, entry, { deleteLabel, onSave, onDelete }) {
  const rows = Object.entries({ ...entryControls(route, entry, store.info?.validation), timestamp: timeControl(entry.timestamp) });
  const formError = h("p", { class: "field-error", role: "alert" });
  const showErrors = (error) => {
    const unmatched = error.errors.filter(({ field: name, message }) => {
      const row = rows.find(([rowName]) => rowName === name);
      if (row) setFieldError(row[1][1], message);
      return !row;
    });
    setText(formError, error.errors.length && !unmatched.length ? "" : error.message);
  };
  const onSubmit = async (event) => {
    event.preventDefault();
    setText(formError, "");
    const fields = rows.map(([name, [, control, read]]) => [name, read(control)]);
    const changed = fields.filter(([name, value]) => value !== (entry[name] ?? null));
    await api.catchApiError(async () => {
      if (changed.length) await onSave(Object.fromEntries(changed));
      closeSheet();
    }, showErrors);
  };
  const deleteAndClose = () => {
    closeSheet();
    onDelete();
  };
  const fields = rows.map(([, [label, control]]) => field(label, control));
  const buttons = [button(deleteLabel, deleteAndClose, { class: "button danger" }), button("Cancel", closeSheet), h("button", { class: "button primary" }, "Save")];
  openSheet("Edit entry", h("form", { onsubmit: onSubmit }, fields, formError, h("div", { class: "row dialog-actions" }, buttons)));
}
