// Service worker: caches the files of the dashboard and the settings, so that they start at once, also without a
// connection. The cache is updated after each start: a new version is shown at the start after that. API requests are
// not intercepted: the offline queue handles them.

const CACHE = "coffee-shell";
/** Delay of the update after a start, so that it does not slow down the page's own requests, in ms. */
const UPDATE_DELAY = 5000;

/** The pages, with the entry point by which they are recognized: a proxy may return its sign-in page instead. */
const PAGES = { "/": '"/static/app/main.js"', "/settings": '"/static/settings/main.js"' };

let currentUpdate = null;

/** Without `Accept: text/html`, `/` returns JSON. */
const shellRequest = (path) => new Request(path, { cache: "no-cache", redirect: "error", headers: path === "/" ? { Accept: "text/html" } : {} });

/** Returns the page's path and those of every file that it references. */
async function pathsOf(path) {
  const page = await (await fetch(shellRequest(path))).text();
  if (!page.includes(PAGES[path])) throw new Error(`not the page ${path}`);
  const references = page.matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g);
  return [path, ...[...references].map(([, reference]) => reference)];
}

/** Caches the pages and every file they reference, all of one version, and removes other files. */
async function cacheShell() {
  const paths = [...new Set((await Promise.all(Object.keys(PAGES).map(pathsOf))).flat())];
  const cache = await caches.open(CACHE);
  await cache.addAll(paths.map(shellRequest));
  for (const request of await cache.keys()) if (!paths.includes(new URL(request.url).pathname)) await cache.delete(request);
}

/** Updates the cache a while later, unless that is in progress. */
function updateCache() {
  currentUpdate ??= new Promise((resolve) => setTimeout(resolve, UPDATE_DELAY)).then(cacheShell).catch(() => {}).finally(() => (currentUpdate = null));
  return currentUpdate;
}

/** Returns the path of the page that is shown at an address. All sections of the settings are the same page. */
const pageAt = (pathname) => (/^\/settings(\/\w*)?$/.test(pathname) ? "/settings" : pathname);

async function respond(request, path) {
  const cached = await (await caches.open(CACHE)).match(path, { ignoreVary: true });
  return cached ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(cacheShell().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { origin, pathname, search } = new URL(event.request.url);
  const path = pageAt(pathname);
  const isShell = path in PAGES || path === "/manifest.webmanifest" || path.startsWith("/static/");
  if (event.request.method !== "GET" || origin !== location.origin || !isShell || search === "?sign-in") return;
  event.respondWith(respond(event.request, path));
  if (path in PAGES) event.waitUntil(updateCache());
});
