// "Data": export everything, import files, and delete the entries of a period after a backup.

import * as api from "../app/api.js";
import { closeSheet, openSheet } from "../app/dialogs.js";
import { button, byId, field, h, select, setFieldError } from "../app/dom.js";
import { addDays, formatDate, plural } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import { ServerZone } from "../app/server-zone.js";
import { importCard } from "./file-import.js";
import * as jobs from "./jobs.js";

export const id = "data";
export const title = "Data";
export const summary = "Import, export, delete entries";
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

/** Returns the days from `from`, which may be empty, to `to` as fields of `POST /prune`. Days are the server's. */
async function periodOf(from, to) {
  const { server } = await api.get("/me");
  const isOver = to < new ServerZone(server.timezone).date(api.now());
  return { since: from || null, before: isOver ? addDays(to, 1) : new Date(api.now()).toISOString() };
}

function pruneCard() {
  const progress = jobs.progressView();
  const from = h("input", { type: "date" });
  const to = h("input", { type: "date", required: true });
  const kind = select(KINDS, {});
  const prune = async () => {
    closeSheet();
    await api.catchApiError(async () => {
      const body = { ...(await periodOf(from.value, to.value)), kind: kind.value };
      const { file, coffees, readings } = await jobs.run("POST", "/prune", { body }, progress.show);
      if (!file) return showToast("There are no entries in this period", { place: place() });
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
    setFieldError(to, "");
    if (!to.value) return setFieldError(to, "Choose a day");
    if (from.value > to.value) return setFieldError(to, "Must not be before “From”");
    const days = from.value ? `from ${formatDate(from.value)} to ${formatDate(to.value)}` : `up to ${formatDate(to.value)}`;
    return openSheet(`Delete everything ${days}?`, [
      h("p", {}, `${KINDS.find(([value]) => value === kind.value)[1]} of this period are deleted, those of the last day, too. A backup is made first, with which you can undo this.`),
      h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet, { autofocus: true }), button("Delete", prune, { class: "button danger" })),
    ]);
  };
  return h("form", { class: "card", onsubmit: confirm },
    h("h3", {}, "Delete entries"),
    field("From", from, "empty: the beginning"),
    field("To", to),
    field("What", kind),
    h("div", { class: "row" }, h("button", { class: "button danger" }, "Delete…")),
    progress.element);
}

/** Shows the section. */
export function show(container) {
  const fileImport = importCard();
  container.append(fileImport.element, exportCard(), pruneCard(), h("div", { class: "toasts", id: "data-notes", role: "status" }));
  return fileImport.view;
}
