// "Backups": the state in one sentence, the list, and making, checking, downloading, uploading and restoring backups.

import * as api from "../app/api.js";
import { closeSheet, openSheet } from "../app/dialogs.js";
import { button, byId, field, h, setFieldError, setText } from "../app/dom.js";
import { formatAge, formatBytes, formatDayTime, formatInteger, MINUTE, plural } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import * as session from "../app/session.js";
import { describeFailure } from "./failures.js";
import * as jobs from "./jobs.js";
import { uploadView } from "./upload.js";

export const id = "backups";
export const title = "Backups";
export const summary = "Back up, download, restore";
export const scopes = ["manage"];

const KINDS = { scheduled: "Automatic", manual: "Made by hand", safety: "Before a restore" };
/** Age from which the last backup is reported as old, in ms. */
const MAX_AGE = 26 * 60 * MINUTE;
/** Number of attempts to go on with a download that was cut off. */
const MAX_RESUMES = 20;

let list = null;
let view = null;
let progress = null;

const urlOf = (file, action = "") => `/backups/${encodeURIComponent(file)}${action}`;
const place = () => byId("backup-notes");
const sayError = (error) => showToast(describeFailure(error), { place: place(), isWarning: true });
const age = (time) => formatAge((api.now() - Date.parse(time)) / MINUTE);
const counts = ({ coffees, readings }) => (coffees === null ? "unreadable" : `${plural(coffees, "drink")}, ${plural(readings, "heart rate")}`);

/** Describes the newest backup in a sentence. */
function describeState({ backups, last, is_on_same_disk: isOnSameDisk }) {
  const newest = backups.find(({ kind, origin }) => kind !== "safety" && origin === "own");
  if (last.error) return [`The last backup failed: ${last.error}`, true];
  if (!newest) return ["There is no backup yet.", true];
  const isVerified = newest.verified_at !== null;
  const disk = isOnSameDisk ? ", on the same disk as the data" : "";
  const isOld = api.now() - Date.parse(newest.created_at) > MAX_AGE;
  return [`Last ${isVerified ? "verified " : ""}backup ${formatDayTime(Date.parse(newest.created_at))}, ${formatBytes(newest.size_bytes)}${disk}.${isOld ? " It is old: check that backups are made every night." : ""}`, isOld || Boolean(isOnSameDisk)];
}

function showList() {
  if (!view?.isConnected || !list) return;
  const [text, isWarning] = describeState(list);
  setText(byId("backup-state"), `${isWarning ? "⚠ " : ""}${text}`);
  byId("backup-disk").hidden = !list.is_on_same_disk;
  const items = list.backups.map((backup) => {
    const name = `backup of ${formatDayTime(Date.parse(backup.created_at))}`;
    const verified = backup.verified_at ? `verified ${age(backup.verified_at)}` : "not verified";
    const other = backup.origin === "own" ? null : h("p", { class: "small" }, backup.origin === "other" ? "Of another database" : "Of an unknown database");
    const action = (label, onclick, attributes = {}) => button(label, onclick, { "aria-label": `${label}: ${name}`, ...attributes });
    return h("li", {},
      h("div", {},
        h("p", { class: "backup-time" }, formatDayTime(Date.parse(backup.created_at)), " ", h("span", { class: "muted small" }, KINDS[backup.kind])),
        h("p", { class: "muted small" }, `${formatBytes(backup.size_bytes)} · ${counts(backup)} · ${verified}`),
        other),
      h("div", { class: "row" }, action("Download", () => download(backup)), action("Verify", () => verify(backup)), action("Restore…", () => openRestore(backup))));
  });
  byId("backup-list").replaceChildren(...(items.length ? items : [h("li", { class: "muted" }, "No backups yet.")]));
}

async function load() {
  await api.catchApiError(async () => {
    list = await api.get("/backups");
    setText(byId("backup-error"), "");
    showList();
  }, (error) => setText(byId("backup-error"), error.message));
}

/** Runs a job with its progress shown, then `onResult`, and loads the list again. */
async function runJob(start, onResult) {
  await api.catchApiError(async () => onResult(await start((job) => progress.show(job))), sayError);
  progress.hide();
  await load();
}

const backUp = () => runJob((onProgress) => jobs.run("POST", "/backups", {}, onProgress), (result) => showToast(`Backed up: ${counts(result)}, ${formatBytes(result.size_bytes)}`, { place: place() }));

function verify({ file }) {
  return runJob((onProgress) => jobs.run("POST", urlOf(file, "/verify"), {}, onProgress), ({ is_restorable: isRestorable, reasons }) => {
    showToast(isRestorable ? "This backup can be restored" : `This backup can't be restored: ${reasons.join("; ")}`, { place: place(), isWarning: !isRestorable });
  });
}

/** Loads a file of `size` bytes in parts: after the connection was lost, the rest is loaded. */
async function loadFile(path, size, onBytes) {
  const parts = [];
  let [received, tag, resumes] = [0, null, 0];
  for (;;) {
    try {
      const headers = received ? { Range: `bytes=${received}-`, "If-Range": tag } : {};
      const response = await api.request("GET", path, { headers, signal: new AbortController().signal });
      if (received && response.status !== 206) {
        parts.length = 0;
        received = 0;
      }
      tag = response.headers.get("ETag");
      const reader = response.body.getReader();
      for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
        parts.push(new Blob([value]));
        received += value.length;
        onBytes(received);
      }
      if (received < size) throw new api.ApiError("unreachable", "The connection to the server was lost");
      return new Blob(parts, { type: "application/vnd.sqlite3" });
    } catch (error) {
      const isLost = !(error instanceof api.ApiError) || error.kind === "unreachable";
      if (!isLost || (resumes += 1) > MAX_RESUMES) throw isLost ? new api.ApiError("unreachable", "The download was cut off: try again") : error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

async function download({ file, size_bytes: size }) {
  const onBytes = (bytes) => progress.say("Downloading…", { bytes, of: size });
  onBytes(0);
  await api.catchApiError(async () => {
    const blob = await loadFile(urlOf(file), size, onBytes);
    const url = URL.createObjectURL(blob);
    const link = h("a", { href: url, download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), MINUTE);
    showToast(`Downloaded ${file}`, { place: place() });
  }, sayError);
  progress.hide();
}

const onUploaded = (job) => runJob((onProgress) => jobs.follow(job, onProgress), (backup) => showToast(`Uploaded: ${counts(backup)}. It can be restored.`, { place: place() }));

/** Asks whether to restore a backup, after it has been compared with the present state. */
async function openRestore(backup) {
  const name = session.personName() ?? "owner";
  const content = h("div", {});
  const compared = jobs.progressView();
  content.append(compared.element);
  compared.say("Comparing…");
  openSheet(`Restore the backup of ${formatDayTime(Date.parse(backup.created_at))}?`, [content]);
  await api.catchApiError(async () => {
    const preview = await jobs.run("POST", urlOf(backup.file, "/restore"), { body: { dry_run: true } }, compared.show);
    if (!content.isConnected) return;
    const input = h("input", { autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true });
    const confirm = async (event) => {
      event.preventDefault();
      if (input.value.trim() !== name) return setFieldError(input, `Type ${name} to confirm`);
      closeSheet();
      return restore(backup.file, preview.origin !== "own");
    };
    content.replaceChildren(
      ...describePreview(preview),
      h("form", { onsubmit: confirm },
        field(`Type “${name}” to confirm`, input),
        h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), h("button", { class: "button danger" }, "Restore"))));
    input.focus();
  }, (error) => content.isConnected && content.replaceChildren(h("p", { class: "field-error", role: "alert" }, error.message), h("div", { class: "row dialog-actions" }, button("Close", closeSheet))));
}

function describePreview({ before, after, loses, origin }) {
  const lost = [[loses.coffees, "drink"], [loses.readings, "heart rate"]].filter(([n]) => n > 0).map(([n, noun]) => plural(n, noun));
  const since = loses.since ? ` from ${formatDayTime(Date.parse(loses.since))} on` : "";
  const row = (label, of) => h("tr", {}, h("th", { scope: "row" }, label), h("td", {}, before ? of(before) : "unknown"), h("td", {}, of(after)));
  const newest = ({ newest_entry_at: at }) => (at ? formatDayTime(Date.parse(at)) : "none");
  return [
    origin !== "own" && h("p", { class: "note" }, origin === "other" ? "This is a backup of another database. Its entries will replace all of yours." : "This backup does not say which database it is of."),
    h("p", {}, lost.length ? `You lose ${lost.join(" and ")}${since}.` : "Nothing that was added since is lost."),
    h("table", { class: "comparison" }, h("thead", {}, h("tr", {}, h("td"), h("th", { scope: "col" }, "Now"), h("th", { scope: "col" }, "After"))), h("tbody", {}, row("Drinks", ({ coffees }) => formatInteger(coffees)), row("Heart rates", ({ readings }) => formatInteger(readings)), row("Newest entry", newest))),
    h("p", { class: "muted" }, "The present state is kept as a safety copy, with which you can undo this. Logging goes on meanwhile."),
  ].filter(Boolean);
}

function restore(file, force) {
  return runJob((onProgress) => jobs.run("POST", urlOf(file, "/restore"), { body: { force } }, onProgress), async (result) => {
    showToast(`Restored: ${counts(result)}`, { place: place(), undo: () => undoRestore(result.safety) });
    showUndo(result);
  });
}

const undoRestore = (safety) => runJob((onProgress) => jobs.run("POST", urlOf(safety, "/restore"), { body: {} }, onProgress), async () => {
  byId("restore-undo").replaceChildren();
  showToast("The state before the restore is back", { place: place() });
});

/** Offers to undo the last restore. */
function showUndo({ safety }) {
  if (!safety) return;
  byId("restore-undo").replaceChildren(h("p", {}, "A backup was restored. ", button("Undo restore", () => undoRestore(safety), { class: "link" })));
}

/** Shows the job that runs, or offers to undo the last restore, after a reload. */
async function resume() {
  await api.catchApiError(async () => {
    const job = await jobs.ongoing();
    if (!view.isConnected) return;
    if (job) await runJob((onProgress) => jobs.follow(job, onProgress), () => showToast("Done", { place: place() }));
    const [last] = await jobs.list();
    if (view.isConnected && last?.kind === "restore" && last.state === "succeeded") showUndo(last.result);
  }, sayError);
}

/** Shows the section. */
export function show(container) {
  progress = jobs.progressView();
  const input = { id: "backup-file", accept: ".db,application/vnd.sqlite3", "aria-label": "Backup file" };
  const upload = uploadView({ path: "/backups/upload", label: "Upload…", input }, onUploaded);
  view = h("div", {},
    h("div", { class: "card" },
      h("p", { class: "verdict", id: "backup-state" }),
      h("p", { class: "muted", id: "backup-disk", hidden: true }, "If the disk fails, the backups are lost with it: download one now and then, or back up to another disk."),
      h("p", { class: "field-error", id: "backup-error", role: "alert" }),
      h("div", { class: "row" }, button("Back up now", backUp, { class: "button primary" }), upload.controls),
      progress.element,
      upload.element,
      h("div", { id: "restore-undo" }),
      h("div", { class: "toasts", id: "backup-notes", role: "status" })),
    h("ul", { class: "rows", id: "backup-list", "aria-label": "Backups" }));
  container.append(view);
  load();
  resume();
  return { refresh: load, hasChanges: () => upload.isSending() && "The upload is cancelled.", close: upload.close };
}
