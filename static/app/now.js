// The "Now" card: the current caffeine level, today's total, the outlook for tonight and the heart rate.

import * as api from "./api.js";
import { byId, setText } from "./dom.js";
import { MINUTE, formatAge, formatDayTime, formatInteger, formatMg, formatMgRange, formatTime, isolate, plural } from "./format.js";
import { currentCurve, currentLevel, dailyLimit, nextBedtime, onChange, serverDate, serverToday, store, unsyncedCoffees } from "./store.js";

/** Age from which the card shows when it was last updated. */
const STALE_AFTER = 3 * MINUTE;

/** Sets a value and the small text below it. */
function setStat(id, value, detail) {
  setText(byId(id), value);
  setText(byId(`${id}-detail`), detail);
}

function showLevel() {
  const level = currentLevel();
  setText(byId("active"), level ? formatInteger(level.mg) : "–");
  const range = level?.high_mg >= 0.5 ? `, likely ${formatMgRange(level.low_mg, level.high_mg)}` : "";
  setText(byId("active-range"), `caffeine in your body${range}`);
}

function showToday() {
  const { summary } = store;
  const badge = byId("status");
  badge.hidden = !summary;
  if (summary) {
    setText(badge, summary.status);
    badge.dataset.level = summary.status;
  }
  setText(byId("insight"), summary?.insight ?? store.error?.message ?? "");
  if (!store.today) return;
  const unsynced = unsyncedCoffees("today").filter((coffee) => serverDate(coffee.at) === serverToday());
  // A response from yesterday does not count for today.
  const synced = store.today.date === serverToday() ? store.today : { total_caffeine_mg: 0, coffee_count: 0 };
  const total = unsynced.reduce((sum, coffee) => sum + coffee.mg, synced.total_caffeine_mg);
  const limit = dailyLimit();
  const text = `${formatInteger(total)} of ${formatMg(limit)}`;
  setText(byId("today-total"), text);
  setText(byId("today-level"), synced.addiction_level ?? "");
  setText(byId("today-count"), plural(synced.coffee_count + unsynced.length, "drink"));
  const meter = byId("today-meter");
  meter.setAttribute("aria-valuemax", limit);
  meter.setAttribute("aria-valuenow", Math.min(total, limit));
  meter.setAttribute("aria-valuetext", text);
  meter.dataset.level = total > limit ? "Warning" : total > 0.75 * limit ? "Caution" : "Good";
  meter.firstElementChild.style.setProperty("--share", limit ? Math.min(1, total / limit) : 1);
}

function showTonight() {
  const { active } = store;
  if (!active) return;
  const allowed = Math.floor(active.can_drink_now_mg);
  setStat("can-drink", allowed ? `Up to ${formatMg(allowed)}` : "No more today", "for your daily limit and sleep");
  const lastSafe = Date.parse(active.last_safe_coffee_at);
  setStat("last-safe", lastSafe > api.now() - MINUTE ? formatDayTime(lastSafe) : "Too late for today", `for your usual ${formatMg(active.usual_dose_mg)}`);
  const bedtime = nextBedtime();
  const atBedtime = currentCurve()?.at(bedtime)?.mg ?? active.at_bedtime_mg;
  setText(byId("bedtime-label"), `At bedtime (${formatTime(bedtime)})`);
  setStat("at-bedtime", formatMg(atBedtime), `above ${formatMg(active.sleep_threshold_mg)} may affect sleep`);
  byId("at-bedtime").dataset.level = atBedtime > active.sleep_threshold_mg ? "Caution" : "Good";
}

function showHeartRate() {
  const { heart } = store;
  if (!heart) return;
  if (!heart.bpm) return setStat("heart-now", "No readings yet", "");
  const minutes = (api.now() - Date.parse(heart.timestamp)) / MINUTE;
  setStat("heart-now", `${heart.bpm} bpm`, [heart.context && isolate(heart.context), heart.status, formatAge(minutes)].filter(Boolean).join(", "));
}

function showLastUpdate() {
  const isStale = store.updatedAt && Date.now() - store.updatedAt > STALE_AFTER;
  byId("last-update").hidden = !isStale;
  if (isStale) setText(byId("last-update"), `Last updated ${formatDayTime(store.updatedAt)}. The current level is an estimate from that data.`);
}

function show() {
  showLevel();
  showToday();
  showTonight();
  showHeartRate();
  showLastUpdate();
}

export function start() {
  onChange(show);
  // The level falls even while the server is unreachable.
  setInterval(show, MINUTE / 2);
}
