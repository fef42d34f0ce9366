// Logging: a drink by one tap, earlier ones by two, anything else by a form; a heart rate likewise. What is
// logged goes to the queue, which sends it; until then and after that it can be undone.

import * as api from "./api.js";
import { at, button, chips, controlsOf, field, h } from "./elements.js";
import { MINUTE, dayTime, localInput, mg } from "./format.js";
import { live, onChange } from "./live.js";
import { toast } from "./notices.js";
import * as queue from "./queue.js";

/** Buttons before "More drinks". */
const FIRST = 6;
/** A second tap on the same button within this time is a slip, in ms. */
const SLIP = 600;
const WHEN = [["0", "Now"], ["15", "15 min ago"], ["30", "30 min ago"], ["60", "1 h ago"], ["120", "2 h ago"], ["other", "Other …"]];

let showsAll = false;
let when = "0";

function chooseWhen(value) {
  when = value;
  at("when-other").hidden = value !== "other";
  if (value !== "other") return;
  const input = at("when-time");
  input.max = localInput(api.now());
  input.value ||= input.max;
  input.focus();
}

/** The chosen time, and the choice goes back to now; null, and the browser says why, when there is none or it lies ahead. */
function takeTime() {
  const input = at("when-time");
  input.max = localInput(api.now());
  if (when === "other" && !input.reportValidity()) return null;
  const chosen = when === "other" ? new Date(input.value).getTime() : api.now() - Number(when) * MINUTE;
  at("when").querySelector("input").checked = true;
  input.value = "";
  chooseWhen("0");
  return chosen;
}

/** Keeps the entry, says so, and offers the way back; false when its time is none. */
async function log(route, body, words) {
  const isNow = when === "0";
  const instant = takeTime();
  if (!instant) return false;
  const entry = await queue.add(route, { ...body, timestamp: new Date(instant).toISOString() });
  toast(`Logged: ${words}${isNow ? "" : `, ${dayTime(instant)}`}`, { undo: () => queue.undo(entry) });
  return true;
}

/** How an entry is called in a few words. */
export const words = (route, entry) =>
  route === "/coffee/" ? `${entry.coffee_type ?? "caffeine"}, ${mg(entry.caffeine_mg)}` : [`${entry.bpm} bpm`, entry.context].filter(Boolean).join(", ");

/** Own habits, most frequent first, then what else there is. */
export function drinks() {
  const { own = [], presets = [] } = live.types ?? {};
  const names = own.map((drink) => drink.coffee_type.toLowerCase());
  return [...own, ...presets.filter((preset) => !names.includes(preset.coffee_type))];
}

function drinkButton({ coffee_type, caffeine_mg }) {
  let last = -SLIP;
  const tap = ({ timeStamp }) => {
    if (timeStamp - last < SLIP) return;
    last = timeStamp;
    log("/coffee/", { coffee_type, caffeine_mg }, words("/coffee/", { coffee_type, caffeine_mg }));
  };
  const drink = button(h("span", {}, coffee_type), tap, { class: "drink" });
  drink.append(h("span", { class: "soft" }, mg(caffeine_mg)));
  return drink;
}

let shown = "";
function showDrinks() {
  const all = drinks();
  // Made anew only when there is something new, for the sake of the finger on it.
  const key = JSON.stringify([all.map((drink) => [drink.coffee_type, drink.caffeine_mg]), showsAll]);
  if (key === shown || !all.length) return;
  shown = key;
  at("drinks").replaceChildren(...all.slice(0, showsAll ? all.length : FIRST).map(drinkButton));
  at("more-drinks").hidden = showsAll || all.length <= FIRST;
  at("drink-names").replaceChildren(...all.map((drink) => h("option", { value: drink.coffee_type })));
}

/** A form that logs an entry of `route`. */
function form(place, route, submit, done = () => {}) {
  const rows = Object.entries(controlsOf(route, route === "/coffee/" ? {} : { context: "resting" }, live.info?.validation));
  place.append(...rows.map(([, [label, control]]) => field(label, control, control.required || control.value ? null : "(optional)")), submit);
  place.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = Object.fromEntries(rows.map(([name, [, control, read]]) => [name, read(control)]));
    if (!(await log(route, body, words(route, body)))) return;
    place.reset();
    done();
  });
  return Object.fromEntries(rows.map(([name, [, control]]) => [name, control]));
}

export function start() {
  chips(at("when"), "when", WHEN, when, chooseWhen);
  const { coffee_type: name, caffeine_mg: dose } = form(at("custom-form"), "/coffee/", h("button", { class: "button primary" }, "Log it"), () => {
    at("custom").open = false;
    at("custom").firstElementChild.focus();
  });
  // Who picks a known name means its usual dose.
  name.addEventListener("change", () => {
    dose.value ||= drinks().find((drink) => drink.coffee_type.toLowerCase() === name.value.trim().toLowerCase())?.caffeine_mg ?? "";
  });
  form(at("heart-form"), "/heartrate/", h("button", { class: "button" }, "Log it"));
  at("more-drinks").addEventListener("click", () => {
    showsAll = true;
    showDrinks();
    at("drinks").children[FIRST].focus();
  });
  onChange(showDrinks);
}
