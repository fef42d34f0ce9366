// Benchmark of the pages: transferred bytes, first paint and API response times with a year of data. The limits
// are printed next to the figures and not enforced.

import { DEMO, browserTest, transferredBytes } from "./helpers.js";
import { loadAllSections, open } from "./actions.js";

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
