// The "Log" card: buttons for drinks, and forms for other drinks and heart rates. Entries go to the offline
// queue, which sends them, and can be undone.

import * as api from "./api.js";
import { addChips, button, byId, field, h } from "./dom.js";
import { describeEntry, entryControls } from "./entry-fields.js";
import { MINUTE, formatDayTime, formatMg, toLocalInput } from "./format.js";
import * as myDrinks from "./my-drinks.js";
import { showToast } from "./notifications.js";
import * as queue from "./queue.js";
import { notify, onChange, store } from "./store.js";

/** Number of buttons shown before "More drinks". */
const VISIBLE_DRINKS = 6;
/** A second tap on the same button within this time is ignored as accidental, in ms. */
const DOUBLE_TAP = 600;
const TIME_CHOICES = [["0", "Now"], ["15", "15 min ago"], ["30", "30 min ago"], ["60", "1 h ago"], ["120", "2 h ago"], ["other", "Other…"]];

let showsAllDrinks = false;
let timeChoice = "0";

function chooseTime(value) {
  timeChoice = value;
  byId("when-other").hidden = value !== "other";
  if (value !== "other") return;
  const input = byId("when-time");
  input.max = toLocalInput(api.now());
  input.value ||= input.max;
  input.focus();
}

/**
 * Returns the chosen time and resets the choice to "Now"; null if the time is missing or in the future, which
 * the browser reports to the user.
 */
function takeTime() {
  const input = byId("when-time");
  input.max = toLocalInput(api.now());
  if (timeChoice === "other" && !input.reportValidity()) return null;
  const instant = timeChoice === "other" ? new Date(input.value).getTime() : api.now() - Number(timeChoice) * MINUTE;
  byId("when").querySelector("input").checked = true;
  input.value = "";
  chooseTime("0");
  return instant;
}

/** Queues an entry and shows a toast with "Undo"; returns false if its time is invalid. */
async function logEntry(route, fields) {
  const isNow = timeChoice === "0";
  const instant = takeTime();
  if (!instant) return false;
  const entry = await queue.add(route, { ...fields, timestamp: new Date(instant).toISOString() });
  showToast(`Logged ${describeEntry(route, fields)}${isNow ? "" : `, ${formatDayTime(instant)}`}`, { undo: () => queue.undo(entry) });
  return true;
}

/** Returns the user's own drinks, most frequent first, then the presets. */
function allDrinks() {
  const { own = [], presets = [] } = store.types ?? {};
  const names = own.map((drink) => drink.coffee_type.toLowerCase());
  return [...own, ...presets.filter((preset) => !names.includes(preset.coffee_type))];
}

/** Returns the drinks as the user arranged them. */
export const drinks = () => myDrinks.arrange(allDrinks());

function drinkButton({ coffee_type, caffeine_mg }) {
  let lastTap = -DOUBLE_TAP;
  const onTap = ({ timeStamp }) => {
    if (timeStamp - lastTap < DOUBLE_TAP) return;
    lastTap = timeStamp;
    logEntry("/coffee/", { coffee_type, caffeine_mg });
  };
  const element = button(h("span", {}, h("bdi", {}, coffee_type)), onTap, { class: "drink" });
  element.append(h("span", { class: "muted" }, formatMg(caffeine_mg)));
  return element;
}

let shownDrinks = "";
function showDrinks() {
  const all = drinks();
  // Rebuilt only when it changes, so that a button is not replaced during a tap.
  const version = JSON.stringify([all.map((drink) => [drink.coffee_type, drink.caffeine_mg]), showsAllDrinks]);
  if (version === shownDrinks || !all.length) return;
  shownDrinks = version;
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
    if (!(await logEntry(route, fields))) return;
    form.reset();
    onLogged();
  });
  return Object.fromEntries(rows.map(([name, [, control]]) => [name, control]));
}

/** `onRename` is called after a drink was renamed in past entries. */
export function start(onRename) {
  myDrinks.start({ getDrinks: allDrinks, onChange: notify, onRename });
  addChips(byId("when"), "when", TIME_CHOICES, timeChoice, chooseTime);
  const { coffee_type: name, caffeine_mg: dose } = fillForm(byId("custom-form"), "/coffee/", h("button", { class: "button primary" }, "Log drink"), () => {
    byId("custom").open = false;
    byId("custom").firstElementChild.focus();
  });
  // Choosing a known drink fills in its usual dose.
  name.addEventListener("change", () => {
    dose.value ||= drinks().find((drink) => drink.coffee_type.toLowerCase() === name.value.trim().toLowerCase())?.caffeine_mg ?? "";
  });
  fillForm(byId("heart-form"), "/heartrate/", h("button", { class: "button" }, "Log"));
  byId("more-drinks").addEventListener("click", () => {
    showsAllDrinks = true;
    showDrinks();
    byId("drinks").children[VISIBLE_DRINKS].focus();
  });
  onChange(showDrinks);
}
