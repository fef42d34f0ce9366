// "System": what the check of the installation finds, and the last warnings, for the owner.

import * as api from "../app/api.js";
import { button, byId, h, setText } from "../app/dom.js";
import { formatDayTime } from "../app/format.js";
import { showToast } from "../app/notifications.js";

export const id = "system";
export const title = "System";
export const summary = "Check, warnings, diagnostics";
export const scopes = ["admin"];

const MARKS = { must: ["✗", "Problem"], advice: ["!", "Advice"], ok: ["✓", "OK"] };
const ORDER = ["must", "advice", "ok"];

let report = null;
let view = null;

/** Joins a subject and a finding. */
const sentence = ({ about, person, finding }) => `${about}${person ? ` of ${person}` : ""}: ${finding}`;

function showReport() {
  if (!view?.isConnected || !report) return;
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
    report = await api.get("/check", { signal: new AbortController().signal });
    setText(byId("system-error"), "");
    showReport();
  }, (error) => setText(byId("system-error"), error.message));
}

/** Copies what helps to find a problem. It has no keys and no entries. */
async function copyDiagnostics() {
  await api.catchApiError(async () => {
    const health = await fetch("/health").then((response) => response.json());
    const lines = report.findings.map((finding) => `${finding.state.padEnd(6)} ${sentence(finding)}`);
    const warnings = report.warnings.map(({ at, level, message }) => `${at} ${level} ${message}`);
    const text = [`Coffee Tracker ${health.version}`, `checked ${report.checked_at}`, ...lines, "", "warnings:", ...warnings, "", JSON.stringify(health, null, 1)].join("\n");
    await navigator.clipboard.writeText(text);
    showToast("Copied. It has no keys and no entries, but paths on your server.", { place: "system-notes" });
  }, (error) => showToast(error.message, { place: "system-notes", isWarning: true }));
}

/** Shows the section. */
export function show(container) {
  view = h("div", {},
    h("div", { class: "card" },
      h("p", { class: "verdict", id: "system-state", role: "status" }),
      h("p", { class: "muted small", id: "system-time" }),
      h("p", { class: "field-error", id: "system-error", role: "alert" }),
      h("div", { class: "row" }, button("Check again", load), button("Copy diagnostics", copyDiagnostics)),
      h("div", { class: "toasts", id: "system-notes", role: "status" })),
    h("ul", { class: "rows", id: "findings", "aria-label": "Findings" }),
    h("h3", {}, "Warnings in the log"),
    h("ul", { class: "rows", id: "warnings" }));
  container.append(view);
  report = null;
  load();
  return { refresh: load };
}
