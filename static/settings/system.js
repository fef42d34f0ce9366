// "System": disk, clock, version and last verification, what the check of the installation finds, and the last
// warnings, for the owner.

import * as api from "../app/api.js";
import { button, byId, h, setText } from "../app/dom.js";
import { MINUTE, formatAge, formatBytes, formatDayTime } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import { example } from "./example.js";
import { describeFailure } from "./failures.js";

export const id = "system";
export const title = "System";
export const summary = "Check, warnings, diagnostics";
export const scopes = ["admin"];

const MARKS = { must: ["✗", "Problem"], advice: ["!", "Advice"], ok: ["✓", "OK"] };
const ORDER = ["must", "advice", "ok"];

/** The responses of `/check`, `/health` and `/backups`; the latter two are null if they could not be loaded. */
let report = null;
let health = null;
let backups = null;
let view = null;

/** Joins a subject and a finding. */
const sentence = ({ about, person, finding }) => `${about}${person ? ` of ${person}` : ""}: ${finding}`;

/** Describes the disk as [value, detail, whether it needs attention], as the following functions do. */
function describeDisk({ status, free_bytes: free, size_bytes: size }) {
  if (free === null) return ["Unknown", "The disk can't be read", true];
  const detail = { low: ", more than 80 % is used", unknown: ", but the disk doesn't answer" }[status] ?? "";
  return [`${formatBytes(free)} free`, `of ${formatBytes(size)}${detail}`, status !== "ok"];
}

function describeClock() {
  if (!health) return ["Unknown", "The server didn't answer", true];
  const time = formatDayTime(Date.parse(health.timestamp));
  if (health.clock.status !== "ok") return [time, "Seems to be wrong: it is before the newest entry or this version", true];
  return Math.abs(api.state.clockOffset) > MINUTE ? [time, "Differs from the clock of this device", true] : [time, "Same as on this device", false];
}

const describeVersion = () => (health ? [health.version, `Started ${formatAge(health.uptime_seconds / 60)}`, false] : ["Unknown", "The server didn't answer", true]);

function describeVerification() {
  if (!backups) return ["Unknown", "The backups can't be read", true];
  const [last] = backups.filter((backup) => backup.verified_at).sort((a, b) => Date.parse(b.verified_at) - Date.parse(a.verified_at));
  return last ? [formatDayTime(Date.parse(last.verified_at)), `Your backup of ${formatDayTime(Date.parse(last.created_at))}`, false] : ["Never", "No backup was verified yet", true];
}

function showFacts() {
  const facts = { Disk: describeDisk(report.disk), Clock: describeClock(), Version: describeVersion(), "Last verification": describeVerification() };
  const item = ([name, [value, detail, needsAttention]]) => h("div", { class: "card" }, h("dt", {}, name), h("dd", {}, needsAttention ? `⚠ ${value}` : value), h("dd", {}, detail));
  byId("facts").replaceChildren(...Object.entries(facts).map(item));
}

function showReport() {
  if (!view?.isConnected || !report) return;
  showFacts();
  const problems = report.findings.filter(({ state }) => state === "must").length;
  setText(byId("system-state"), problems ? `${problems === 1 ? "One thing needs" : `${problems} things need`} your attention.` : "Everything is in order.");
  setText(byId("system-time"), `Checked ${formatDayTime(Date.parse(report.checked_at))}`);
  const sorted = report.findings.toSorted((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const item = (finding) => {
    const [mark, label] = MARKS[finding.state];
    return h("li", { class: `finding ${finding.state}` }, h("span", { class: "mark", role: "img", "aria-label": label }, mark), h("span", {}, sentence(finding)));
  };
  byId("findings").replaceChildren(...sorted.map(item));
  const warnings = report.warnings.map(({ at, level, message }) => h("li", {}, h("span", { class: "muted small" }, `${formatDayTime(Date.parse(at))} ${level} `), message));
  byId("warnings").replaceChildren(...(warnings.length ? warnings : [h("li", { class: "muted" }, "None since the server started.")]));
}

async function load() {
  setText(byId("system-state"), report ? byId("system-state").textContent : "Checking…");
  await api.catchApiError(async () => {
    const check = api.get("/check", { signal: new AbortController().signal });
    [report, health, backups] = await Promise.all([check, loadHealth(), loadBackups()]);
    setText(byId("system-error"), "");
    showReport();
  }, (error) => setText(byId("system-error"), describeFailure(error)));
}

/** An unhealthy server returns 503 with the same body. */
const loadHealth = async () => {
  const body = await fetch("/health").then((response) => response.json()).catch(() => null);
  // A refused request has no state of the clock.
  return body?.clock ? body : null;
};
const loadBackups = () => api.catchApiError(async () => (await api.get("/backups")).backups, () => null);

/** Copies what helps to find a problem. It has no keys and no entries. */
async function copyDiagnostics() {
  const lines = report.findings.map((finding) => `${finding.state.padEnd(6)} ${sentence(finding)}`);
  const warnings = report.warnings.map(({ at, level, message }) => `${at} ${level} ${message}`);
  const disk = `disk: ${report.disk.free_bytes} of ${report.disk.size_bytes} bytes free`;
  const text = [`Coffee Tracker ${health?.version ?? ""}`, `checked ${report.checked_at}`, disk, ...lines, "", "warnings:", ...warnings, "", JSON.stringify(health, null, 1)].join("\n");
  const content = "It has no keys and no entries, but paths on your server.";
  try {
    await navigator.clipboard.writeText(text);
    showToast(`Copied. ${content}`, { place: "system-notes" });
  } catch {
    // The clipboard exists only in secure contexts.
    byId("diagnostics").replaceChildren(h("p", {}, content), example("Diagnostics", text));
  }
}

/** Shows the section. */
export function show(container) {
  view = h("div", {},
    h("dl", { class: "facts", id: "facts" }),
    h("div", { class: "card" },
      h("p", { class: "verdict", id: "system-state", role: "status" }),
      h("p", { class: "muted small", id: "system-time" }),
      h("p", { class: "field-error", id: "system-error", role: "alert" }),
      h("div", { class: "row" }, button("Check again", load))),
    h("ul", { class: "rows", id: "findings", "aria-label": "Findings" }),
    h("h3", {}, "Latest warnings in the log"),
    h("ul", { class: "rows", id: "warnings", "aria-label": "Latest warnings in the log" }),
    h("div", { class: "row" }, button("Copy diagnostics", () => report && copyDiagnostics())),
    h("div", { class: "toasts", id: "system-notes", role: "status" }),
    h("div", { id: "diagnostics" }));
  container.append(view);
  report = health = backups = null;
  load();
  return { refresh: load };
}
