// Puts the dashboard together: who starts when, and when the server is asked anew.

import * as api from "./api.js";
import { askForKey, signOut } from "./dialogs.js";
import { at } from "./elements.js";
import { MINUTE } from "./format.js";
import * as history from "./history.js";
import * as live from "./live.js";
import * as log from "./log.js";
import * as notices from "./notices.js";
import * as now from "./now.js";
import * as curve from "./plots/curve.js";
import * as days from "./plots/days.js";
import * as heart from "./plots/heart.js";
import * as queue from "./queue.js";

/** How often a server that does not answer is asked again. */
const RETRY = 10_000;
/** What is further down is asked for only when it comes near. */
const LATER = { week: days.refresh, correlation: heart.refreshEffect, history: history.refresh };
const near = new Set();

/** Asks for everything that is shown. */
const refresh = () => Promise.all([live.refresh(), heart.refreshRate(), ...[...near].map((ask) => ask())]);

function open() {
  at("sign-out").hidden = false;
  live.askInfo();
  queue.flush();
  refresh();
  for (const [id, ask] of Object.entries(LATER)) {
    const watch = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      watch.disconnect();
      near.add(ask);
      ask();
    }, { rootMargin: "600px" });
    watch.observe(at(id));
  }
}

const signIn = () => askForKey(open, api.key() !== null);

function keepFresh() {
  const isIdle = () => document.hidden || api.state.isLocked || !api.key();
  setInterval(() => isIdle() || live.refresh(live.NOW), MINUTE);
  setInterval(() => isIdle() || !api.state.isDown || refresh(), RETRY);
  document.addEventListener("visibilitychange", () => isIdle() || refresh());
}

now.start();
log.start();
curve.start();
heart.start();
days.start(history.showDay);
history.start(refresh);
notices.start({ signIn, retry: () => Promise.all([queue.flush(), refresh()]), look: () => at("history-title").focus() });
at("sign-out").addEventListener("click", signOut);
api.onState(({ isLocked }) => isLocked && signIn());
queue.on("arrival", refresh);
queue.on("undone", refresh);
live.recall();
queue.start();
keepFresh();
// Only secure pages have service workers.
navigator.serviceWorker?.register("/sw.js").catch(() => {});
if (api.key()) open();
else signIn();
