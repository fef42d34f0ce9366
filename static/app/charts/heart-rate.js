// The "Heart rate" chart: average, lowest and highest over a period, with the drinks.

import * as api from "../api.js";
import { addChips, byId } from "../dom.js";
import { DAY, formatDay, formatDecimal, formatTime, plural } from "../format.js";
import { Chart, axis, bandEdge, color, drawDots, timeAxis, translucent } from "./chart.js";

/** Number of time slots in the chart. */
const SLOTS = 144;
/** Gaps wider than this share of the chart interrupt the line; shorter ones are bridged. */
const MIN_GAP = 1 / 16;

let days = "1";
let chart = null;
let response = null;
/** Instants of the drinks. */
let drinkTimes = [];
/** The bucket of each slot, or null. */
let slots = [];

const formatStart = (bucket) => `${formatDay(Date.parse(bucket.start))} ${formatTime(Date.parse(bucket.start))}`;

/** Returns the gaps of a series, as [from, to] in pixels, that are wide enough to be drawn. */
const wideGaps = (u, series, first, last, gaps) => gaps.filter(([from, to]) => to - from > MIN_GAP * u.bbox.width);

function options() {
  const stroke = color("chart-heart-rate");
  const isSparse = slots.filter(Boolean).length < 40;
  return {
    scales: { y: { range: (_, min, max) => [Math.floor((min - 8) / 10) * 10, Math.ceil((max + 5) / 10) * 10] } },
    axes: [timeAxis(), axis()],
    series: [{}, { ...bandEdge(), gaps: wideGaps }, { ...bandEdge(), gaps: wideGaps }, { stroke, width: 2, gaps: wideGaps, points: { show: isSparse, size: 6, fill: stroke } }],
    bands: [{ series: [2, 1], fill: translucent("chart-heart-rate", 18) }],
    hooks: { draw: [(u) => drawDots(u, drinkTimes.map((instant) => [instant / 1000, u.scales.y.min]), days === "30" ? 2.5 : 4)] },
  };
}

function readout(index) {
  const bucket = slots[index];
  return bucket ? `${formatStart(bucket)}: ${formatDecimal(bucket.avg_bpm)} (${bucket.min_bpm}–${bucket.max_bpm}) bpm` : "";
}

/** Returns the chart's columns: time, lowest, highest and average of every slot. */
function columns({ period, buckets }) {
  const [start, end] = [Date.parse(period.start), Date.parse(period.end)];
  const step = (end - start) / SLOTS;
  slots = Array(buckets.length ? SLOTS : 0).fill(null);
  for (const bucket of buckets) slots[Math.round((Date.parse(bucket.start) - start) / step)] = bucket;
  const column = (name) => slots.map((bucket) => bucket?.[name] ?? null);
  return [slots.map((_, n) => (start + (n + 0.5) * step) / 1000), column("min_bpm"), column("max_bpm"), column("avg_bpm")];
}

function description({ stats, readings_count: readings }) {
  if (!stats) return "No heart rate readings in this period.";
  const { min_bpm, max_bpm, avg_bpm, median_bpm } = stats;
  const drinks = drinkTimes.length ? ` Dots mark ${plural(drinkTimes.length, "drink")}.` : "";
  return `${plural(readings, "reading")}: ${min_bpm}–${max_bpm} bpm, average ${formatDecimal(avg_bpm)}, median ${formatDecimal(median_bpm)}. The band is the range from lowest to highest.${drinks}`;
}

function table() {
  const { buckets } = response;
  const every = Math.ceil(buckets.length / 48);
  const row = (bucket) => [formatStart(bucket), formatDecimal(bucket.avg_bpm), bucket.min_bpm, bucket.max_bpm, bucket.count].map(String);
  return { head: ["Time", "Average", "Lowest", "Highest", "Readings"], rows: buckets.filter((_, n) => n % every === 0).map(row) };
}

/** Loads and shows the selected period. */
export function refresh() {
  const requestedDays = days;
  const now = api.now();
  const [start, end] = [now - Number(days) * DAY, now].map((instant) => new Date(instant).toISOString());
  return api.catchApiError(async () => {
    const [range, coffees] = await Promise.all([
      api.get(api.withQuery("/heartrate/range", { start, end, buckets: SLOTS })),
      api.get(api.withQuery("/coffee/", { since: start, until: end, limit: 1000 })),
    ]);
    if (requestedDays !== days) return;
    response = { period: { start, end }, buckets: [], ...range };
    drinkTimes = coffees.map((coffee) => Date.parse(coffee.timestamp));
    chart.show(columns(response), description(response));
  }, (error) => response || chart.describe(error.message));
}

export function start() {
  chart = new Chart("heart", { options, table, readout });
  addChips(byId("heart-span"), "heart-span", [["1", "24 hours"], ["7", "7 days"], ["30", "30 days"]], days, (value) => {
    days = value;
    refresh();
  });
}
