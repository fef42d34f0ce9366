// The "Heart rate" chart: average, lowest and highest over a period, with the drinks.

import * as api from "../api.js";
import { addChips, byId } from "../dom.js";
import { DAY, formatDay, formatDecimal, formatTime, plural } from "../format.js";
import * as sources from "../sources.js";
import { Chart, axis, bandEdge, color, drawDots, timeAxis, translucent } from "./chart.js";

/** Number of time slots in the chart. */
const SLOTS = 144;
/** Gaps wider than this share of the chart interrupt the line; shorter ones are bridged. */
const MIN_GAP = 1 / 16;

const formatStart = (bucket) => `${formatDay(Date.parse(bucket.start))} ${formatTime(Date.parse(bucket.start))}`;

/** Returns the gaps of a series, as [from, to] in pixels, that are wide enough to be drawn. */
const wideGaps = (u, series, first, last, gaps) => gaps.filter(([from, to]) => to - from > MIN_GAP * u.bbox.width);

/** A heart rate chart in the elements NAME-chart, NAME-text, NAME-table and NAME-readout. */
export class HeartRateChart {
  constructor(name) {
    /** The bucket of each slot, or null. */
    this.slots = [];
    /** The loaded period: `start`, `end`, `buckets` and `stats`; null before it is loaded. */
    this.period = null;
    /** Instants of the drinks. */
    this.drinkTimes = [];
    this.chart = new Chart(name, { options: () => this.options(), table: () => this.table(), readout: (index) => this.readout(index) });
  }

  /** Loads the period from `start` to `end`, in the API's format; `isCurrent` reports whether it is still wanted. */
  async load(start, end, isCurrent) {
    const [range, coffees] = await Promise.all([
      api.get(api.withQuery("/heartrate/range", { start, end, buckets: SLOTS })),
      api.get(api.withQuery("/coffee/", { since: start, until: end, limit: 1000 })),
    ]);
    if (!isCurrent()) return;
    this.period = { buckets: [], start: range.start, end: range.end, ...range.period, ...range };
    this.drinkTimes = coffees.map((coffee) => Date.parse(coffee.timestamp));
    this.chart.show(this.columns(), this.description());
  }

  /** Shows why the period could not be loaded, unless there is an older one to show. */
  showError(error) {
    if (!this.period) this.chart.describe(error.message);
  }

  options() {
    const stroke = color("chart-heart-rate");
    const isSparse = () => this.slots.filter(Boolean).length < 40;
    const radius = (u) => ((u.scales.x.max - u.scales.x.min) * 1000 > 8 * DAY ? 2.5 : 4);
    return {
      scales: { y: { range: (_, min, max) => [Math.floor((min - 8) / 10) * 10, Math.ceil((max + 5) / 10) * 10] } },
      axes: [timeAxis(), axis()],
      series: [{}, { ...bandEdge(), gaps: wideGaps }, { ...bandEdge(), gaps: wideGaps }, { stroke, width: 2, gaps: wideGaps, points: { show: isSparse, size: 6, fill: stroke } }],
      bands: [{ series: [2, 1], fill: translucent("chart-heart-rate", 18) }],
      hooks: { draw: [(u) => drawDots(u, this.drinkTimes.map((instant) => [instant / 1000, u.scales.y.min]), radius(u))] },
    };
  }

  readout(index) {
    const bucket = this.slots[index];
    return bucket ? `${formatStart(bucket)}: ${formatDecimal(bucket.avg_bpm)} (${bucket.min_bpm}–${bucket.max_bpm}) bpm` : "";
  }

  /** Returns the chart's columns: time, lowest, highest and average of every slot. */
  columns() {
    const { buckets } = this.period;
    const [start, end] = [Date.parse(this.period.start), Date.parse(this.period.end)];
    const step = (end - start) / SLOTS;
    this.slots = Array(buckets.length ? SLOTS : 0).fill(null);
    for (const bucket of buckets) this.slots[Math.round((Date.parse(bucket.start) - start) / step)] = bucket;
    const column = (name) => this.slots.map((bucket) => bucket?.[name] ?? null);
    return [this.slots.map((_, n) => (start + (n + 0.5) * step) / 1000), column("min_bpm"), column("max_bpm"), column("avg_bpm")];
  }

  description() {
    const { stats, readings_count: readings } = this.period;
    if (!stats) return "No heart rate readings in this period.";
    const { min_bpm, max_bpm, avg_bpm, median_bpm } = stats;
    const hasBand = this.period.buckets.some((bucket) => bucket.min_bpm < bucket.max_bpm);
    const band = hasBand ? " The band is the range from lowest to highest." : "";
    const drinks = this.drinkTimes.length ? ` Dots mark ${plural(this.drinkTimes.length, "drink")}.` : "";
    return `${plural(readings, "reading")}: ${min_bpm}–${max_bpm} bpm, average ${formatDecimal(avg_bpm)}, median ${formatDecimal(median_bpm)}.${band}${drinks}`;
  }

  table() {
    // The next period is being loaded.
    const { buckets } = this.period ?? { buckets: [] };
    const every = Math.ceil(buckets.length / 48);
    const row = (bucket) => [formatStart(bucket), formatDecimal(bucket.avg_bpm), bucket.min_bpm, bucket.max_bpm, bucket.count].map(String);
    return { head: ["Time", "Average", "Lowest", "Highest", "Readings"], rows: buckets.filter((_, n) => n % every === 0).map(row) };
  }
}

let days = "1";
let chart = null;

/** Loads and shows the selected period. */
export function refresh() {
  const requestedDays = days;
  const now = api.now();
  const [start, end] = [now - Number(days) * DAY, now].map((instant) => new Date(instant).toISOString());
  return api.catchApiError(() => chart.load(start, end, () => requestedDays === days), (error) => chart.showError(error));
}

export function start() {
  sources.start();
  chart = new HeartRateChart("heart");
  addChips(byId("heart-span"), "heart-span", [["1", "24 hours"], ["7", "7 days"], ["30", "30 days"]], days, (value) => {
    days = value;
    refresh();
  });
}
