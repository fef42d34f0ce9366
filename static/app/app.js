// The dashboard: starts its parts, those further down when they are about to scroll into view, and schedules when
// data is refreshed.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { MINUTE } from "./format.js";
import * as log from "./log.js";
import * as now from "./now.js";
import * as pageSession from "./page-session.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import * as settings from "./settings.js";
import * as shortcuts from "./shortcuts.js";
import * as store from "./store.js";
import * as whatIf from "./what-if.js";

export { onSignedIn } from "./page-session.js";

/** Time between attempts to load a section without a connection, in ms. */
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

/** Shows the dashboard after a sign-in. */
function showDashboard() {
  refreshAll();
  watchSections();
}

/** Refreshes what changes every minute. */
function refreshCurrent() {
  const isPaused = document.hidden || api.state.isUnauthorized || !session.isSignedIn() || !session.may("read");
  if (!isPaused) store.refresh(store.CURRENT_PARTS);
}

export function start(isSignedIn) {
  now.start();
  log.start(refreshAll);
  whatIf.start();
  settings.start(refreshAll);
  queue.on("arrival", refreshAll);
  queue.on("undone", refreshAll);
  shortcuts.start();
  setInterval(refreshCurrent, MINUTE);
  pageSession.start({ onSignedIn: showDashboard, refresh: refreshAll, review: () => byId("history-title").focus() }, isSignedIn);
}
