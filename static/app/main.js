// Entry point of the dashboard: starts every part and schedules when data is refreshed.

import * as api from "./api.js";
import * as caffeine from "./charts/caffeine.js";
import * as correlation from "./charts/correlation.js";
import * as days from "./charts/days.js";
import * as heartRate from "./charts/heart-rate.js";
import * as trends from "./charts/trends.js";
import * as dayView from "./day-view.js";
import { offerToAdopt, signOut } from "./dialogs.js";
import { byId } from "./dom.js";
import { MINUTE } from "./format.js";
import * as history from "./history.js";
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
/** Sections further down: their data is loaded when they are about to scroll into view. */
const LAZY_SECTIONS = { week: days.refresh, trends: trends.refresh, correlation: correlation.refresh, history: history.refresh };
/** The `refresh` functions of the lazy sections loaded so far. */
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
const refreshAll = () => session.may("read") && Promise.all([store.refresh(), heartRate.refresh(), dayView.refresh(), ...[...loadedSections].map((refresh) => refresh())]);

function onSignedIn() {
  byId("sign-out").hidden = false;
  showScopes();
  store.refreshInfo();
  queue.flush();
  refreshAll();
  for (const [id, refresh] of Object.entries(LAZY_SECTIONS)) {
    const observer = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      observer.disconnect();
      loadedSections.add(refresh);
      if (session.may("read")) refresh();
    }, { rootMargin: "600px" });
    observer.observe(byId(id));
  }
}

const signIn = () => openSignIn((previousOwner) => {
  onSignedIn();
  offerToAdopt(previousOwner);
}, session.key() !== null);

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

now.start();
log.start(refreshAll);
whatIf.start();
caffeine.start();
heartRate.start();
correlation.start();
days.start();
history.start(refreshAll);
settings.start(refreshAll);
dayView.start();
notifications.start({
  signIn,
  retry: () => Promise.all([queue.flush(), refreshAll()]),
  review: () => byId("history-title").focus(),
});
byId("sign-out").addEventListener("click", signOut);
api.onStateChange(({ isUnauthorized }) => isUnauthorized && signIn());
session.onScopesChange(showScopes);
session.followOtherTabs({ onSignedOut: followSignOut, onKeyChanged: () => location.reload() });
queue.on("arrival", refreshAll);
queue.on("undone", refreshAll);
shortcuts.start();
store.loadCached();
trends.start();
queue.start();
startRefreshTimers();
// Service workers exist only in secure contexts.
navigator.serviceWorker?.register("/sw.js").catch(() => {});
if (session.key()) {
  onSignedIn();
  refreshScopes();
} else signIn();
