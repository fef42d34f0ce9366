// What the service worker keeps: one whole version of the dashboard, and the next one once there is one.

import { createServer, request } from "node:http";

import { AWAY } from "./away.js";
import { scenario } from "./helpers.js";
import { becomes, open } from "./person.js";

/** Stands before a server, and hands out another version of the program once `upgrade` was called. */
async function beforeTheServer(server) {
  let isNew = false;
  const proxy = createServer((asked, reply) => {
    const headers = { ...asked.headers, "accept-encoding": "identity" };
    if (isNew) delete headers["if-none-match"];
    const passed = request(server.url + asked.url, { method: asked.method, headers }, async (answer) => {
      const parts = [];
      for await (const part of answer) parts.push(part);
      const isChanged = isNew && asked.url === "/static/app/format.js";
      const body = Buffer.concat([...parts, Buffer.from(isChanged ? "\ndocument.documentElement.dataset.version = 2;\n" : "")]);
      const tag = isChanged ? { etag: '"of-another-version"' } : {};
      reply.writeHead(answer.statusCode, { ...answer.headers, ...tag, "content-length": body.length });
      reply.end(body);
    });
    passed.on("error", () => reply.destroy());
    asked.pipe(passed);
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
/** Does what is kept hold the new version? And how many files are they? */
const kept = (page) =>
  page.evaluate(async () => {
    const cache = await caches.open("coffee-shell");
    const module = await cache.match("/static/app/format.js", { ignoreVary: true });
    return [(await cache.keys()).length, Boolean(module && (await module.text()).includes("version = 2"))];
  });

scenario("another version of the program is there at the next start, and at the one without a server too", {
  serviceWorkers: "allow",
  expected: [/^asked http:\/\/127\.0\.0\.1/, ...AWAY],
}, async ({ page, server }) => {
  const proxy = await beforeTheServer(server);
  try {
    await open(page, proxy);
    const files = await page.evaluate(() => new Set([...document.querySelectorAll("[src^='/static'], link[href]")].map((one) => one.getAttribute("src") ?? one.getAttribute("href"))).size);
    await becomes(() => kept(page), [files + 1, false]);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => null));
    proxy.upgrade();
    await page.reload();
    await page.locator("#today-total", { hasText: "mg" }).waitFor();
    await becomes(() => version(page), "2");
    await becomes(() => kept(page), [files + 1, true]);
  } finally {
    await proxy.stop();
  }
  await page.reload();
  await page.locator("#strip", { hasText: "The server does not answer." }).waitFor();
  await becomes(() => version(page), "2");
});
