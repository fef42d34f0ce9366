// What the page is made of: elements, whose text is never markup whoever wrote it, and the fields of an
// entry, for the forms that log and the sheet that corrects.

import { localInput } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element with attributes, listeners (`onclick`, …), and children: elements, text, lists, null for none. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same within an SVG. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A button that submits nothing. */
export const button = (label, onclick, attributes = {}) => h("button", { type: "button", class: "button", onclick, ...attributes }, label);

const ICONS = {
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
};

/** A button that shows an icon and is called by `label`. */
export const iconButton = (icon, label, onclick) =>
  button(s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[icon] })), onclick, { class: "icon-button", "aria-label": label, title: label });

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** Sets an element's text where it differs: what did not change is not announced, nor laid out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Radio buttons that look like chips: `choices` are [value, label]; `onchange` gets the value. */
export function chips(fieldset, name, choices, chosen, onchange) {
  for (const [value, label] of choices) {
    const input = h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchange(value) });
    fieldset.append(h("label", {}, input, h("span", {}, label)));
  }
}

/** A menu: `choices` are [value, label]. */
export function menu(choices, attributes = {}) {
  return h("select", attributes, choices.map(([value, label]) => h("option", { value }, label)));
}

let made = 0;

/** A labelled control, with room below for what is wrong with it. */
export function field(label, control, hint) {
  const id = `field-${(made += 1)}`;
  const error = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
  control.id = id;
  control.classList.add("field");
  control.setAttribute("aria-describedby", error.id);
  control.addEventListener("input", () => complain(control, ""));
  return h("div", { class: "labelled" }, h("label", { for: id }, label, hint && h("span", { class: "soft" }, ` ${hint}`)), control, error);
}

/** Says below a control what is wrong with it; nothing takes it back. */
export function complain(control, message) {
  const error = at(`${control.id}-error`);
  error.hidden = !message;
  say(error, message);
  control.toggleAttribute("aria-invalid", Boolean(message));
}

/** The contexts that people use; any other word will do. */
export const CONTEXTS = ["resting", "active", "post-coffee", "exercise", "sleeping", "panic", "stressed"];

const number = (control) => control.valueAsNumber;
const text = (control) => control.value.trim() || null;

/** A menu of contexts with that of the entry, whatever it is. */
function contextMenu(value) {
  const all = value === null || !CONTEXTS.includes(value) ? [value ?? "", ...CONTEXTS] : CONTEXTS;
  const control = menu(all.map((context) => [context, context || "none"]));
  control.value = value ?? "";
  return control;
}

/**
 * The controls of an entry of `route` by its fields' names, each a label, the control, and how its value is
 * read. `rules` are the server's.
 */
export function controlsOf(route, entry, rules = {}) {
  const isCoffee = route === "/coffee/";
  const input = (type, value, more) => h("input", { type, value: value ?? "", ...more });
  const { max_caffeine_mg: max = 1000, min_heart_rate_bpm: slowest = 30, max_heart_rate_bpm: fastest = 250 } = rules;
  const notes = h("textarea", { value: entry.notes ?? "", maxlength: 1000, rows: 2 });
  const own = isCoffee
    ? {
        coffee_type: ["What", input("text", entry.coffee_type, { maxlength: 100, list: "drink-names" }), text],
        caffeine_mg: ["Caffeine, mg", input("number", entry.caffeine_mg, { min: 0, max, step: "any", required: true, inputmode: "decimal" }), number],
      }
    : {
        bpm: ["Beats a minute", input("number", entry.bpm, { min: slowest, max: fastest, required: true, inputmode: "numeric" }), number],
        context: ["While", contextMenu(entry.context ?? null), text],
      };
  return { ...own, notes: ["Notes", notes, text] };
}

/** A control for an instant; untouched it keeps the seconds that it does not show. */
export function timeControl(timestamp) {
  const control = h("input", { type: "datetime-local", value: localInput(Date.parse(timestamp)), required: true });
  const shown = control.value;
  return ["When", control, () => (control.value === shown ? timestamp : new Date(control.value).toISOString())];
}
