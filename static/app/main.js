// Entry point of the dashboard. The sign-in dialog can be used before the rest is loaded, which takes a while on a
// slow connection.

import * as session from "./session.js";
import { openSignIn, takeLinkedKey } from "./sign-in.js";

/** Delay of the service worker, in ms. */
const WORKER_DELAY = 5000;

const isSignedIn = session.key() !== null;
const app = import("./app.js");
if (!isSignedIn) openSignIn(async () => (await app).onSignedIn(), false, takeLinkedKey());
const { start } = await app;
start(isSignedIn);
// Service workers exist only in secure contexts. Caching must not slow down the first start.
setTimeout(() => navigator.serviceWorker?.register("/sw.js").catch(() => {}), WORKER_DELAY);
