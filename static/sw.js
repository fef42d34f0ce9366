// Service worker: caches the files of the dashboard, so that it starts without a connection. Network first:
// the server is usually near and may have been upgraded; the cache is used if it does not respond in time.
// API requests are not intercepted: the offline queue handles them.

const CACHE = "coffee-shell";
/** Time to wait for the network before the cache is used, in ms. */
const NETWORK_TIMEOUT = 2500;
/** After a timeout, the network is skipped for the other files of the same page load, in ms. */
const OFFLINE_PAUSE = 10_000;

let offlineUntil = 0;
let currentUpdate = null;

/** Without `Accept: text/html`, `/` returns JSON. */
const shellRequest = (path) => new Request(path, { cache: "no-cache", headers: path === "/" ? { Accept: "text/html" } : {} });

/** Caches the page and every file it references, all of one version, and removes other files. */
async function cacheShell() {
  const page = await (await fetch(shellRequest("/"))).text();
  const references = [...page.matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g)];
  const paths = ["/", ...new Set(references.map(([, path]) => path))];
  const cache = await caches.open(CACHE);
  await cache.addAll(paths.map(shellRequest));
  for (const request of await cache.keys()) if (!paths.includes(new URL(request.url).pathname)) await cache.delete(request);
}

function updateCache() {
  currentUpdate ??= cacheShell().catch(() => {}).finally(() => (currentUpdate = null));
  return currentUpdate;
}

async function respond(event, path) {
  const cached = await (await caches.open(CACHE)).match(path, { ignoreVary: true });
  if (!cached) return fetch(event.request);
  // Vendored files have their version in the path and never change.
  if (path.startsWith("/static/vendor/") || Date.now() < offlineUntil) return cached;
  try {
    const timeout = new Promise((_, reject) => setTimeout(reject, NETWORK_TIMEOUT));
    const response = await Promise.race([fetch(shellRequest(path)), timeout]);
    if (!response.ok) return cached;
    if (response.headers.get("ETag") !== cached.headers.get("ETag")) event.waitUntil(updateCache());
    return response;
  } catch {
    offlineUntil = Date.now() + OFFLINE_PAUSE;
    return cached;
  }
}

self.addEventListener("install", (event) => event.waitUntil(cacheShell().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const isShell = pathname === "/" || pathname === "/manifest.webmanifest" || pathname.startsWith("/static/");
  if (event.request.method === "GET" && origin === location.origin && isShell) event.respondWith(respond(event, pathname));
});
