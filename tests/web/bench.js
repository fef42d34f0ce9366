// Benchmark of the pages: transferred bytes, first paint and API response times with a year of data. The limits
// are printed next to the figures and not enforced.

import { DEMO, KEY, browserTest, transferredBytes } from "./helpers.js";
import { drinkButton, loadAllSections, open, signIn } from "./actions.js";

/** A year with 3,650 coffees and 525,600 readings. */
const YEAR = { days: 365, "coffees-per-day": 10, "readings-per-day": 1440 };
const STARTS = 9;

const show = (what, figure, limit) => console.log(`${what.padEnd(58)} ${String(figure).padStart(10)}   limit ${limit}`);
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

browserTest("transferred bytes", { sampleData: DEMO }, async ({ page, server, context }) => {
  const docs = async () => {
    await page.goto(`${server.url}/docs`);
    await page.locator(".swagger-ui .opblock").first().waitFor();
  };
  show("docs, first visit, bytes", await transferredBytes(page, docs), 550_000);
  show("docs, second visit, bytes", await transferredBytes(page, docs), 10_000);
  const other = await context.newPage();
  await other.goto("about:blank");
  show("dashboard before sign-in, first visit, bytes", await transferredBytes(other, () => other.goto(server.url)), "150000 without headers");
});

browserTest("dashboard with a year of data", { sampleData: YEAR }, async ({ page, server }) => {
  await page.addInitScript(() => {
    performance.setResourceTimingBufferSize(1000);
    window.shifts = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const starts = [];
  for (let n = 0; n < STARTS; n += 1) {
    if (n) await page.reload();
    else await open(page, server);
    await page.locator("#caffeine-chart canvas").waitFor();
    await page.locator("#today-total", { hasText: "mg" }).waitFor();
    await loadAllSections(page);
    starts.push(await page.evaluate(() => {
      const html = performance.getEntriesByType("navigation")[0].responseEnd;
      const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime - html;
      const requests = performance.getEntriesByType("resource").filter((entry) => /^\/(coffee|heartrate|info|health)/.test(new URL(entry.name).pathname));
      const timings = requests.map((entry) => [entry.responseEnd - entry.requestStart, new URL(entry.name).pathname]);
      // Until the last of the first API responses.
      const dataShown = Math.max(...requests.filter((entry) => /active|summary|today/.test(entry.name)).map((entry) => entry.responseEnd)) - html;
      return { paint, dataShown, timings, shifts: window.shifts };
    }));
  }
  show("first paint after the HTML, first start, ms", Math.round(starts[0].paint), 300);
  show(`first paint after the HTML, median of ${STARTS} starts, ms`, Math.round(median(starts.map((start) => start.paint))), 300);
  show("level and totals shown after the HTML, median, ms", Math.round(median(starts.map((start) => start.dataShown))), "none");
  const timings = starts.flatMap((start) => start.timings);
  for (const path of [...new Set(timings.map(([, name]) => name))].sort()) {
    const times = timings.filter(([, name]) => name === path).map(([time]) => time);
    show(`${path}, response time, median (slowest), ms`, `${median(times).toFixed(0)} (${Math.max(...times).toFixed(0)})`, 50);
  }
  show("cumulative layout shift, highest", Math.max(...starts.map((start) => start.shifts)).toFixed(4), 0.025);
});

/** Slow 3G: 400 kbit/s in both directions with a round trip of 400 ms; bytes per second and ms. */
const SLOW_3G = { offline: false, latency: 400, downloadThroughput: 50_000, uploadThroughput: 50_000 };
const CPU_SLOWDOWN = 4;

async function throttle(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", SLOW_3G);
  await session.send("Emulation.setCPUThrottlingRate", { rate: CPU_SLOWDOWN });
}

browserTest("a phone with a slow processor on slow 3G", {
  sampleData: DEMO,
  viewport: { width: 390, height: 664 },
  hasTouch: true,
  isMobile: true,
  serviceWorkers: "allow",
}, async ({ page, server, context }) => {
  await throttle(page);
  const startedAt = Date.now();
  await page.goto(server.url, { waitUntil: "commit" });
  await page.getByLabel("API key").waitFor();
  show("sign-in usable, ms", Date.now() - startedAt, 2500);
  await signIn(page, KEY, { remember: true });
  await drinkButton(page, "espresso").first().tap();
  await page.locator(".toast", { hasText: "Logged espresso" }).waitFor();
  show("first tap logged, ms", Date.now() - startedAt, 4500);
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    while (!(await caches.match("/", { ignoreVary: true }))) await new Promise((resolve) => setTimeout(resolve, 200));
  });
  const second = await context.newPage();
  await throttle(second);
  const secondStart = Date.now();
  await second.goto(server.url, { waitUntil: "commit" });
  await drinkButton(second, "espresso").first().waitFor();
  await second.locator("#today-total", { hasText: "mg" }).waitFor();
  show("second start, ms", Date.now() - secondStart, 800);
});
