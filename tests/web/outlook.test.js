// What "Now" shows: the page's computation from the server's responses and the entries that wait, compared with
// the server's responses once the entries have arrived. TEST_SEED sets the seed of the random queues.

import assert from "node:assert/strict";
import { test } from "node:test";

import { importModule, startServer } from "./helpers.js";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
// This device's zone, which is used when the server's is not known.
process.env.TZ = "America/Caracas";
const SEED = Number(process.env.TEST_SEED ?? 14);
const WALKS = 25;
/** Difference that rounding makes in the time of the last coffee, in ms. */
const TOLERANCE = 2 * MINUTE;

const { Bedtimes, WEEKDAYS, zoneOf } = await importModule("bedtimes.js");
const { outlook } = await importModule("outlook.js");
const { ServerZone } = await importModule("server-zone.js");
const { CaffeineCurve } = await importModule("caffeine-model.js");

/** Returns a function that returns random numbers from 0 to 1 (mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const none = (deletedIds = new Set()) => ({ active: [], coffees: [], heart: [], deletedIds });
const near = (found, expected, tolerance, what) => assert.ok(Math.abs(found - expected) <= tolerance, `${what}: ${found} instead of ${expected}`);

async function get(server, path) {
  const { status, body } = await server.api("GET", path);
  assert.equal(status, 200, path);
  return body;
}

/** Returns the responses that the page loads, as they were at an instant, and the zone that it uses. */
async function responsesAt(server, instant, timezone) {
  const at = new Date(instant).toISOString();
  const until = new Date(instant + 6 * 60 * MINUTE).toISOString();
  const active = await get(server, `/coffee/active?at=${at}&hours=1&step_minutes=60`);
  return { active, coffees: await get(server, `/coffee/?until=${until}&limit=100`), zone: zoneOf(timezone, active) };
}

/** Returns random bedtimes of some weekdays, from 20:00 to 4:59. */
function randomBedtimes(random) {
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const days = WEEKDAYS.filter(() => random() < 0.6);
  return Object.fromEntries(days.map((day) => [day, `${two((20 + random() * 9) % 24)}:${two(random() * 60)}`]));
}

/** Logs random drinks before an instant, and returns those that wait until `now`. */
async function walk(server, random, instant, timezone) {
  const drink = (until) => ({ caffeine_mg: Math.round(random() ** 2 * 260), timestamp: new Date(until - Math.floor(random() ** 1.5 * 2 * DAY)).toISOString() });
  const drinks = (count, until) => Array.from({ length: Math.floor(random() * count) }, () => drink(until));
  for (const body of drinks(9, instant)) await server.api("POST", "/coffee/", body);
  const responses = await responsesAt(server, instant, timezone);
  const now = instant + Math.floor(random() * 5 * 60) * MINUTE;
  const entries = drinks(6, now).map((body) => ({ route: "/coffee/", body }));
  const recent = responses.coffees.filter((coffee) => Date.parse(coffee.timestamp) > instant - 2 * DAY && random() < 0.2);
  const deletedIds = new Set(recent.map((coffee) => coffee.id));
  return { responses, now, unsynced: { active: entries, coffees: entries, heart: [], deletedIds } };
}

async function sendAll(server, { coffees, deletedIds }) {
  for (const { body } of coffees) assert.equal((await server.api("POST", "/coffee/", body)).status, 201);
  for (const id of deletedIds) await server.api("DELETE", `/coffee/${id}`);
}

function assertSameAsServer(found, active, day) {
  near(found.total, day?.total_mg ?? 0, 0.01, "total of today");
  assert.equal(found.count, day?.coffee_count ?? 0, "number of drinks");
  near(found.level.mg, active.active_caffeine_mg, 0.05, "level");
  near(found.level.low_mg, active.low_mg, 0.05, "low level");
  near(found.level.high_mg, active.high_mg, 0.05, "high level");
  assert.equal(new Date(found.bedtime).toISOString(), new Date(active.bedtime).toISOString(), "bedtime");
  near(found.atBedtime, active.at_bedtime_mg, 0.05, "level at bedtime");
  assert.equal(found.usual, active.usual_dose_mg, "usual dose");
  near(found.room, active.can_drink_now_mg, 0.5, "room for now");
  // Just before its end, the time for the last coffee may be over: the server rounds what the page calculates with.
  const [foundLast, serverLast] = [found.lastSafe.at ?? found.now, Date.parse(active.last_safe_coffee_at ?? new Date(found.now))];
  near(foundLast, serverLast, TOLERANCE, `last coffee: ${JSON.stringify(found.lastSafe)} and ${active.last_safe_coffee_at}`);
  // The texts agree: where the usual dose fits, there is room for it.
  if (found.status.level === "Good") assert.ok(found.lastSafe.at !== null && found.room >= found.dose - 0.5);
}

const SETTINGS = [
  [{ TZ: "Europe/Berlin" }, "the defaults"],
  [{ TZ: "America/St_Johns", BEDTIME: "00:45", CAFFEINE_HALF_LIFE_HOURS: "8.5", SLEEP_THRESHOLD_MG: "70" }, "a bedtime after midnight and a long half-life"],
  [{ TZ: "America/New_York", BEDTIME: "23:30" }, "bedtimes by weekday", { byWeekday: true }],
  [{ TZ: "Pacific/Auckland", BEDTIME: "21:20", USUAL_DOSE_MG: "250", RECOMMENDED_DAILY_CAFFEINE_MG: "200", CAFFEINE_HALF_LIFE_HOURS: "3" }, "a large usual dose, a low limit and bedtimes by weekday", { byWeekday: true }],
  [{ TZ: "XYZ-5:30", BEDTIME: "23:10" }, "a time zone that browsers do not support", { sameZone: "Asia/Kolkata" }],
];

for (const [settings, name, { byWeekday, sameZone = settings.TZ } = {}] of SETTINGS) {
  test(`what "Now" shows for entries that wait is what the server returns once they have arrived: ${name}`, { timeout: 300_000 }, async () => {
    console.log(`TEST_SEED=${SEED}`);
    const random = randomNumbers(SEED);
    const server = await startServer({ settings });
    const zone = new ServerZone(sameZone);
    try {
      for (let n = WALKS; n > 0; n -= 1) {
        if (byWeekday) await server.api("PATCH", "/profile", { bedtime_by_weekday: randomBedtimes(random) });
        // Far enough apart that a walk does not change the day of another.
        const instant = Math.floor(Date.now() / 1000) * 1000 - n * 4 * DAY - Math.floor(random() * DAY);
        const { responses, now, unsynced } = await walk(server, random, instant, settings.TZ);
        const found = outlook(responses, unsynced, now);
        await sendAll(server, unsynced);
        const later = await responsesAt(server, now, settings.TZ);
        const days = (await get(server, "/coffee/days?days=365")).daily_breakdown;
        try {
          assertSameAsServer(found, later.active, days.find(({ date }) => date === zone.date(now)));
        } catch (error) {
          const input = { before: responses.active, coffees: responses.coffees.slice(0, 20), unsynced: { ...unsynced, deletedIds: [...unsynced.deletedIds] } };
          console.log(JSON.stringify({ now, input, found: { ...found, model: null }, active: later.active }));
          throw error;
        }
        const afterwards = outlook(later, none(), now);
        const isOverSoon = found.lastSafe.at === null ? afterwards.lastSafe.at !== null : found.lastSafe.at - now < TOLERANCE;
        if (!isOverSoon) assert.deepEqual([found.status, found.roomReason, found.lastSafe.reason], [afterwards.status, afterwards.roomReason, afterwards.lastSafe.reason]);
      }
      const { responses, now, unsynced } = await walk(server, random, Date.now() - 6 * 60 * MINUTE, settings.TZ);
      const { status } = outlook(responses, unsynced, Math.max(now, Date.now()));
      await sendAll(server, unsynced);
      const summary = await get(server, "/coffee/summary");
      // The server calls it good when only the bedtime rules out another usual dose.
      const isDisturbing = summary.last_safe_coffee_at === null || summary.insight.includes("would likely disturb");
      const expected = summary.status === "Good" && isDisturbing ? "Caution" : summary.status;
      assert.equal(status.level, expected, summary.insight);
    } finally {
      await server.stop();
    }
  });
}

test("a bedtime belongs to the evening of its weekday, also when the clocks change", () => {
  const zone = new ServerZone("Europe/Berlin");
  const bedtimes = new Bedtimes({ bedtimes: { usual: "23:00", by_weekday: { friday: "00:30", saturday: "02:30" } } }, zone);
  const around = (text) => [bedtimes.last(Date.parse(text)), bedtimes.next(Date.parse(text))].map((instant) => new Date(instant).toISOString().slice(0, 16));
  assert.deepEqual(around("2026-06-05T20:00Z"), ["2026-06-04T21:00", "2026-06-05T22:30"]);
  assert.deepEqual(around("2026-06-05T22:30Z"), ["2026-06-04T21:00", "2026-06-05T22:30"]);
  assert.deepEqual(around("2026-06-05T22:31Z"), ["2026-06-05T22:30", "2026-06-07T00:30"]);
  // Skipped, and repeated.
  assert.deepEqual(around("2026-03-29T01:30Z"), ["2026-03-27T23:30", "2026-03-29T01:30"]);
  assert.deepEqual(around("2026-10-25T01:00Z"), ["2026-10-25T00:30", "2026-10-25T22:00"]);
});

test("while the server's zone is not known, the next bedtime is that of the server", () => {
  const usual = { bedtimes: { usual: "23:00", by_weekday: {} }, timestamp: "2026-06-03T12:00:00Z" };
  const byWeekday = { ...usual, bedtimes: { usual: "23:00", by_weekday: { wednesday: "00:30", thursday: "21:45" } } };
  for (const active of [usual, byWeekday]) {
    for (const timezone of ["Europe/Berlin", "Asia/Kathmandu", "Pacific/Auckland", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago"]) {
      const timestamp = Date.parse(active.timestamp);
      const bedtime = new Bedtimes(active, new ServerZone(timezone)).next(timestamp);
      for (const name of [undefined, "CET-1CEST,M3.5.0,M10.5.0/3"]) {
        const response = { ...active, bedtime: new Date(bedtime).toISOString() };
        assert.equal(new Bedtimes(response, zoneOf(name, response)).next(timestamp), bedtime, timezone);
      }
    }
  }
  // Nothing is shifted without need.
  const local = { ...byWeekday, bedtime: new Date(new Bedtimes(byWeekday, new ServerZone()).next(Date.parse(byWeekday.timestamp))).toISOString() };
  assert.equal(zoneOf(undefined, local).shift, 0);
});

test("a response that an older version has cached has one bedtime for every day", () => {
  const bedtimes = new Bedtimes({ bedtime: "2026-06-01T21:15:00Z" }, new ServerZone("Europe/Berlin"));
  assert.equal(new Date(bedtimes.next(Date.parse("2026-06-05T12:00:00Z"))).toISOString(), "2026-06-05T21:15:00.000Z");
});

test("between two points of the curve, the level follows a drink exactly", async () => {
  const server = await startServer();
  try {
    const start = Math.floor(Date.now() / DAY) * DAY - 2 * DAY;
    const drink = { at: start + 65 * MINUTE, mg: 160 };
    await server.api("POST", "/coffee/", { caffeine_mg: drink.mg, timestamp: new Date(drink.at).toISOString() });
    const at = (instant) => get(server, `/coffee/active?at=${new Date(instant).toISOString()}&hours=6&step_minutes=15`);
    const curve = new CaffeineCurve(await at(start), [], [drink]);
    for (const minutes of [60, 64, 66, 70, 74, 80, 200]) {
      const exact = minutes < 65 ? 0 : (await at(start + minutes * MINUTE)).active_caffeine_mg;
      near(curve.at(start + minutes * MINUTE).mg, exact, 0.05, `level after ${minutes} minutes`);
    }
  } finally {
    await server.stop();
  }
});

test("calendar days of the server's zone have 23, 24 or 25 hours", () => {
  const zone = new ServerZone("Europe/Berlin");
  const hours = (text) => (zone.endOfDay(Date.parse(text)) - zone.endOfDay(Date.parse(text) - DAY)) / (60 * MINUTE);
  assert.deepEqual(["2026-03-29T12:00:00Z", "2026-06-01T12:00:00Z", "2026-10-25T12:00:00Z"].map(hours), [23, 24, 25]);
  assert.equal(zone.date(Date.parse("2026-03-28T23:30:00Z")), "2026-03-29");
  // The day starts at 1 a.m. where midnight is skipped.
  assert.equal(new Date(new ServerZone("America/Havana").endOfDay(Date.parse("2026-03-07T20:00:00Z"))).toISOString(), "2026-03-08T05:00:00.000Z");
});
