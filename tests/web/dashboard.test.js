// How the dashboard looks and what it weighs: on every screen, light and dark, empty, with one entry, full.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { DEMO, accessibilityFaults, picture, scenario, startServer, widthBeyondTheWindow } from "./helpers.js";
import { becomes, open, seeAll } from "./person.js";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
const page = readFileSync(join(STATIC, "index.html"), "utf8");
const named = [...new Set([...page.matchAll(/(?:src|href)="(\/[^"#]*\.(?:js|css|svg|webmanifest))"/g)].map(([, path]) => path))].sort();

test("the page names every module, so that all are asked for at once and kept for a start without a connection", () => {
  const modules = readdirSync(join(STATIC, "app"), { recursive: true }).filter((name) => name.endsWith(".js"));
  const imported = named.filter((path) => path.startsWith("/static/app/"));
  assert.ok(modules.length > 10);
  assert.deepEqual(imported, modules.map((name) => `/static/app/${name}`).sort());
});

/** Bytes of a body as a browser gets it. */
const weigh = (url) =>
  new Promise((resolve, reject) => {
    get(url, { headers: { "Accept-Encoding": "gzip", Accept: "text/html,*/*" } }, (reply) => {
      let bytes = 0;
      reply.on("data", (chunk) => (bytes += chunk.length));
      reply.on("end", () => (reply.statusCode === 200 ? resolve(bytes) : reject(new Error(`${url}: ${reply.statusCode}`))));
    }).on("error", reject);
  });

test("all of the dashboard, uPlot and the service worker too, is at most 60 KB", { timeout: 60_000 }, async () => {
  const server = await startServer();
  try {
    const sizes = await Promise.all(["/", "/sw.js", ...named].map((path) => weigh(server.url + path)));
    const total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    console.log(`the dashboard: ${total} bytes in ${sizes.length} files`);
    assert.ok(total > 30_000 && total <= 60_000, `${total} bytes`);
  } finally {
    await server.stop();
  }
});

for (const colorScheme of ["light", "dark"]) {
  for (const [screen, person] of [["wide", DEMO], ["phone", DEMO], ["narrow", DEMO], ["phone", null], ["wide", null]]) {
    const name = `${screen}-${colorScheme}-${person ? "full" : "empty"}`;
    scenario(`the dashboard reads well: ${name}`, { colorScheme, screen, person }, async ({ page, server }) => {
      await open(page, server);
      await seeAll(page);
      await picture(page, `dashboard/${name}`);
      assert.equal(await widthBeyondTheWindow(page), 0, "nothing is wider than the window");
      assert.equal(await accessibilityFaults(page), "");
    });
  }
}

scenario("the dashboard reads well: one entry of each kind, and every table open", { screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso" });
  await server.api("POST", "/heartrate/", { bpm: 64 });
  await open(page, server);
  await seeAll(page);
  await picture(page, "dashboard/phone-one-entry");
  for (const summary of await page.locator(".twin summary").all()) await summary.click();
  await becomes(() => page.locator(".twin table").count(), 4);
  await picture(page, "dashboard/phone-tables");
  assert.equal(await widthBeyondTheWindow(page), 0);
  assert.equal(await accessibilityFaults(page), "");
});

scenario("the dashboard fills a wall display", { screen: "huge", person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  await picture(page, "dashboard/huge", { whole: false });
  const width = await page.locator(".dashboard").evaluate((element) => element.clientWidth);
  assert.ok(width > 2000, `${width} pixels of 3840`);
  assert.equal(await widthBeyondTheWindow(page), 0);
});

scenario("nothing jumps while it loads", { screen: "phone", person: DEMO }, async ({ page, server }) => {
  await page.addInitScript(() => {
    window.shifts = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await open(page, server);
  await seeAll(page);
  const shifts = await page.evaluate(() => window.shifts);
  console.log(`cumulative layout shift: ${shifts.toFixed(4)}`);
  assert.ok(shifts < 0.1, `cumulative layout shift ${shifts}`);
});
