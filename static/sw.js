// The service worker: keeps what the dashboard needs to start, so that it starts without a connection. The
// network comes first, since a server at home is near and may have been upgraded; what it does not answer in
// time comes from here. The API never passes through: what waits to be sent is the page's business.

const CACHE = "coffee-shell";
/** How long the network may take, in ms: away from home nobody says that the server is not there. */
const PATIENCE = 2500;
/** After it took longer, it is not asked for the other files of that start. */
const PAUSE = 10_000;

let pausedUntil = 0;

/** A page is asked for as browsers do: everybody else gets JSON at `/`. */
const request = (path) => new Request(path, { cache: "no-cache", headers: path === "/" ? { Accept: "text/html" } : {} });

async function fromNetwork(path) {
  const answer = await fetch(request(path));
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

/** Keeps the page and every file that it names, and nothing else. */
async function keepAll() {
  const page = await fromNetwork("/");
  const named = [...(await page.clone().text()).matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g)];
  const paths = [...new Set(named.map(([, path]) => path))];
  const files = await Promise.all(paths.map(fromNetwork));
  await caches.delete(CACHE);
  const cache = await caches.open(CACHE);
  await Promise.all([cache.put("/", page), ...paths.map((path, n) => cache.put(path, files[n]))]);
}

async function answer(path) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(path, { ignoreVary: true });
  if (!kept) return fetch(request(path));
  if (Date.now() < pausedUntil) return kept;
  try {
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    const fresh = await Promise.race([fromNetwork(path), late]);
    await cache.put(path, fresh.clone());
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
  if (event.request.method === "GET" && origin === location.origin && isShell) event.respondWith(answer(pathname));
});
