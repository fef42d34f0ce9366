// "Data": export everything, and delete old entries after a backup.

import * as api from "../app/api.js";
import { closeSheet, openSheet } from "../app/dialogs.js";
import { button, byId, field, h, select, setFieldError } from "../app/dom.js";
import { formatDate, plural } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import * as jobs from "./jobs.js";

export const id = "data";
export const title = "Data";
export const summary = "Export, delete old entries";
export const scopes = ["read", "manage"];

const FORMATS = [["csv", "CSV"], ["spreadsheet", "Spreadsheet"], ["jsonl", "JSON Lines"]];
const KINDS = [["all", "Drinks and heart rates"], ["coffee", "Drinks"], ["heartrate", "Heart rates"]];

const place = () => byId("data-notes");
const sayError = (error) => showToast(error.message, { place: place(), isWarning: true });

async function exportEntries(kind, format) {
  await api.catchApiError(async () => {
    const response = await api.request("GET", `/export/${kind}?format=${format}`, { signal: new AbortController().signal });
    const [, name = "export"] = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "") ?? [];
    const url = URL.createObjectURL(await response.blob());
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }, sayError);
}

function exportCard() {
  const format = select(FORMATS, {});
  return h("div", { class: "card" },
    h("h3", {}, "Export"),
    h("p", { class: "muted" }, "All your entries as a file. CSV and JSON Lines can be imported again."),
    field("Format", format),
    h("div", { class: "row" }, button("Export drinks", () => exportEntries("coffee", format.value)), button("Export heart rates", () => exportEntries("heartrate", format.value))));
}

function pruneCard() {
  const progress = jobs.progressView();
  const before = h("input", { type: "date", required: true });
  const kind = select(KINDS, {});
  const prune = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      const body = { before: before.value, kind: kind.value };
      const { file, coffees, readings } = await jobs.run("POST", "/prune", { body }, progress.show);
      if (!file) return showToast("There are no entries before this day", { place: place() });
      const undo = () => api.catchApiError(async () => {
        await jobs.run("POST", `/backups/${file}/restore`, { body: {} }, progress.show);
        showToast("The entries are back", { place: place() });
      }, sayError).finally(progress.hide);
      return showToast(`Deleted ${plural(coffees, "drink")} and ${plural(readings, "heart rate")}`, { place: place(), undo });
    }, sayError);
    progress.hide();
  };
  const confirm = (event) => {
    event.preventDefault();
    if (!before.value) return setFieldError(before, "Choose a day");
    return openSheet(`Delete everything before ${formatDate(before.value)}?`, [
      h("p", {}, `${KINDS.find(([value]) => value === kind.value)[1]} before this day are deleted. A backup is made first, with which you can undo this.`),
      h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet, { autofocus: true }), button("Delete", prune, { class: "button danger" })),
    ]);
  };
  return h("form", { class: "card", onsubmit: confirm },
    h("h3", {}, "Delete old entries"),
    field("Before", before),
    field("What", kind),
    h("div", { class: "row" }, h("button", { class: "button danger" }, "Delete…")),
    progress.element);
}

/** Shows the section. */
export function show(container) {
  container.append(exportCard(), pruneCard(), h("div", { class: "toasts", id: "data-notes", role: "status" }));
  return {};
}
