// The service worker: keeps what the dashboard needs to start, so that it starts without a connection. The
// network comes first, since a server at home is near and may have been upgraded; what it does not answer in
// time comes from here. The API never passes through: what waits to be sent is the page's business.

const CACHE = "coffee-shell";
/** How long the network may take, in ms: away from home nobody says that the server is not there. */
const PATIENCE = 2500;
/** After it took longer, it is not asked for the other files of that start. */
const PAUSE = 10_000;

let pausedUntil = 0;
let renewing = null;

/** A page is asked for as browsers do: everybody else gets JSON at `/`. */
const request = (path) => new Request(path, { cache: "no-cache", headers: path === "/" ? { Accept: "text/html" } : {} });

/** Keeps the page and every file that it names, all of one version or as it was, and nothing else. */
async function keepAll() {
  const page = await (await fetch(request("/"))).text();
  const named = [...page.matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g)];
  const paths = ["/", ...new Set(named.map(([, path]) => path))];
  const cache = await caches.open(CACHE);
  await cache.addAll(paths.map(request));
  for (const kept of await cache.keys()) if (!paths.includes(new URL(kept.url).pathname)) await cache.delete(kept);
}

function renew() {
  renewing ??= keepAll().catch(() => {}).finally(() => (renewing = null));
  return renewing;
}

async function answer(event, path) {
  const kept = await (await caches.open(CACHE)).match(path, { ignoreVary: true });
  if (!kept) return fetch(event.request);
  // Another version of these has another path.
  if (path.startsWith("/static/vendor/") || Date.now() < pausedUntil) return kept;
  try {
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    const fresh = await Promise.race([fetch(request(path)), late]);
    if (!fresh.ok) return kept;
    if (fresh.headers.get("ETag") !== kept.headers.get("ETag")) event.waitUntil(renew());
    return fresh;
  } catch {
    pausedUntil = Date.now() + PAUSE;
    return kept;
  }
}

self.addEventListener("install", (event) => event.waitUntil(keepAll().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const isShell = pathname === "/" || pathname === "/manifest.webmanifest" || pathname.startsWith("/static/");
  if (event.request.method === "GET" && origin === location.origin && isShell) event.respondWith(answer(event, pathname));
});
