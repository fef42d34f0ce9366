// "Import": uploads a file, shows what it would add, and imports it.

import * as api from "../app/api.js";
import { button, h, setText } from "../app/dom.js";
import { formatDate, formatInteger, isolate, plural } from "../app/format.js";
import { ServerZone } from "../app/server-zone.js";
import { describeFailure } from "./failures.js";
import * as jobs from "./jobs.js";
import { uploadView } from "./upload.js";

/** Files that can be imported, and where to find them. */
const FILES = [
  ["Apple Health", "on the iPhone, open Health, tap your picture, then “Export All Health Data”: export.zip"],
  ["Gadgetbridge", "on the phone, open “Data management”, then export the database or make a backup: the file Gadgetbridge, or the zip"],
  ["Health Connect", "on the Android phone, open Settings, Health Connect, “Manage data”, “Backup and restore”, and schedule an export: Health Connect.zip"],
  ["Fitbit", "the zip of a Google Takeout with the product Fitbit. Its times have no time zone, and are read as UTC"],
  ["CSV", "with a header row and the columns timestamp and caffeine_mg or bpm; coffee_type, context, notes and source are optional"],
  ["Coffee Tracker", "an export as CSV or JSON Lines, from here or from another server"],
  ["Docker stack", "the former version: its file coffee.db, or a dump of its PostgreSQL database"],
];

const KINDS = ["import-preview", "import"];

/** Returns "1,204 heart rates and 31 drinks", or an empty text when there are none. */
function describeEntries({ readings_added: readings, coffees_added: coffees }) {
  return [[readings, "heart rate"], [coffees, "drink"]].filter(([n]) => n > 0).map(([n, noun]) => plural(n, noun)).join(" and ");
}

/** Describes the numbers of a preview or a result in a sentence. */
function describeCounts(result) {
  const { updated, duplicates, rejected, is_dry_run: isPreview } = result;
  const entries = describeEntries(result);
  const isOne = result.readings_added + result.coffees_added === 1;
  const added = isPreview ? "will be added" : isOne ? "was added" : "were added";
  return [
    entries ? `${entries} ${added}` : `Nothing ${isPreview ? "new to add" : "was added"}`,
    updated > 0 && `${plural(updated, "heart rate")} ${isPreview ? "will be" : updated === 1 ? "was" : "were"} updated`,
    duplicates > 0 && `${formatInteger(duplicates)} ${duplicates === 1 ? "is" : "are"} stored already`,
    rejected > 0 && `${plural(rejected, "row")} can't be imported`,
  ].filter(Boolean).join(" · ");
}

/** Returns the days of the oldest and the newest entry in the zone of the server. */
async function describePeriod({ oldest, newest }) {
  const { server } = await api.get("/me");
  const zone = new ServerZone(server.timezone);
  const [from, to] = [oldest, newest].map((time) => formatDate(zone.date(Date.parse(time))));
  return from === to ? `All on ${from}` : `From ${from} to ${to}`;
}

function describeRejections({ rejections, rejected, out_of_range: outOfRange }) {
  const more = rejected - rejections.length;
  return h("details", {},
    h("summary", {}, rejected === 1 ? "The row that can't be imported" : "Rows that can't be imported"),
    outOfRange > 0 && h("p", { class: "small" }, `${plural(outOfRange, "value is", "values are")} outside the limits for entries, which the administrator of the server sets.`),
    h("ul", { class: "small" }, rejections.map(({ position, reason }) => h("li", {}, `${position}: ${reason}`)), more > 0 && h("li", {}, `and ${formatInteger(more)} more`)));
}

/** Returns what a preview or a result says beyond its numbers. */
async function describeDetails(result) {
  const { oldest, sources, unsupported, rejected } = result;
  const period = oldest && (await api.catchApiError(() => describePeriod(result), () => null));
  const facts = [
    period,
    sources.length > 0 && `Recorded by ${sources.map(({ name }) => isolate(name)).join(", ")}`,
    unsupported > 0 && `${plural(unsupported, "other record")} ${unsupported === 1 ? "is" : "are"} ignored`,
  ].filter(Boolean);
  return [facts.length > 0 && h("ul", {}, facts.map((fact) => h("li", {}, fact))), rejected > 0 && describeRejections(result)].filter(Boolean);
}

/** Creates the card: `element`, and `view` with the functions that a section needs. */
export function importCard() {
  const progress = jobs.progressView();
  const failure = h("p", { class: "field-error", id: "import-error", role: "alert" });
  const outcome = h("div", { class: "import-result", id: "import-result" });
  /** Id and name of the file whose preview is shown, or null. */
  let previewed = null;

  const fail = (message) => setText(failure, message);
  const setBusy = (isBusy) => {
    upload.setEnabled(!isBusy);
    if (!isBusy) progress.hide();
  };

  /** Follows a job and returns its result, or null after a failure, which `onFailure` describes. */
  async function follow(job, onFailure) {
    setBusy(true);
    const result = await api.catchApiError(() => jobs.follow(job, progress.show), (error) => {
      onFailure(error);
      return null;
    });
    setBusy(false);
    return element.isConnected ? (result ?? null) : null;
  }

  /** Shows a heading, which gets the focus, and what follows it. */
  function showOutcome(title, ...content) {
    const heading = h("h4", { tabindex: -1 }, title);
    outcome.replaceChildren(heading, ...content);
    heading.focus();
  }

  function reset() {
    previewed = null;
    outcome.replaceChildren();
  }

  async function preview(job, name) {
    reset();
    fail("");
    const title = name ? isolate(name) : "The file";
    const result = await follow(job, (error) => fail(error.kind === "failed" ? `${title} can't be imported: ${error.message}.` : describeFailure(error)));
    if (!result) return upload.focus();
    const details = await describeDetails(result);
    previewed = { id: result.id, title };
    const hasNew = describeEntries(result) !== "" || result.updated > 0;
    return showOutcome(hasNew ? (name ? `Import ${title}?` : "Import the file?") : `${title} has nothing new`,
      h("p", { class: "verdict", id: "import-counts" }, describeCounts(result)),
      ...details,
      h("div", { class: "row" },
        hasNew && button("Import", (event) => start(event.currentTarget), { class: "button primary" }),
        button(hasNew ? "Cancel" : "Close", discard, { "aria-label": hasNew ? "Cancel import" : "Close" })));
  }

  async function start(importButton) {
    fail("");
    const setButtons = (isEnabled) => outcome.querySelectorAll("button").forEach((other) => (other.disabled = !isEnabled));
    setButtons(false);
    const { id, title } = previewed;
    const onFailure = (error) => {
      setButtons(true);
      if (error.kind === "interrupted" || error.status === 404) {
        // The server has the file no longer.
        reset();
        fail(error.status === 404 ? "The server no longer has this file, because it was unused for an hour or the server was restarted. Choose it again." : error.message);
        return upload.focus();
      }
      fail(error.kind === "failed" ? `The import failed: ${error.message}. Try again: what was stored already is skipped.` : describeFailure(error));
      setText(importButton, "Try again");
      return importButton.focus();
    };
    const job = await api.catchApiError(() => jobs.start("POST", `/imports/${id}`), onFailure);
    if (job?.id) await finish(job, title, onFailure);
  }

  async function finish(job, title, onFailure) {
    const result = await follow(job, onFailure);
    if (!result) return;
    previewed = null;
    const details = await describeDetails(result);
    showOutcome(`${title} was imported`,
      h("p", { class: "verdict", id: "import-counts" }, describeCounts(result)),
      ...details,
      h("p", {}, h("a", { href: "/#history-title" }, "Show the history")));
  }

  async function discard() {
    const { id } = previewed;
    reset();
    fail("");
    upload.focus();
    // A file that the server still has is removed after an hour.
    await api.catchApiError(() => api.requestJson("DELETE", `/imports/${id}`), () => {});
  }

  /** Goes on with a job that runs, after a reload. */
  async function resume() {
    await api.catchApiError(async () => {
      const job = await jobs.ongoing();
      if (!element.isConnected || !KINDS.includes(job?.kind)) return;
      if (job.kind === "import-preview") await preview(job, "");
      else await finish(job, "The file", (error) => fail(error.message));
    }, () => {});
  }

  const input = { id: "import-file", "aria-label": "File to import" };
  const upload = uploadView({ path: "/imports", label: "Choose a file…", input }, preview);

  const zone = h("div", { class: "drop-zone" }, h("div", { class: "row" }, upload.controls), h("p", { class: "muted small" }, h("span", { class: "drop-hint" }, "Or drop it here. "), "You see what it contains before anything is stored."));
  const hasFile = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  const onDrag = (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    zone.classList.toggle("is-target", event.type === "dragover");
  };
  zone.addEventListener("dragover", onDrag);
  zone.addEventListener("dragleave", onDrag);
  zone.addEventListener("drop", (event) => {
    onDrag(event);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) upload.send(file);
  });

  const element = h("div", { class: "card", id: "import" },
    h("h3", {}, "Import"),
    h("p", { class: "muted" }, "Drinks and heart rates from a health app, a table, or another Coffee Tracker. What is stored already is skipped."),
    h("details", {}, h("summary", {}, "Which files, and where to find them"), h("ul", { class: "file-kinds" }, FILES.map(([name, where]) => h("li", {}, h("strong", {}, name), `: ${where}`)), h("li", {}, "Text files may be compressed with gzip."))),
    zone,
    upload.element,
    progress.element,
    failure,
    outcome);
  queueMicrotask(resume);
  const hasChanges = () => (upload.isSending() && "The upload is cancelled.") || (previewed !== null && "Nothing of the file is imported.");
  return { element, view: { hasChanges, close: upload.close } };
}
