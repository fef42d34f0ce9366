// What the pages with a session share: signing in and out, whose page it is, hiding everything once the key is no longer
// valid, and following the session of other tabs.

import * as api from "./api.js";
import { byId } from "./dom.js";
import * as notifications from "./notifications.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { openProxySignIn, openSignIn, signInByProxy, takeLink } from "./sign-in.js";
import * as store from "./store.js";
import { showPerson } from "./switcher.js";
import { setTitle } from "./title.js";

/** Time between attempts to reach an unreachable server, in ms. */
const RETRY_INTERVAL = 10_000;

/** The functions of the page: see `start`. */
let page = null;
/** Whether the key is no longer valid, and data loaded with it is hidden. */
let isLocked = false;
/** The content of the sheet that was closed when the page was locked, or null. */
let lockedSheet = null;

/** Loads the scopes and the person of the key, which may have changed since the sign-in. */
const refreshMe = () => api.catchApiError(async () => session.setMe(await api.get("/me")), () => null);

/** Shows whose the page is, and only what the key may do. */
function showSession() {
  const others = isLocked ? [] : session.others();
  showPerson(isLocked ? null : session.presentPerson(), others, { switchTo, addPerson, signOut });
  // It is part of the menu of people.
  byId("sign-out").hidden = !session.isSignedIn() || session.isByProxy() || others.length > 0;
  setTitle({ person: isLocked ? null : session.personLabel() });
  document.body.classList.toggle("no-read", !session.may("read"));
  document.body.classList.toggle("no-write", !session.may("write"));
  document.body.classList.toggle("locked", isLocked);
  store.notify();
}

/** Hides the data of a key that is no longer valid. What was typed is kept for the same person. */
function lock() {
  isLocked = true;
  notifications.closeToasts();
  const sheet = byId("sheet");
  lockedSheet = sheet.open ? sheet.firstElementChild : null;
  sheet.close();
  if (location.hash.startsWith("#day/")) location.hash = "";
  store.clear();
  showSession();
}

function unlock() {
  isLocked = false;
  showSession();
  const sheet = byId("sheet");
  if (lockedSheet && sheet.firstElementChild === lockedSheet) sheet.showModal();
}

/** Starts the page anew, without the data of the former person. */
function restart() {
  document.body.classList.add("starting");
  location.reload();
}

/** Shows the page after a sign-in. `previous` is the identity of the key that was replaced, if any. */
export function onSignedIn(previous = null) {
  if (previous && !session.isSamePerson(previous)) return restart();
  showSession();
  store.refreshInfo();
  queue.flush();
  page.onSignedIn();
}

const signIn = (link = null) => openSignIn(onSignedIn, { isDismissible: session.isSignedIn(), link });

/** Continues as another person whose key this browser holds. */
const switchTo = (name) => page.leave(async () => {
  // Deferred deletions belong to the present key.
  await notifications.closeToasts();
  session.switchTo(name);
  restart();
});

/** Signs another person in, too. */
const addPerson = () => page.leave(async () => {
  await notifications.closeToasts();
  openSignIn(onSignedIn, { isDismissible: true, isAdding: true });
});

const signOut = () => page.leave(async () => (await import("./dialogs.js")).signOut());

/** Signs in again after a request was refused. */
async function signInAgain() {
  if (!session.isByProxy()) return api.state.isFromProxy ? null : signIn();
  const previous = session.identity();
  const error = await signInByProxy();
  if (!error) return onSignedIn(previous);
  // The proxy names nobody whom this server has: only a key is left. Otherwise, the banner leads to the proxy.
  if (error.kind === "unauthorized" && !error.isFromProxy) followSignOut();
  return null;
}

/** Signs in with the key or the pairing code of the link that was opened, if any. */
async function followLink() {
  const link = takeLink();
  if (!link || (link.key && link.key === session.key() && !api.state.isUnauthorized)) return;
  // The present key may have been revoked meanwhile.
  if (session.isSignedIn()) await refreshMe();
  if (!session.isSignedIn() || api.state.isUnauthorized) return signIn(link);
  const dialogs = await import("./dialogs.js");
  const actions = { onSignedIn, restart };
  if (link.key) dialogs.switchKey(link.key, actions);
  else dialogs.pairThisDevice(link.code, actions);
}

/** Leaves the session that another tab has ended. */
function followSignOut() {
  // Deferred deletions start with the key.
  notifications.closeToasts(true);
  session.clear();
  location.reload();
}

function startTimers() {
  const isPaused = () => document.hidden || api.state.isUnauthorized || !session.isSignedIn();
  setInterval(() => isPaused() || !api.state.isUnreachable || page.refresh(), RETRY_INTERVAL);
  document.addEventListener("visibilitychange", () => isPaused() || page.refresh());
  // The user may have signed in at the proxy in another tab.
  document.addEventListener("visibilitychange", () => document.hidden || !api.state.isUnauthorized || !session.isByProxy() || signInAgain());
}

/**
 * Starts the session of a page. `actions.onSignedIn` shows the page after a sign-in, `refresh` reloads everything that
 * is shown, and `review` leads to the entries that could not be saved. `leave`, if given, calls a function that ends
 * the session, after the user has agreed to discard what is not saved.
 */
export function start(actions, isSignedIn) {
  page = { leave: (action) => action(), ...actions };
  notifications.start({
    signIn: () => (api.state.isFromProxy || session.isByProxy() ? openProxySignIn() : signIn()),
    discardOthers: async () => (await import("./dialogs.js")).discardOthers(),
    retry: () => Promise.all([queue.flush(), page.refresh()]),
    review: page.review,
  });
  byId("sign-out").addEventListener("click", signOut);
  api.onStateChange(({ isUnauthorized }) => {
    if (!isUnauthorized && isLocked) unlock();
    // Only once, because the user may have dismissed the dialog.
    if (!isUnauthorized || isLocked) return;
    lock();
    signInAgain();
  });
  session.onChange(showSession);
  session.followOtherTabs({ onSignedOut: followSignOut, onKeyChanged: restart });
  addEventListener("coffee-link", followLink);
  store.loadCached();
  queue.start();
  startTimers();
  document.body.classList.remove("starting");
  if (!isSignedIn) return;
  onSignedIn();
  refreshMe();
  followLink();
}
