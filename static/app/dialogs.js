// What opens over the page, which stays behind as it is with all that was typed: the question for the key,
// that before signing out, and the sheet that corrects an entry.

import * as api from "./api.js";
import { at, button, complain, controlsOf, field, h, say, timeControl } from "./elements.js";
import { count } from "./format.js";
import { live } from "./live.js";
import { settle } from "./notices.js";
import * as queue from "./queue.js";

const MESSAGES = {
  key: "The server does not know this key.",
  down: "The server does not answer. Is it running, and is this device in its network?",
  limited: "Too many wrong keys were tried. Please wait a minute.",
};

/** Keeps the key if the server takes it; says why not. A key that may only log is one too. */
async function tryKey(key, remember) {
  // Nothing else can be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return "A key has letters, digits and signs only, and no blanks.";
  const refused = await api.trying(() => api.get("/coffee/today", { candidate: key }), (fault) => fault);
  if (refused instanceof api.Fault && refused.kind !== "scope") return MESSAGES[refused.kind] ?? refused.message;
  api.setKey(key, remember);
  return null;
}

/** Asks for the key; `done` is called once it is there. `mayWait`: what is on the page can be looked at without. */
export function askForKey(done, mayWait) {
  const dialog = at("sign-in");
  if (dialog.open) return;
  const key = h("input", { type: "password", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true });
  const remember = h("input", { type: "checkbox", checked: api.isRemembered() });
  const submit = async (event) => {
    event.preventDefault();
    const problem = await tryKey(key.value.trim().replace(/^Bearer\s+/i, ""), remember.checked);
    complain(key, problem ?? "");
    if (problem) return key.focus();
    dialog.close();
    done();
  };
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: submit },
      h("img", { src: "/static/icon.svg", alt: "", width: 56, height: 56 }),
      h("h2", { id: "sign-in-title" }, "Coffee Tracker"),
      h("p", { class: "soft" }, "What you drink, and how your heart answers."),
      field("This server's API key", key),
      h("label", { class: "check" }, remember, h("span", {}, "Remember it on this device. Whoever uses this browser can then see and log everything.")),
      h("button", { class: "button primary" }, "Open"),
      mayWait && button("Not now", () => dialog.close()),
      h("p", { class: "soft small" }, h("a", { href: "/docs#key" }, "Where is my key?")),
    ),
  );
  dialog.classList.toggle("over-the-page", mayWait);
  dialog.oncancel = (event) => mayWait || event.preventDefault();
  dialog.showModal();
}

/** Opens the sheet with a title and content. */
function openSheet(title, ...content) {
  at("sheet").replaceChildren(h("h2", { id: "sheet-title" }, title), ...content);
  at("sheet").showModal();
}

const closeSheet = () => at("sheet").close();

/** Leaves nothing behind on this device; entries that the server does not have only if they shall stay. */
export function signOut() {
  const left = queue.all().length;
  const leave = async () => {
    // What can still be undone needs the key to be done.
    await settle();
    api.forget();
    location.reload();
  };
  if (!left) return leave();
  openSheet(
    "Sign out?",
    h("p", {}, `${count(left, "entry", "entries")} did not reach the server yet. Kept in this browser, they are sent when you sign in again.`),
    h(
      "div",
      { class: "row ends" },
      button("Discard and sign out", () => queue.discard().then(leave), { class: "button danger" }),
      button("Stay", closeSheet),
      button("Keep and sign out", leave, { class: "button primary" }),
    ),
  );
}

/**
 * Opens the sheet for an entry of `route`. `save` gets the fields that changed; when it fails, the sheet stays
 * with all that was typed, and says why. `remove` is what the button called `removal` does.
 */
export function edit(route, entry, { title, removal, save, remove }) {
  const rows = Object.entries({ ...controlsOf(route, entry, live.info?.validation), timestamp: timeControl(entry.timestamp) });
  const foot = h("p", { class: "field-error", role: "alert" });
  const refuse = (fault) => {
    const rest = fault.errors.filter((error) => {
      const row = rows.find(([name]) => name === error.field);
      if (row) complain(row[1][1], error.message);
      return !row;
    });
    say(foot, fault.errors.length && !rest.length ? "" : fault.message);
  };
  const submit = async (event) => {
    event.preventDefault();
    say(foot, "");
    const now = rows.map(([name, [, control, read]]) => [name, read(control)]);
    const changed = now.filter(([name, value]) => value !== (entry[name] ?? null));
    await api.trying(async () => {
      if (changed.length) await save(Object.fromEntries(changed));
      closeSheet();
    }, refuse);
  };
  const act = () => {
    closeSheet();
    remove();
  };
  const fields = rows.map(([, [label, control]]) => field(label, control));
  const buttons = [button(removal, act, { class: "button danger" }), button("Cancel", closeSheet), h("button", { class: "button primary" }, "Save")];
  openSheet(title, h("form", { onsubmit: submit }, fields, foot, h("div", { class: "row ends" }, buttons)));
}
