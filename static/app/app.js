// The dashboard: starts its parts, those further down when they are about to scroll into view, and schedules when
// data is refreshed.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { MINUTE } from "./format.js";
import * as log from "./log.js";
import * as notifications from "./notifications.js";
import * as now from "./now.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import * as settings from "./settings.js";
import * as shortcuts from "./shortcuts.js";
import { openSignIn } from "./sign-in.js";
import * as store from "./store.js";
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

/** Loads the scopes of the key, which may have changed since the sign-in. */
const refreshScopes = () => api.catchApiError(async () => session.setScopes((await api.get("/me")).key.scopes), () => null);

/** Shows only what the key may do. */
function showScopes() {
  document.body.classList.toggle("no-read", !session.may("read"));
  document.body.classList.toggle("no-write", !session.may("write"));
  store.notify();
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

/** `previousOwner` is the mark of the key that was replaced, if any. */
export async function onSignedIn(previousOwner = null) {
  byId("sign-out").hidden = false;
  showScopes();
  store.refreshInfo();
  queue.flush();
  refreshAll();
  watchSections();
  if (previousOwner) (await import("./dialogs.js")).offerToAdopt(previousOwner);
}

const signIn = () => openSignIn(onSignedIn, session.key() !== null);

/** Leaves the session that another tab has ended. */
function followSignOut() {
  // Deferred deletions start with the key.
  notifications.closeToasts(true);
  session.clear();
  location.reload();
}

function startRefreshTimers() {
  const isPaused = () => document.hidden || api.state.isUnauthorized || !session.key() || !session.may("read");
  setInterval(() => isPaused() || store.refresh(store.CURRENT_PARTS), MINUTE);
  setInterval(() => isPaused() || !api.state.isUnreachable || refreshAll(), RETRY_INTERVAL);
  document.addEventListener("visibilitychange", () => isPaused() || refreshAll());
}

export function start(isSignedIn) {
  now.start();
  log.start(refreshAll);
  whatIf.start();
  settings.start(refreshAll);
  notifications.start({
    signIn,
    retry: () => Promise.all([queue.flush(), refreshAll()]),
    review: () => byId("history-title").focus(),
  });
  byId("sign-out").addEventListener("click", async () => (await import("./dialogs.js")).signOut());
  api.onStateChange(({ isUnauthorized }) => isUnauthorized && signIn());
  session.onScopesChange(showScopes);
  session.followOtherTabs({ onSignedOut: followSignOut, onKeyChanged: () => location.reload() });
  queue.on("arrival", refreshAll);
  queue.on("undone", refreshAll);
  shortcuts.start();
  store.loadCached();
  queue.start();
  startRefreshTimers();
  document.body.classList.remove("starting");
  if (!isSignedIn) return;
  onSignedIn();
  refreshScopes();
}
