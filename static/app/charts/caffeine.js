// The "Caffeine level" chart from yesterday to tomorrow morning: the level with its likely range, drinks, the
// sleep limit, bedtimes and the preview of "What if?".

import * as api from "../api.js";
import { HOUR, MINUTE, addLocalDays, formatDay, formatDayTime, formatInteger, formatMg, formatMgRange, formatTime, isolate } from "../format.js";
import { currentBedtimes, currentCurve, currentDrinks, onChange, store, want } from "../store.js";
import { onPreviewChange, previewDose } from "../what-if.js";
import { Chart, axis, bandEdge, color, drawDots, drawLine, px, timeAxis } from "./chart.js";

let chart = null;
let curve = null;

const describeDrinks = (coffees) => coffees.map((coffee) => `${isolate(coffee.name ?? "caffeine")} ${formatMg(coffee.mg)}`).join(", ");

function options() {
  const line = { stroke: color("chart-caffeine"), width: 2.5, points: { show: false } };
  const dashed = { stroke: color("chart-threshold"), dash: [5, 4] };
  const draw = (u) => {
    const bedtimes = currentBedtimes();
    const labelsOverlap = bedtimes.some((instant) => Math.abs(u.valToPos(instant / 1000, "x") - u.valToPos(api.now() / 1000, "x")) < px(40));
    // The key is no longer valid.
    if (!store.curve) return;
    drawLine(u, { y: store.curve.sleep_threshold_mg, ...dashed });
    for (const instant of bedtimes) drawLine(u, { x: instant / 1000, ...dashed, label: formatTime(instant) });
    drawLine(u, { x: api.now() / 1000, stroke: color("chart-axis"), label: labelsOverlap ? "" : "now" });
    drawDots(u, currentDrinks().map((coffee) => [coffee.at / 1000, curve.at(coffee.at)?.mg ?? 0]));
  };
  return {
    scales: { y: { range: (_, __, max) => [0, Math.max(100, max * 1.12)] } },
    axes: [timeAxis(), axis({ values: (_, levels) => levels.map(formatInteger) })],
    series: [{}, bandEdge(), bandEdge(), line, { ...line, dash: [2, 4] }, { ...line, ...dashed }],
    bands: [{ series: [2, 1], fill: color("chart-band") }],
    hooks: { draw: [draw] },
  };
}

function readout(index) {
  const instant = chart.data[0][index] * 1000;
  const level = curve.at(instant);
  const nearby = currentDrinks().filter((coffee) => Math.abs(coffee.at - instant) < 8 * MINUTE);
  return [`${formatDayTime(instant)}: ${formatMg(level.mg)} (${formatMgRange(level.low_mg, level.high_mg)})`, ...(nearby.length ? [describeDrinks(nearby)] : [])].join(", ");
}

/** Returns the chart's columns: time, low, high, level until now, level from now on, level with the preview. */
function columns() {
  const now = api.now();
  const drinkTimes = currentDrinks().map((drink) => drink.at);
  const times = [...new Set([...curve.times, ...[now, ...drinkTimes].filter((instant) => curve.at(instant))])].sort((a, b) => a - b);
  const levels = times.map((instant) => curve.at(instant));
  const dose = previewDose();
  const preview = dose && curve.withDose(dose);
  return [
    times.map((instant) => instant / 1000),
    levels.map((level) => level.low_mg),
    levels.map((level) => level.high_mg),
    times.map((instant, n) => (instant <= now ? levels[n].mg : null)),
    times.map((instant, n) => (instant >= now ? levels[n].mg : null)),
    times.map((instant) => (preview && instant >= dose.at - 15 * MINUTE ? preview.at(instant).mg : null)),
  ];
}

function description() {
  const now = api.now();
  const threshold = store.curve.sleep_threshold_mg;
  const dashedLines = `dashed lines: bedtime and your ${formatMg(threshold)} sleep limit`;
  if (curve.times.every((instant) => curve.at(instant).high_mg < 0.5)) return `No caffeine since yesterday; ${dashedLines}.`;
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const today = [...curve.times.filter((instant) => instant >= midnight && instant < addLocalDays(midnight, 1)), now].map((instant) => [curve.at(instant)?.mg ?? 0, instant]);
  const [peak, peakAt] = today.reduce((highest, point) => (point[0] > highest[0] ? point : highest), [0, 0]);
  const peakText = peak >= 1 ? `Peak today: ${formatMg(peak)} at ${formatTime(peakAt)}. ` : "";
  const belowFrom = curve.staysBelowFrom(threshold, now);
  const outlook = belowFrom === null
    ? `Above ${formatMg(threshold)} beyond the end of this chart`
    : belowFrom <= now ? `Now below ${formatMg(threshold)}` : `Below ${formatMg(threshold)} from ${formatDayTime(belowFrom)}`;
  return `${peakText}${outlook}. Dots: drinks; shaded: faster and slower metabolisms; ${dashedLines}.`;
}

function table() {
  const rows = curve.times.filter((instant) => new Date(instant).getMinutes() === 0).map((instant) => {
    const level = curve.at(instant);
    const inThisHour = currentDrinks().filter((coffee) => coffee.at >= instant && coffee.at < instant + HOUR);
    return [`${formatDay(instant)} ${formatTime(instant)}`, formatMg(level.mg), formatMgRange(level.low_mg, level.high_mg), describeDrinks(inThisHour)];
  });
  return { head: ["Time", "Caffeine level", "Likely range", "Drinks"], rows };
}

function show() {
  curve = currentCurve();
  if (curve) chart.show(columns(), description());
  else if (store.error) chart.describe(store.error.message);
}

export function start() {
  chart = new Chart("caffeine", { options, table, readout });
  onChange(show);
  onPreviewChange(show);
}

/** Loads and shows the curve. */
export const refresh = () => want("curve");
