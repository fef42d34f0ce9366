// The curve of yesterday, today and tonight: the level with its band, what was drunk, the threshold for sleep
// and the bedtimes. And "a double espresso at 16:00?": moves the curve, dashed, before anything is drunk, and
// says what the night makes of it.

import * as api from "../api.js";
import { at, field, h, menu, say } from "../elements.js";
import { HOUR, MINUTE, day, dayTime, integer, mg, time } from "../format.js";
import { bedtime, curve, dailyLimit, daysLater, live, missingCoffees, onChange, serverDate, today } from "../live.js";
import { drinks } from "../log.js";
import { Plot, axis, colour, dots, edge, px, rule, timeAxis } from "./canvas.js";

/** Steps in which one may ask, and how far ahead. */
const STEP = 15 * MINUTE;
const AHEAD = 16 * HOUR;
/** EFSA's advice for a single dose, mg. */
const AT_ONCE = 200;

let plot = null;
let shown = null;
/** A drink that is only thought of: {at, mg}, or null. */
let imagined = null;

/** What was drunk: {at, mg, name}, oldest first. */
function marks() {
  const known = live.coffees.map(({ timestamp, caffeine_mg, coffee_type }) => ({ at: Date.parse(timestamp), mg: caffeine_mg, name: coffee_type }));
  return [...known, ...missingCoffees("coffees")].sort((a, b) => a.at - b.at);
}

const named = (coffees) => coffees.map((coffee) => `${coffee.name ?? "caffeine"} ${mg(coffee.mg)}`).join(", ");

function options() {
  const line = { stroke: colour("plot-caffeine"), width: 2.5, points: { show: false } };
  const dashed = { stroke: colour("plot-threshold"), dash: [5, 4] };
  const draw = (u) => {
    const bed = bedtime();
    const isNear = Math.abs(u.valToPos(bed / 1000, "x") - u.valToPos(api.now() / 1000, "x")) < px(34);
    rule(u, { y: live.curve.sleep_threshold_mg, ...dashed });
    for (const night of bed ? [daysLater(bed, -1), bed] : []) rule(u, { x: night / 1000, ...dashed, label: time(night) });
    rule(u, { x: api.now() / 1000, stroke: colour("plot-axis"), label: isNear ? "" : "now" });
    dots(u, marks().map((coffee) => [coffee.at / 1000, shown.at(coffee.at)?.mg ?? 0]));
  };
  return {
    scales: { y: { range: (_, __, max) => [0, Math.max(100, max * 1.12)] } },
    axes: [timeAxis(), axis({ values: (_, levels) => levels.map(integer) })],
    series: [{}, edge(), edge(), line, { ...line, dash: [2, 4] }, { ...line, ...dashed }],
    bands: [{ series: [2, 1], fill: colour("plot-band") }],
    hooks: { draw: [draw] },
  };
}

function readOut(index) {
  const instant = plot.data[0][index] * 1000;
  const level = shown.at(instant);
  const near = marks().filter((coffee) => Math.abs(coffee.at - instant) < 8 * MINUTE);
  return [`${dayTime(instant)}: ${mg(level.mg)} (${integer(level.low_mg)}–${integer(level.high_mg)})`, ...(near.length ? [named(near)] : [])].join(", ");
}

/** The curve's points and the present one: low, high, until now, from now on, and with the imagined drink. */
function columns() {
  const now = api.now();
  const times = [...shown.times, ...(shown.at(now) ? [now] : [])].sort((a, b) => a - b);
  const levels = times.map((instant) => shown.at(instant));
  const withIt = imagined && shown.with(imagined);
  return [
    times.map((instant) => instant / 1000),
    levels.map((level) => level.low_mg),
    levels.map((level) => level.high_mg),
    times.map((instant, n) => (instant <= now ? levels[n].mg : null)),
    times.map((instant, n) => (instant >= now ? levels[n].mg : null)),
    times.map((instant) => (withIt && instant >= imagined.at - 15 * MINUTE ? withIt.at(instant).mg : null)),
  ];
}

/** The curve in words. */
function inWords() {
  const now = api.now();
  const threshold = live.curve.sleep_threshold_mg;
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const sofar = shown.times.filter((instant) => instant >= midnight && instant <= now).map((instant) => [shown.at(instant).mg, instant]);
  if (shown.times.every((instant) => shown.at(instant).high_mg < 0.5)) return `No caffeine since yesterday. Dashed are the ${mg(threshold)} for sleep and bedtime.`;
  const [most, when] = sofar.reduce((best, point) => (point[0] > best[0] ? point : best), [0, 0]);
  const below = shown.staysBelow(threshold, now);
  const night = below === null ? `above ${mg(threshold)} until after this plot` : below <= now ? `at most ${mg(threshold)} from now on` : `at most ${mg(threshold)} from ${dayTime(below)} on`;
  const highest = most >= 1 ? `highest today ${mg(most)} at ${time(when)}, ` : "";
  return `Caffeine in the body: ${highest}${night}. Dots are drinks; dashed are ${mg(threshold)} and bedtime; the band is for quicker and slower bodies.`;
}

function table() {
  const rows = shown.times.filter((instant) => new Date(instant).getMinutes() === 0).map((instant) => {
    const level = shown.at(instant);
    const drunk = marks().filter((coffee) => coffee.at >= instant && coffee.at < instant + HOUR);
    return [`${day(instant)} ${time(instant)}`, mg(level.mg), `${integer(level.low_mg)} to ${mg(level.high_mg)}`, named(drunk)];
  });
  return { head: ["When", "In the body", "Likely", "Drunk in that hour"], rows };
}

function show() {
  shown = curve();
  if (shown) plot.show(columns(), inWords());
  else if (live.fault) plot.tell(live.fault.message);
}

let drink, dose, slider, output, words;

/** What the night and the day make of a drink: {at, mg}. */
function judge(thought) {
  const [withIt, bed] = [shown.with(thought), bedtime()];
  const threshold = live.curve.sleep_threshold_mg;
  const said = [];
  const [left, then] = [shown.at(bed)?.mg, withIt.at(bed)?.mg];
  if (thought.at < bed && then !== undefined) {
    const verdict = then <= threshold ? "sleep should not suffer" : `above the ${mg(threshold)} for sleep`;
    said.push(`In bed at ${time(bed)}: ${mg(then)} instead of ${mg(left)}, ${verdict}.`);
  }
  const below = withIt.staysBelow(threshold, thought.at);
  if (below > thought.at) said.push(`At most ${mg(threshold)} from ${dayTime(below)} on.`);
  const total = (live.today?.total_caffeine_mg ?? 0) + thought.mg;
  if (serverDate(thought.at) === today() && total > dailyLimit()) said.push(`Today's total would be ${mg(total)}, above ${mg(dailyLimit())}.`);
  if (thought.mg > AT_ONCE) said.push(`No more than ${mg(AT_ONCE)} at once is advised.`);
  return said.join(" ");
}

function update() {
  const when = Math.ceil(api.now() / STEP) * STEP + Number(slider.value) * STEP;
  say(output, dayTime(when));
  slider.setAttribute("aria-valuetext", dayTime(when));
  imagined = dose.valueAsNumber > 0 && dose.validity.valid ? { at: when, mg: dose.valueAsNumber } : null;
  show();
  words.classList.toggle("soft", !imagined);
  say(words, imagined && shown ? judge(imagined) : "Choose a drink and a time: the plot shows what it would do, and nothing is logged.");
}

function fillDrinks() {
  const all = drinks();
  if (drink.options.length > all.length) return;
  drink.append(...all.slice(drink.options.length - 1).map((one) => h("option", { value: one.caffeine_mg }, `${one.coffee_type}, ${mg(one.caffeine_mg)}`)));
}

export function start() {
  plot = new Plot("curve", { options, table, readOut });
  drink = menu([["", "–"]], { onchange: () => ((dose.value = drink.value), update()) });
  dose = h("input", { type: "number", min: 0, max: 1000, step: "any", inputmode: "decimal", oninput: update });
  slider = h("input", { type: "range", min: 0, max: AHEAD / STEP, value: 0, oninput: update });
  output = h("output");
  words = h("p", { class: "what-if-words", "aria-live": "polite" });
  const later = field("At ", slider);
  later.firstElementChild.append(output);
  at("what-if").append(field("Drink", drink), field("mg", dose), later, words);
  at("what-if").addEventListener("submit", (event) => event.preventDefault());
  onChange(() => {
    fillDrinks();
    update();
  });
  update();
}
