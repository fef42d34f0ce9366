// The fields of an entry, for whoever writes one: the forms that log and the sheet that corrects.

import { h } from "./dom.js";
import { localInput } from "./format.js";
import { live } from "./live.js";

/** The contexts that people use; any other word will do. */
export const CONTEXTS = ["resting", "active", "post-coffee", "exercise", "sleeping", "panic", "stressed"];

let made = 0;

/** A labelled control. */
export function field(label, control, hint) {
  const id = `field-${(made += 1)}`;
  control.id = id;
  control.classList.add("field");
  const error = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
  control.setAttribute("aria-describedby", error.id);
  control.addEventListener("input", () => complain(control, null));
  return h("div", { class: "labelled" }, h("label", { for: id }, label, hint && h("span", { class: "soft" }, ` ${hint}`)), control, error);
}

/** Says beside a control what is wrong with it; null takes it back. */
export function complain(control, message) {
  const error = control.parentElement.querySelector(".field-error");
  error.hidden = !message;
  error.textContent = message ?? "";
  control.toggleAttribute("aria-invalid", Boolean(message));
}

const rule = (name, otherwise) => live.info?.validation?.[name] ?? otherwise;

export const nameInput = (value = "") =>
  h("input", { name: "coffee_type", value, maxlength: rule("max_coffee_type_length", 100), list: "drink-names" });

export const doseInput = (value = "") =>
  h("input", { name: "caffeine_mg", type: "number", value, min: 0, max: rule("max_caffeine_mg", 1000), step: "any", required: true, inputmode: "decimal" });

export const bpmInput = (value = "") =>
  h("input", { name: "bpm", type: "number", value, min: rule("min_heart_rate_bpm", 30), max: rule("max_heart_rate_bpm", 250), step: 1, required: true, inputmode: "numeric" });

export function contextInput(value = "resting") {
  const all = CONTEXTS.includes(value) || value === "" ? CONTEXTS : [value, ...CONTEXTS];
  const select = h("select", { name: "context" }, value === "" && h("option", { value: "" }, "none"), all.map((one) => h("option", { value: one }, one)));
  select.value = value;
  return select;
}

export const notesInput = (value = "") =>
  h("textarea", { name: "notes", value, maxlength: rule("max_notes_length", 1000), rows: 2 });

export const timeInput = (instant) =>
  h("input", { name: "timestamp", type: "datetime-local", value: localInput(instant), required: true, step: "any" });
