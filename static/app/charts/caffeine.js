// The "Caffeine level" chart from yesterday to tomorrow morning: the level with its likely range, drinks, the
// sleep threshold and bedtimes. "What if?" previews a drink before it is logged.

import * as api from "../api.js";
import { byId, field, h, select, setText } from "../dom.js";
import { HOUR, MINUTE, addLocalDays, formatDay, formatDayTime, formatInteger, formatMg, formatMgRange, formatTime, isolate } from "../format.js";
import { drinks } from "../log.js";
import { currentCurve, dailyLimit, nextBedtime, onChange, serverDate, serverToday, store, unsyncedCoffees } from "../store.js";
import { Chart, axis, bandEdge, color, drawDots, drawLine, px, timeAxis } from "./chart.js";

/** Step and range of the "What if?" slider. */
const STEP = 15 * MINUTE;
const RANGE = 16 * HOUR;
/** Recommended maximum of a single dose (EFSA), in mg. */
const MAX_SINGLE_DOSE = 200;

let chart = null;
let curve = null;
/** The drink of "What if?" as `{at, mg}`, or null. */
let previewDose = null;

/** Returns the drinks as `{at, mg, name}`, oldest first. */
function loggedDrinks() {
  const synced = store.coffees.map(({ timestamp, caffeine_mg, coffee_type }) => ({ at: Date.parse(timestamp), mg: caffeine_mg, name: coffee_type }));
  return [...synced, ...unsyncedCoffees("coffees")].sort((a, b) => a.at - b.at);
}

const describeDrinks = (coffees) => coffees.map((coffee) => `${isolate(coffee.name ?? "caffeine")} ${formatMg(coffee.mg)}`).join(", ");

function options() {
  const line = { stroke: color("chart-caffeine"), width: 2.5, points: { show: false } };
  const dashed = { stroke: color("chart-threshold"), dash: [5, 4] };
  const draw = (u) => {
    const bedtime = nextBedtime();
    const labelsOverlap = Math.abs(u.valToPos(bedtime / 1000, "x") - u.valToPos(api.now() / 1000, "x")) < px(34);
    drawLine(u, { y: store.curve.sleep_threshold_mg, ...dashed });
    for (const instant of bedtime ? [addLocalDays(bedtime, -1), bedtime] : []) drawLine(u, { x: instant / 1000, ...dashed, label: formatTime(instant) });
    drawLine(u, { x: api.now() / 1000, stroke: color("chart-axis"), label: labelsOverlap ? "" : "now" });
    drawDots(u, loggedDrinks().map((coffee) => [coffee.at / 1000, curve.at(coffee.at)?.mg ?? 0]));
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
  const nearby = loggedDrinks().filter((coffee) => Math.abs(coffee.at - instant) < 8 * MINUTE);
  return [`${formatDayTime(instant)}: ${formatMg(level.mg)} (${formatMgRange(level.low_mg, level.high_mg)})`, ...(nearby.length ? [describeDrinks(nearby)] : [])].join(", ");
}

/** Returns the chart's columns: time, low, high, level until now, level from now on, level with the preview. */
function columns() {
  const now = api.now();
  const times = [...curve.times, ...(curve.at(now) ? [now] : [])].sort((a, b) => a - b);
  const levels = times.map((instant) => curve.at(instant));
  const preview = previewDose && curve.withDose(previewDose);
  return [
    times.map((instant) => instant / 1000),
    levels.map((level) => level.low_mg),
    levels.map((level) => level.high_mg),
    times.map((instant, n) => (instant <= now ? levels[n].mg : null)),
    times.map((instant, n) => (instant >= now ? levels[n].mg : null)),
    times.map((instant) => (preview && instant >= previewDose.at - 15 * MINUTE ? preview.at(instant).mg : null)),
  ];
}

function description() {
  const now = api.now();
  const threshold = store.curve.sleep_threshold_mg;
  const dashedLines = `dashed lines are bedtime and the ${formatMg(threshold)} sleep threshold`;
  if (curve.times.every((instant) => curve.at(instant).high_mg < 0.5)) return `No caffeine since yesterday. The ${dashedLines}.`;
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const today = curve.times.filter((instant) => instant >= midnight && instant <= now).map((instant) => [curve.at(instant).mg, instant]);
  const [peak, peakAt] = today.reduce((highest, point) => (point[0] > highest[0] ? point : highest), [0, 0]);
  const peakText = peak >= 1 ? `Peak today: ${formatMg(peak)} at ${formatTime(peakAt)}. ` : "";
  const belowFrom = curve.staysBelowFrom(threshold, now);
  const outlook = belowFrom === null
    ? `Above ${formatMg(threshold)} beyond the end of this chart`
    : belowFrom <= now ? `Now below ${formatMg(threshold)}` : `Below ${formatMg(threshold)} from ${formatDayTime(belowFrom)}`;
  return `${peakText}${outlook}. Dots are drinks, the band is the likely range, ${dashedLines}.`;
}

function table() {
  const rows = curve.times.filter((instant) => new Date(instant).getMinutes() === 0).map((instant) => {
    const level = curve.at(instant);
    const inThisHour = loggedDrinks().filter((coffee) => coffee.at >= instant && coffee.at < instant + HOUR);
    return [`${formatDay(instant)} ${formatTime(instant)}`, formatMg(level.mg), formatMgRange(level.low_mg, level.high_mg), describeDrinks(inThisHour)];
  });
  return { head: ["Time", "Caffeine level", "Likely range", "Drinks"], rows };
}

function show() {
  curve = currentCurve();
  if (curve) chart.show(columns(), description());
  else if (store.error) chart.describe(store.error.message);
}

let drinkSelect, doseInput, slider, timeOutput, resultText;

/** Describes the effect of a dose `{at, mg}` on the night and on today's total. */
function describeEffect(dose) {
  const [preview, bedtime] = [curve.withDose(dose), nextBedtime()];
  const threshold = store.curve.sleep_threshold_mg;
  const sentences = [];
  const [without, withDose] = [curve.at(bedtime)?.mg, preview.at(bedtime)?.mg];
  if (dose.at < bedtime && withDose !== undefined) {
    const verdict = withDose <= threshold ? "unlikely to disturb your sleep" : `above the ${formatMg(threshold)} sleep threshold`;
    sentences.push(`At bedtime (${formatTime(bedtime)}): ${formatMg(withDose)} instead of ${formatMg(without)}, ${verdict}.`);
  }
  const belowFrom = preview.staysBelowFrom(threshold, dose.at);
  if (belowFrom > dose.at) sentences.push(`Below ${formatMg(threshold)} from ${formatDayTime(belowFrom)}.`);
  const total = (store.today?.total_caffeine_mg ?? 0) + dose.mg;
  if (serverDate(dose.at) === serverToday() && total > dailyLimit()) sentences.push(`Today's total would be ${formatMg(total)}, over your limit of ${formatMg(dailyLimit())}.`);
  if (dose.mg > MAX_SINGLE_DOSE) sentences.push(`More than ${formatMg(MAX_SINGLE_DOSE)} at once is not recommended.`);
  return sentences.join(" ");
}

function update() {
  const instant = Math.ceil(api.now() / STEP) * STEP + Number(slider.value) * STEP;
  setText(timeOutput, formatDayTime(instant));
  slider.setAttribute("aria-valuetext", formatDayTime(instant));
  previewDose = doseInput.valueAsNumber > 0 && doseInput.validity.valid ? { at: instant, mg: doseInput.valueAsNumber } : null;
  show();
  resultText.classList.toggle("muted", !previewDose);
  setText(resultText, previewDose && curve ? describeEffect(previewDose) : "Choose a drink and a time to preview its effect. Nothing is logged.");
}

function fillDrinks() {
  const all = drinks();
  if (drinkSelect.options.length > all.length) return;
  drinkSelect.append(...all.slice(drinkSelect.options.length - 1).map((drink) => h("option", { value: drink.caffeine_mg }, `${isolate(drink.coffee_type)}, ${formatMg(drink.caffeine_mg)}`)));
}

export function start() {
  chart = new Chart("caffeine", { options, table, readout });
  drinkSelect = select([["", "–"]], { onchange: () => ((doseInput.value = drinkSelect.value), update()) });
  doseInput = h("input", { type: "number", min: 0, max: 1000, step: "any", inputmode: "decimal", oninput: update });
  slider = h("input", { type: "range", min: 0, max: RANGE / STEP, value: 0, oninput: update });
  timeOutput = h("output");
  resultText = h("p", { class: "what-if-result", "aria-live": "polite" });
  const timeField = field("Time: ", slider);
  timeField.firstElementChild.append(timeOutput);
  byId("what-if").append(field("Drink", drinkSelect), field("Dose (mg)", doseInput), timeField, resultText);
  byId("what-if").addEventListener("submit", (event) => event.preventDefault());
  onChange(() => {
    fillDrinks();
    update();
  });
  update();
}
