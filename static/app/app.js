// The dashboard: starts its parts, those further down when they are about to scroll into view, and schedules when
// data is refreshed.

import * as api from "./api.js";
import { byId, setText } from "./dom.js";
import { MINUTE } from "./format.js";
import * as log from "./log.js";
import * as notifications from "./notifications.js";
import * as now from "./now.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import * as settings from "./settings.js";
import * as shortcuts from "./shortcuts.js";
import { openProxySignIn, openSignIn, signInByProxy, takeLinkedKey } from "./sign-in.js";
import * as store from "./store.js";
import { setTitle } from "./title.js";
import * as whatIf from "./what-if.js";

/** Time between attempts to reach an unreachable server, in ms. */
const RETRY_INTERVAL = 10_000;
/** Distance from the window at which a section is loaded. */
const SECTION_MARGIN = "600px";

/** Delay after which the other sections are loaded, too, in ms. */
const PRELOAD_DELAY = 5000;

/** Returns a function that loads something once, again only after a failure. */
const once = (load) => {
  let promise = null;
  return () => {
    promise ??= load().catch((error) => {
      promise = null;
      throw error;
    });
    return promise;
  };
};
const loadDays = once(async () => {
  const [days, dayView] = await Promise.all([import("./charts/days.js"), import("./day-view.js"), loadHistory()]);
  days.start();
  dayView.start();
  return { refresh: () => Promise.all([days.refresh(), dayView.refresh()]) };
});
const loadHistory = once(async () => {
  const history = await import("./history.js");
  history.start(refreshAll);
  return history;
});
const startOnce = (load) => once(async () => {
  const loaded = await load();
  loaded.start();
  return loaded;
});
/** Returns the modules of each section, by its id. */
const SECTIONS = {
  caffeine: startOnce(() => import("./charts/caffeine.js")),
  heart: startOnce(() => import("./charts/heart-rate.js")),
  week: loadDays,
  trends: startOnce(async () => {
    await loadDays();
    return import("./charts/trends.js");
  }),
  correlation: startOnce(() => import("./charts/correlation.js")),
  history: loadHistory,
};
/** The `refresh` functions of the sections loaded so far. */
const loadedSections = new Set();

/** Whether the key is no longer valid, and data loaded with it is hidden. */
let isLocked = false;
/** The content of the sheet that was closed when the page was locked, or null. */
let lockedSheet = null;

/** Loads the scopes and the person of the key, which may have changed since the sign-in. */
const refreshMe = () => api.catchApiError(async () => session.setMe(await api.get("/me")), () => null);

/** Shows whose the page is, and only what the key may do. */
function showSession() {
  const label = isLocked ? null : session.personLabel();
  const person = byId("person");
  person.hidden = !label;
  person.title = label ?? "";
  setText(person.lastElementChild, label ?? "");
  setTitle({ person: label });
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

/** Reloads everything that is shown. */
const refreshAll = () => session.may("read") && Promise.all([store.refresh(), ...[...loadedSections].map((refresh) => refresh())]);

/** Loads a section and shows its data. */
async function showSection(load) {
  const { refresh } = await load();
  loadedSections.add(refresh);
  if (session.may("read")) refresh();
}

/** Loads the day view when the address of a day is opened; from then on, it follows the address itself. */
function followDayAddress() {
  if (!location.hash.startsWith("#day/")) return;
  // Without a connection, the next address tries again.
  showSection(loadDays).then(() => removeEventListener("hashchange", followDayAddress), () => {});
}

/** Loads the sections ahead of time, so that they can be shown without a connection. */
const preload = () => Promise.allSettled([...Object.values(SECTIONS).map((load) => load()), import("./dialogs.js")]);

let isWatching = false;
function watchSections() {
  if (isWatching) return;
  isWatching = true;
  for (const [id, load] of Object.entries(SECTIONS)) {
    const observer = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      observer.disconnect();
      // Without a connection, it is tried again; `observe` reports whether the section is still near.
      showSection(load).catch(() => setTimeout(() => observer.observe(byId(id)), RETRY_INTERVAL));
    }, { rootMargin: SECTION_MARGIN });
    observer.observe(byId(id));
  }
  addEventListener("hashchange", followDayAddress);
  followDayAddress();
  setTimeout(preload, PRELOAD_DELAY);
}

/** `previous` is the identity of the key that was replaced, if any. */
export function onSignedIn(previous = null) {
  if (previous && !session.isSamePerson(previous)) return restart();
  byId("sign-out").hidden = session.isByProxy();
  showSession();
  store.refreshInfo();
  queue.flush();
  refreshAll();
  watchSections();
}

const signIn = (linkedKey = null) => openSignIn(onSignedIn, session.isSignedIn(), linkedKey);

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

/** Signs in with the key of the link that was opened, if any. */
async function followKeyLink() {
  const key = takeLinkedKey();
  if (!key || (key === session.key() && !api.state.isUnauthorized)) return;
  // The present key may have been revoked meanwhile.
  if (session.isSignedIn()) await refreshMe();
  if (!session.isSignedIn() || api.state.isUnauthorized) signIn(key);
  else (await import("./dialogs.js")).switchKey(key, { onSignedIn, restart });
}

/** Leaves the session that another tab has ended. */
function followSignOut() {
  // Deferred deletions start with the key.
  notifications.closeToasts(true);
  session.clear();
  location.reload();
}

function startRefreshTimers() {
  const isPaused = () => document.hidden || api.state.isUnauthorized || !session.isSignedIn() || !session.may("read");
  setInterval(() => isPaused() || store.refresh(store.CURRENT_PARTS), MINUTE);
  setInterval(() => isPaused() || !api.state.isUnreachable || refreshAll(), RETRY_INTERVAL);
  document.addEventListener("visibilitychange", () => isPaused() || refreshAll());
  // The user may have signed in at the proxy in another tab.
  document.addEventListener("visibilitychange", () => document.hidden || !api.state.isUnauthorized || !session.isByProxy() || signInAgain());
}

export function start(isSignedIn) {
  now.start();
  log.start(refreshAll);
  whatIf.start();
  settings.start(refreshAll);
  notifications.start({
    signIn: () => (api.state.isFromProxy || session.isByProxy() ? openProxySignIn() : signIn()),
    discardOthers: async () => (await import("./dialogs.js")).discardOthers(),
    retry: () => Promise.all([queue.flush(), refreshAll()]),
    review: () => byId("history-title").focus(),
  });
  byId("sign-out").addEventListener("click", async () => (await import("./dialogs.js")).signOut());
  api.onStateChange(({ isUnauthorized }) => {
    if (isUnauthorized && !isLocked) lock();
    if (!isUnauthorized && isLocked) unlock();
    if (isUnauthorized) signInAgain();
  });
  session.onChange(showSession);
  session.followOtherTabs({ onSignedOut: followSignOut, onKeyChanged: restart });
  addEventListener("coffee-key-link", followKeyLink);
  queue.on("arrival", refreshAll);
  queue.on("undone", refreshAll);
  shortcuts.start();
  store.loadCached();
  queue.start();
  startRefreshTimers();
  document.body.classList.remove("starting");
  if (!isSignedIn) return;
  onSignedIn();
  refreshMe();
  followKeyLink();
}
