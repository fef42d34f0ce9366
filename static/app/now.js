// The first card: what is in the body now, how the day stands, what follows for tonight.

import * as api from "./api.js";
import { at, say } from "./dom.js";
import { MINUTE, ago, count, dayTime, integer, mg, time } from "./format.js";
import { bedtime, curve, isToday, live, onChange, unsentCoffees } from "./live.js";

/** An answer this old is no longer "now". */
const OLD = 3 * MINUTE;
const LEVELS = { Good: "good", Caution: "caution", Warning: "warning" };

function showActive() {
  const level = curve()?.at(api.now()) ?? (live.active && { ...live.active, mg: live.active.active_caffeine_mg });
  say(at("active"), level ? integer(level.mg) : "–");
  const isSome = level && level.high_mg >= 0.5;
  const band = isSome ? `likely ${integer(level.low_mg)} to ${mg(level.high_mg)}` : "by the model: nothing left";
  say(at("active-band"), level ? `caffeine in your body, ${band}` : "caffeine in your body");
}

function showDay() {
  const { summary, today } = live;
  const unsent = unsentCoffees().filter((coffee) => isToday(coffee.at));
  const badge = at("status");
  badge.hidden = !summary;
  if (summary) {
    say(badge, summary.status);
    badge.dataset.level = LEVELS[summary.status];
    say(at("insight"), summary.insight);
  }
  if (!today) return;
  const total = today.total_caffeine_mg + unsent.reduce((sum, coffee) => sum + coffee.mg, 0);
  const limit = today.recommended_max;
  say(at("today-total"), `${integer(total)} of ${mg(limit)}`);
  say(at("today-level"), today.addiction_level);
  say(at("today-count"), count(today.coffee_count + unsent.length, "drink"));
  const meter = at("today-meter");
  meter.setAttribute("aria-valuemax", limit);
  meter.setAttribute("aria-valuenow", Math.min(total, limit));
  meter.setAttribute("aria-valuetext", `${integer(total)} of ${mg(limit)}`);
  meter.dataset.level = total > limit ? "warning" : total > 0.75 * limit ? "caution" : "good";
  meter.firstElementChild.style.setProperty("--share", Math.min(1, limit ? total / limit : 1));
}

function showNight() {
  const { active, summary } = live;
  if (!active) return;
  say(at("can-drink"), active.can_drink_now_mg >= 1 ? `up to ${mg(Math.floor(active.can_drink_now_mg))}` : "nothing more");
  say(at("can-drink-more"), "at once, for the day and the night");
  const safe = Date.parse(summary?.last_safe_coffee_at ?? active.last_safe_coffee_at);
  say(at("last-safe"), safe > api.now() - MINUTE ? dayTime(safe) : "it is too late");
  say(at("last-safe-more"), `for your usual ${mg(active.usual_dose_mg)}`);
  const bed = bedtime();
  const left = curve()?.at(bed)?.mg ?? active.at_bedtime_mg;
  say(at("bedtime-label"), `In bed at ${time(bed)}`);
  const place = at("at-bedtime");
  say(place, mg(left));
  place.dataset.level = left > active.sleep_threshold_mg ? "caution" : "good";
  say(at("at-bedtime-more"), `sleep may suffer above ${mg(active.sleep_threshold_mg)}`);
}

function showHeart() {
  const { heart } = live;
  if (!heart) return;
  if (heart.bpm === undefined) return say(at("heart-now"), "no reading yet");
  const minutes = (api.now() - Date.parse(heart.timestamp)) / MINUTE;
  say(at("heart-now"), `${heart.bpm} bpm`);
  const more = [heart.context, heart.status, ago(minutes)].filter(Boolean).join(", ");
  say(at("heart-more"), more);
}

function showAge() {
  const isOld = live.asOf && Date.now() - live.asOf > OLD;
  at("as-of").hidden = !isOld;
  if (isOld) say(at("as-of"), `The server's word of ${dayTime(live.asOf)}; the level goes on by the model.`);
}

export function show() {
  showActive();
  showDay();
  showNight();
  showHeart();
  showAge();
}

export function start() {
  onChange(show);
  // The body does not wait for the server.
  setInterval(show, MINUTE / 2);
}
