// Dialogs: confirming to sign out, another key or a pairing, entries of another key, and editing an entry. The page behind
// them keeps everything that was typed.

import * as api from "./api.js";
import { button, byId, field, h, setFieldError, setText } from "./dom.js";
import { confirmYear, entryControls, timeControl } from "./entry-fields.js";
import { plural } from "./format.js";
import { closeToasts } from "./notifications.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { checkKey, exchangeCode } from "./sign-in.js";
import { store } from "./store.js";

/**
 * Opens the sheet with a title and content. `confirmDiscard` is called before Esc or the back gesture closes it,
 * and returns whether it may.
 */
export function openSheet(title, content, confirmDiscard = () => true) {
  const sheet = byId("sheet");
  sheet.replaceChildren(h("h2", { id: "sheet-title" }, title), ...content.filter(Boolean));
  const onLeave = (event) => confirmDiscard() || event.preventDefault();
  sheet.oncancel = onLeave;
  // Browsers do not let a page stop the second `cancel` in a row.
  sheet.onkeydown = (event) => void (event.key === "Escape" && onLeave(event));
  sheet.addEventListener("close", () => (sheet.oncancel = sheet.onkeydown = null), { once: true });
  sheet.showModal();
}

export const closeSheet = () => byId("sheet").close();

/** Asks whether to discard the entries of other people that wait on this device. */
export function discardOthers() {
  const count = queue.countOfOtherKeys();
  if (!count) return;
  const discard = async () => {
    await queue.discardOthers();
    closeSheet();
    // The button that opened the sheet is gone.
    byId("main").focus({ preventScroll: true });
  };
  openSheet(`Discard ${plural(count, "entry", "entries")}?`, [
    h("p", {}, `${count === 1 ? "It was" : "They were"} logged with another key on this device and not sent. If you discard ${count === 1 ? "it, it is" : "them, they are"} lost.`),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), button("Discard", discard, { class: "button danger" })),
  ]);
}

/** Returns a sentence that names the person who is signed in. */
const signedInAs = (start, otherwise) => (session.personLabel() ? [`${start} as `, h("bdi", {}, session.personLabel()), "."] : otherwise);

/** Reports that the key or the code of a link cannot be used. */
function reportLinkError(error) {
  openSheet("Can't sign in with the link", [
    h("p", { class: "field-error" }, error),
    h("p", {}, signedInAs("You are still signed in", "You are still signed in with your present key.")),
    h("div", { class: "row dialog-actions" }, button("OK", closeSheet, { class: "button primary" })),
  ]);
}

/** Reports whether the present key is kept when another person signs in. */
const keepsPresent = () => session.key() !== null && session.personName() !== null;

/** Says what becomes of the entries that wait, if there are any, before another person signs in. */
function unsentNote() {
  const unsent = queue.all().length;
  const until = keepsPresent() ? "switch back" : session.isByProxy() ? "sign in as before again" : "sign in with the present key again";
  return unsent > 0 && h("p", {}, `${plural(unsent, "entry", "entries")} not sent yet will wait on this device until you ${until}.`);
}

/** Replaces the session. `onSignedIn` is called for the same person, `restart` for another. */
async function replaceSession(key, me, { onSignedIn, restart }) {
  const previous = session.identity();
  const isSamePerson = me.person && me.person.name === previous.person;
  // Deferred deletions belong to the present key.
  if (!isSamePerson) await closeToasts();
  session.signIn(key, me, session.isRemembered(), { keepsPresent: true });
  if (isSamePerson) onSignedIn(previous);
  else restart();
}

/** Signs in with the key of a link in place of the present one, after asking if it is another person's. */
export async function switchKey(key, actions) {
  const { me, error } = await checkKey(key);
  if (error) return reportLinkError(error);
  if (me.person && me.person.name === session.personName()) return replaceSession(key, me, actions);
  const newLabel = session.labelOf(me.person);
  return openSheet(newLabel ? ["Switch to ", h("bdi", {}, newLabel), "?"] : "Use the key from the link?", [
    h("p", {}, signedInAs("You are signed in", "You are already signed in with another key."), keepsPresent() && " You can switch back at the top of the page."),
    unsentNote(),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), button("Switch", () => replaceSession(key, me, actions), { class: "button primary" })),
  ]);
}

/** Asks whether to pair this device, which is signed in already. A code works once, so it is not exchanged before. */
export function pairThisDevice(code, actions) {
  const pair = async () => {
    closeSheet();
    const { key, me, error } = await exchangeCode({ code });
    return error ? reportLinkError(error) : replaceSession(key, me, actions);
  };
  openSheet("Pair this device?", [
    h("p", {}, signedInAs("You are already signed in", "You are already signed in."), " If you continue, this device uses the new key from the link.", keepsPresent() && " If it is another person's key, you can switch back at the top of the page."),
    unsentNote(),
    h("div", { class: "row dialog-actions" }, button("Cancel", closeSheet), button("Pair", pair, { class: "button primary" })),
  ]);
}

/** Signs out; asks first if there are entries that are not on the server yet. */
export function signOut() {
  const unsent = queue.all().length;
  const finish = async () => {
    // Deferred deletions need the key.
    await closeToasts();
    session.signOut();
    location.reload();
  };
  if (!unsent) return finish();
  const text = unsent === 1 ? "has not been sent yet. If you keep it, it is" : "have not been sent yet. If you keep them, they are";
  openSheet("Sign out?", [
    h("p", {}, `${plural(unsent, "entry", "entries")} ${text} sent the next time you sign in${session.personLabel() ? " as " : " with this key"}`, session.personLabel() && h("bdi", {}, session.personLabel()), "."),
    h(
      "div",
      { class: "row dialog-actions" },
      button("Discard and sign out", () => queue.discardAll().then(finish), { class: "button danger" }),
      button("Cancel", closeSheet),
      button("Keep and sign out", finish, { class: "button primary" }),
    ),
  ]);
}

/**
 * Opens the sheet to edit an entry of `route`. `onSave` gets the changed fields and may return a function to call
 * when the sheet is closed; if it fails, the sheet stays open and shows the error. `deleteLabel` is the label of the button that calls `onDelete`; `onRepeat`, if given,
 * logs the entry again.
 */
export function openEditor(route, entry, { deleteLabel, onSave, onDelete, onRepeat }) {
  const rows = Object.entries({ ...entryControls(route, entry, store.info?.validation), timestamp: timeControl(entry.timestamp) });
  const formError = h("p", { class: "field-error", role: "alert" });
  const changedFields = () => rows.map(([name, [, control, read]]) => [name, read(control)]).filter(([name, value]) => value !== (entry[name] ?? null));
  const showErrors = (error) => {
    const unmatched = error.errors.filter(({ field: name, message }) => {
      const row = rows.find(([rowName]) => rowName === name);
      if (row) setFieldError(row[1][1], message);
      return !row;
    });
    setText(formError, error.errors.length && !unmatched.length ? "" : error.message);
  };
  const saveButton = h("button", { class: "button primary" }, "Save");
  const onSubmit = async (event) => {
    event.preventDefault();
    setText(formError, "");
    const changed = changedFields();
    if (changed.some(([name]) => name === "timestamp") && !confirmYear(rows.at(-1)[1][1])) return;
    saveButton.disabled = true;
    await api.catchApiError(async () => {
      const onClosed = changed.length ? await onSave(Object.fromEntries(changed)) : null;
      closeSheet();
      onClosed?.();
    }, showErrors).finally(() => (saveButton.disabled = false));
  };
  const closeAnd = (action) => () => {
    closeSheet();
    action();
  };
  const discardQuestion = h("div", { class: "row dialog-actions", role: "alert", hidden: true });
  const confirmDiscard = () => {
    if (!changedFields().length) return true;
    const keepButton = button("Keep editing", () => {
      [discardQuestion.hidden, actions.hidden] = [true, false];
      rows[0][1][1].focus();
    });
    discardQuestion.replaceChildren(h("p", { class: "question" }, "Discard your changes?"), button("Discard", closeSheet, { class: "button danger" }), keepButton);
    [discardQuestion.hidden, actions.hidden] = [false, true];
    keepButton.focus();
    return false;
  };
  const fields = rows.map(([, [label, control]]) => field(label, control));
  const buttons = [button(deleteLabel, closeAnd(onDelete), { class: "button danger" }), button("Cancel", closeSheet), saveButton];
  const actions = h("div", { class: "row dialog-actions" }, buttons);
  const repeat = onRepeat && h("p", {}, button("Log again", closeAnd(onRepeat), { class: "link" }));
  openSheet("Edit entry", [h("form", { onsubmit: onSubmit }, fields, repeat, formError, actions, discardQuestion)], confirmDiscard);
}
