// Form controls for the fields of an entry, shared by the log forms and the edit dialog, and the entry's
// short description.

import { h, select, setFieldError } from "./dom.js";
import { formatMg, isolate, toLocalInput } from "./format.js";

/** The suggested contexts of a heart rate; the server accepts any other text too. */
export const CONTEXTS = ["resting", "active", "post-coffee", "exercise", "sleeping", "panic", "stressed"];

const readNumber = (control) => control.valueAsNumber;
const readText = (control) => control.value.trim() || null;

/** Creates a select of contexts that also offers the entry's own. */
function contextSelect(value) {
  const contexts = value === null || !CONTEXTS.includes(value) ? [value ?? "", ...CONTEXTS] : CONTEXTS;
  const control = select(contexts.map((context) => [context, context || "none"]));
  control.value = value ?? "";
  return control;
}

/**
 * Returns the controls for an entry of `route` by field name, each as [label, control, read function].
 * `limits` are the validation limits of `GET /info`.
 */
export function entryControls(route, entry, limits = {}) {
  const isCoffee = route === "/coffee/";
  const input = (type, value, attributes) => h("input", { type, value: value ?? "", ...attributes });
  const { max_caffeine_mg: maxMg = 1000, min_heart_rate_bpm: minBpm = 30, max_heart_rate_bpm: maxBpm = 250 } = limits;
  const notes = h("textarea", { value: entry.notes ?? "", maxlength: 1000, rows: 2 });
  const controls = isCoffee
    ? {
        coffee_type: ["Drink", input("text", entry.coffee_type, { maxlength: 100, list: "drink-names" }), readText],
        caffeine_mg: ["Caffeine (mg)", input("number", entry.caffeine_mg, { min: 0, max: maxMg, step: "any", required: true, inputmode: "decimal" }), readNumber],
      }
    : {
        bpm: ["Heart rate (bpm)", input("number", entry.bpm, { min: minBpm, max: maxBpm, required: true, inputmode: "numeric" }), readNumber],
        context: ["Context", contextSelect(entry.context ?? null), readText],
      };
  return { ...controls, notes: ["Notes", notes, readText] };
}

/** Returns a control for an instant. While unchanged, it keeps the seconds that it does not show. */
export function timeControl(timestamp) {
  const control = h("input", { type: "datetime-local", value: toLocalInput(Date.parse(timestamp)), required: true });
  const initial = control.value;
  return ["Time", control, () => (control.value === initial ? timestamp : new Date(control.value).toISOString())];
}

/** Years before this are probably typing errors. */
const FIRST_LIKELY_YEAR = 2000;

/**
 * Reports whether the time in a control is plausible or was confirmed by submitting it again; asks below the
 * control otherwise.
 */
export function confirmYear(control) {
  const year = new Date(control.value).getFullYear();
  if (year >= FIRST_LIKELY_YEAR || control.dataset.confirmed === control.value) return true;
  control.dataset.confirmed = control.value;
  setFieldError(control, `Is the year ${year} correct? If it is, log or save again.`);
  control.focus();
  return false;
}

/** Describes an entry: "espresso, 80 mg" or "64 bpm, resting". */
export const describeEntry = (route, entry) =>
  route === "/coffee/" ? `${isolate(entry.coffee_type ?? "caffeine")}, ${formatMg(entry.caffeine_mg)}` : [`${entry.bpm} bpm`, entry.context && isolate(entry.context)].filter(Boolean).join(", ");
