// "What if?": the effect of a drink before it is logged, and a button that logs it.

import * as api from "./api.js";
import { button, byId, field, h, select, setText } from "./dom.js";
import { HOUR, MINUTE, formatDayTime, formatMg, formatMgPair, formatTime, isolate } from "./format.js";
import { drinks, logEntry } from "./log.js";
import { MAX_SINGLE_DOSE } from "./outlook.js";
import { currentOutlook, onChange, serverDate } from "./store.js";

/** Step and range of the slider. */
const STEP = 15 * MINUTE;
const RANGE = 16 * HOUR;
/** Share of the sleep limit from which a level is just within it. */
const JUST_WITHIN = 0.85;

let drinkSelect, doseInput, slider, timeOutput, resultText, logButton;
let choices = [];
/** The drink as `{at, mg}`, or null. */
let preview = null;
const listeners = [];

export const previewDose = () => preview;
/** Calls `listener` whenever the preview changes. */
export const onPreviewChange = (listener) => listeners.push(listener);

/** Describes the effect of a dose `{at, mg}` on the night and on the day's total. */
function describeEffect(dose, { model, drinks: logged, bedtime, night, threshold, limit }) {
  const after = model.withDose(dose);
  const isPastBedtime = dose.at >= bedtime;
  const withDose = after.highestFrom(Math.max(bedtime, dose.at));
  const [mg, without] = formatMgPair(withDose, night);
  const verdict = `${withDose > threshold ? "over" : withDose > JUST_WITHIN * threshold ? "just within" : "within"} your ${formatMg(threshold)} sleep limit`;
  const sentences = [isPastBedtime ? `After bedtime (${formatTime(bedtime)}): up to ${formatMg(withDose)}, ${verdict}.` : `${mg} mg at bedtime, ${formatTime(bedtime)} (${without} without it), ${verdict}.`];
  const belowFrom = after.staysBelowFrom(threshold, dose.at);
  if (belowFrom > dose.at) sentences.push(`Below ${formatMg(threshold)} from ${formatDayTime(belowFrom)}.`);
  const day = serverDate(dose.at);
  const total = logged.filter((drink) => serverDate(drink.at) === day).reduce((sum, drink) => sum + drink.mg, dose.mg);
  if (total > limit) sentences.push(`Total of the day: ${formatMg(total)}, over your daily limit of ${formatMg(limit)}.`);
  if (dose.mg > MAX_SINGLE_DOSE) sentences.push(`Above ${formatMg(MAX_SINGLE_DOSE)}, the advised maximum for a single dose.`);
  return sentences.join(" ");
}

const isNow = () => slider.value === "0";

/** Returns the chosen time: now, or a full quarter of an hour after it. */
function chosenTime() {
  const now = api.now();
  return isNow() ? now : Math.ceil(now / STEP) * STEP + (Number(slider.value) - 1) * STEP;
}

function update() {
  const instant = chosenTime();
  const time = isNow() ? "now" : formatDayTime(instant);
  setText(timeOutput, time);
  slider.setAttribute("aria-valuetext", time);
  preview = doseInput.valueAsNumber > 0 && doseInput.validity.valid ? { at: instant, mg: doseInput.valueAsNumber } : null;
  const outlook = currentOutlook();
  resultText.classList.toggle("muted", !preview);
  setText(resultText, preview && outlook ? describeEffect(preview, outlook) : "Choose a drink and a time to preview its effect.");
  // A drink is logged when it has been drunk.
  logButton.disabled = !preview || !isNow();
  logButton.title = preview && !isNow() ? "Drinks are logged once you have drunk them: choose the time “now”" : "";
  for (const listener of listeners) listener();
}

function fillDrinks() {
  const all = drinks();
  const version = JSON.stringify(all.map((drink) => [drink.coffee_type, drink.caffeine_mg]));
  if (version === JSON.stringify(choices)) return;
  const selected = drinkSelect.selectedOptions[0]?.textContent;
  choices = JSON.parse(version);
  drinkSelect.replaceChildren(h("option", { value: "" }, "–"), ...choices.map(([name, mg], n) => h("option", { value: n }, `${isolate(name)}, ${formatMg(mg)}`)));
  drinkSelect.selectedIndex = Math.max(0, [...drinkSelect.options].findIndex((option) => option.textContent === selected));
}

async function logPreview() {
  const [name = null] = choices[drinkSelect.value] ?? [];
  const fields = { coffee_type: name, caffeine_mg: preview.mg };
  drinkSelect.value = doseInput.value = "";
  update();
  await logEntry("/coffee/", fields, { at: api.now(), place: "what-if-notes" });
  drinkSelect.focus();
}

export function start() {
  const chooseDrink = () => {
    doseInput.value = choices[drinkSelect.value]?.[1] ?? "";
    update();
  };
  drinkSelect = select([["", "–"]], { onchange: chooseDrink });
  doseInput = h("input", { type: "number", min: 0, max: 1000, step: "any", inputmode: "decimal", oninput: update });
  slider = h("input", { type: "range", min: 0, max: RANGE / STEP, value: 0, oninput: update });
  timeOutput = h("output");
  resultText = h("p", { class: "what-if-result", "aria-live": "polite" });
  logButton = button("Log this", logPreview, { disabled: true });
  const timeField = field("Time: ", slider);
  timeField.firstElementChild.append(timeOutput);
  byId("what-if").append(field("Drink", drinkSelect), field("Dose (mg)", doseInput), timeField, resultText, h("div", { class: "what-if-actions", "data-scope": "write" }, logButton, h("div", { class: "toasts", id: "what-if-notes", role: "status" })));
  byId("what-if").addEventListener("submit", (event) => event.preventDefault());
  onChange(() => {
    fillDrinks();
    update();
  });
  update();
}
