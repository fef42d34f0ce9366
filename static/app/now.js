// The "Now" card: the current caffeine level, today's total, the outlook for tonight and the heart rate.

import * as api from "./api.js";
import { byId, setText } from "./dom.js";
import { MINUTE, formatAge, formatDayTime, formatInteger, formatMg, formatMgRange, formatTime, isolate, plural } from "./format.js";
import { MAX_SINGLE_DOSE } from "./outlook.js";
import { currentOutlook, onChange, store } from "./store.js";

/** Age from which the card shows when it was last updated. */
const STALE_AFTER = 3 * MINUTE;

const REASONS = {
  "over-limit": ({ total, limit, isWellOver }) => `${formatMg(total)} today is ${isWellOver ? "well over" : "over"} your daily limit of ${formatMg(limit)}.`,
  "high-level": ({ level }) => `About ${formatMg(level.mg)} in your body, above ${formatMg(MAX_SINGLE_DOSE)}, the advised maximum for a single dose.`,
  bedtime: ({ night, bedtime, threshold }) => `About ${formatMg(night)} at bedtime (${formatTime(bedtime)}), over your ${formatMg(threshold)} sleep limit.`,
  night: ({ tonight, threshold }) => `It's past your bedtime, with about ${formatMg(tonight)} in your body: over your ${formatMg(threshold)} sleep limit.`,
  "near-limit": ({ usual, limit }) => `Another ${formatMg(usual)} would take you over your daily limit of ${formatMg(limit)}.`,
  "late-night": ({ dose }) => `It's past your bedtime. Another ${formatMg(dose)} now would likely disturb your sleep.`,
  "too-late": ({ dose, bedtime }) => `Another ${formatMg(dose)} now would likely disturb your sleep at ${formatTime(bedtime)}.`,
  "any-time": () => "Another drink shouldn't disturb your sleep.",
  until: ({ dose, lastSafe }) => `${formatMg(dose)} until ${formatDayTime(lastSafe.at)} shouldn't disturb your sleep.`,
};

/** Describes the status of an outlook in a sentence. */
export const describeStatus = (now) => REASONS[now.status.reason](now);

const ROOM_REASONS = {
  limit: ({ room }) => (room < 1 ? "daily limit reached" : "left of your daily limit"),
  sleep: ({ room }) => (room < 1 ? "any more may disturb your sleep" : "without disturbing your sleep"),
  dose: () => "the advised maximum for a single dose",
};

/** Highest heart rate of each description, in bpm. */
const HEART_RATES = [[49, "very low"], [59, "low"], [100, "normal"], [120, "elevated"], [150, "high"], [Infinity, "very high"]];

/** Sets a value and the small text below it. */
function setStat(id, value, detail) {
  setText(byId(id), value);
  setText(byId(`${id}-detail`), detail);
}

function showLevel({ level, onItsWay }) {
  setText(byId("active"), formatInteger(level.mg));
  setText(byId("on-its-way"), onItsWay >= 1 ? `+${formatMg(onItsWay)} on its way` : "");
  const range = level.high_mg >= 0.5 ? `, likely ${formatMgRange(level.low_mg, level.high_mg)}` : "";
  setText(byId("active-range"), `caffeine in your body${range}`);
}

function showStatus(now) {
  const badge = byId("status");
  badge.hidden = false;
  setText(badge, now.status.level);
  badge.dataset.level = now.status.level;
  setText(byId("insight"), describeStatus(now));
}

function showToday({ total, limit, count, isWellOver, status }) {
  const text = `${formatInteger(total)} of ${formatMg(limit)}`;
  const share = total > limit ? (isWellOver ? "well over your limit" : "over your limit") : `${limit ? formatInteger((100 * total) / limit) : 100}% of your daily limit`;
  setText(byId("today-total"), text);
  setText(byId("today-level"), share);
  setText(byId("today-count"), plural(count, "drink"));
  const meter = byId("today-meter");
  meter.setAttribute("aria-valuemax", limit);
  meter.setAttribute("aria-valuenow", Math.min(total, limit));
  meter.setAttribute("aria-valuetext", `${text}, ${share}`);
  // The meter has the color of the status only as far as that is about the limit.
  meter.dataset.level = { "over-limit": "Warning", "near-limit": "Caution" }[status.reason] ?? "Good";
  meter.firstElementChild.style.setProperty("--share", limit ? Math.min(1, total / limit) : 1);
}

function showTonight(now) {
  const { drinks, total, limit, room, roomReason, lastSafe, dose, usual, bedtime, atBedtime, night, threshold } = now;
  setStat("can-drink", room < 1 ? "None" : `Up to ${formatMg(Math.floor(room))}`, ROOM_REASONS[roomReason](now));
  const forUsual = drinks.length ? `for your usual ${formatMg(dose)}` : `for ${formatMg(dose)}, an espresso`;
  const forDose = dose < usual ? `for ${formatMg(dose)}, the advised maximum (your usual: ${formatMg(usual)})` : forUsual;
  if (lastSafe.at) setStat("last-safe", formatDayTime(lastSafe.at), forDose);
  else setStat("last-safe", "Not today", `${forDose}: ${lastSafe.reason === "sleep" ? "would disturb your sleep" : total < limit ? "would exceed your daily limit" : "daily limit reached"}`);
  setText(byId("bedtime-label"), `At bedtime (${formatTime(bedtime)})`);
  // A drink just before bedtime is absorbed after it.
  setStat("at-bedtime", night - atBedtime < 1 ? formatMg(night) : `Up to ${formatMg(night)}`, `your sleep limit: ${formatMg(threshold)}`);
  byId("at-bedtime").dataset.level = night > threshold ? "Caution" : "Good";
}

function showHeartRate({ heart }) {
  if (!heart) return setStat("heart-now", "No readings yet", "");
  const [, description] = HEART_RATES.find(([highest]) => heart.bpm <= highest);
  // Low in sleep and high in exercise are usual.
  const isUnusual = !["sleeping", "active", "exercise"].includes(heart.context);
  const age = formatAge((api.now() - heart.at) / MINUTE);
  setStat("heart-now", `${heart.bpm} bpm`, [heart.context && isolate(heart.context), isUnusual && description, age].filter(Boolean).join(", "));
}

function showLastUpdate() {
  const isStale = store.updatedAt && Date.now() - store.updatedAt > STALE_AFTER;
  byId("last-update").hidden = !isStale;
  if (isStale) setText(byId("last-update"), `Last updated ${formatDayTime(store.updatedAt)}; level estimated since then`);
}

function show() {
  const now = currentOutlook();
  if (!now) return setText(byId("insight"), store.error?.message ?? "");
  showStatus(now);
  showLevel(now);
  showToday(now);
  showTonight(now);
  showHeartRate(now);
  showLastUpdate();
}

export function start() {
  onChange(show);
  // The level falls even while the server is unreachable.
  setInterval(show, MINUTE / 2);
}
