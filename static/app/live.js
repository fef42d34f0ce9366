// What the dashboard knows at this moment: the server's last answers, and the entries that it does not have
// yet. Whoever shows some of it listens for changes.

import * as api from "./api.js";
import { Curve } from "./caffeine.js";
import * as device from "./device.js";
import { DAY } from "./format.js";
import * as queue from "./queue.js";

/** From yesterday's midnight to tomorrow morning. */
const CURVE_HOURS = 54;
/** The server answers /info ten times a minute to everybody at one address. */
const INFO_EVERY = 60_000;

/** `faults` says why a part is missing; `asOf` (ms) is when the oldest of the shown answers came. */
export const live = { active: null, curve: null, summary: null, today: null, heart: null, types: null, coffees: [], info: device.noted("info"), asOf: null, faults: {} };
const listeners = new EventTarget();
export const onChange = (listener) => listeners.addEventListener("change", () => listener(live));
const changed = () => listeners.dispatchEvent(new Event("change"));

/** Coffees that have arrived, but not yet in an answer that was asked for before. */
let fresh = [];
const asked = {};

/** Yesterday's first instant, in ms. */
function yesterday() {
  const day = new Date();
  day.setDate(day.getDate() - 1);
  return day.setHours(0, 0, 0, 0);
}

const PARTS = {
  active: () => "/coffee/active?hours=1&step_minutes=60",
  summary: () => "/coffee/summary",
  today: () => "/coffee/today",
  heart: () => "/heartrate/current",
  curve: () => api.withQuery("/coffee/active", { at: new Date(yesterday()).toISOString(), hours: CURVE_HOURS }),
  coffees: () => api.withQuery("/coffee/", { since: new Date(yesterday()).toISOString(), limit: 1000 }),
  types: () => "/coffee/types",
};
/** What a minute changes. */
export const NOW = ["active", "summary", "today", "heart"];
/** What an entry changes. */
export const ALL = Object.keys(PARTS);

async function ask(name) {
  const began = performance.now();
  asked[name] = began;
  try {
    const answer = await api.get(PARTS[name]());
    // A later question overtook this one.
    if (asked[name] !== began) return;
    live[name] = answer;
    live.faults[name] = null;
    if (name === "curve") fresh = fresh.filter((coffee) => coffee.arrived > began);
    if (name === "active") live.asOf = Date.now();
    device.keep(name, answer);
  } catch (fault) {
    if (!(fault instanceof api.Fault)) throw fault;
    live.faults[name] = fault;
  }
}

/** Asks the server for these parts, all at once. */
export async function refresh(parts = ALL) {
  if (!device.key()) return;
  await Promise.all(parts.map(ask));
  changed();
}

/** What an earlier window kept on this device, so that there is something to see at once. */
export function recall() {
  for (const name of ALL) {
    const kept = device.kept(name);
    if (!kept) continue;
    live[name] = kept.answer;
    if (name === "active") live.asOf = kept.at;
  }
  changed();
}

export async function askInfo() {
  if (Date.now() - (device.noted("info.at") ?? 0) < INFO_EVERY) return;
  device.note("info.at", Date.now());
  try {
    const { timezone, validation, version } = await api.get("/info");
    live.info = { timezone, validation, version };
    device.note("info", live.info);
    changed();
  } catch (fault) {
    if (!(fault instanceof api.Fault)) throw fault;
  }
}

/** Coffees that the server's curve does not hold: {at (ms), mg, name}. */
export function unsentCoffees() {
  const waiting = queue.all().filter((entry) => entry.route === "/coffee/" && entry.state === "waiting");
  const ofBody = (body) => ({ at: Date.parse(body.timestamp), mg: Number(body.caffeine_mg), name: body.coffee_type });
  return [...waiting.map((entry) => ofBody(entry.body)), ...fresh.map((coffee) => ofBody(coffee.body))];
}

/** The server's curve with what it does not know yet, or null. */
export const curve = () => (live.curve ? new Curve(live.curve, unsentCoffees()) : null);

/** The next bedtime from now on, which the last answer may have behind it. */
export function bedtime() {
  let next = Date.parse(live.active?.bedtime);
  while (next < api.now()) next += DAY;
  return next || null;
}

/** Is an instant on the server's present day? */
export function isToday(instant) {
  const format = new Intl.DateTimeFormat("en-CA", { timeZone: live.info?.timezone, year: "numeric", month: "2-digit", day: "2-digit" });
  return format.format(instant) === live.today?.date;
}

queue.onArrival(({ entry }) => {
  if (entry.route === "/coffee/") fresh.push({ body: entry.body, id: entry.id, arrived: performance.now() });
});
queue.onUndone(({ id }) => {
  fresh = fresh.filter((coffee) => coffee.id !== id);
});
queue.onChange(changed);
