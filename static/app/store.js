// State of the dashboard: the server's latest responses, combined with entries that are not synced yet.
// Views subscribe with `onChange`.

import * as api from "./api.js";
import { CaffeineCurve, addDoses } from "./caffeine-model.js";
import { addLocalDays } from "./format.js";
import * as queue from "./queue.js";

/** From midnight yesterday to tomorrow morning. */
const CURVE_HOURS = 54;
/** `GET /info` is limited to ten requests a minute for each address. */
const INFO_INTERVAL = 60_000;
/** Age up to which the server's current level is used instead of the curve, in ms. */
const MAX_LEVEL_AGE = 75_000;

/** Returns the first instant of yesterday. */
function startOfYesterday() {
  const day = new Date();
  day.setDate(day.getDate() - 1);
  day.setHours(0, 0, 0, 0);
  return day.toISOString();
}

const PATHS = {
  active: () => "/coffee/active?hours=1&step_minutes=60",
  summary: () => "/coffee/summary",
  today: () => "/coffee/today",
  heart: () => "/heartrate/current",
  curve: () => api.withQuery("/coffee/active", { at: startOfYesterday(), hours: CURVE_HOURS }),
  coffees: () => api.withQuery("/coffee/", { since: startOfYesterday(), limit: 1000 }),
  types: () => "/coffee/types",
};
/** The parts that change every minute. */
export const CURRENT_PARTS = ["active", "summary", "today", "heart"];
const ALL_PARTS = Object.keys(PATHS);

/**
 * The latest response of each part; `info` from `GET /info`; `updatedAt`, when the current level was loaded;
 * `error`, why loading failed.
 */
export const store = { coffees: [], info: api.loadItem("coffee.info"), updatedAt: null, error: null };
const listeners = [];
export const onChange = (listener) => listeners.push(listener);

/** Calls every listener. */
export function notify() {
  for (const listener of listeners) listener();
}

/** Entries that reached the server while this window is open. */
let arrivals = [];
/** When each part was requested last, and when the response that is shown was requested. */
const requestedAt = {};
const shownSince = {};

async function load(part) {
  const startedAt = performance.now();
  requestedAt[part] = startedAt;
  const response = await api.get(PATHS[part]());
  // A later request was started meanwhile.
  if (requestedAt[part] !== startedAt) return;
  store[part] = response;
  shownSince[part] = startedAt;
  api.cacheResponse(part, response);
  if (part === "active") Object.assign(store, { updatedAt: Date.now(), error: null });
}

/** Loads these parts from the server. */
export async function refresh(parts = ALL_PARTS) {
  await Promise.all(parts.map((part) => api.catchApiError(() => load(part), (error) => (store.error = error))));
  notify();
}

/** Loads the responses that an earlier window cached, so that there is something to show at once. */
export function loadCached() {
  for (const part of ALL_PARTS) {
    const cached = api.cachedResponse(part);
    if (cached) store[part] = cached.answer;
    if (cached && part === "active") store.updatedAt = cached.at;
  }
  notify();
}

/** Loads the server's time zone and validation limits. */
export async function refreshInfo() {
  if (Date.now() - (api.loadItem("coffee.info.at") ?? 0) < INFO_INTERVAL) return;
  api.saveItem("coffee.info.at", Date.now());
  await api.catchApiError(async () => {
    const { timezone, validation } = await api.get("/info");
    store.info = { timezone, validation };
    api.saveItem("coffee.info", store.info);
    notify();
  }, () => null);
}

/** Returns the coffees that the response to `part` does not include yet, as `{at, mg, name}`. */
export function unsyncedCoffees(part) {
  const arrivedLater = arrivals.filter((entry) => entry.arrivedAt > (shownSince[part] ?? 0));
  // An entry that was sent without a response may be on the server already.
  const onServer = new Set(store.coffees.map((coffee) => `${Date.parse(coffee.timestamp)} ${coffee.caffeine_mg}`));
  const isOnServer = ({ tries, body }) => tries > 0 && onServer.has(`${Date.parse(body.timestamp)} ${body.caffeine_mg}`);
  const entries = [...queue.pending().filter((entry) => !isOnServer(entry)), ...arrivedLater];
  return entries.filter((entry) => entry.route === "/coffee/").map(({ body }) => ({ at: Date.parse(body.timestamp), mg: body.caffeine_mg, name: body.coffee_type }));
}

/** Returns the curve including unsynced coffees, or null before it is loaded. */
export const currentCurve = () => (store.curve ? new CaffeineCurve(store.curve, unsyncedCoffees("curve")) : null);

/** Returns the current level: the server's while it is recent, else that of the curve; or null. */
export function currentLevel() {
  const { active } = store;
  const now = api.now();
  if (!(Math.abs(now - Date.parse(active?.timestamp)) < MAX_LEVEL_AGE)) return currentCurve()?.at(now) ?? null;
  return addDoses({ ...active, mg: active.active_caffeine_mg }, unsyncedCoffees("active"), now, active);
}

/** Returns the next bedtime, also when that of an old response has passed; null before there is one. */
export function nextBedtime() {
  let next = Date.parse(store.active?.bedtime);
  while (next < api.now()) next = addLocalDays(next, 1);
  return next || null;
}

let serverFormat = null;
let formatZone = null;

/** Returns year, month, day and hour of an instant in the server's time zone, as text. */
function serverParts(instant) {
  const fields = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", hourCycle: "h23" };
  const zone = store.info?.timezone;
  if (!serverFormat || formatZone !== zone) {
    formatZone = zone;
    try {
      serverFormat = new Intl.DateTimeFormat("en", { ...fields, timeZone: zone });
    } catch {
      // The browser does not support the zone.
      serverFormat = new Intl.DateTimeFormat("en", fields);
    }
  }
  return Object.fromEntries(serverFormat.formatToParts(instant).map(({ type, value }) => [type, value]));
}

/** Returns the calendar day of an instant in the server's time zone (2026-03-01). */
export function serverDate(instant) {
  const { year, month, day } = serverParts(instant);
  return `${year}-${month}-${day}`;
}

/** Returns the hour of an instant in the server's time zone, 0 to 23. */
export const serverHour = (instant) => Number(serverParts(instant).hour);

/** Returns the current calendar day in the server's time zone. */
export const serverToday = () => serverDate(api.now());

/** Returns the daily limit in mg. */
export const dailyLimit = () => store.today?.recommended_max ?? store.info?.validation.recommended_daily_caffeine_mg ?? 400;

queue.on("arrival", (entry) => arrivals.push({ ...entry, arrivedAt: performance.now() }));
queue.on("undone", ({ id }) => (arrivals = arrivals.filter((entry) => entry.id !== id)));
queue.on("change", notify);
