// Everything that the "Now" card shows, computed from the server's responses and the entries that it does not
// have yet. A response alone and the same response with entries that arrive later give the same values.

import { Bedtimes } from "./bedtimes.js";
import { CaffeineModel, lastHourWhere } from "./caffeine-model.js";
import { HOUR } from "./format.js";

/** Recommended maximum of a single dose (EFSA), in mg. */
export const MAX_SINGLE_DOSE = 200;
/** Number of latest doses whose median is the usual dose. */
const USUAL_DOSE_SAMPLE = 50;
/** Usual dose without any drinks, in mg: an espresso. */
const DEFAULT_DOSE = 80;
/** Time after bedtime that counts as the same night. */
const NIGHT = 6 * HOUR;
/** Share of the limit from which the total is "well over" it. */
const WELL_OVER = 1.5;

const identity = (drink) => `${drink.at} ${drink.mg}`;
const fromEntry = ({ body }) => ({ at: Date.parse(body.timestamp), mg: body.caffeine_mg, name: body.coffee_type });
const fromCoffee = ({ id, timestamp, caffeine_mg, coffee_type }) => ({ id, at: Date.parse(timestamp), mg: caffeine_mg, name: coffee_type });
const ofRoute = (entries, route) => entries.filter((entry) => entry.route === route);

/** Returns the drinks of queue entries, as `{at, mg, name}`. */
export const drinksOf = (entries) => ofRoute(entries, "/coffee/").map(fromEntry);

/**
 * Combines the responses with the entries that they do not include. `unsynced` has these by the name of the
 * response, and `deletedIds` of coffees whose deletion can still be undone. Returns the drinks, oldest first, and
 * the changes to the response `active`: additional drinks, and deleted ones with a negative dose.
 */
export function combine(coffees, unsynced) {
  const isDeleted = ({ id }) => unsynced.deletedIds.has(id);
  const synced = coffees.map(fromCoffee);
  const removed = synced.filter(isDeleted);
  const drinks = [...synced.filter((drink) => !isDeleted(drink)), ...drinksOf(unsynced.coffees)].sort((a, b) => a.at - b.at);
  return { drinks, removed, negative: removed.map((drink) => ({ ...drink, mg: -drink.mg })) };
}

/** Creates the model of the response `active` with the drinks that it includes and the changes that it does not. */
function modelOf(active, { drinks, removed, negative }, unsynced) {
  const added = drinksOf(unsynced.active);
  const addedIdentities = new Set(added.map(identity));
  const included = drinks.filter((drink) => !addedIdentities.has(identity(drink)));
  return new CaffeineModel(active, [...included, ...removed], [...added, ...negative]);
}

/** Returns the lower median of the latest doses up to an instant, as the server computes the usual dose. */
function medianDose(drinks, until) {
  const latest = drinks.filter((drink) => drink.at <= until).sort((a, b) => b.at - a.at).slice(0, USUAL_DOSE_SAMPLE);
  const doses = latest.map((drink) => drink.mg).filter((mg) => mg > 0).sort((a, b) => a - b);
  return doses[Math.floor((doses.length - 1) / 2)] ?? DEFAULT_DOSE;
}

/** Returns the usual dose of somebody who has not set one, as the response `active` has it. */
export const medianOf = (active, coffees) => medianDose(coffees.map(fromCoffee), Date.parse(active.timestamp));

/** Returns the usual dose: a setting, or the median, which changes with every drink. */
function usualDose(active, coffees, drinks, now) {
  const isMedian = medianOf(active, coffees) === active.usual_dose_mg;
  return isMedian ? medianDose(drinks, now) : active.usual_dose_mg;
}

/**
 * Returns the latest time of a `dose` that keeps the night and the day within their limits, as the server does,
 * with the reason if there is none: "limit" or "sleep".
 */
function lastSafeDrink({ model, dose, leftOfNight, leftOfDay, bedtime, now, zone }) {
  const isTooMuch = (hours) => model.highestAfterDose(dose, hours) > leftOfNight;
  if (leftOfNight <= 0) return { at: null, reason: leftOfDay(zone.date(now)) <= 0 ? "limit" : "sleep" };
  const hours = isTooMuch(model.peakHours) ? lastHourWhere(model.peakHours, isTooMuch) : 0;
  let at = bedtime - hours * HOUR;
  const fits = (date) => leftOfDay(date) >= dose;
  const today = zone.date(now);
  if (!fits(zone.date(at))) {
    if (!fits(today)) return { at: null, reason: "limit" };
    at = Math.min(at, zone.endOfDay(now) - 1);
  }
  return at >= now ? { at, reason: null } : { at: null, reason: fits(today) ? "sleep" : "limit" };
}

/** Returns the newest heart rate, as `{bpm, context, at}`, or null. */
function newestReading(heart, entries) {
  const saved = heart?.bpm ? [{ bpm: heart.bpm, context: heart.context, at: Date.parse(heart.timestamp) }] : [];
  const waiting = ofRoute(entries, "/heartrate/").map(({ body }) => ({ bpm: body.bpm, context: body.context, at: Date.parse(body.timestamp) }));
  return [...saved, ...waiting].sort((a, b) => b.at - a.at)[0] ?? null;
}

/**
 * Returns the status from limit, dose and bedtime together: `level` (Good, Caution, Warning) and the `reason`.
 * The first reason that applies is given.
 */
function statusOf({ total, limit, active, isNight, tonight, threshold, usual, dose, room, lastSafe }) {
  const reasons = [
    ["Warning", "over-limit", total > limit],
    ["Warning", "high-level", active > MAX_SINGLE_DOSE],
    ["Caution", isNight ? "night" : "bedtime", tonight > threshold],
    ["Caution", "near-limit", total + usual > limit],
    ["Caution", "late-night", isNight && room < dose],
    ["Caution", "too-late", lastSafe.at === null],
  ];
  const [level, reason] = reasons.find(([, , applies]) => applies) ?? ["Good", lastSafe.isBedtime ? "any-time" : "until"];
  return { level, reason };
}

/**
 * Computes what "Now" shows. `responses`: `active`, `coffees` and `heart`, and the server's `zone`; `unsynced`: see
 * `combine`, and `heart`. Returns null before the responses are loaded.
 */
export function outlook({ active, coffees, heart, zone }, unsynced, currentTime) {
  if (!active || !coffees) return null;
  const combined = combine(coffees, unsynced);
  const { drinks } = combined;
  const model = modelOf(active, combined, unsynced);
  const now = Math.max(currentTime, model.start);
  const today = zone.date(now);
  const bedtimes = new Bedtimes(active, zone);
  const bedtime = bedtimes.next(now);
  const isNight = bedtimes.next(now - NIGHT + 1) < now;

  const limit = active.daily_limit_mg;
  const ofDay = (date) => drinks.filter((drink) => zone.date(drink.at) === date);
  const totalOf = (date) => ofDay(date).reduce((sum, drink) => sum + drink.mg, 0);
  const leftOfDay = (date) => limit - totalOf(date);
  const total = totalOf(today);
  const threshold = active.sleep_threshold_mg;
  const night = model.highestFrom(bedtime);
  const leftOfNight = threshold - night;
  const usual = usualDose(active, coffees, drinks, now);
  const dose = Math.min(usual, MAX_SINGLE_DOSE);

  const tonight = isNight ? model.highestFrom(now) : night;
  const hoursToSleep = isNight ? 0 : (bedtime - now) / HOUR;
  const forSleep = Math.max(0, (threshold - tonight) / model.highestAfterDose(1, hoursToSleep) || 0);
  const forDay = Math.max(0, leftOfDay(today));
  const room = Math.floor(Math.min(forSleep, forDay, MAX_SINGLE_DOSE) * 100) / 100;
  const roomReason = forDay <= forSleep && forDay < MAX_SINGLE_DOSE ? "limit" : forSleep < MAX_SINGLE_DOSE ? "sleep" : "dose";
  const lastSafe = lastSafeDrink({ model, dose, leftOfNight, leftOfDay, bedtime, now, zone });
  lastSafe.isBedtime = lastSafe.at !== null && bedtime - lastSafe.at < 1000;
  const level = model.at(now);

  return {
    now,
    date: today,
    model,
    drinks,
    level,
    onItsWay: model.state(now).gut,
    total,
    limit,
    count: ofDay(today).length,
    isWellOver: total >= WELL_OVER * limit,
    bedtime,
    lastBedtime: bedtimes.last(now),
    atBedtime: model.at(bedtime).mg,
    night,
    tonight,
    threshold,
    usual,
    dose,
    room,
    roomReason,
    lastSafe,
    status: statusOf({ total, limit, active: level.mg, isNight, tonight, threshold, usual, dose, room, lastSafe }),
    heart: newestReading(heart, unsynced.heart),
  };
}
