// Service worker: caches one complete version of the dashboard and replaces it with the next.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";

import { open, waitUntilEqual } from "./actions.js";
import { browserTest } from "./helpers.js";
import { UNREACHABLE } from "./network.js";

/** Starts a proxy that serves a changed file once `upgrade` was called. */
async function startProxy(server) {
  let isNew = false;
  const proxy = createServer((incoming, outgoing) => {
    const headers = { ...incoming.headers, "accept-encoding": "identity" };
    if (isNew) delete headers["if-none-match"];
    const upstream = request(server.url + incoming.url, { method: incoming.method, headers }, async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      const isChanged = isNew && incoming.url === "/static/app/format.js";
      const body = Buffer.concat([...parts, Buffer.from(isChanged ? "\ndocument.documentElement.dataset.version = 2;\n" : "")]);
      const tag = isChanged ? { etag: '"another-version"' } : {};
      outgoing.writeHead(response.statusCode, { ...response.headers, ...tag, "content-length": body.length });
      outgoing.end(body);
    });
    upstream.on("error", () => outgoing.destroy());
    incoming.pipe(upstream);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    upgrade: () => (isNew = true),
    stop() {
      proxy.closeAllConnections();
      return new Promise((resolve) => proxy.close(resolve));
    },
  };
}

const version = (page) => page.evaluate(() => document.documentElement.dataset.version ?? "1");
/** Returns the number of cached files, and whether they are of the new version. */
const cachedFiles = (page) =>
  page.evaluate(async () => {
    const cache = await caches.open("coffee-shell");
    const module = await cache.match("/static/app/format.js", { ignoreVary: true });
    return [(await cache.keys()).length, Boolean(module && (await module.text()).includes("version = 2"))];
  });

browserTest("a new version is cached after a start, and shown at the next one, also offline", {
  serviceWorkers: "allow",
  expected: [/^request to http:\/\/127\.0\.0\.1/, ...UNREACHABLE],
}, async ({ page, server }) => {
  const proxy = await startProxy(server);
  try {
    await open(page, proxy);
    const pages = await Promise.all(["/", "/settings"].map(async (path) => (await fetch(server.url + path, { headers: { Accept: "text/html" } })).text()));
    const references = pages.flatMap((html) => [...html.matchAll(/(?:src|href)="(\/static\/[^"]+|\/manifest[^"]+)"/g)].map(([, path]) => path));
    const files = new Set(references).size + pages.length;
    assert.ok(files > 40);
    await waitUntilEqual(() => cachedFiles(page), [files, false]);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => null));
    proxy.upgrade();
    await page.reload();
    await page.locator("#today-total", { hasText: "mg" }).waitFor();
    assert.equal(await version(page), "1", "the cached version starts at once");
    await waitUntilEqual(() => cachedFiles(page), [files, true]);
  } finally {
    await proxy.stop();
  }
  await page.reload();
  await page.locator("#banner", { hasText: "Can't reach the server." }).waitFor();
  await waitUntilEqual(() => version(page), "2");
  // Every section of the settings is the same page.
  for (const path of ["/settings", "/settings/you"]) {
    await page.goto(proxy.url + path);
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
    await waitUntilEqual(() => version(page), "2");
  }
});
