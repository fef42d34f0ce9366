// Service worker: caches the files of the dashboard, so that it starts at once, also without a connection. The
// cache is updated after each start: a new version is shown at the start after that. API requests are not
// intercepted: the offline queue handles them.

const CACHE = "coffee-shell";
/** Delay of the update after a start, so that it does not slow down the page's own requests, in ms. */
const UPDATE_DELAY = 5000;

let currentUpdate = null;

/** Without `Accept: text/html`, `/` returns JSON. */
const shellRequest = (path) => new Request(path, { cache: "no-cache", redirect: "error", headers: path === "/" ? { Accept: "text/html" } : {} });

/** Caches the page and every file it references, all of one version, and removes other files. */
async function cacheShell() {
  const page = await (await fetch(shellRequest("/"))).text();
  // A proxy may return its sign-in page instead, or redirect to it.
  if (!page.includes('"/static/app/main.js"')) throw new Error("not the dashboard");
  const references = [...page.matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g)];
  const paths = ["/", ...new Set(references.map(([, path]) => path))];
  const cache = await caches.open(CACHE);
  await cache.addAll(paths.map(shellRequest));
  for (const request of await cache.keys()) if (!paths.includes(new URL(request.url).pathname)) await cache.delete(request);
}

/** Updates the cache a while later, unless that is in progress. */
function updateCache() {
  currentUpdate ??= new Promise((resolve) => setTimeout(resolve, UPDATE_DELAY)).then(cacheShell).catch(() => {}).finally(() => (currentUpdate = null));
  return currentUpdate;
}

async function respond(request, path) {
  const cached = await (await caches.open(CACHE)).match(path, { ignoreVary: true });
  return cached ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(cacheShell().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { origin, pathname, search } = new URL(event.request.url);
  const isShell = pathname === "/" || pathname === "/manifest.webmanifest" || pathname.startsWith("/static/");
  if (event.request.method !== "GET" || origin !== location.origin || !isShell || search === "?sign-in") return;
  event.respondWith(respond(event.request, pathname));
  if (pathname === "/") event.waitUntil(updateCache());
});
