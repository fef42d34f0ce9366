// State of the dashboard: the server's latest responses, combined with entries that are not synced yet.
// Views subscribe with `onChange`.

import * as api from "./api.js";
import { Bedtimes, zoneOf } from "./bedtimes.js";
import { CaffeineCurve } from "./caffeine-model.js";
import { HOUR } from "./format.js";
import { combine, drinksOf, outlook } from "./outlook.js";
import * as queue from "./queue.js";
import * as session from "./session.js";

/** Number of days of the calendar. */
export const DAYS = 365;
/** Values of the profile that the curve depends on. */
const CURVE_PARAMETERS = ["half_life_hours", "sleep_threshold_mg"];
/** From midnight yesterday to tomorrow morning. */
const CURVE_HOURS = 54;
/** `GET /info` is limited to ten requests a minute for each address. */
const INFO_INTERVAL = 60_000;
const INFO_ITEM = "coffee.info";
/** Number of coffees that are loaded. The newest 50 decide about the usual dose. */
const COFFEES = 60;
/** Maximum page size of the server. */
const MAX_COFFEES = 1000;

/** Returns the first instant of yesterday. */
function startOfYesterday() {
  const day = new Date();
  day.setDate(day.getDate() - 1);
  return day.setHours(0, 0, 0, 0);
}

/** Loads the newest coffees; all since yesterday if there are more. */
async function loadCoffees() {
  const newest = await api.get(`/coffee/?limit=${COFFEES}`);
  // Calendar days of the server may start up to a day before those of this device.
  const since = startOfYesterday() - 24 * HOUR;
  if (newest.length < COFFEES || Date.parse(newest.at(-1).timestamp) < since) return newest;
  return api.get(api.withQuery("/coffee/", { since: new Date(since).toISOString(), limit: MAX_COFFEES }));
}

const PARTS = {
  active: () => api.get("/coffee/active?hours=1&step_minutes=60"),
  coffees: loadCoffees,
  heart: () => api.get("/heartrate/current"),
  types: () => api.get("/coffee/types"),
  // Loaded when they are shown.
  days: () => api.get(`/coffee/days?days=${DAYS}`),
  sources: () => api.get("/sources"),
  curve: () => api.get(api.withQuery("/coffee/active", { at: new Date(startOfYesterday()).toISOString(), hours: CURVE_HOURS })),
};
/** The parts that change every minute. */
export const CURRENT_PARTS = ["active", "coffees", "heart"];
const wantedParts = new Set([...CURRENT_PARTS, "types"]);

/**
 * The latest response of each part; `info` from `GET /info`, and its `timezone`; `updatedAt`, when the current level was loaded;
 * `error`, why loading failed; `deletedIds`, coffees by id whose deletion can still be undone.
 */
export const store = { info: null, timezone: session.loadItem(INFO_ITEM)?.timezone, updatedAt: null, error: null, deletedIds: new Map() };
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
  const response = await PARTS[part]();
  // A later request was started meanwhile.
  if (requestedAt[part] !== startedAt) return;
  const isFirst = store[part] === undefined;
  store[part] = response;
  shownSince[part] = startedAt;
  session.cacheResponse(part, response);
  if (part === "active") Object.assign(store, { updatedAt: Date.now(), error: null });
  // What can be shown is not delayed by slower responses.
  if (isFirst) notify();
  // The profile has changed. The curve itself is loaded less often.
  const isOutdated = part === "active" && store.curve && CURVE_PARAMETERS.some((name) => response[name] !== store.curve[name]);
  if (isOutdated) await load("curve");
}

/** Loads these parts from the server. */
export async function refresh(parts = wantedParts) {
  if (!session.isSignedIn() || !session.may("read")) return;
  await Promise.all([...parts].map((part) => api.catchApiError(() => load(part), (error) => (store.error = error))));
  notify();
}

/** Loads a part from now on. */
export function want(part) {
  // Those that were loaded are refreshed with the others.
  if (wantedParts.has(part)) return null;
  wantedParts.add(part);
  return refresh([part]);
}

/** Loads the responses that an earlier window cached, so that there is something to show at once. */
export function loadCached() {
  for (const part of Object.keys(PARTS)) {
    const cached = session.cachedResponse(part);
    if (cached) store[part] = cached.answer;
    if (cached && part === "active") store.updatedAt = cached.at;
  }
  store.info = storedInfo().info ?? null;
  notify();
}

/** Forgets every response. */
export function clear() {
  for (const part of Object.keys(PARTS)) delete store[part];
  // Responses to earlier requests are ignored.
  for (const part of Object.keys(requestedAt)) delete requestedAt[part];
  arrivals = [];
  store.updatedAt = null;
  notify();
}

/** Returns what is stored of `GET /info` for the present key, as `{owner, at, info}`; the limits may be a person's own. */
function storedInfo() {
  const stored = session.loadItem(INFO_ITEM);
  return stored && stored.owner === session.owner() ? stored : {};
}

/** Loads the server's time zone and validation limits. */
export async function refreshInfo() {
  const { at = 0, info } = storedInfo();
  store.info = info ?? null;
  if (Date.now() - at < INFO_INTERVAL) return;
  const save = (value) => session.saveItem(INFO_ITEM, { owner: session.owner(), at: Date.now(), info: value, timezone: store.timezone });
  save(info);
  await api.catchApiError(async () => {
    const { timezone, validation } = await api.get("/info");
    Object.assign(store, { info: { timezone, validation }, timezone });
    save(store.info);
    notify();
  }, () => null);
}

/** Returns the entries that the response to `part` does not include yet. */
function unsyncedEntries(part) {
  const arrivedLater = arrivals.filter((entry) => entry.arrivedAt > (shownSince[part] ?? 0));
  // An entry that was sent without a response may be on the server already.
  const onServer = new Set((store.coffees ?? []).map((coffee) => `${Date.parse(coffee.timestamp)} ${coffee.caffeine_mg}`));
  const isOnServer = ({ tries, body }) => tries > 0 && onServer.has(`${Date.parse(body.timestamp)} ${body.caffeine_mg}`);
  return [...queue.pending().filter((entry) => !isOnServer(entry)), ...arrivedLater];
}

/** Returns the entries that each response does not include yet, and the deleted ones. */
const unsynced = () => ({ ...Object.fromEntries(Object.keys(PARTS).map((part) => [part, unsyncedEntries(part)])), deletedIds: store.deletedIds });

/** Returns the server's time zone. */
const serverZone = () => zoneOf(store.timezone, store.active);

/** Returns what "Now" shows, or null before it is loaded; with another profile, `active` is changed. */
export const currentOutlook = (active = store.active) => outlook({ ...store, active, zone: serverZone() }, unsynced(), api.now());

/** Returns the last bedtime and the next, or none before they are loaded. */
export function currentBedtimes() {
  const now = currentOutlook();
  return now ? [now.lastBedtime, now.bedtime] : [];
}

/** Returns the usual bedtime (22:30), or null before it is loaded. */
export const usualBedtime = () => (store.active ? new Bedtimes(store.active, serverZone()).times.usual : null);

/** Returns the curve with the changes that it does not include, or null before it is loaded. */
export function currentCurve() {
  if (!store.curve) return null;
  const { negative } = combine(store.coffees ?? [], unsynced());
  const included = (store.coffees ?? []).map((coffee) => ({ at: Date.parse(coffee.timestamp), mg: coffee.caffeine_mg }));
  return new CaffeineCurve(store.curve, [...drinksOf(unsyncedEntries("curve")), ...negative], included);
}

/** Returns the drinks as `{at, mg, name}`, oldest first. */
export const currentDrinks = () => combine(store.coffees ?? [], unsynced()).drinks;

/** Returns the calendar day of an instant in the server's time zone (2026-03-01). */
export const serverDate = (instant) => serverZone().date(instant);

/** Returns the hour of an instant in the server's time zone, 0 to 23. */
export const serverHour = (instant) => new Date(serverZone().local(instant)).getUTCHours();

/** Returns the current calendar day in the server's time zone. */
export const serverToday = () => serverDate(api.now());

/** Returns the daily limit in mg. */
export const dailyLimit = () => store.active?.daily_limit_mg ?? store.info?.validation.recommended_daily_caffeine_mg ?? 400;

/** Returns what the response `days` does not include yet, by calendar day. */
export function dayChanges() {
  const added = drinksOf(unsyncedEntries("days")).map((drink) => ({ ...drink, count: 1 }));
  const removed = [...store.deletedIds.values()].map((coffee) => ({ at: Date.parse(coffee.timestamp), mg: -coffee.caffeine_mg, count: -1 }));
  const changes = new Map();
  for (const { at, mg, count } of [...added, ...removed]) {
    const date = serverDate(at);
    const { total_mg, coffee_count } = changes.get(date) ?? { total_mg: 0, coffee_count: 0 };
    changes.set(date, { total_mg: total_mg + mg, coffee_count: coffee_count + count });
  }
  return changes;
}

/** Hides a coffee while its deletion can be undone, or shows it again. */
export function setDeleted(coffee, isDeleted) {
  if (isDeleted) store.deletedIds.set(coffee.id, coffee);
  else store.deletedIds.delete(coffee.id);
  notify();
}

queue.on("arrival", (entry) => arrivals.push({ ...entry, arrivedAt: performance.now() }));
queue.on("undone", ({ id }) => (arrivals = arrivals.filter((entry) => entry.id !== id)));
queue.on("change", notify);
