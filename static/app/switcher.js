// The person in the top bar. If this browser holds keys of several people, it is a menu that switches between them.

import { byId, h } from "./dom.js";
import * as session from "./session.js";

const labelOf = (person) => session.labelOf(person) ?? "Owner";

/** Returns the label of a person, with the name if another one has the same label. */
function uniqueLabel(person, people) {
  const isUnique = people.every((other) => other === person || labelOf(other) !== labelOf(person));
  return [h("bdi", {}, labelOf(person)), !isUnique && h("span", { class: "muted small" }, ` ${person.name}`)];
}

/** What is shown, as JSON. */
let shown = "";
/** The menu, or null. */
let menu = null;

function closeOutside({ target }) {
  if (menu && !menu.contains(target)) menu.open = false;
}

function closeByKey({ key }) {
  if (key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.firstElementChild.focus();
}

function createMenu(person, others, { switchTo, addPerson, signOut }) {
  const people = [person, ...others].sort((a, b) => labelOf(a).localeCompare(labelOf(b)));
  const item = (label, action, attributes = {}) => {
    const choose = () => {
      menu.open = false;
      action();
    };
    return h("li", {}, h("button", { type: "button", onclick: choose, ...attributes }, label));
  };
  const items = people.map((other) => item(uniqueLabel(other, people), () => other === person || switchTo(other.name), { "aria-current": other === person ? "true" : null }));
  return h("details", { class: "switcher", onkeydown: closeByKey },
    h("summary", { title: "Switch person" }, h("bdi", {}, labelOf(person))),
    h("div", { class: "menu" }, h("ul", { "aria-label": "People" }, items), h("ul", {}, item("Add person", addPerson), item("Sign out", signOut))));
}

/**
 * Shows who is signed in, null for nobody, as a menu if there are `others`. `actions` are those of the menu:
 * `switchTo(name)`, `addPerson` and `signOut`.
 */
export function showPerson(person, others, actions) {
  const next = JSON.stringify([person, others]);
  // Rebuilt only when it changes, so that the menu stays open and keeps the focus.
  if (shown === next) return;
  shown = next;
  const isMenu = Boolean(person) && others.length > 0;
  const label = session.labelOf(person) ?? "";
  menu = isMenu ? createMenu(person, others, actions) : null;
  const element = byId("person");
  element.hidden = !isMenu && !label;
  element.title = isMenu ? "" : label;
  element.parentElement.classList.toggle("with-menu", isMenu);
  element.replaceChildren(h("span", { class: "visually-hidden" }, "Signed in as "), menu ?? h("bdi", {}, label));
}

document.addEventListener("click", closeOutside);
document.addEventListener("focusin", closeOutside);
