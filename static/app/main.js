// Puts the dashboard together: who starts when, and when the server is asked anew.

import * as api from "./api.js";
import * as device from "./device.js";
import { at } from "./dom.js";
import { MINUTE } from "./format.js";
import * as live from "./live.js";
import * as log from "./log.js";
import * as now from "./now.js";
import * as queue from "./queue.js";
import * as signIn from "./sign-in.js";
import * as strip from "./strip.js";

/** How often a server that does not answer is asked again. */
const RETRY = 10_000;

async function refresh(parts) {
  await live.refresh(parts);
}

/** Everything that the key opens. */
async function open() {
  at("sign-out").hidden = false;
  live.askInfo();
  await refresh(live.ALL);
  queue.flush();
}

function askForKey() {
  signIn.ask(open, { mayWait: device.key() !== null });
}

function keepFresh() {
  setInterval(() => document.hidden || api.state.isLocked || refresh(live.NOW), MINUTE);
  setInterval(() => document.hidden || !api.state.isDown || refresh(live.NOW), RETRY);
  document.addEventListener("visibilitychange", () => document.hidden || api.state.isLocked || refresh(live.ALL));
}

now.start();
log.start();
strip.start({
  signIn: askForKey,
  retry: () => Promise.all([queue.flush(), refresh(live.ALL)]),
  look: () => at("history-title").focus(),
});
at("sign-out").addEventListener("click", signIn.signOut);
api.onState(({ isLocked }) => isLocked && askForKey());
queue.onArrival(() => refresh(live.ALL));
queue.onUndone(() => refresh(live.ALL));
queue.start();
live.recall();
keepFresh();
if (device.key()) open();
else askForKey();
