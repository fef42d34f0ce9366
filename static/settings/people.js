// "People": everyone on the server, for the owner.

import * as api from "../app/api.js";
import { closeSheet, openSheet } from "../app/dialogs.js";
import { button, byId, field, h, setFieldError, setText } from "../app/dom.js";
import { MINUTE, formatAge, formatDate, formatDayTime, isolate, plural, toLocalInput } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import * as jobs from "./jobs.js";
import { abilities, keyDetails, keyPath, newKeyFields } from "./keys.js";

export const id = "people";
export const title = "People";
export const summary = "Add, rename, remove, keys";
export const scopes = ["admin"];

let list = null;
let view = null;
let progress = null;

const place = () => byId("people-notes");
const sayError = (error) => showToast(error.message, { place: place(), isWarning: true });
const labelOf = ({ name, display_name: displayName, is_owner: isOwner }) => displayName ?? (isOwner ? "Owner" : name);
const age = (time) => formatAge((api.now() - Date.parse(time)) / MINUTE);

function describe(person) {
  const backup = person.backup.error ? `last backup failed: ${person.backup.error}` : person.backup.success_at ? `last backup ${age(person.backup.success_at)}` : "no backup yet";
  const newest = person.newest_entry_at ? `newest entry ${formatDayTime(Date.parse(person.newest_entry_at))} · ` : "";
  return `${newest}${plural(person.keys, "device key")} · ${backup}`;
}

/** Describes the move of a person, whose data cannot be changed meanwhile. */
const describeMove = ({ move, frozen_since: since }) => `${move.direction === "leaving" ? "Moving to another machine" : "Moved here, and not released yet"}. Changes have been rejected since ${formatDayTime(Date.parse(since))}.`;

function showList() {
  if (!view?.isConnected || !list) return;
  const item = (person) => {
    const label = labelOf(person);
    return h("li", {},
      h("div", {},
        h("p", { class: "backup-time" }, h("bdi", {}, label), " ", label === person.name ? null : h("span", { class: "muted small" }, person.name)),
        h("p", { class: "muted small" }, describe(person)),
        person.move && h("p", { class: "muted small" }, describeMove(person)),
        person.problem && h("p", { class: "field-error" }, `Not available: ${person.problem}`)),
      h("div", { class: "row" },
        button("Keys", () => openKeys(person), { "aria-label": `Keys of ${label}` }),
        button("Rename", () => openEditor(person), { "aria-label": `Rename ${label}` }),
        !person.is_owner && button("Remove…", () => openRemoval(person), { "aria-label": `Remove ${label}…` })));
  };
  byId("people-list").replaceChildren(...list.people.map(item));
  const removed = list.removed.map(({ folder, name, removed_at: removedAt, deletion_at: deletionAt }) =>
    h("li", {},
      h("div", {},
        h("p", {}, name, h("span", { class: "muted small" }, ` removed ${formatDayTime(Date.parse(removedAt))}`)),
        deletionAt && h("p", { class: "muted small" }, `Deleted for good on ${formatDate(toLocalInput(Date.parse(deletionAt)).slice(0, 10))}`)),
      button("Bring back", () => bringBack(folder, name), { "aria-label": `Bring back ${name}` })));
  byId("removed").hidden = !removed.length;
  byId("removed-list").replaceChildren(...removed);
}

async function load() {
  await api.catchApiError(async () => {
    list = await api.get("/people");
    setText(byId("people-error"), "");
    showList();
  }, (error) => setText(byId("people-error"), error.message));
}

/** Shows errors of a request at the fields of a form. */
function showErrors(error, fields, formError) {
  const unmatched = error.errors.filter(({ field: name, message }) => {
    if (fields[name]) setFieldError(fields[name], message);
    return !fields[name];
  });
  setText(formError, error.errors.length && !unmatched.length ? "" : error.message);
}

const nameInput = (value = "") => h("input", { value, required: true, maxlength: 32, pattern: "[a-z0-9\\-]+", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });

function openNew() {
  const fields = { name: nameInput(), display_name: h("input", { maxlength: 100, autocomplete: "off" }) };
  const formError = h("p", { class: "field-error", role: "alert" });
  const add = async (event) => {
    event.preventDefault();
    setText(formError, "");
    await api.catchApiError(async () => {
      const body = { name: fields.name.value, display_name: fields.display_name.value || null };
      const { person, key } = await api.requestJson("POST", "/people", { body });
      showKey([h("bdi", {}, labelOf(person)), " was added"], key);
      await load();
    }, (error) => showErrors(error, fields, formError));
  };
  openSheet("Add a person", [
    h("p", {}, "Each person has their own entries, devices and backups."),
    h("form", { onsubmit: add },
      field("Name shown on pages", fields.display_name, "optional"),
      field("Short name", fields.name, "lower-case letters, digits, hyphens"),
      formError,
      h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), h("button", { class: "button primary" }, "Add"))),
  ]);
}

/** Shows a new key, once. */
function showKey(title, { key, scopes }) {
  closeSheet();
  // Only such a key can sign in to the pages.
  const isForPages = scopes.includes("read") && scopes.includes("write");
  const text = isForPages ? `${location.origin}/#key=${key}` : key;
  const input = h("input", { readonly: true, value: text, onfocus: () => input.select() });
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    input.select();
    setText(copyButton, "Copied");
  };
  const copyButton = button("Copy", copy, { class: "button primary" });
  openSheet(title, [
    h("p", {}, `${isForPages ? "Open this link on their device to sign it in." : "Enter this key on their device."} It is shown only once, and whoever has it can ${abilities(scopes)}.`),
    field(isForPages ? "Link" : "Key", input),
    h("div", { class: "row dialog-actions" }, button("Done", closeSheet), copyButton),
  ]);
}

// Keys of a person

const keysPath = (person) => `/people/${person.name}/keys`;

/** Lists the keys of a person; `note` is the outcome of the last action. */
async function openKeys(person, note = "") {
  await api.catchApiError(async () => {
    const { keys } = await api.get(keysPath(person));
    const item = (key) => h("li", { class: "device" }, h("div", {}, keyDetails(key)), button("Revoke", () => confirmRevocation(person, key), { class: "button danger", "aria-label": `Revoke: ${key.name}` }));
    const status = h("p", { role: "status" });
    closeSheet();
    openSheet(["Keys of ", h("bdi", {}, labelOf(person))], [
      status,
      person.is_owner && h("p", { class: "muted" }, "The owner's key itself is set on the server and not listed."),
      h("ul", { class: "devices", id: "person-keys" }, keys.length ? keys.map(item) : h("li", { class: "muted" }, "No keys yet.")),
      h("div", { class: "row dialog-actions" }, button("Close", closeSheet, { autofocus: true }), button("Add key", () => openNewKey(person), { class: "button primary" })),
    ]);
    // A text that is there from the start is not announced.
    setText(status, note);
  }, sayError);
}

function openNewKey(person) {
  const fields = newKeyFields({ withMetrics: person.is_owner });
  const add = async (event) => {
    event.preventDefault();
    fields.showErrors(null);
    await api.catchApiError(async () => {
      const created = await api.requestJson("POST", keysPath(person), { body: fields.read() });
      showKey(["Key of ", h("bdi", {}, labelOf(person)), ": ", h("bdi", {}, created.name)], created);
      await load();
    }, fields.showErrors);
  };
  closeSheet();
  openSheet(["New key of ", h("bdi", {}, labelOf(person))], [
    h("form", { class: "add-form", onsubmit: add },
      fields.elements,
      h("div", { class: "row dialog-actions" }, button("Cancel", () => openKeys(person)), h("button", { class: "button primary" }, "Add"))),
  ]);
}

function confirmRevocation(person, key) {
  const revoke = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      await api.request("DELETE", keyPath(keysPath(person), key.name));
      await load();
      await openKeys(person, `Revoked ${isolate(key.name)}`);
    }, sayError);
  };
  closeSheet();
  openSheet(["Revoke the key ", h("bdi", {}, key.name), " of ", h("bdi", {}, labelOf(person)), "?"], [
    h("p", {}, `It can no longer ${abilities(key.scopes)}. Entries that it has sent are kept.`),
    h("div", { class: "row dialog-actions" }, button("Cancel", () => openKeys(person), { autofocus: true }), button("Revoke", revoke, { class: "button danger" })),
  ]);
}

function openEditor(person) {
  const fields = { display_name: h("input", { value: person.display_name ?? "", maxlength: 100, autocomplete: "off" }), name: nameInput(person.name) };
  const formError = h("p", { class: "field-error", role: "alert" });
  const save = async (event) => {
    event.preventDefault();
    setText(formError, "");
    await api.catchApiError(async () => {
      const body = { display_name: fields.display_name.value.trim() || null };
      if (!person.is_owner) body.name = fields.name.value;
      await api.requestJson("PATCH", `/people/${person.name}`, { body });
      closeSheet();
      await load();
    }, (error) => showErrors(error, fields, formError));
  };
  openSheet(["Rename ", h("bdi", {}, labelOf(person))], [
    h("form", { onsubmit: save },
      field("Name shown on pages", fields.display_name),
      !person.is_owner && field("Short name", fields.name, "lower-case letters, digits, hyphens"),
      formError,
      h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), h("button", { class: "button primary" }, "Save"))),
  ]);
}

function openRemoval(person) {
  const remove = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      const { folder } = await jobs.run("DELETE", `/people/${person.name}`, {}, progress.show);
      await load();
      showToast(`Removed ${labelOf(person)}`, { place: place(), undo: () => bringBack(folder, person.name) });
    }, sayError);
    progress.hide();
  };
  openSheet(["Remove ", h("bdi", {}, labelOf(person)), "?"], [
    h("p", {}, "Their devices can no longer see or add entries. A last backup is made. You can bring them back while they are listed under “Removed”."),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet, { autofocus: true }), button("Remove", remove, { class: "button danger" })),
  ]);
}

async function bringBack(folder, name) {
  await api.catchApiError(async () => {
    await api.requestJson("POST", "/people", { body: { removed: folder } });
    await load();
    showToast(`${name} is back, and their devices work again`, { place: place() });
  }, sayError);
}

/** Shows the section. */
export function show(container) {
  progress = jobs.progressView();
  view = h("div", {},
    h("div", { class: "card" },
      h("p", { class: "muted" }, "As the owner of the machine you can also read everyone’s files on it."),
      h("p", { class: "field-error", id: "people-error", role: "alert" }),
      h("div", { class: "row" }, button("Add a person", openNew, { class: "button primary" })),
      progress.element,
      h("div", { class: "toasts", id: "people-notes", role: "status" })),
    h("ul", { class: "rows", id: "people-list", "aria-label": "People" }),
    h("div", { id: "removed", hidden: true }, h("h3", {}, "Removed"), h("ul", { class: "rows", id: "removed-list" })));
  container.append(view);
  load();
  return { refresh: load };
}
