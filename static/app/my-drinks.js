// "My drinks": the user's changes to the list of drinks. Pins, their order, hidden drinks and own doses are kept in
// this browser, for each person; a new name changes the entries on the server.

import * as api from "./api.js";
import { button, byId, field, h, setText } from "./dom.js";
import { formatMg, isolate, plural } from "./format.js";
import { showToast } from "./notifications.js";
import * as session from "./session.js";

/** Returns the item of the present person. The owner's is that of version 1.0.0, which had one person. */
const item = () => ["coffee.drinks", ...[session.personName()].filter((name) => name && name !== "owner")].join(".");

const keyOf = (name) => name.toLowerCase();

/** The user's changes, by names in lower case: pinned names in order, hidden names, and doses in mg by name. */
let changes = { pinned: [], hidden: [], doses: {} };
let onDrinksChange = null;
let onEntriesChange = null;
/** Returns all drinks of the server, as `{coffee_type, caffeine_mg, count}`; presets have no count. */
let allDrinks = null;
/** The name in lower case whose form is open, or null. */
let openName = null;

function load() {
  changes = { pinned: [], hidden: [], doses: {}, ...session.loadItem(item()) };
}

function save() {
  session.saveItem(item(), changes);
  onDrinksChange();
  if (byId("sheet").open && byId("my-drinks")) showList();
}

/** Returns drinks with the user's doses, pinned ones first and without hidden ones. */
export function arrange(drinks, { withHidden = false } = {}) {
  const rank = ({ coffee_type: name }) => (changes.pinned.includes(keyOf(name)) ? changes.pinned.indexOf(keyOf(name)) : Infinity);
  const shown = drinks.filter(({ coffee_type: name }) => withHidden || !changes.hidden.includes(keyOf(name)));
  const withDoses = shown.map((drink) => ({ ...drink, caffeine_mg: changes.doses[keyOf(drink.coffee_type)] ?? drink.caffeine_mg }));
  return withDoses.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

const without = (list, name) => list.filter((other) => other !== name);

function togglePinned(name) {
  const isPinned = changes.pinned.includes(name);
  changes.pinned = isPinned ? without(changes.pinned, name) : [...changes.pinned, name];
  changes.hidden = without(changes.hidden, name);
  save();
}

function toggleHidden(name) {
  const isHidden = changes.hidden.includes(name);
  changes.hidden = isHidden ? without(changes.hidden, name) : [...changes.hidden, name];
  changes.pinned = without(changes.pinned, name);
  save();
}

/** Moves a pinned drink up (-1) or down (1). */
function move(name, step) {
  const from = changes.pinned.indexOf(name);
  const others = without(changes.pinned, name);
  changes.pinned = others.toSpliced(Math.max(0, from + step), 0, name);
  save();
}

/** Sets the dose of a drink; null returns to the usual one. */
function setDose(name, mg) {
  const { [name]: _, ...others } = changes.doses;
  changes.doses = mg === null ? others : { ...others, [name]: mg };
  save();
}

/** Moves the user's changes of a drink to its new name. */
function renameChanges(from, to) {
  if (from === to) return;
  const rename = (list) => (list.includes(to) ? without(list, from) : list.map((name) => (name === from ? to : name)));
  const { [from]: dose, ...doses } = changes.doses;
  changes = { pinned: rename(changes.pinned), hidden: without(changes.hidden, from), doses: dose === undefined || to in doses ? doses : { ...doses, [to]: dose } };
  save();
}

/** Gives the entries of a drink a new name, and returns their ids by their former names. `ids` selects some of them. */
async function renameEntries(from, to, ids) {
  const { former_types: former } = await api.requestJson("POST", "/coffee/rename", { body: { from, to, ...(ids && { ids }) } });
  return former;
}

/** Renames a drink in all entries, or merges it into the drink that has the new name. */
async function rename(from, to) {
  const before = changes;
  const former = await renameEntries(from, to);
  const count = Object.values(former).reduce((sum, ids) => sum + ids.length, 0);
  renameChanges(keyOf(from), keyOf(to));
  await onEntriesChange();
  const undo = async () => {
    for (const [name, ids] of Object.entries(former)) await renameEntries(to, name, ids);
    changes = before;
    save();
    await onEntriesChange();
  };
  const orReport = (action) => () => api.catchApiError(action, reportFailure);
  showToast(`Renamed ${isolate(from)} to ${isolate(to)} in ${plural(count, "entry", "entries")}`, { undo: orReport(undo) });
}

const reportFailure = (error) => showToast(`Can't rename the drink: ${error.message}`, { isWarning: true });

function drinkForm(drink) {
  const name = keyOf(drink.coffee_type);
  const isPinned = changes.pinned.includes(name);
  const isHidden = changes.hidden.includes(name);
  const nameInput = h("input", { type: "text", value: drink.coffee_type, maxlength: 100, required: true, autocomplete: "off" });
  const doseInput = h("input", { type: "number", value: drink.caffeine_mg, min: 0, max: 1000, step: "any", inputmode: "decimal" });
  const submit = h("button", { class: "button primary" }, "Save");
  const newName = () => nameInput.value.trim();
  const isMerge = () => keyOf(newName()) !== name && allDrinks().some((other) => keyOf(other.coffee_type) === keyOf(newName()));
  const note = h("p", { class: "muted small" });
  const describe = () => {
    setText(submit, isMerge() ? "Merge" : "Save");
    setText(note, newName() === drink.coffee_type ? "" : isMerge() ? "Both become one drink, in your past entries too." : "Your past entries are renamed, too.");
  };
  nameInput.addEventListener("input", describe);
  const onSubmit = (event) => {
    event.preventDefault();
    const usual = allDrinks().find((other) => keyOf(other.coffee_type) === name)?.caffeine_mg;
    const mg = doseInput.value === "" ? null : doseInput.valueAsNumber;
    const target = newName();
    openName = null;
    setDose(name, mg === usual ? null : mg);
    if (!drink.count || !target || target === drink.coffee_type) return null;
    byId("sheet").close();
    return api.catchApiError(() => rename(drink.coffee_type, target), reportFailure);
  };
  return h(
    "form",
    { onsubmit: onSubmit },
    // A preset that was never logged has no entries to rename.
    drink.count ? field("Name", nameInput) : null,
    field("Caffeine (mg)", doseInput),
    note,
    h(
      "div",
      { class: "row" },
      button(isPinned ? "Unpin" : "Pin to top", () => togglePinned(name)),
      isPinned && button("Move up", () => move(name, -1), { disabled: changes.pinned[0] === name }),
      isPinned && button("Move down", () => move(name, 1), { disabled: changes.pinned.at(-1) === name }),
      button(isHidden ? "Show" : "Hide", () => toggleHidden(name)),
      submit,
    ),
  );
}

function drinkRow(drink) {
  const name = keyOf(drink.coffee_type);
  const tag = changes.pinned.includes(name) ? "Pinned" : changes.hidden.includes(name) ? "Hidden" : "";
  const details = h("details", { name: "my-drink", open: name === openName }, h("summary", {}, h("bdi", {}, drink.coffee_type), h("span", { class: "muted" }, [formatMg(drink.caffeine_mg), tag].filter(Boolean).join(" · "))), drinkForm(drink));
  details.addEventListener("toggle", () => {
    if (details.open) openName = name;
    else if (openName === name) openName = null;
  });
  return h("li", {}, details);
}

function showList() {
  const focused = document.activeElement?.textContent;
  byId("my-drinks").replaceChildren(...arrange(allDrinks(), { withHidden: true }).map(drinkRow));
  // The list was built again: the same button of the same drink keeps the focus.
  const buttons = [...byId("my-drinks").querySelectorAll("[open] button")];
  (buttons.find((other) => other.textContent === focused && !other.disabled) ?? buttons[0])?.focus();
}

/** Opens the list. */
export function openMyDrinks() {
  openName = null;
  byId("sheet").replaceChildren(
    h("h2", { id: "sheet-title" }, "My drinks"),
    h("p", { class: "muted" }, "Pins, order, hidden drinks and doses apply to this browser only. A new name also renames past entries."),
    h("ul", { class: "my-drinks", id: "my-drinks" }),
    h("div", { class: "row dialog-actions" }, button("Done", () => byId("sheet").close(), { class: "button primary" })),
  );
  showList();
  byId("sheet").showModal();
}

/** `getDrinks` returns all drinks; `onChange` is called after the list was changed, `onRename` after entries were. */
export function start({ getDrinks, onChange, onRename }) {
  allDrinks = getDrinks;
  onDrinksChange = onChange;
  onEntriesChange = onRename;
  load();
  session.onChange(() => {
    load();
    onDrinksChange();
  });
  byId("edit-drinks").addEventListener("click", openMyDrinks);
}
