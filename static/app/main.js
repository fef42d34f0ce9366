// Entry point of the dashboard. The sign-in dialog can be used before the rest is loaded, which takes a while on a
// slow connection.

import * as session from "./session.js";
import { openSignIn, startByProxy, takeLinkedKey } from "./sign-in.js";

/** Delay of the service worker, in ms. */
const WORKER_DELAY = 5000;

const app = import("./app.js");
const linkedKey = session.isSignedIn() ? null : takeLinkedKey();
const needsKey = !session.isSignedIn() && (linkedKey !== null || !(await startByProxy()));
const isSignedIn = session.isSignedIn();
if (needsKey) openSignIn(async () => (await app).onSignedIn(), false, linkedKey);
const { start } = await app;
start(isSignedIn);
// Service workers exist only in secure contexts. Caching must not slow down the first start.
setTimeout(() => navigator.serviceWorker?.register("/sw.js").catch(() => {}), WORKER_DELAY);
