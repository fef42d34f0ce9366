// Logging: a drink by one tap, earlier ones by two, anything else by a form; a heart rate likewise. What is
// logged goes to the queue, which sends it; until then and after that it can be undone.

import * as api from "./api.js";
import { at, chips, h } from "./dom.js";
import { bpmInput, contextInput, doseInput, field, nameInput, notesInput } from "./fields.js";
import { MINUTE, dayTime, localInput, mg } from "./format.js";
import { live, onChange } from "./live.js";
import * as queue from "./queue.js";
import { toast } from "./toast.js";

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
  input.value ||= localInput(api.now());
  input.focus();
}

/** The chosen time; the choice goes back to now. */
function takeTime() {
  const instant = when === "other" ? new Date(at("when-time").value).getTime() : api.now() - Number(when) * MINUTE;
  const chosen = Number.isNaN(instant) ? api.now() : instant;
  at("when").querySelector("input").checked = true;
  at("when-time").value = "";
  chooseWhen("0");
  return chosen;
}

/** Keeps the entry, says so, and offers the way back. */
async function log(route, body, words) {
  const isNow = when === "0";
  const instant = takeTime();
  const id = await queue.add(route, { ...body, timestamp: new Date(instant).toISOString() });
  toast(`Logged: ${words}${isNow ? "" : `, ${dayTime(instant)}`}`, { undo: () => queue.undo(id) });
}

const logCoffee = (body) => log("/coffee/", body, `${body.coffee_type ?? "caffeine"}, ${mg(body.caffeine_mg)}`);

/** Own habits, most frequent first, then what else there is. */
export function drinks() {
  const { own = [], presets = [] } = live.types ?? {};
  const names = new Set(own.map((drink) => drink.coffee_type.toLowerCase()));
  return [...own, ...presets.filter((preset) => !names.has(preset.coffee_type))];
}

function drinkButton(drink) {
  let last = -SLIP;
  const tap = (event) => {
    if (event.timeStamp - last < SLIP) return;
    last = event.timeStamp;
    logCoffee({ caffeine_mg: drink.caffeine_mg, coffee_type: drink.coffee_type });
  };
  return h("button", { type: "button", class: "drink", onclick: tap }, h("span", {}, drink.coffee_type), h("span", { class: "soft" }, mg(drink.caffeine_mg)));
}

let shown = "";
function showDrinks() {
  const all = drinks();
  // Made anew only when there is something new, for the sake of the finger on it.
  const key = JSON.stringify([all.map((drink) => [drink.coffee_type, drink.caffeine_mg]), showsAll]);
  if (key === shown || all.length === 0) return;
  shown = key;
  at("drinks").replaceChildren(...(showsAll ? all : all.slice(0, FIRST)).map(drinkButton));
  at("more-drinks").hidden = showsAll || all.length <= FIRST;
  at("drink-names").replaceChildren(...all.map((drink) => h("option", { value: drink.coffee_type })));
}

function customForm() {
  const [name, dose, notes] = [nameInput(), doseInput(), notesInput()];
  // Who picks a known name means its usual dose.
  name.addEventListener("change", () => {
    const known = drinks().find((drink) => drink.coffee_type === name.value.trim());
    if (known && !dose.value) dose.value = known.caffeine_mg;
  });
  const form = at("custom-form");
  form.append(field("What", name, "(optional)"), field("Caffeine, mg", dose), field("Notes", notes, "(optional)"), h("button", { class: "button primary" }, "Log it"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await logCoffee({ caffeine_mg: dose.valueAsNumber, coffee_type: name.value.trim() || null, notes: notes.value.trim() || null });
    form.reset();
    at("custom").open = false;
    at("custom").querySelector("summary").focus();
  });
}

function heartForm() {
  const [bpm, context, notes] = [bpmInput(), contextInput(), h("input", { name: "notes", maxlength: 1000 })];
  const form = at("heart-form");
  form.append(field("Beats a minute", bpm), field("While", context), field("Notes", notes, "(optional)"), h("button", { class: "button" }, "Log heart rate"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { bpm: bpm.valueAsNumber, context: context.value, notes: notes.value.trim() || null };
    await log("/heartrate/", body, `${body.bpm} bpm, ${body.context}`);
    form.reset();
  });
}

export function start() {
  document.body.append(h("datalist", { id: "drink-names" }));
  chips(at("when"), "when", WHEN, when, chooseWhen);
  customForm();
  heartForm();
  at("more-drinks").addEventListener("click", () => {
    showsAll = true;
    showDrinks();
    at("drinks").children[FIRST].focus();
  });
  onChange(showDrinks);
}
