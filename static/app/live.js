// What the dashboard knows at this moment: the server's last answers, and the entries that it does not have
// yet, whose caffeine is added to the server's curve by its own formula. Whoever shows it listens for changes.

import * as api from "./api.js";
import { HOUR } from "./format.js";
import * as queue from "./queue.js";

/** From yesterday's midnight to tomorrow morning. */
const CURVE_HOURS = 54;
/** The server answers /info ten times a minute to everybody at one address. */
const INFO_EVERY = 60_000;
/** So long after the server told the level it is the level, ms. */
const FRESH = 75_000;
/** By these the server makes its band: a body that is quicker, and one that is slower. */
const FACTORS = { mg: 1, low_mg: 0.6, high_mg: 1.6 };

/** mg of a dose in the body after so many hours: one compartment, first-order absorption and elimination. */
function remaining(dose, hours, halfLife, absorption) {
  if (hours <= 0) return 0;
  const elimination = Math.LN2 / halfLife;
  if (Math.abs(absorption - elimination) < 1e-6) return dose * elimination * hours * Math.exp(-elimination * hours);
  const share = absorption / (absorption - elimination);
  return dose * share * (Math.exp(-elimination * hours) - Math.exp(-absorption * hours));
}

/** A level, as `mg`, `low_mg` and `high_mg`, with doses on top: {at, mg}. */
function withDoses(known, doses, instant, { half_life_hours: halfLife, absorption_per_hour: absorption }) {
  const level = ([name, factor]) => [name, doses.reduce((sum, dose) => sum + remaining(dose.mg, (instant - dose.at) / HOUR, halfLife * factor, absorption), known[name])];
  return Object.fromEntries(Object.entries(FACTORS).map(level));
}

/** The server's curve, and the doses that come on top of it. Instants are in ms. */
export class Curve {
  constructor(answer, extra = []) {
    Object.assign(this, { answer, extra, times: answer.curve.map((point) => Date.parse(point.at)) });
  }

  /** The same curve with one dose more. */
  with(dose) {
    return new Curve(this.answer, [...this.extra, dose]);
  }

  /** `mg`, `low_mg` and `high_mg` at an instant; null beyond the curve. */
  at(instant) {
    const { times, extra, answer } = this;
    if (!(instant >= times[0] && instant <= times.at(-1))) return null;
    const next = Math.max(1, times.findIndex((time) => time >= instant));
    const share = (instant - times[next - 1]) / (times[next] - times[next - 1]);
    const [from, to] = [answer.curve[next - 1], answer.curve[next]];
    const known = Object.fromEntries(Object.keys(FACTORS).map((name) => [name, from[name] + share * (to[name] - from[name])]));
    return withDoses(known, extra, instant, answer);
  }

  /** From when on it stays at or below `mg`, looking from `since` on; null when not within the curve. */
  staysBelow(mg, since) {
    const above = this.times.findLastIndex((time) => this.at(time).mg > mg);
    return above === this.times.length - 1 ? null : Math.max(since, this.times[above + 1]);
  }
}

/** Yesterday's first instant, as the server reads it. */
function yesterday() {
  const day = new Date();
  day.setDate(day.getDate() - 1);
  day.setHours(0, 0, 0, 0);
  return day.toISOString();
}

const PARTS = {
  active: () => "/coffee/active?hours=1&step_minutes=60",
  summary: () => "/coffee/summary",
  today: () => "/coffee/today",
  heart: () => "/heartrate/current",
  curve: () => api.withQuery("/coffee/active", { at: yesterday(), hours: CURVE_HOURS }),
  coffees: () => api.withQuery("/coffee/", { since: yesterday(), limit: 1000 }),
  types: () => "/coffee/types",
};
/** What a minute changes. */
export const NOW = ["active", "summary", "today", "heart"];
const ALL = Object.keys(PARTS);

/** Each part's answer or null; `info`, the server's rules; `asOf` (ms), when the level came; `fault`, why it did not. */
export const live = { coffees: [], info: api.noted("coffee.info"), asOf: null, fault: null };
const listeners = [];
export const onChange = (listener) => listeners.push(listener);

function changed() {
  for (const listener of listeners) listener();
}

/** Coffees that arrived while this window is open; `arrived` and the rest are instants of its clock. */
let fresh = [];
/** By part: when it was asked for last, and when the answer that is shown was asked for. */
const asked = {};
const answered = {};

async function ask(name) {
  const began = performance.now();
  asked[name] = began;
  const answer = await api.get(PARTS[name]());
  // A later question overtook this one.
  if (asked[name] !== began) return;
  live[name] = answer;
  answered[name] = began;
  api.keep(name, answer);
  if (name === "active") Object.assign(live, { asOf: Date.now(), fault: null });
}

/** Asks the server for these parts, all at once. */
export async function refresh(parts = ALL) {
  await Promise.all(parts.map((name) => api.trying(() => ask(name), (fault) => (live.fault = fault))));
  changed();
}

/** What an earlier window kept on this device, so that there is something to see at once. */
export function recall() {
  for (const name of ALL) {
    const kept = api.kept(name);
    if (kept) live[name] = kept.answer;
    if (kept && name === "active") live.asOf = kept.at;
  }
  changed();
}

export async function askInfo() {
  if (Date.now() - (api.noted("coffee.info.at") ?? 0) < INFO_EVERY) return;
  api.note("coffee.info.at", Date.now());
  await api.trying(async () => {
    const { timezone, validation } = await api.get("/info");
    live.info = { timezone, validation };
    api.note("coffee.info", live.info);
    changed();
  }, () => null);
}

/** Coffees that the answer to `part` does not hold: {at (ms), mg, name}. */
export function missingCoffees(part) {
  const after = fresh.filter((entry) => entry.arrived > (answered[part] ?? 0));
  // Sent without an answer, it may be among those that the server tells of.
  const known = new Set(live.coffees.map((coffee) => `${Date.parse(coffee.timestamp)} ${coffee.caffeine_mg}`));
  const isKnown = ({ tries, body }) => tries > 0 && known.has(`${Date.parse(body.timestamp)} ${body.caffeine_mg}`);
  const drunk = [...queue.waiting().filter((entry) => !isKnown(entry)), ...after].filter((entry) => entry.route === "/coffee/");
  return drunk.map(({ body }) => ({ at: Date.parse(body.timestamp), mg: body.caffeine_mg, name: body.coffee_type }));
}

/** The server's curve with what it does not know yet, or null. */
export const curve = () => (live.curve ? new Curve(live.curve, missingCoffees("curve")) : null);

/** The level now: the server's own word while it is fresh, then its curve, which goes on; or null. */
export function level() {
  const { active } = live;
  const now = api.now();
  if (!(Math.abs(now - Date.parse(active?.timestamp)) < FRESH)) return curve()?.at(now) ?? null;
  return withDoses({ ...active, mg: active.active_caffeine_mg }, missingCoffees("active"), now, active);
}

/** The same time of day so many days later, also where a day has 23 or 25 hours. */
export const daysLater = (instant, days) => new Date(instant).setDate(new Date(instant).getDate() + days);

/** The next bedtime from now on, which the last answer may have behind it; null before there is one. */
export function bedtime() {
  let next = Date.parse(live.active?.bedtime);
  while (next < api.now()) next = daysLater(next, 1);
  return next || null;
}

/** The server's calendar day of an instant, as 2026-03-01. */
export function serverDate(instant) {
  const fields = { year: "numeric", month: "2-digit", day: "2-digit" };
  let format;
  try {
    format = new Intl.DateTimeFormat("en", { ...fields, timeZone: live.info?.timezone });
  } catch {
    // A zone that this browser does not know.
    format = new Intl.DateTimeFormat("en", fields);
  }
  const parts = Object.fromEntries(format.formatToParts(instant).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
}

/** The server's present day. */
export const today = () => serverDate(api.now());

/** The advised limit of a day, mg. */
export const dailyLimit = () => live.today?.recommended_max ?? live.info?.validation.recommended_daily_caffeine_mg ?? 400;

queue.on("arrival", (entry) => fresh.push({ ...entry, arrived: performance.now() }));
queue.on("undone", ({ id }) => (fresh = fresh.filter((entry) => entry.id !== id)));
queue.on("change", changed);
