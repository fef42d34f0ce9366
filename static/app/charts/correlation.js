// The "Coffee and heart rate" chart: the dose of each drink against the change of the heart rate after it, with
// the verdict of the statistics.

import * as api from "../api.js";
import { addChips, byId, field, h, select, setText } from "../dom.js";
import { formatDayTime, formatDecimal, formatInteger, formatMg, formatSigned, plural } from "../format.js";
import { Chart, axis, color, drawLine, translucent } from "./chart.js";

/** Maximum number of drinks that are loaded. */
const MAX_DRINKS = 1000;

let days = "30";
let hoursSelect = null;
let chart = null;
let response = null;

function options() {
  return {
    scales: { x: { time: false, range: (_, __, max) => [0, max * 1.08] }, y: { range: (_, min, max) => [Math.min(-5, min - 2), Math.max(5, max + 2)] } },
    axes: [axis({ values: (_, doses) => doses.map(formatInteger), size: 28 }), axis({ values: (_, changes) => changes.map(formatSigned) })],
    series: [{}, { stroke: "transparent", paths: () => null, points: { show: true, size: 9, width: 0, fill: translucent("chart-heart-rate", 55) } }],
    hooks: { draw: [(u) => drawLine(u, { y: 0, stroke: color("chart-axis"), dash: [5, 4] })] },
  };
}

function description({ analysis, recommendations }, shownCount) {
  if (!analysis) return `${recommendations.join(". ")}.`;
  const { total_correlations: count, avg_hr_increase: average, max_hr_increase: max } = analysis;
  const shown = shownCount < count ? ` (${formatInteger(shownCount)} shown)` : "";
  const change = average === null ? "" : ` Average change: ${formatSigned(average)} bpm, highest: ${formatSigned(max)} bpm.`;
  return `${plural(count, "drink")} with heart rate readings${shown}.${change} Each dot is a drink: its caffeine in mg (across) and the change in bpm (up).`;
}

function table() {
  const bpm = (value, format = formatDecimal) => (value === null ? "–" : format(value));
  const row = (pair) => [
    formatDayTime(Date.parse(pair.coffee_time)),
    h("bdi", {}, pair.coffee_type ?? "caffeine"),
    formatMg(pair.caffeine_mg),
    bpm(pair.baseline_heartrate),
    bpm(pair.avg_heartrate_after),
    bpm(pair.hr_increase, formatSigned),
  ];
  return { head: ["Time", "Drink", "Caffeine", "Before (bpm)", "After (bpm)", "Change (bpm)"], rows: response.correlations.map(row) };
}

function showVerdict({ verdict, statistics }) {
  byId("evidence").hidden = !verdict;
  setText(byId("evidence"), verdict === "no evidence" ? verdict : `${verdict} evidence`);
  setText(byId("verdict"), statistics?.explanation ?? "Not enough data for a verdict yet.");
}

/** Loads and shows the selected period. */
export function refresh() {
  const [requestedDays, hours] = [days, hoursSelect.value];
  return api.catchApiError(async () => {
    const loaded = await api.get(api.withQuery("/heartrate/correlation", { days, hours_after: hours, limit: MAX_DRINKS }));
    if (requestedDays !== days || hours !== hoursSelect.value) return;
    response = loaded;
    showVerdict(response);
    const pairs = response.correlations.filter((pair) => pair.hr_increase !== null).sort((a, b) => a.caffeine_mg - b.caffeine_mg);
    chart.show([pairs.map((pair) => pair.caffeine_mg), pairs.map((pair) => pair.hr_increase)], description(response, pairs.length));
  }, (error) => response || chart.describe(error.message));
}

export function start() {
  chart = new Chart("correlation", { options, table });
  addChips(byId("correlation-span"), "correlation-span", [["30", "30 days"], ["90", "90 days"], ["365", "12 months"]], days, (value) => {
    days = value;
    refresh();
  });
  hoursSelect = select([1, 2, 3, 4, 6].map((n) => [n, `${n} h after`]), { onchange: refresh });
  hoursSelect.value = 2;
  const hoursField = field("Time after the drink", hoursSelect);
  hoursField.firstElementChild.className = "visually-hidden";
  byId("correlation-options").append(hoursField);
}
