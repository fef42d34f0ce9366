// Elements from JavaScript. Text becomes text nodes and never markup, whoever wrote it.

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

const ICONS = {
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
};

/** A button that shows an icon and is called by `label`. */
export const iconButton = (icon, label, onclick) =>
  h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick },
    s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[icon] })),
  );

/** A table for those who do not see the plot: made when it is opened, and anew when its data change. */
export function twin(details, make) {
  const refill = () => {
    if (!details.open) return;
    const { head, rows } = make();
    const cells = (tag, row) => row.map((cell) => h(tag, tag === "th" ? { scope: "col" } : {}, cell));
    const table = h(
      "table",
      {},
      h("thead", {}, h("tr", {}, cells("th", head))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells("td", row)))),
    );
    details.querySelector(".table")?.remove();
    details.append(h("div", { class: "table", tabindex: "0", role: "region", "aria-label": details.querySelector("summary").textContent }, table));
  };
  details.addEventListener("toggle", refill);
  return refill;
}
