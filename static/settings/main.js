// Entry point of the settings: shows the section that the address names, without loading the page again.

import * as dialogs from "../app/dialogs.js";
import { button, byId, h, setText } from "../app/dom.js";
import * as pageSession from "../app/page-session.js";
import * as session from "../app/session.js";
// Applies the time format of this browser.
import "../app/settings.js";
import { startPage } from "../app/start.js";
import { setTitle } from "../app/title.js";
import * as confirmation from "./confirmation.js";
import { SECTIONS } from "./sections.js";

/** Windows from this width on show the list beside the section. */
const wide = matchMedia("(min-width: 50rem)");

/** The section that is shown, its view, and its place in the history of the window. */
let current = { section: null, view: null, place: history.state?.place ?? 0 };
/** Whether the user has agreed to leave the section, so that it is not asked again. */
let isConfirmed = false;

const addressOf = (section) => `/settings/${section.id}`;
const isAllowed = (section) => section.scopes.every(session.may);
const allowedSections = () => SECTIONS.filter(isAllowed);
/** Returns whether leaving the section would discard input, or a sentence about what is lost. */
const hasChanges = () => current.view?.hasChanges?.() || false;

/** Returns the section that an address names, null for the list, or undefined if there is no such section. */
function sectionAt(pathname) {
  const [, id = ""] = /^\/settings(?:\/(\w*))?$/.exec(pathname) ?? [];
  return id ? SECTIONS.find((section) => section.id === id) : null;
}

let listed = "";
function showList() {
  const sections = allowedSections();
  const version = JSON.stringify(sections.map(({ id }) => id));
  // Rebuilt only when it changes, so that a link keeps the focus.
  if (version !== listed) {
    listed = version;
    const link = (section) => h("a", { href: addressOf(section) }, h("span", { class: "section-name" }, section.title), h("span", { class: "muted small" }, section.summary));
    const items = sections.map((section) => h("li", {}, link(section)));
    byId("section-list").replaceChildren(...(items.length ? items : [h("li", { class: "muted" }, "This key can't change any settings.")]));
  }
  for (const link of byId("section-list").querySelectorAll("a")) {
    if (current.section && link.pathname === addressOf(current.section)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Replaces the content of the section; `view` is what its `show` returned. */
function setContent(section, title, fill) {
  current.view?.close?.();
  byId("section-content").replaceChildren();
  Object.assign(current, { section, view: null });
  setText(byId("section-title"), title);
  current.view = fill(byId("section-content")) || null;
}

/** Shows what the address names. */
function show() {
  const named = sectionAt(location.pathname);
  // Beside the list, the first section is shown.
  const section = named === null && wide.matches ? (allowedSections()[0] ?? null) : named;
  document.body.classList.toggle("in-section", named !== null);
  byId("section").hidden = section === null;
  if (section === null) setContent(null, "", () => null);
  else if (section === undefined) setContent(null, "Not found", (container) => container.append(h("p", {}, "There is no such section.")));
  else if (!isAllowed(section)) setContent(null, section.title, (container) => session.isLoaded() && container.append(h("p", {}, "The key of this device can't open this section. Sign in with another key to open it.")));
  else if (section !== current.section) setContent(section, section.title, section.show);
  setTitle({ view: section ? `${section.title} · Settings` : "Settings" });
  showList();
}

/** Moves the focus to the heading of what is shown. */
function focusHeading() {
  const heading = byId("section-title").checkVisibility() ? byId("section-title") : byId("settings-title");
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Asks whether to discard the changes of the section; `leave` is called if so. */
function confirmLeaving(leave) {
  const discard = () => {
    dialogs.closeSheet();
    leave();
  };
  const lost = hasChanges();
  const [question, text, yes, no] = lost === true ? ["Discard your changes?", "They have not been saved.", "Discard", "Keep editing"] : ["Leave this section?", lost, "Leave", "Stay"];
  dialogs.openSheet(question, [
    h("p", {}, text),
    h("div", { class: "row dialog-actions" }, button(yes, discard, { class: "button danger" }), button(no, dialogs.closeSheet, { class: "button primary", autofocus: true })),
  ]);
}

/** Calls `action`, which ends the session of the page, after the user has agreed to discard changes. */
function leave(action) {
  if (!hasChanges()) return action();
  return confirmLeaving(() => {
    // Shown anew, without the changes.
    current.section = null;
    show();
    action();
  });
}

/** Shows another address of the settings. */
function navigate(pathname) {
  current.place += 1;
  history.pushState({ place: current.place }, "", pathname);
  show();
  focusHeading();
}

function onLinkClick(event) {
  const link = event.target.closest?.("a[href]");
  const isPlainClick = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlainClick || link.origin !== location.origin || link.hash || sectionAt(link.pathname) === undefined || !link.pathname.startsWith("/settings")) return;
  event.preventDefault();
  if (link.pathname === location.pathname) return;
  if (hasChanges()) confirmLeaving(() => navigate(link.pathname));
  else navigate(link.pathname);
}

/** Follows "Back" and "Forward". With unsaved changes, the address is restored until the user has decided. */
function onPopState({ state }) {
  // The skip link has added an entry to the history.
  if (!state) {
    current.place += 1;
    history.replaceState({ place: current.place }, "");
    return;
  }
  const steps = state.place - current.place;
  // The address was restored.
  if (!steps) return;
  if (hasChanges() && !isConfirmed) {
    history.go(-steps);
    confirmLeaving(() => {
      isConfirmed = true;
      history.go(steps);
    });
    return;
  }
  isConfirmed = false;
  current.place = state.place;
  show();
  focusHeading();
}

/** Shows the list beside the section, or instead of it. */
function onWidthChange() {
  // The section with the changes stays open.
  if (hasChanges()) history.replaceState(history.state, "", addressOf(current.section));
  show();
}

function refresh() {
  const shown = current.view;
  show();
  return current.view === shown ? shown?.refresh?.() : null;
}

function start(isSignedIn) {
  history.replaceState({ place: current.place }, "");
  document.addEventListener("click", onLinkClick);
  addEventListener("popstate", onPopState);
  addEventListener("beforeunload", (event) => hasChanges() && event.preventDefault());
  wide.addEventListener("change", onWidthChange);
  confirmation.start();
  // The scopes of the key may have changed.
  session.onChange(show);
  pageSession.start({ onSignedIn: refresh, refresh, leave, review: () => location.assign("/#history-title") }, isSignedIn);
}

startPage({ start, onSignedIn: pageSession.onSignedIn });
