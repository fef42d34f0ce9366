// The "History" card: entries newest first, with filter, editing, deletion with undo and paging; above them the
// entries that are not on the server yet, below them the export.

import * as api from "./api.js";
import { openEditor } from "./dialogs.js";
import { addChips, button, byId, field, h, iconButton, setFieldError, setText } from "./dom.js";
import { CONTEXTS, describeEntry } from "./entry-fields.js";
import { formatBytes, formatDay, formatMg, formatTime } from "./format.js";
import { logEntry } from "./log.js";
import { showToast } from "./notifications.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { serverDate, setDeleted, store } from "./store.js";

const FIRST_PAGE = 12;
const PAGE = 30;
/** The server's maximum page size. */
const MAX_PAGE = 1000;
/** By route: the chip's label, the filter's label, and the field that is filtered. */
const KINDS = { "/coffee/": ["Drinks", "Drink", "coffee_type"], "/heartrate/": ["Heart rates", "Context", "context"] };

/** Export formats of the API. A spreadsheet evaluates no text of its own format as a formula. */
const EXPORT_FORMATS = { csv: "CSV", spreadsheet: "Spreadsheet", jsonl: "JSON Lines" };

let route = "/coffee/";
let entries = [];
let hasMore = false;
/** Identifies the newest request; the responses of older ones are ignored. */
let currentRequest = null;
/** Entries, as route and id, whose deletion can still be undone, with what is shown in their place. */
const deletedEntries = new Map();
let onEntriesChanged = null;
const listListeners = [];

/** Calls `listener` whenever the shown entries change. */
export const onListChange = (listener) => listListeners.push(listener);

const entryPath = (entryRoute, entry) => `${entryRoute}${entry.id}`;

/** Returns the entries whose deletion has not been requested. */
export const withoutDeleted = (entryRoute, list) => list.filter((entry) => !deletedEntries.has(entryPath(entryRoute, entry)));
let inputs = {};
const clearButton = h("button", { type: "reset", class: "button", hidden: true }, "Clear");

/** Returns the selected days as `since` and `until` of the API. */
function selectedPeriod() {
  const [since, until] = [inputs.since, inputs.until].map(({ value }) => (value ? new Date(`${value}T00:00`) : null));
  // The last day is included.
  until?.setDate(until.getDate() + 1);
  return { since: since?.toISOString(), until: until?.toISOString() };
}

/** Returns the start of the next page. It is a time, so that entries logged or deleted meanwhile do not shift it. */
function nextPage() {
  const last = Date.parse(entries.at(-1).timestamp);
  // Timestamps have microseconds and `Date` has milliseconds: some entries of the last one are loaded already.
  const offset = entries.filter((entry) => Date.parse(entry.timestamp) === last).length;
  return { until: new Date(last + 1).toISOString(), offset };
}

const load = (isNextPage = false) => {
  const thisRequest = (currentRequest = {});
  // A reload returns at least as many entries as are shown.
  const limit = isNextPage ? PAGE : Math.min(MAX_PAGE, Math.max(FIRST_PAGE, entries.length));
  const path = api.withQuery(route, { ...selectedPeriod(), [KINDS[route][2]]: inputs.name.value.trim(), ...(isNextPage && entries.length && nextPage()), limit });
  return api.catchApiError(async () => {
    const response = await api.request("GET", path);
    const loaded = await response.json();
    if (currentRequest !== thisRequest) return;
    hasMore = response.headers.get("Link")?.includes('rel="next"') ?? false;
    entries = isNextPage ? [...entries, ...loaded] : loaded;
    show();
  }, (error) => {
    if (currentRequest === thisRequest) byId("history-more").replaceChildren(h("p", { class: "muted" }, error.message), button("Try again", () => load(isNextPage)));
  });
};

/** Reloads the entries that are shown, or loads the first page. */
export const refresh = () => load();

/** Loads the first page after the filter has changed, unless it ends before it starts. */
function reset() {
  const { since, until } = inputs;
  [since.max, until.min] = [until.value, since.value];
  const isReversed = Boolean(since.value && until.value && since.value > until.value);
  setFieldError(until, isReversed ? "Must not be before “From”" : "");
  if (isReversed) return null;
  entries = [];
  return load();
}

/** Reports whether the day view is shown in place of the dashboard, with rows and notes of its own. */
const isDayShown = () => !byId("day").hidden;
const shownRows = () => document.querySelectorAll(isDayShown() ? "#day-drinks .entry" : "#history-list .entry");
const notesPlace = () => (isDayShown() ? "day-notes" : "history-notes");

/** Focuses a button of a row of the list by its position, or the title of the card. */
function focusRow(position, name = "edit") {
  (shownRows()[position]?.querySelector(`[data-icon="${name}"]`) ?? byId(isDayShown() ? "day-title" : "history-title")).focus();
}

const positionOf = (entry) => [...shownRows()].findIndex((row) => row.dataset.id === String(entry.id));

function deleteEntry(entryRoute, entry) {
  const path = entryPath(entryRoute, entry);
  const position = positionOf(entry);
  const notes = h("div", { class: "toasts", role: "status" });
  const markDeleted = (isDeleted) => {
    if (isDeleted) deletedEntries.set(path, h("li", { class: "entry-deleted" }, notes));
    else deletedEntries.delete(path);
    // The totals follow the list.
    if (entryRoute === "/coffee/") setDeleted(entry, isDeleted);
    show();
  };
  const restore = () => markDeleted(false);
  markDeleted(true);
  // The next entry has moved to this position.
  focusRow(Math.min(position, shownRows().length - 1));
  const owner = session.owner();
  const deleteOnServer = async (keepalive) => {
    await api.catchApiError(async () => {
      await api.requestJson("DELETE", path, { owner, keepalive });
      if (entryRoute === route) entries = entries.filter((other) => other.id !== entry.id);
      await onEntriesChanged();
    }, (error) => showToast(`Can't delete the entry: ${error.message}`, { place: notesPlace(), isWarning: true }));
    restore();
  };
  // The request is deferred until it can no longer be undone: an entry logged again would get another id.
  const undo = () => {
    restore();
    focusRow(positionOf(entry));
    showToast(`Restored ${describeEntry(entryRoute, entry)}`, { place: notesPlace() });
  };
  showToast(`Deleted ${describeEntry(entryRoute, entry)}`, { place: isDayShown() ? "day-notes" : notes, undo, onClose: deleteOnServer });
}

/** Logs an entry once more, now. */
function logAgain(entryRoute, { timestamp, id, ...fields }) {
  return logEntry(entryRoute, fields, { at: api.now(), place: notesPlace() });
}

function editEntry(entryRoute, entry) {
  openEditor(entryRoute, entry, {
    deleteLabel: "Delete",
    onDelete: () => deleteEntry(entryRoute, entry),
    onSave: async (fields) => {
      const saved = await api.requestJson("PATCH", entryPath(entryRoute, entry), { body: fields });
      if (entryRoute === route && entries.some((other) => other.id === saved.id)) {
        const others = entries.filter((other) => other.id !== saved.id);
        entries = [...others, saved].sort((a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp) || b.id - a.id);
      }
      show();
      onEntriesChanged();
      return () => {
        focusRow(positionOf(saved));
        showToast(`Saved ${describeEntry(entryRoute, saved)}`, { place: notesPlace() });
      };
    },
    onRepeat: () => logAgain(entryRoute, entry),
  });
}

/** Creates the row of an entry: time, name, amount and buttons. */
function entryRow(entryRoute, entry, note, ...buttons) {
  const [name, amount] = entryRoute === "/coffee/" ? [entry.coffee_type ?? "caffeine", formatMg(entry.caffeine_mg)] : [entry.context ?? "no context", `${entry.bpm} bpm`];
  return h(
    "li",
    { class: "entry", "data-id": entry.id },
    h("time", { datetime: entry.timestamp }, formatTime(Date.parse(entry.timestamp))),
    h("div", { class: "entry-text" }, h("span", {}, h("bdi", {}, name)), note),
    h("span", { class: "amount" }, amount),
    buttons,
  );
}

/** Creates the row of an entry on the server, with buttons to edit and delete it. */
export function savedRow(entryRoute, entry) {
  const description = `${describeEntry(entryRoute, entry)}, ${formatTime(Date.parse(entry.timestamp))}`;
  const notes = entry.notes && h("span", { class: "muted" }, h("bdi", {}, entry.notes));
  const buttons = [
    iconButton("repeat", `Log again: ${description}`, () => logAgain(entryRoute, entry)),
    iconButton("edit", `Edit ${description}`, () => editEntry(entryRoute, entry)),
    iconButton("delete", `Delete ${description}`, () => deleteEntry(entryRoute, entry)),
  ];
  return entryRow(entryRoute, entry, notes, ...buttons);
}

const dayGroup = (title, rows) => h("section", { class: "day" }, h("h3", {}, title), h("ol", {}, rows));

/** Replaces the content of a list of entries; the focus stays on the same button of the same entry. */
export function replaceRows(list, content) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const [id, icon] = [focused?.closest(".entry")?.dataset.id, focused?.dataset.icon];
  list.replaceChildren(...content);
  if (focused?.isConnected) focused.focus();
  else if (id) list.querySelector(`[data-id="${id}"] [data-icon="${icon}"]`)?.focus();
}

function show() {
  const days = [];
  for (const entry of entries) {
    const instant = Date.parse(entry.timestamp);
    const title = formatDay(instant);
    if (days.at(-1)?.[0] !== title) days.push([title, [], serverDate(instant)]);
    days.at(-1)[1].push(deletedEntries.get(entryPath(route, entry)) ?? savedRow(route, entry));
  }
  const isFiltered = Object.values(inputs).some((input) => input.value);
  clearButton.hidden = !isFiltered;
  setText(byId("export-label"), inputs.since.value || inputs.until.value ? "Export selected days:" : "Export all:");
  const empty = h("p", { class: "muted" }, isFiltered ? "No matching entries" : "No entries yet");
  replaceRows(byId("history-list"), days.length ? days.map(([title, rows, date]) => dayGroup(h("a", { href: `#day/${date}` }, title), rows)) : [empty]);
  byId("history-more").replaceChildren(...(hasMore ? [button("Load more", () => load(true))] : []));
  for (const listener of listListeners) listener();
}

/** Shows the entries that were rejected or could not be sent yet. */
function showUnsent() {
  const edit = (entry) =>
    openEditor(entry.route, entry.body, {
      deleteLabel: "Discard",
      onDelete: () => queue.undo(entry),
      onSave: async (fields) => void (await queue.replace(entry, { ...entry.body, ...fields })),
    });
  const pendingRow = (entry) => entryRow(entry.route, entry.body, h("span", { class: "muted" }, "Waiting to send"), button("Discard", () => queue.undo(entry)));
  const rejectedRow = (entry) => entryRow(entry.route, entry.body, h("span", { class: "field-error" }, `Couldn't be saved: ${entry.problem}`), button("Edit", () => edit(entry)));
  const rows = [...queue.rejected().map(rejectedRow), ...queue.pending().filter((entry) => entry.tries > 1 || api.state.isUnreachable).map(pendingRow)];
  byId("history-unsent").replaceChildren(...(rows.length ? [dayGroup("Not sent yet", rows)] : []));
}

function chooseKind(value) {
  route = value;
  inputs.name.value = "";
  setText(inputs.name.labels[0], KINDS[route][1]);
  return reset();
}

function fillSuggestions() {
  const names = route === "/coffee/" ? (store.types?.own ?? []).map((drink) => drink.coffee_type) : CONTEXTS;
  byId("filter-names").replaceChildren(...names.map((name) => h("option", { value: name })));
}

/** Returns a stream that downloads a file. Blobs keep the chunks outside the page's memory. */
function downloadStream(name, type) {
  const chunks = [];
  return new WritableStream({
    write: (chunk) => void chunks.push(new Blob([chunk])),
    close() {
      const link = h("a", { href: URL.createObjectURL(new Blob(chunks, { type })), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    },
  });
}

/** Exports to a file, directly to disk where the browser supports it; returns the file's name. */
async function exportFile(format, signal, onprogress) {
  const kind = route.replaceAll("/", "");
  const path = api.withQuery(`/export/${kind}`, { format, ...selectedPeriod() });
  // The file picker may be opened only directly after the click.
  const file = await window.showSaveFilePicker?.({ suggestedName: `${kind}.${format === "jsonl" ? "jsonl" : "csv"}` });
  const response = await api.request("GET", path, { signal });
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"))?.[1];
  let total = 0;
  const counter = new TransformStream({
    transform(chunk, controller) {
      onprogress((total += chunk.byteLength));
      controller.enqueue(chunk);
    },
  });
  const target = file ? await file.createWritable() : downloadStream(name, response.headers.get("Content-Type"));
  await response.body.pipeThrough(counter).pipeTo(target, { signal });
  return file?.name ?? name;
}

function startExport() {
  const progress = h("span", { class: "muted", role: "status" });
  let abortController = null;
  const cancelButton = button("Cancel", () => abortController.abort(), { hidden: true });
  const run = (format) => async () => {
    abortController = new AbortController();
    const setRunning = (isRunning) => {
      for (const formatButton of formatButtons) formatButton.disabled = isRunning;
      cancelButton.hidden = !isRunning;
    };
    setRunning(true);
    try {
      showToast(`Exported ${await exportFile(format, abortController.signal, (total) => setText(progress, `${formatBytes(total)} exported`))}`, { place: "export-notes" });
    } catch (error) {
      if (error.name !== "AbortError") showToast(`Export failed: ${error.message}`, { place: "export-notes", isWarning: true });
    }
    setText(progress, "");
    setRunning(false);
  };
  const formatButtons = Object.entries(EXPORT_FORMATS).map(([format, label]) => button(label, run(format)));
  byId("export").append(h("span", { class: "muted", id: "export-label" }), ...formatButtons, progress, cancelButton, h("div", { class: "toasts", id: "export-notes", role: "status" }));
}

/** `onChange` is called after an entry was edited or deleted. */
export function start(onChange) {
  onEntriesChanged = onChange;
  addChips(byId("history-kind"), "history-kind", Object.entries(KINDS).map(([value, [label]]) => [value, label]), route, chooseKind);
  const name = h("input", { type: "search", list: "filter-names" });
  const [since, until] = [h("input", { type: "date" }), h("input", { type: "date" })];
  inputs = { name, since, until };
  const form = byId("history-filter");
  form.append(field("Drink", name), field("From", since), field("To", until), clearButton);
  form.addEventListener("change", reset);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    // After the browser has cleared the fields.
    setTimeout(reset);
    name.focus();
  });
  name.addEventListener("focus", fillSuggestions);
  queue.on("change", showUnsent);
  api.onStateChange(showUnsent);
  showUnsent();
  startExport();
}
