// What was logged, newest first: found by time and kind, corrected, deleted with a way back, page by page.
// Above it stands what the server does not have yet; below it, how to take it all along as a file.

import * as api from "./api.js";
import { CONTEXTS, at, button, chips, field, h, iconButton, say } from "./elements.js";
import { edit } from "./dialogs.js";
import { bytes, day, mg, time } from "./format.js";
import { drinks, words } from "./log.js";
import { toast } from "./notices.js";
import * as queue from "./queue.js";

const FIRST = 12;
const PAGE = 30;
/** The server gives no more at once. */
const MOST = 1000;
const KINDS = { "/coffee/": ["Drinks", "Drink", "coffee_type"], "/heartrate/": ["Heart rates", "While", "context"] };

let route = "/coffee/";
let entries = [];
let hasMore = false;
/** Marks the newest question: an older one's answer comes too late. */
let asked = null;
/** Entries that are being deleted: shown no more, but not gone yet. */
const leaving = new Set();
let changed = null;
let inputs = {};
const clear = h("button", { type: "reset", class: "button", hidden: true }, "Clear");

/** The chosen days, for the server. */
function span() {
  const [since, until] = [inputs.since, inputs.until].map(({ value }) => (value ? new Date(`${value}T00:00`) : null));
  // The last day is meant as a whole.
  until?.setDate(until.getDate() + 1);
  return { since: since?.toISOString(), until: until?.toISOString() };
}

/** Where the next page begins: by time, so that what is logged or deleted meanwhile moves nothing. */
function following() {
  const last = Date.parse(entries.at(-1).timestamp);
  // Times have microseconds and a Date has not: of this last millisecond some are here already.
  const offset = entries.filter((entry) => Date.parse(entry.timestamp) === last).length;
  return { until: new Date(last + 1).toISOString(), offset };
}

const load = (isMore = false) => {
  const question = (asked = {});
  // Anew, but with no less than what is shown.
  const limit = isMore ? PAGE : Math.min(MOST, Math.max(FIRST, entries.length));
  const path = api.withQuery(route, { ...span(), [KINDS[route][2]]: inputs.name.value.trim(), ...(isMore && entries.length && following()), limit });
  return api.trying(async () => {
    const answer = await api.reply("GET", path);
    const found = await answer.json();
    if (asked !== question) return;
    hasMore = answer.headers.get("Link")?.includes('rel="next"') ?? false;
    entries = isMore ? [...entries, ...found] : found;
    show();
  }, (fault) => {
    if (asked === question) at("history-more").replaceChildren(h("p", { class: "soft" }, fault.message), button("Try again", () => load(isMore)));
  });
};

/** Asks for as much as is shown, or for the first page. */
export const refresh = () => load();

/** Asks for the first page of something else. */
function begin() {
  entries = [];
  return load();
}

function remove(from, entry) {
  leaving.add(entry.id);
  show();
  const stay = () => {
    leaving.delete(entry.id);
    show();
  };
  const go = async (keepalive) => {
    await api.trying(async () => {
      await api.call("DELETE", `${from}${entry.id}`, { keepalive });
      entries = entries.filter((other) => other.id !== entry.id);
      changed();
    }, (fault) => toast(`Not deleted: ${fault.message}`, { isWarning: true }));
    stay();
  };
  // Held back until it is sure: a new entry in its place would have another id.
  toast(`Deleted: ${words(from, entry)}`, { undo: stay, onGone: go });
}

function open(from, entry) {
  edit(from, entry, {
    title: "Change this entry",
    removal: "Delete",
    remove: () => remove(from, entry),
    save: async (fields) => {
      const now = await api.call("PATCH", `${from}${entry.id}`, { body: fields });
      const others = entries.filter((other) => other.id !== now.id);
      entries = [...others, now].sort((a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp) || b.id - a.id);
      show();
      changed();
    },
  });
}

/** An entry's line: when, what, how much, and what can be done about it. */
function line(of, entry, note, ...buttons) {
  const [name, amount] = of === "/coffee/" ? [entry.coffee_type ?? "caffeine", mg(entry.caffeine_mg)] : [entry.context ?? "no context", `${entry.bpm} bpm`];
  return h(
    "li",
    { class: "entry" },
    h("time", { datetime: entry.timestamp }, time(Date.parse(entry.timestamp))),
    h("div", { class: "what" }, h("span", {}, name), note),
    h("span", { class: "amount" }, amount),
    buttons,
  );
}

function row(entry) {
  const called = `${words(route, entry)}, ${time(Date.parse(entry.timestamp))}`;
  const notes = entry.notes && h("span", { class: "soft" }, entry.notes);
  return line(route, entry, notes, iconButton("edit", `Change ${called}`, () => open(route, entry)), iconButton("delete", `Delete ${called}`, () => remove(route, entry)));
}

const group = (title, lines) => h("section", { class: "day" }, h("h3", {}, title), h("ol", {}, lines));

function show() {
  const days = [];
  for (const entry of entries.filter((one) => !leaving.has(one.id))) {
    const title = day(Date.parse(entry.timestamp));
    if (days.at(-1)?.[0] !== title) days.push([title, []]);
    days.at(-1)[1].push(row(entry));
  }
  const isFiltered = Object.values(inputs).some((input) => input.value);
  clear.hidden = !isFiltered;
  say(at("export-what"), inputs.since.value || inputs.until.value ? "Export these days:" : "Export all:");
  const none = h("p", { class: "soft" }, isFiltered ? "Nothing matches." : "Nothing was logged yet.");
  at("history-list").replaceChildren(...(days.length ? days.map(([title, lines]) => group(title, lines)) : [none]));
  at("history-more").replaceChildren(...(hasMore ? [button("Load more", () => load(true))] : []));
}

/** What waits to be sent, and what the server refused. */
function showWaiting() {
  const waits = (entry) => line(entry.route, entry.body, h("span", { class: "soft" }, "Waits to be sent"), button("Discard", () => queue.undo(entry)));
  const correct = (entry) =>
    edit(entry.route, entry.body, {
      title: "Correct this entry",
      removal: "Discard",
      remove: () => queue.undo(entry),
      save: (fields) => queue.correct(entry, { ...entry.body, ...fields }),
    });
  const wasRefused = (entry) => line(entry.route, entry.body, h("span", { class: "field-error" }, `Refused: ${entry.problem}`), button("Correct", () => correct(entry)));
  const lines = [...queue.refused().map(wasRefused), ...queue.waiting().filter((entry) => entry.tries > 1 || api.state.isDown).map(waits)];
  at("history-waiting").replaceChildren(...(lines.length ? [group("Not on the server yet", lines)] : []));
}

function choose(value) {
  route = value;
  inputs.name.value = "";
  say(inputs.name.labels[0], KINDS[route][1]);
  return begin();
}

function fillNames() {
  const names = route === "/coffee/" ? drinks().map((drink) => drink.coffee_type) : CONTEXTS;
  at("filter-names").replaceChildren(...names.map((name) => h("option", { value: name })));
}

/** Shows one calendar day's drinks. */
export function showDay(date) {
  inputs.since.value = inputs.until.value = date;
  at("history-kind").querySelector("input").click();
  choose("/coffee/");
  at("history-title").focus();
}

/** Collects a file as pieces that leave the page's memory for the browser's own, and downloads it. */
function download(name, type) {
  const pieces = [];
  return new WritableStream({
    write: (chunk) => void pieces.push(new Blob([chunk])),
    close() {
      const link = h("a", { href: URL.createObjectURL(new Blob(pieces, { type })), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    },
  });
}

/** Straight to the disk where the browser can, through its memory where not; the file's name. */
async function exportAs(format, signal, onprogress) {
  const kind = route.replaceAll("/", "");
  const path = api.withQuery(`/export/${kind}`, { format, ...span() });
  // The choice of a place must follow the press of the button at once.
  const file = await window.showSaveFilePicker?.({ suggestedName: `${kind}.${format}` });
  const answer = await api.reply("GET", path, { signal });
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1];
  let total = 0;
  const counted = new TransformStream({
    transform(chunk, passed) {
      onprogress((total += chunk.byteLength));
      passed.enqueue(chunk);
    },
  });
  const target = file ? await file.createWritable() : download(name, answer.headers.get("Content-Type"));
  await answer.body.pipeThrough(counted).pipeTo(target, { signal });
  return file?.name ?? name;
}

function startExport() {
  const progress = h("span", { class: "soft", role: "status" });
  let stop = null;
  const cancel = button("Cancel", () => stop.abort(), { hidden: true });
  const begin = (format) => async () => {
    stop = new AbortController();
    const isRunning = (value) => {
      for (const other of all) other.disabled = value;
      cancel.hidden = !value;
    };
    isRunning(true);
    try {
      toast(`Exported: ${await exportAs(format, stop.signal, (total) => say(progress, `${bytes(total)} so far`))}`);
    } catch (fault) {
      if (fault.name !== "AbortError") toast(`Not exported: ${fault.message}`, { isWarning: true });
    }
    say(progress, "");
    isRunning(false);
  };
  const all = [button("CSV", begin("csv")), button("JSON Lines", begin("jsonl"))];
  at("export").append(h("span", { class: "soft", id: "export-what" }), ...all, progress, cancel);
}

/** `onchange` is called when an entry was corrected or deleted. */
export function start(onchange) {
  changed = onchange;
  chips(at("history-kind"), "history-kind", Object.entries(KINDS).map(([value, [label]]) => [value, label]), route, choose);
  const name = h("input", { type: "search", list: "filter-names" });
  const [since, until] = [h("input", { type: "date" }), h("input", { type: "date" })];
  inputs = { name, since, until };
  const form = at("history-filter");
  form.append(field("Drink", name), field("From", since), field("To", until), clear);
  form.addEventListener("change", begin);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    setTimeout(begin);
    name.focus();
  });
  name.addEventListener("focus", fillNames);
  queue.on("change", showWaiting);
  api.onState(showWaiting);
  startExport();
}
