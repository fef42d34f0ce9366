// The key: asked for once, tried before it is kept, and forgotten on request. The page behind stays as it
// is, with everything that was typed.

import * as api from "./api.js";
import * as device from "./device.js";
import { at, h } from "./dom.js";
import * as queue from "./queue.js";
import { count } from "./format.js";

const MESSAGES = {
  key: "The server does not know this key.",
  down: "The server does not answer. Is it running, and is this device in its network?",
  limited: "Too many wrong keys were tried. Please wait a minute.",
};

/** Does the server take it? A key that may only log is one too. */
async function isTaken(key) {
  try {
    await api.get("/coffee/today", { key });
  } catch (fault) {
    if (fault.kind !== "scope") throw fault;
  }
}

function fill(dialog, done) {
  const key = h("input", { class: "field", type: "password", name: "key", id: "key", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true, "aria-describedby": "key-error" });
  const remember = h("input", { type: "checkbox", name: "remember", checked: device.isRemembered() });
  const error = h("p", { class: "field-error", id: "key-error", role: "alert" });
  const open = h("button", { class: "button primary" }, "Open");
  const submit = async (event) => {
    event.preventDefault();
    const given = key.value.trim().replace(/^Bearer\s+/i, "");
    error.textContent = "";
    // Nothing else can be sent in a header.
    if (!/^[\x21-\x7e]+$/.test(given)) return void (error.textContent = "A key has letters, digits and signs only, and no blanks.");
    open.disabled = true;
    try {
      await isTaken(given);
      device.setKey(given, remember.checked);
      dialog.close();
      done();
    } catch (fault) {
      error.textContent = MESSAGES[fault.kind] ?? fault.message;
      key.focus();
    } finally {
      open.disabled = false;
    }
  };
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: submit },
      h("img", { src: "/static/icon.svg", alt: "", width: 56, height: 56 }),
      h("h2", { id: "sign-in-title" }, "Coffee Tracker"),
      h("label", { for: "key" }, "This server's API key"),
      key,
      error,
      h("label", { class: "check" }, remember, h("span", {}, "Remember it on this device. Whoever uses this browser can then see and log everything.")),
      open,
      h("p", { class: "soft small" }, h("a", { href: "/docs#key" }, "Where is my key?")),
    ),
  );
}

/** Asks for the key; `done` is called once it is there. `mayWait`: what is on the page can be looked at without. */
export function ask(done, { mayWait = false } = {}) {
  const dialog = at("sign-in");
  if (dialog.open) return;
  fill(dialog, done);
  dialog.classList.toggle("over-the-page", mayWait);
  dialog.oncancel = (event) => mayWait || event.preventDefault();
  dialog.showModal();
}

/** Asks before leaving entries behind that the server does not have. */
export function signOut() {
  const waiting = queue.all().filter((entry) => entry.state !== "undone").length;
  const leave = () => {
    device.forget();
    location.reload();
  };
  if (!waiting) return leave();
  const sheet = at("sheet");
  const stay = h("button", { type: "button", class: "button primary", onclick: () => sheet.close() }, "Stay");
  sheet.replaceChildren(
    h("h2", { id: "sheet-title" }, "Sign out?"),
    h("p", {}, `${count(waiting, "entry", "entries")} did not reach the server yet. This browser keeps them, and sends them when you sign in again.`),
    h("div", { class: "row" }, stay, h("button", { type: "button", class: "button", onclick: leave }, "Sign out")),
  );
  sheet.showModal();
}
