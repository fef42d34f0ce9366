// Layout, accessibility and size of the dashboard: on every screen, light and dark, with and without data.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { DEMO, accessibilityViolations, browserTest, horizontalOverflow, screenshot, startServer } from "./helpers.js";
import { loadAllSections, open, waitUntilEqual } from "./actions.js";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
const page = readFileSync(join(STATIC, "index.html"), "utf8");
const named = [...new Set([...page.matchAll(/(?:src|href)="(\/[^"#]*\.(?:js|css|svg|webmanifest))"/g)].map(([, path]) => path))].sort();

test("index.html names every module, so that all are cached for offline use", () => {
  const modules = readdirSync(join(STATIC, "app"), { recursive: true }).filter((name) => name.endsWith(".js"));
  const imported = named.filter((path) => path.startsWith("/static/app/"));
  assert.ok(modules.length > 10);
  assert.deepEqual(imported, modules.map((name) => `/static/app/${name}`).sort());
});

/** As many connections as browsers open. */
const agent = new Agent({ keepAlive: true, maxSockets: 6 });

/** Returns the bytes of a response body compressed with gzip. */
const compressedSize = (url) =>
  new Promise((resolve, reject) => {
    get(url, { agent, headers: { "Accept-Encoding": "gzip", Accept: "text/html,*/*" } }, (reply) => {
      let bytes = 0;
      reply.on("data", (chunk) => (bytes += chunk.length));
      reply.on("end", () => (reply.statusCode === 200 ? resolve(bytes) : reject(new Error(`${url}: ${reply.statusCode}`))));
    }).on("error", reject);
  });

test("the dashboard, with uPlot and the service worker, is at most 150 KB compressed", { timeout: 60_000 }, async () => {
  const server = await startServer();
  try {
    const sizes = await Promise.all(["/", "/sw.js", ...named].map((path) => compressedSize(server.url + path)));
    const total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    console.log(`the dashboard: ${total} bytes in ${sizes.length} files`);
    assert.ok(total > 30_000 && total <= 150_000, `${total} bytes`);
  } finally {
    agent.destroy();
    await server.stop();
  }
});

for (const colorScheme of ["light", "dark"]) {
  for (const [screen, sampleData] of [["wide", DEMO], ["phone", DEMO], ["narrow", DEMO], ["phone", null], ["wide", null]]) {
    const name = `${screen}-${colorScheme}-${sampleData ? "full" : "empty"}`;
    browserTest(`the dashboard is accessible and fits the window: ${name}`, { colorScheme, screen, sampleData }, async ({ page, server }) => {
      await open(page, server);
      await loadAllSections(page);
      await screenshot(page, `dashboard/${name}`);
      assert.equal(await horizontalOverflow(page), 0, "nothing is wider than the window");
      assert.equal(await accessibilityViolations(page), "");
    });
  }
}

browserTest("the dashboard is accessible and fits the window: one entry of each kind, every table open", { screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso" });
  await server.api("POST", "/heartrate/", { bpm: 64 });
  await open(page, server);
  await loadAllSections(page);
  await screenshot(page, "dashboard/phone-one-entry");
  for (const summary of await page.locator("main > :not(#day) .data-table summary").all()) await summary.click();
  await waitUntilEqual(() => page.locator(".data-table table").count(), 7);
  await screenshot(page, "dashboard/phone-tables");
  assert.equal(await horizontalOverflow(page), 0);
  assert.equal(await accessibilityViolations(page), "");
});

for (const screen of ["wide", "phone", "narrow"]) {
  for (const colorScheme of ["light", "dark"]) {
    const name = `${screen}-${colorScheme}-forced`;
    browserTest(`the dashboard is accessible in forced colors: ${name}`, { forcedColors: "active", colorScheme, screen, sampleData: DEMO }, async ({ page, server }) => {
      await open(page, server);
      await loadAllSections(page);
      await screenshot(page, `dashboard/${name}`);
      assert.equal(await horizontalOverflow(page), 0, "nothing is wider than the window");
      assert.equal(await accessibilityViolations(page), "");
      // What only a background shows must keep it: the chosen chip, the bars and the meter.
      const background = (selector) => page.locator(selector).first().evaluate((element) => getComputedStyle(element).backgroundColor);
      const canvas = await background("body");
      for (const selector of [".chips input:checked + span", "#week-bars .bar", "#today-meter span", "#trend-late-chart span"]) assert.notEqual(await background(selector), canvas, selector);
    });
  }
}

browserTest("the theme and the time format are chosen, kept, and followed by other windows", { timezone: "Europe/Berlin", colorScheme: "light" }, async ({ page, server, context }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso", timestamp: "2026-03-01T13:30:00Z" });
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  const [time, background] = [() => page.locator("#history-list time").innerText(), (window = page) => window.evaluate(() => getComputedStyle(document.body).backgroundColor)];
  await waitUntilEqual(time, "14:30");
  const [light, dark] = ["rgb(250, 246, 240)", "rgb(22, 17, 13)"];
  const other = await context.newPage();
  await other.goto(`${server.url}/docs`);
  await page.getByLabel("Theme").selectOption("Dark");
  await waitUntilEqual(background, dark);
  await waitUntilEqual(() => background(other), dark);
  await page.getByLabel("Time format").selectOption("12 hours");
  await waitUntilEqual(time, "2:30 pm");
  await page.reload();
  assert.equal(await background(), dark);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await waitUntilEqual(time, "2:30 pm");
  await page.getByLabel("Theme").selectOption("System");
  await waitUntilEqual(background, light);
});

browserTest("the dashboard uses the width of a very large screen", { screen: "huge", sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  await screenshot(page, "dashboard/huge", { fullPage: false });
  const width = await page.locator(".dashboard").evaluate((element) => element.clientWidth);
  assert.ok(width > 2000, `${width} pixels of 3840`);
  assert.equal(await horizontalOverflow(page), 0);
});

/** Delays API responses until the page has painted without them, so that content they move counts as a layout shift. */
const respondAfterPaint = (page) =>
  page.route(/\/(coffee|heartrate)\//, async (route) => {
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await route.continue();
  });

for (const screen of ["wide", "phone", "narrow"]) {
  for (const sampleData of [DEMO, null]) {
    browserTest(`the layout does not shift while data loads: ${screen}, ${sampleData ? "full" : "empty"}`, { screen, sampleData }, async ({ page, server }) => {
      await page.addInitScript(() => {
        window.shift = 0;
        window.moved = [];
        new PerformanceObserver((list) => {
          for (const { value, hadRecentInput, sources } of list.getEntries()) {
            if (hadRecentInput) continue;
            window.shift += value;
            for (const { node, previousRect, currentRect } of sources) window.moved.push(`${node?.id || node?.className || node?.nodeName}: ${previousRect.y} to ${currentRect.y}, ${value.toFixed(4)}`);
          }
        }).observe({ type: "layout-shift", buffered: true });
      });
      await respondAfterPaint(page);
      await open(page, server);
      await loadAllSections(page);
      const shift = await page.evaluate(() => window.shift);
      console.log(`cumulative layout shift, ${screen}: ${shift.toFixed(4)}`);
      assert.ok(shift < 0.02, `cumulative layout shift ${shift}: ${(await page.evaluate(() => window.moved)).join("; ")}`);
    });
  }
}

/** Returns the number of touch targets, and those smaller than 44 pixels. */
const smallTouchTargets = (page) =>
  page.evaluate(() => {
    const hit = document.querySelectorAll("button, input, select, textarea, summary, .topbar a");
    // Chips are clicked on their label.
    const area = (element) => (element.type === "radio" ? element.parentElement : element.type === "checkbox" ? element.closest("label") : element);
    const sizes = [...hit].filter((element) => element.checkVisibility()).map((element) => [element, area(element).getBoundingClientRect()]);
    const small = sizes.filter(([, { width, height }]) => width < 44 || height < 44);
    return { count: sizes.length, small: small.map(([element, { width, height }]) => `${element.outerHTML.slice(0, 80)}: ${width}x${height}`) };
  });

for (const screen of ["phone", "narrow"]) {
  browserTest(`touch targets are at least 44 pixels: ${screen}`, { screen, sampleData: DEMO, hasTouch: true, isMobile: true }, async ({ page, server }) => {
    await page.goto(server.url);
    await page.getByLabel("API key").waitFor();
    assert.deepEqual((await smallTouchTargets(page)).small, []);
    await open(page, server);
    await loadAllSections(page);
    await page.getByText("Custom drink").tap();
    await page.getByRole("radio", { name: "Other" }).check();
    const { count, small } = await smallTouchTargets(page);
    assert.ok(count > 50, `${count} looked at`);
    assert.deepEqual(small, []);
    await page.getByRole("button", { name: /^Edit/ }).first().tap();
    await page.getByRole("dialog").waitFor();
    await screenshot(page, `dashboard/${screen}-edit`, { fullPage: false });
    assert.deepEqual((await smallTouchTargets(page)).small, []);
  });
}

browserTest("the dashboard works with 100,000 coffees", {
  timezone: "Europe/Berlin",
  sampleData: { days: 3650, "coffees-per-day": 27.4, "readings-per-day": 0 },
}, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  await screenshot(page, "dashboard/wide-100000");
  await page.getByRole("button", { name: "Load more" }).click();
  await waitUntilEqual(() => page.locator("#history-list .entry").count(), 42);
  const { body: oldest } = await server.api("GET", "/coffee/?until=2019-12-31T23:00:00Z&limit=12");
  await page.locator("#history-filter").getByLabel("To").fill("2019-12-31");
  await page.locator("#history-filter").getByLabel("To").blur();
  const times = () => page.locator("#history-list time").evaluateAll((elements) => elements.map((element) => element.getAttribute("datetime")));
  assert.equal(oldest.length, 12);
  await waitUntilEqual(times, oldest.map((coffee) => coffee.timestamp));
  assert.equal(await horizontalOverflow(page), 0);
});

browserTest("sparse readings are drawn as one line, interrupted only by a long gap", { screen: "wide" }, async ({ page, server }) => {
  // Every 20 minutes, except for six hours in the middle.
  const readings = [...Array(70).keys()].filter((n) => n < 26 || n > 43).map((n) => ({ bpm: 70, timestamp: new Date(Date.now() - (n + 0.5) * 1_200_000).toISOString() }));
  await server.api("POST", "/heartrate/batch", { readings });
  await open(page, server);
  await page.getByText(`${readings.length} readings`).waitFor();
  // The columns, in percent of the chart's width, that contain a pixel in the line's color.
  const drawn = await page.locator("#heart-chart canvas").evaluate((canvas) => {
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

browserTest("the card of the heart rate names its sources with the age of their newest reading", { screen: "wide" }, async ({ page, server }) => {
  const sample = (bpm, hours, source) => ({ Avg: bpm, date: new Date(Date.now() - hours * 3_600_000 - 5000).toISOString(), source });
  const push = (samples) => server.api("POST", "/ingest/health-auto-export", { data: { metrics: [{ name: "heart_rate", units: "bpm", data: samples }] } });
  await push([sample(61, 3, "Ada’s Apple Watch"), sample(62, 30, "Strap")]);
  await open(page, server);
  await page.locator("#heart-sources").getByText("From Ada’s Apple Watch, 3 h ago · Strap, 30 h ago").waitFor();
  await push([sample(63, 0.2, "<b>Ring"), sample(64, 100, "Old phone")]);
  await page.reload();
  await page.locator("#heart-sources").getByText("From <b>Ring, 12 min ago · Ada’s Apple Watch, 3 h ago · Strap, 30 h ago · 1 more").waitFor();
  assert.equal(await horizontalOverflow(page), 0);
});

browserTest("on a narrow phone the keyboard focus is never below the sticky header", { screen: "narrow", sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const covered = [];
  // Backwards from the end, so that the page scrolls up and each element arrives at the top.
  await page.locator("#settings select").last().focus();
  for (let n = 0; n < 250; n += 1) {
    await page.keyboard.press("Shift+Tab");
    const [description, top, bottom, isAtStart] = await page.evaluate(() => {
      const element = document.activeElement;
      const target = element.type === "radio" ? element.parentElement : element;
      const header = document.querySelector(".topbar").getBoundingClientRect().bottom;
      return [target.outerHTML.slice(0, 80), Math.round(target.getBoundingClientRect().top), Math.round(header), element === document.body || Boolean(element.closest(".topbar, .skip-link"))];
    });
    if (isAtStart) break;
    if (top < bottom) covered.push(`${description}: ${top} < ${bottom}`);
  }
  assert.deepEqual(covered, []);
});
