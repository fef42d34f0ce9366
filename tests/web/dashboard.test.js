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

for (const screen of ["wide", "phone", "narrow"]) {
  scenario(`nothing jumps while it loads: ${screen}`, { screen, person: DEMO }, async ({ page, server }) => {
    await page.addInitScript(() => {
      window.shifts = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await open(page, server);
    await seeAll(page);
    const shifts = await page.evaluate(() => window.shifts);
    console.log(`cumulative layout shift, ${screen}: ${shifts.toFixed(4)}`);
    assert.ok(shifts < 0.025, `cumulative layout shift ${shifts}`);
  });
}

/** What a finger is to hit, with its size where that is less than 44 pixels. */
const smallTargets = (page) =>
  page.evaluate(() => {
    const hit = document.querySelectorAll("button, input, select, textarea, summary, .topbar a");
    // Of a chip, its label.
    const area = (element) => (element.type === "radio" ? element.parentElement : element.type === "checkbox" ? element.closest("label") : element);
    const sizes = [...hit].filter((element) => element.checkVisibility()).map((element) => [element, area(element).getBoundingClientRect()]);
    const small = sizes.filter(([, { width, height }]) => width < 44 || height < 44);
    return { count: sizes.length, small: small.map(([element, { width, height }]) => `${element.outerHTML.slice(0, 80)}: ${width}x${height}`) };
  });

for (const screen of ["phone", "narrow"]) {
  scenario(`a finger hits everything: ${screen}`, { screen, person: DEMO, hasTouch: true, isMobile: true }, async ({ page, server }) => {
    await page.goto(server.url);
    await page.getByLabel("This server's API key").waitFor();
    assert.deepEqual((await smallTargets(page)).small, []);
    await open(page, server);
    await seeAll(page);
    await page.getByText("Something else").tap();
    await page.getByRole("radio", { name: "Other" }).check();
    const { count, small } = await smallTargets(page);
    assert.ok(count > 50, `${count} looked at`);
    assert.deepEqual(small, []);
    await page.getByRole("button", { name: /^Change/ }).first().tap();
    await page.getByRole("dialog").waitFor();
    await picture(page, `dashboard/${screen}-edit`, { whole: false });
    assert.deepEqual((await smallTargets(page)).small, []);
  });
}

scenario("a hundred thousand coffees are no more to carry than a hundred", { person: { days: 3650, "coffees-per-day": 27.4, "readings-per-day": 0 } }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  await picture(page, "dashboard/wide-100000");
  await page.getByRole("button", { name: "Load more" }).click();
  await becomes(() => page.locator("#history-list .entry").count(), 42);
  const { body: oldest } = await server.api("GET", "/coffee/?until=2019-12-31T23:00:00Z&limit=12");
  await page.locator("#history-filter").getByLabel("To").fill("2019-12-31");
  await page.locator("#history-filter").getByLabel("To").blur();
  const times = () => page.locator("#history-list time").evaluateAll((all) => all.map((one) => one.getAttribute("datetime")));
  assert.equal(oldest.length, 12);
  await becomes(times, oldest.map((coffee) => coffee.timestamp));
  assert.equal(await widthBeyondTheWindow(page), 0);
});

scenario("readings far apart are drawn as a line, and a long gap as one", { screen: "wide" }, async ({ page, server }) => {
  // Every twenty minutes, but for six hours in the middle.
  const readings = [...Array(70).keys()].filter((n) => n < 26 || n > 43).map((n) => ({ bpm: 70, timestamp: new Date(Date.now() - (n + 0.5) * 1_200_000).toISOString() }));
  await server.api("POST", "/heartrate/batch", { readings });
  await open(page, server);
  await page.getByText(`${readings.length} readings`).waitFor();
  // In which columns of the plot, in hundredths of its width, there is anything of the line's colour.
  const drawn = await page.locator("#heart-plot canvas").evaluate((canvas) => {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const columns = new Set();
    for (let n = 0; n < pixels.length; n += 4) if (pixels[n] > 150 && pixels[n + 1] < 80 && pixels[n + 2] < 110 && pixels[n + 3] > 200) columns.add(Math.floor((100 * ((n / 4) % width)) / width));
    return [...columns].sort((a, b) => a - b);
  });
  const gap = drawn.slice(1).map((column, n) => column - drawn[n]);
  assert.ok(drawn.length > 55, `columns ${drawn}`);
  assert.deepEqual(gap.filter((step) => step > 2).length, 1, `columns ${drawn}`);
});
