// The "Log" card: buttons for drinks, and forms for other drinks and heart rates. Entries go to the offline
// queue, which sends them, and can be undone.

import * as api from "./api.js";
import { addChips, button, byId, field, h } from "./dom.js";
import { confirmYear, describeEntry, entryControls } from "./entry-fields.js";
import { MINUTE, formatDayTime, formatMg, toLocalInput } from "./format.js";
import * as myDrinks from "./my-drinks.js";
import { showToast } from "./notifications.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { notify, onChange, store } from "./store.js";

/** Number of buttons shown before "More drinks". */
const VISIBLE_DRINKS = 6;
/** A second tap on the same button within this time is ignored as accidental, in ms. */
const DOUBLE_TAP = 600;
const TIME_CHOICES = [["0", "Now"], ["15", "15 min ago"], ["30", "30 min ago"], ["60", "1 h ago"], ["120", "2 h ago"], ["other", "Other…"]];
const SIZE_CHOICES = [["1", "Single"], ["2", "Double"], ["ml", "In ml"]];
/** Drinks for a key that cannot read the server's list, which has the same. */
const DEFAULT_DRINKS = [["espresso", 80, 60], ["filter coffee", 90, 200], ["black tea", 50, 220], ["cola", 40, 355], ["energy drink", 80, 250], ["dark chocolate", 25, 50]]
  .map(([coffee_type, caffeine_mg, serving_ml]) => ({ coffee_type, caffeine_mg, serving_ml }));

let showsAllDrinks = false;
let timeChoice = "0";
let sizeChoice = "1";

function chooseTime(value) {
  timeChoice = value;
  byId("when-other").hidden = value !== "other";
  if (value !== "other") return;
  const input = byId("when-time");
  input.max = toLocalInput(api.now());
  input.value ||= input.max;
  input.focus();
}

function chooseSize(value) {
  sizeChoice = value;
  byId("size-ml").hidden = value !== "ml";
  showDrinks();
  if (value === "ml") byId("size-amount").focus();
}

/** Checks the first radio button of a group of chips. */
const checkFirst = (id) => (byId(id).querySelector("input").checked = true);

/**
 * Returns the chosen time and resets the choice to "Now"; null if the time is missing, in the future or in
 * doubt, which is reported to the user.
 */
function takeTime() {
  const input = byId("when-time");
  input.max = toLocalInput(api.now());
  if (timeChoice === "other" && !(input.reportValidity() && confirmYear(input))) return null;
  const instant = timeChoice === "other" ? new Date(input.value).getTime() : api.now() - Number(timeChoice) * MINUTE;
  checkFirst("when");
  input.value = "";
  chooseTime("0");
  return instant;
}

/** Queues an entry and shows a toast with "Undo" in the element `place`. */
export async function logEntry(route, fields, { at, place }) {
  const isNow = api.now() - at < MINUTE;
  const entry = await queue.add(route, { ...fields, timestamp: new Date(at).toISOString() });
  const description = describeEntry(route, fields);
  showToast(`Logged ${description}${isNow ? "" : `, ${formatDayTime(at)}`}`, {
    place,
    undo: () => {
      queue.undo(entry);
      showToast(`Removed ${description}`, { place });
    },
  });
}

/** Logs an entry at the chosen time; returns false if the time is invalid. */
async function logAtChosenTime(route, fields) {
  const at = takeTime();
  if (at === null) return false;
  await logEntry(route, fields, { at, place: "log-notes" });
  return true;
}

/** Returns the user's own drinks, most frequent first, then the presets. */
function allDrinks() {
  const isLoading = session.may("read") && !api.state.isUnauthorized;
  const { own = [], presets = isLoading ? [] : DEFAULT_DRINKS } = store.types ?? {};
  const names = own.map((drink) => drink.coffee_type.toLowerCase());
  return [...own, ...presets.filter((preset) => !names.includes(preset.coffee_type))];
}

/** Names in the order of the buttons. */
let shownOrder = [];

/** Returns the drinks as the user arranged them; those that were shown before keep their places. */
export function drinks() {
  const place = ({ coffee_type: name }) => (shownOrder.includes(name) ? shownOrder.indexOf(name) : shownOrder.length);
  return myDrinks.arrange(allDrinks()).sort((a, b) => place(a) - place(b));
}

/** Presets that are not measured in ml. */
const SOLID = ["dark chocolate"];

/** Returns the dose of a drink in the chosen size and a note about it; null if the size of a serving is not known. */
function inChosenSize({ coffee_type: name, caffeine_mg: mg }) {
  const presets = store.types?.presets ?? DEFAULT_DRINKS;
  const serving = presets.find((preset) => preset.coffee_type === name.toLowerCase() && !SOLID.includes(preset.coffee_type))?.serving_ml;
  if (sizeChoice === "1") return { mg, ml: serving };
  if (sizeChoice === "2") return { mg: 2 * mg, ml: 2 * serving, note: "double" };
  const ml = byId("size-amount").valueAsNumber;
  return serving && ml > 0 && byId("size-amount").validity.valid ? { mg: Math.round((mg * ml) / serving), ml, note: `${ml} ml` } : null;
}

function drinkButton(drink) {
  const size = inChosenSize(drink);
  let lastTap = -DOUBLE_TAP;
  const onTap = async ({ timeStamp }) => {
    if (timeStamp - lastTap < DOUBLE_TAP) return;
    lastTap = timeStamp;
    const fields = { coffee_type: drink.coffee_type, caffeine_mg: size.mg, ...(size.note && { notes: size.note }) };
    if (!(await logAtChosenTime("/coffee/", fields))) {
      lastTap = -DOUBLE_TAP;
      return;
    }
    if (sizeChoice === "1") return;
    checkFirst("size");
    chooseSize("1");
    [...byId("drinks").children].find((other) => other.dataset.name === drink.coffee_type)?.focus();
  };
  const isPossible = size && size.mg <= (store.info?.validation.max_caffeine_mg ?? 1000);
  const element = button(h("span", {}, h("bdi", {}, drink.coffee_type)), onTap, { class: "drink", "data-name": drink.coffee_type, disabled: !isPossible });
  element.append(h("span", { class: "muted" }, size ? [formatMg(size.mg), ...(size.ml ? [`${size.ml} ml`] : [])].join(", ") : "–"));
  return element;
}

let shownDrinks = "";
function showDrinks() {
  const all = drinks();
  const amount = sizeChoice === "ml" ? byId("size-amount").value : "";
  // Rebuilt only when it changes, so that a button is not replaced during a tap.
  const version = JSON.stringify([all.map((drink) => [drink.coffee_type, drink.caffeine_mg]), showsAllDrinks, sizeChoice, amount]);
  if (version === shownDrinks || !all.length) return;
  shownDrinks = version;
  if (store.types) shownOrder = all.map((drink) => drink.coffee_type);
  byId("drinks").replaceChildren(...all.slice(0, showsAllDrinks ? all.length : VISIBLE_DRINKS).map(drinkButton));
  byId("more-drinks").hidden = showsAllDrinks || all.length <= VISIBLE_DRINKS;
  byId("drink-names").replaceChildren(...all.map((drink) => h("option", { value: drink.coffee_type })));
}

/** Fills a form that logs an entry of `route`, and returns its controls by field name. */
function fillForm(form, route, submitButton, onLogged = () => {}) {
  const rows = Object.entries(entryControls(route, route === "/coffee/" ? {} : { context: "resting" }, store.info?.validation));
  form.append(...rows.map(([, [label, control]]) => field(label, control, control.required || control.value ? null : "(optional)")), submitButton);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(rows.map(([name, [, control, read]]) => [name, read(control)]));
    if (!(await logAtChosenTime(route, fields))) return;
    form.reset();
    onLogged();
  });
  return Object.fromEntries(rows.map(([name, [, control]]) => [name, control]));
}

/** Arranges the buttons anew, after the user has changed the drinks. */
function forgetOrder() {
  shownOrder = [];
  notify();
}

/** `onRename` is called after a drink was renamed in past entries. */
export function start(onRename) {
  myDrinks.start({ getDrinks: allDrinks, onChange: forgetOrder, onRename });
  addChips(byId("when"), "when", TIME_CHOICES, timeChoice, chooseTime);
  addChips(byId("size"), "size", SIZE_CHOICES, sizeChoice, chooseSize);
  byId("size-amount").addEventListener("input", showDrinks);
  const { coffee_type: name, caffeine_mg: dose } = fillForm(byId("custom-form"), "/coffee/", h("button", { class: "button primary" }, "Log drink"), () => {
    byId("custom").open = false;
    byId("custom").firstElementChild.focus();
  });
  // Choosing a known drink fills in its usual dose.
  name.addEventListener("change", () => {
    dose.value ||= drinks().find((drink) => drink.coffee_type.toLowerCase() === name.value.trim().toLowerCase())?.caffeine_mg ?? "";
  });
  fillForm(byId("heart-form"), "/heartrate/", h("button", { class: "button" }, "Log heart rate"));
  byId("more-drinks").addEventListener("click", () => {
    showsAllDrinks = true;
    showDrinks();
    byId("drinks").children[VISIBLE_DRINKS].focus();
  });
  onChange(showDrinks);
}
