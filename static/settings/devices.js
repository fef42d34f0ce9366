// "Devices": the key of this device, the keys of others, and adding, replacing and revoking them.

import * as api from "../app/api.js";
import { closeSheet, openSheet } from "../app/dialogs.js";
import { button, byId, h, setText } from "../app/dom.js";
import { isolate } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import * as session from "../app/session.js";
import { checkKey } from "../app/sign-in.js";
import { example } from "./example.js";
import { describeFailure } from "./failures.js";
import { abilities, inWords, keyDetails, keyPath, newKeyFields } from "./keys.js";
import { startPairing } from "./pairing.js";
import { snippets } from "./snippets.js";

export const id = "devices";
export const title = "Devices";
export const summary = "Phones, watches and other devices";
export const scopes = ["manage"];

/** Hours in which the former key of a device remains valid. */
const GRACE_HOURS = 24;

/** The response of `GET /me`, and the keys of the person; null until they are loaded. */
let me = null;
let keys = null;
/** Stops following the pairing that is shown. */
let stopPairing = () => {};
/** Whether a key is shown that will not be shown again. */
let showsKey = false;

const notify = (text, options = {}) => byId("device-notes") && showToast(text, { place: byId("device-notes"), ...options });
const reportFailure = (what) => (error) => notify(`${what}. ${describeFailure(error)}`, { isWarning: true });

const keyButtons = (key) => h("div", { class: "row" }, button("Replace key", () => confirmRotation(key), { "aria-label": `Replace key: ${key.name}` }), button("Revoke", () => confirmRevocation(key), { class: "button danger", "aria-label": `Revoke: ${key.name}` }));

function thisDevice() {
  const current = keys.find((key) => key.is_current);
  if (current) return [...keyDetails(current), keyButtons(current)];
  if (session.isByProxy()) return [h("p", {}, "Signed in by the proxy in front of this server, without a key.")];
  return [
    h("p", { class: "device-name" }, "Owner's key"),
    h("p", { class: "muted small" }, inWords(me.key.scopes)),
    h("p", {}, "This key is set on the server and cannot be changed here: it is in ", h("code", {}, "/etc/coffee-tracker/api_key"), " of an installed service, and else in ", h("code", {}, "data/coffee.key"), " or the setting ", h("code", {}, "API_KEY"), "."),
    h("p", {}, "Add this device below with a key of its own, so that you can revoke it alone if you lose it."),
  ];
}

function showKeys() {
  const focusedLabel = byId("device-parts").contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  byId("this-device").replaceChildren(...thisDevice());
  const others = keys.filter((key) => !key.is_current);
  const items = others.map((key) => h("li", { class: "device" }, h("div", {}, keyDetails(key)), keyButtons(key)));
  byId("device-list").replaceChildren(...(items.length ? items : [h("li", { class: "muted" }, "No other devices yet.")]));
  // The lists were built again: the same button keeps the focus.
  if (focusedLabel) [...byId("device-parts").querySelectorAll("button")].find((other) => other.getAttribute("aria-label") === focusedLabel)?.focus();
}

async function load() {
  await api.catchApiError(async () => {
    const [meResponse, list] = await Promise.all([api.get("/me"), api.get("/keys")]);
    [me, keys] = [meResponse, list.keys];
    // The user has opened another section meanwhile.
    if (!byId("device-list")) return;
    showKeys();
    setText(byId("device-status"), "");
    byId("device-parts").hidden = false;
  }, (error) => byId("device-status") && setText(byId("device-status"), keys ? "" : error.message));
}

// Replacing and revoking

function confirmRotation(key) {
  const replace = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      const { key: text, scopes } = await api.requestJson("POST", `${keyPath("/keys", key.name)}/rotate`, { body: { grace_hours: GRACE_HOURS } });
      if (key.is_current) await adopt(text);
      showKey({ name: key.name, scopes }, text, key.is_current ? "This device uses the new key already." : "Enter it on the device within 24 hours: until then, the old key works, too.");
      await load();
    }, reportFailure("Can't replace the key"));
  };
  openSheet(["Replace the key of ", h("bdi", {}, key.name), "?"], [
    h("p", {}, "You get a new key. The old one works for 24 more hours, so that there is time to change it."),
    key.is_current && h("p", {}, "This device changes to the new key by itself."),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), button("Replace key", replace, { class: "button primary" })),
  ]);
}

/** Continues the session of this device with its new key. */
async function adopt(text) {
  const { me: response } = await checkKey(text);
  if (response) session.signIn(text, response, session.isRemembered());
}

function confirmRevocation(key) {
  const name = isolate(key.name);
  const revoke = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      await api.request("DELETE", keyPath("/keys", key.name));
      if (key.is_current) {
        session.signOut();
        location.reload();
        return;
      }
      await load();
      // The button that opened the sheet is gone.
      byId("devices-title")?.focus();
      notify(`Revoked the key of ${name}`, { undo: () => undoRevocation(key.name) });
    }, reportFailure(`Can't revoke the key of ${name}`));
  };
  openSheet(["Revoke the key of ", h("bdi", {}, key.name), "?"], [
    key.is_current
      ? h("p", { class: "note warning" }, h("b", {}, "This is the key of this device."), " You are signed out at once, and need another key to sign in again.")
      : h("p", {}, h("bdi", {}, key.name), ` can no longer ${abilities(key.scopes)}. Entries that it has sent are kept.`),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), button("Revoke", revoke, { class: "button danger" })),
  ]);
}

const undoRevocation = (name) => api.catchApiError(async () => {
  await api.requestJson("POST", `${keyPath("/keys", name)}/undo-revoke`);
  await load();
  notify(`${isolate(name)} can be used again`);
}, reportFailure("Can't undo"));

// Adding a device

/** Shows the form, or what has replaced it, in the card "Add device". */
const addCard = (...content) => byId("add-device").replaceChildren(...content);

function showForm({ withFocus = true } = {}) {
  stopPairing();
  stopPairing = () => {};
  showsKey = false;
  const form = addForm();
  addCard(h("h3", { id: "add-title", tabindex: -1 }, "Add device"), form);
  if (withFocus) byId("add-title").focus();
}

/** Shows a new key, once, with instructions. */
function showKey({ name, scopes }, text, hint) {
  stopPairing();
  showsKey = true;
  addCard(
    h("h3", { id: "add-title", tabindex: -1 }, "Key of ", h("bdi", {}, name)),
    h("p", { class: "note" }, h("b", {}, "Copy it now: it is not shown again."), hint && ` ${hint}`),
    example("Key", text),
    h("div", { class: "snippets" }, snippets(text, scopes)),
    h("div", { class: "row" }, button("Done", () => showForm(), { class: "button primary" })),
  );
  byId("add-title").focus();
}

/** Pairs a device. */
async function pair(device) {
  stopPairing = await startPairing(byId("add-device"), device, { onPaired: load, onDone: () => showForm(), onRestart: () => pair(device) });
}

function addForm() {
  const fields = newKeyFields({ withMetrics: session.may("admin") });
  const submit = async (event) => {
    event.preventDefault();
    fields.showErrors(null);
    const isPairing = event.submitter?.value !== "key";
    await api.catchApiError(async () => {
      if (isPairing) return pair(fields.read());
      const created = await api.requestJson("POST", "/keys", { body: fields.read() });
      showKey(created, created.key, "");
      return load();
    }, fields.showErrors);
  };
  return h(
    "form",
    { class: "add-form", onsubmit: submit },
    fields.elements,
    h("div", { class: "row" }, h("button", { class: "button primary", value: "pair" }, "Pair with a code"), h("button", { class: "button", value: "key" }, "Show the key")),
  );
}

/** Shows the section. */
export function show(container) {
  me = keys = null;
  container.append(
    h("p", { id: "device-status", role: "status" }),
    h("div", { id: "device-parts", hidden: true },
      h("div", { class: "card" }, h("h3", {}, "This device"), h("div", { id: "this-device" })),
      h("div", { class: "card", id: "add-device" }),
      h("div", { class: "card" }, h("h3", { id: "devices-title", tabindex: -1 }, "Other devices"), h("div", { class: "toasts", id: "device-notes", role: "status" }), h("ul", { class: "devices", id: "device-list" }))),
  );
  showForm({ withFocus: false });
  load();
  return {
    refresh: load,
    hasChanges: () => (showsKey ? "The new key is not shown again." : false),
    close: () => stopPairing(),
  };
}
