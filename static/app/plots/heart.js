// The heart: its rate over time with the drinks between, and what coffee does to it, each drink's dose against
// the rise that followed, with the verdict in words.

import * as api from "../api.js";
import { at, chips, field, h, menu, say } from "../elements.js";
import { DAY, count, day, dayTime, decimal, integer, mg, signed, time } from "../format.js";
import { Plot, axis, colour, dots, edge, faint, rule, timeAxis } from "./canvas.js";

const SLICES = 144;
/** Drinks that are shown beside their effect. */
const MOST = 1000;
/** A gap of this share of the plot is drawn as one; in a shorter one the heart went on as before. */
const GAP = 1 / 16;

/** The rate: of so many days, the answer about them, what was drunk (ms), and each column's slice or null. */
const rate = { days: "1", plot: null, answer: null, coffees: [], slices: [] };
/** The effect: of so many days' drinks, so many hours after each. */
const effect = { days: "30", hours: null, plot: null, answer: null };

const when = (slice) => `${day(Date.parse(slice.start))} ${time(Date.parse(slice.start))}`;

/** Of the gaps in a series, each from and to in pixels, the ones to draw. */
const gaps = (u, series, first, last, all) => all.filter(([from, to]) => to - from > GAP * u.bbox.width);

function rateOptions() {
  const heart = colour("plot-heart");
  const isSparse = rate.slices.filter(Boolean).length < 40;
  return {
    scales: { y: { range: (_, min, max) => [Math.floor((min - 8) / 10) * 10, Math.ceil((max + 5) / 10) * 10] } },
    axes: [timeAxis(), axis()],
    series: [{}, { ...edge(), gaps }, { ...edge(), gaps }, { stroke: heart, width: 2, gaps, points: { show: isSparse, size: 6, fill: heart } }],
    bands: [{ series: [2, 1], fill: faint("plot-heart", 18) }],
    hooks: { draw: [(u) => dots(u, rate.coffees.map((coffee) => [coffee / 1000, u.scales.y.min]), rate.days === "30" ? 2.5 : 4)] },
  };
}

function readOut(index) {
  const slice = rate.slices[index];
  return slice ? `${when(slice)}: ${decimal(slice.avg_bpm)} (${slice.min_bpm}–${slice.max_bpm}) bpm` : "";
}

/** Time, lowest, highest and average of every slice, with gaps where nothing was measured. */
function rateColumns({ period, buckets }) {
  const [start, end] = [Date.parse(period.start), Date.parse(period.end)];
  const step = (end - start) / SLICES;
  rate.slices = Array(buckets.length ? SLICES : 0).fill(null);
  for (const slice of buckets) rate.slices[Math.round((Date.parse(slice.start) - start) / step)] = slice;
  const column = (name) => rate.slices.map((slice) => slice?.[name] ?? null);
  return [rate.slices.map((_, n) => (start + (n + 0.5) * step) / 1000), column("min_bpm"), column("max_bpm"), column("avg_bpm")];
}

function rateInWords({ stats, readings_count: readings }) {
  if (!stats) return "No heart rate in this time.";
  const { min_bpm, max_bpm, avg_bpm, median_bpm } = stats;
  const drinks = rate.coffees.length ? ` Dots at the foot are ${count(rate.coffees.length, "drink")}.` : "";
  return `${count(readings, "reading")}: ${min_bpm} to ${max_bpm} bpm, average ${decimal(avg_bpm)}, median ${decimal(median_bpm)}. The band is the lowest and highest.${drinks}`;
}

function rateTable() {
  const { buckets } = rate.answer;
  const every = Math.ceil(buckets.length / 48);
  const row = (slice) => [when(slice), decimal(slice.avg_bpm), slice.min_bpm, slice.max_bpm, slice.count].map(String);
  return { head: ["From", "Average", "Lowest", "Highest", "Readings"], rows: buckets.filter((_, n) => n % every === 0).map(row) };
}

/** Asks for the rates of the chosen span and shows them. */
export function refreshRate() {
  const { days } = rate;
  const now = api.now();
  const [start, end] = [now - Number(days) * DAY, now].map((instant) => new Date(instant).toISOString());
  return api.trying(async () => {
    const [range, drunk] = await Promise.all([
      api.get(api.withQuery("/heartrate/range", { start, end, buckets: SLICES })),
      api.get(api.withQuery("/coffee/", { since: start, until: end, limit: 1000 })),
    ]);
    if (days !== rate.days) return;
    rate.answer = { period: { start, end }, buckets: [], ...range };
    rate.coffees = drunk.map((coffee) => Date.parse(coffee.timestamp));
    rate.plot.show(rateColumns(rate.answer), rateInWords(rate.answer));
  }, (fault) => rate.answer || rate.plot.tell(fault.message));
}

function effectOptions() {
  return {
    scales: { x: { time: false, range: (_, __, max) => [0, max * 1.08] }, y: { range: (_, min, max) => [Math.min(-5, min - 2), Math.max(5, max + 2)] } },
    axes: [axis({ values: (_, doses) => doses.map(integer), size: 28 }), axis({ values: (_, rises) => rises.map(signed) })],
    series: [{}, { stroke: "transparent", paths: () => null, points: { show: true, size: 9, width: 0, fill: faint("plot-heart", 55) } }],
    hooks: { draw: [(u) => rule(u, { y: 0, stroke: colour("plot-axis"), dash: [5, 4] })] },
  };
}

function effectInWords({ analysis, recommendations }, shown) {
  if (!analysis) return `${recommendations.join(". ")}.`;
  const rise = analysis.avg_hr_increase;
  const change = rise === null ? "" : ` On average ${signed(rise)} bpm, at most ${signed(analysis.max_hr_increase)}.`;
  return `${count(analysis.total_correlations, "drink")} with readings, ${integer(shown)} shown.${change} Each dot is a drink: its mg to the right, the change of the heart rate upwards.`;
}

function effectTable() {
  const bpm = (value, format = decimal) => (value === null ? "–" : format(value));
  const row = (pair) => [dayTime(Date.parse(pair.coffee_time)), pair.coffee_type ?? "caffeine", mg(pair.caffeine_mg), bpm(pair.baseline_heartrate), bpm(pair.avg_heartrate_after), bpm(pair.hr_increase, signed)];
  return { head: ["When", "What", "Dose", "bpm before", "bpm after", "Change"], rows: effect.answer.correlations.map(row) };
}

/** How sure it is; where that cannot be said, the summary, which goes by the average alone. */
function showVerdict({ verdict, statistics, summary }) {
  at("evidence").hidden = !verdict;
  say(at("evidence"), verdict === "no evidence" ? verdict : `${verdict} evidence`);
  say(at("verdict"), statistics?.explanation ?? `${summary}.`);
}

/** Asks for the effect of the chosen drinks and shows it. */
export function refreshEffect() {
  const [days, hours] = [effect.days, effect.hours.value];
  return api.trying(async () => {
    const answer = await api.get(api.withQuery("/heartrate/correlation", { days, hours_after: hours, limit: MOST }));
    if (days !== effect.days || hours !== effect.hours.value) return;
    effect.answer = answer;
    showVerdict(answer);
    const pairs = answer.correlations.filter((pair) => pair.hr_increase !== null).sort((a, b) => a.caffeine_mg - b.caffeine_mg);
    effect.plot.show([pairs.map((pair) => pair.caffeine_mg), pairs.map((pair) => pair.hr_increase)], effectInWords(answer, pairs.length));
  }, (fault) => effect.answer || effect.plot.tell(fault.message));
}

/** Chips that choose a span of days. */
function spans(id, choices, of, refresh) {
  const choose = (days) => {
    of.days = days;
    refresh();
  };
  chips(at(id), id, choices, of.days, choose);
}

export function start() {
  rate.plot = new Plot("heart", { options: rateOptions, table: rateTable, readOut });
  spans("heart-span", [["1", "24 hours"], ["7", "7 days"], ["30", "30 days"]], rate, refreshRate);
  effect.plot = new Plot("correlation", { options: effectOptions, table: effectTable });
  spans("correlation-span", [["30", "30 days"], ["90", "90 days"], ["365", "12 months"]], effect, refreshEffect);
  effect.hours = menu([1, 2, 3, 4, 6].map((n) => [n, `${n} h after`]), { onchange: refreshEffect });
  effect.hours.value = 2;
  const labelled = field("Hours looked at", effect.hours);
  labelled.firstElementChild.className = "visually-hidden";
  at("correlation-choice").append(labelled);
}
