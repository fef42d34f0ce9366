// Start of a page. The sign-in dialog can be used before the rest of the page is loaded, which takes a while on a slow
// connection.

import * as session from "./session.js";
import { openSignIn, startByProxy, takeLink } from "./sign-in.js";

/** Delay of the service worker, in ms. */
const WORKER_DELAY = 5000;

/** Starts a page. `loading` is the promise of its module, with `start` and `onSignedIn`. */
export async function startPage(loading) {
  const link = session.isSignedIn() ? null : takeLink();
  const needsKey = !session.isSignedIn() && (link !== null || !(await startByProxy()));
  const isSignedIn = session.isSignedIn();
  if (needsKey) openSignIn(async () => (await loading).onSignedIn(), { link });
  const { start } = await loading;
  start(isSignedIn);
  // Service workers exist only in secure contexts. Caching must not slow down the first start.
  setTimeout(() => navigator.serviceWorker?.register("/sw.js").catch(() => {}), WORKER_DELAY);
}
