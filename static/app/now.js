// The first card: what is in the body now, how the day stands, what follows for tonight.

import * as api from "./api.js";
import { at, say } from "./elements.js";
import { MINUTE, ago, count, dayTime, integer, mg, time } from "./format.js";
import { bedtime, curve, dailyLimit, level, live, missingCoffees, onChange, serverDate, today } from "./live.js";

/** An answer this old is no longer "now". */
const OLD = 3 * MINUTE;

/** Sets a fact, and the small words below it. */
function fact(id, text, more) {
  say(at(id), text);
  say(at(`${id}-more`), more);
}

function showLevel() {
  const now = level();
  say(at("active"), now ? integer(now.mg) : "–");
  const likely = now?.high_mg >= 0.5 ? `, likely ${integer(now.low_mg)} to ${mg(now.high_mg)}` : "";
  say(at("active-band"), `caffeine in your body${likely}`);
}

function showDay() {
  const { summary } = live;
  const badge = at("status");
  badge.hidden = !summary;
  if (summary) {
    say(badge, summary.status);
    badge.dataset.level = summary.status;
  }
  say(at("insight"), summary?.insight ?? live.fault?.message ?? "");
  if (!live.today) return;
  const unsent = missingCoffees("today").filter((coffee) => serverDate(coffee.at) === today());
  // Yesterday's total says nothing about today.
  const known = live.today.date === today() ? live.today : { total_caffeine_mg: 0, coffee_count: 0 };
  const total = unsent.reduce((sum, coffee) => sum + coffee.mg, known.total_caffeine_mg);
  const limit = dailyLimit();
  const text = `${integer(total)} of ${mg(limit)}`;
  say(at("today-total"), text);
  say(at("today-level"), known.addiction_level ?? "");
  say(at("today-count"), count(known.coffee_count + unsent.length, "drink"));
  const meter = at("today-meter");
  meter.setAttribute("aria-valuemax", limit);
  meter.setAttribute("aria-valuenow", Math.min(total, limit));
  meter.setAttribute("aria-valuetext", text);
  meter.dataset.level = total > limit ? "Warning" : total > 0.75 * limit ? "Caution" : "Good";
  meter.firstElementChild.style.setProperty("--share", limit ? Math.min(1, total / limit) : 1);
}

function showNight() {
  const { active } = live;
  if (!active) return;
  const room = Math.floor(active.can_drink_now_mg);
  fact("can-drink", room ? `up to ${mg(room)}` : "nothing more", "for today and tonight");
  const safe = Date.parse(active.last_safe_coffee_at);
  fact("last-safe", safe > api.now() - MINUTE ? dayTime(safe) : "it is too late", `for your usual ${mg(active.usual_dose_mg)}`);
  const bed = bedtime();
  const left = curve()?.at(bed)?.mg ?? active.at_bedtime_mg;
  say(at("bedtime-label"), `In bed at ${time(bed)}`);
  fact("at-bedtime", mg(left), `sleep may suffer above ${mg(active.sleep_threshold_mg)}`);
  at("at-bedtime").dataset.level = left > active.sleep_threshold_mg ? "Caution" : "Good";
}

function showHeart() {
  const { heart } = live;
  if (!heart) return;
  if (!heart.bpm) return fact("heart-now", "no reading yet", "");
  const minutes = (api.now() - Date.parse(heart.timestamp)) / MINUTE;
  fact("heart-now", `${heart.bpm} bpm`, [heart.context, heart.status, ago(minutes)].filter(Boolean).join(", "));
}

function showAge() {
  const isOld = live.asOf && Date.now() - live.asOf > OLD;
  at("as-of").hidden = !isOld;
  if (isOld) say(at("as-of"), `The server's word of ${dayTime(live.asOf)}; the level goes on by the model.`);
}

function show() {
  showLevel();
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
