// DOM helpers: creating elements, radio chips, selects and labeled fields. Text is always inserted as text,
// never as markup.

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

/** Creates an element with attributes, listeners (`onclick`, …) and children: elements, text, lists, or null for none. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Creates an SVG element. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Creates a button that does not submit a form. */
export const button = (label, onclick, attributes = {}) => h("button", { type: "button", class: "button", onclick, ...attributes }, label);

const ICONS = {
  repeat: "M4 12a8 8 0 0 1 14-5l2 2M20 4v5h-5M20 12a8 8 0 0 1-14 5l-2-2M4 20v-5h5",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
};

/** Creates an icon button with an accessible name. */
export const iconButton = (icon, label, onclick) =>
  button(svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[icon] })), onclick, { class: "icon-button", "data-icon": icon, "aria-label": label, title: label });

export const byId = (id) => document.getElementById(id);

/** Sets an element's text if it differs: unchanged text is neither announced again nor laid out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Adds radio buttons styled as chips. `choices` are [value, label]; `onchange` gets the value. */
export function addChips(fieldset, name, choices, selected, onchange) {
  for (const [value, label] of choices) {
    const input = h("input", { type: "radio", name, value, checked: value === selected, onchange: () => onchange(value) });
    fieldset.append(h("label", {}, input, h("span", {}, label)));
  }
}

/** Creates a select element. `choices` are [value, label]. */
export function select(choices, attributes = {}) {
  return h("select", attributes, choices.map(([value, label]) => h("option", { value }, label)));
}

let fieldCount = 0;

/** Wraps a control with its label and a place for an error message. */
export function field(label, control, hint) {
  const id = `field-${(fieldCount += 1)}`;
  const error = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
  control.id = id;
  control.classList.add("input");
  control.setAttribute("aria-describedby", error.id);
  control.addEventListener("input", () => setFieldError(control, ""));
  return h("div", { class: "field" }, h("label", { for: id }, label, hint && h("span", { class: "muted" }, ` ${hint}`)), control, error);
}

/** Shows an error message below a control; an empty message removes it. */
export function setFieldError(control, message) {
  const error = byId(`${control.id}-error`);
  error.hidden = !message;
  setText(error, message);
  control.toggleAttribute("aria-invalid", Boolean(message));
}
