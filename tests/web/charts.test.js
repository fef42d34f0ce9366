// Charts: descriptions, data tables and readouts match the server's responses.

import assert from "node:assert/strict";

import { DEMO, browserTest } from "./helpers.js";
import { coffees, loadAllSections, open, waitUntilEqual } from "./actions.js";

const HOUR = 3_600_000;
const rows = (page, id) => page.locator(`#${id} tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
const mg = (n) => `${n !== 0 && n < 9.95 ? Math.round(n * 10) / 10 : Math.round(n)} mg`;
/** Formats a time as the page does. */
const clock = (instant) => new Intl.DateTimeFormat("en-GB", { hour: "numeric", minute: "2-digit", timeZone: "Europe/Berlin" }).format(instant);

/** Returns the first instant of yesterday in Berlin, where the chart starts. */
function yesterday() {
  const midnight = new Date(`${new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.now() - 24 * HOUR)}T00:00:00Z`);
  const berlin = new Date(midnight.toLocaleString("en", { timeZone: "Europe/Berlin" }));
  const utc = new Date(midnight.toLocaleString("en", { timeZone: "UTC" }));
  return midnight.getTime() - (berlin - utc);
}

/** Moves the pointer to an instant of the caffeine chart. */
async function pointAt(page, instant) {
  const box = await page.locator("#caffeine-chart .u-over").boundingBox();
  const share = (instant - yesterday()) / (54 * HOUR);
  await page.mouse.move(box.x + share * box.width, box.y + box.height / 2);
}

browserTest("the caffeine chart shows the server's curve and the drinks", {}, async ({ page, server }) => {
  const drunk = yesterday() + 9.1 * HOUR;
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha <b>", timestamp: new Date(drunk).toISOString() });
  await open(page, server);
  await page.getByText("Caffeine level as a table").click();
  await page.locator("#caffeine-table table").waitFor();
  const { curve } = (await server.api("GET", `/coffee/active?at=${new Date(yesterday()).toISOString()}&hours=54`)).body;
  const expected = curve.filter((point) => point.at.slice(14, 16) === "00").map((point) => mg(point.mg));
  const table = await rows(page, "caffeine-table");
  assert.equal(table.length, 55);
  assert.deepEqual(table.map((row) => row[1]), expected);
  assert.equal(table[9][0], "yesterday 9:00".replace("9:00", clock(yesterday() + 9 * HOUR)));
  assert.deepEqual(table.map((row) => row[3]).filter(Boolean), ["mocha <b> 120 mg"]);
  await pointAt(page, drunk);
  await page.locator("#caffeine-readout", { hasText: "mocha <b> 120 mg" }).waitFor();
  assert.match(await page.locator("#caffeine-text").innerText(), /Now below 50 mg/);
});

browserTest("What if? previews a drink with the server's formula and logs nothing", {
  // Bedtime is five hours ahead, whenever the test runs.
  settings: { BEDTIME: clock(Date.now() + 5 * HOUR).padStart(5, "0") },
}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 200 });
  await open(page, server);
  await page.getByText("Choose a drink and a time").waitFor();
  await page.locator("#what-if").getByLabel("Drink").selectOption("espresso, 80 mg");
  const slider = page.locator("#what-if").getByRole("slider");
  await slider.focus();
  for (let n = 0; n < 4; n += 1) await page.keyboard.press("ArrowRight");
  const words = await page.locator(".what-if-result").innerText();
  const { bedtime, at_bedtime_mg: left, half_life_hours: halfLife, absorption_per_hour: ka } = (await server.api("GET", "/coffee/active")).body;
  const quarter = HOUR / 4;
  const when = Math.ceil(Date.now() / quarter) * quarter + 4 * quarter;
  assert.match(await slider.getAttribute("aria-valuetext"), new RegExp(`${clock(when)}$`));
  const [ke, hours] = [Math.LN2 / halfLife, (Date.parse(bedtime) - when) / HOUR];
  const more = ((80 * ka) / (ka - ke)) * (Math.exp(-ke * hours) - Math.exp(-ka * hours));
  const match = /: ([\d.]+) mg instead of ([\d.]+) mg, above the 50 mg sleep threshold/.exec(words);
  assert.ok(match, words);
  assert.ok(Math.abs(Number(match[1]) - (left + more)) <= 1.1, `${words}: ${left} + ${more}`);
  assert.ok(Math.abs(Number(match[2]) - left) <= 1.1, words);
  assert.equal((await coffees(server)).length, 1);
  await page.locator("#what-if").getByLabel("Dose (mg)").fill("0");
  await page.getByText("Choose a drink and a time").waitFor();
});

browserTest("week and year show the server's daily totals, and clicking a day lists its drinks", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const { daily_breakdown: days, days_with_caffeine, average_per_day } = (await server.api("GET", "/coffee/days")).body;
  const byDate = new Map(days.map((day) => [day.date, day.total_mg]));
  const date = (ago) => new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.now() - ago * 24 * HOUR);
  const bars = await page.locator("#week-bars .amount").evaluateAll((elements) => elements.map((element) => element.textContent));
  assert.deepEqual(bars, [6, 5, 4, 3, 2, 1, 0].map((ago) => mg(byDate.get(date(ago)) ?? 0)));
  const cells = await page.locator("#year-chart rect").evaluateAll((elements) => elements.map((element) => [element.dataset.date, element.getAttribute("class")]));
  assert.deepEqual(cells.map(([day]) => day), Array.from({ length: 365 }, (_, n) => date(364 - n)));
  const heat = (total) => `heat-${total > 400 ? 5 : Math.ceil(total / 100)}`;
  assert.deepEqual(cells.map(([, name]) => name), cells.map(([day]) => heat(byDate.get(day) ?? 0)));
  assert.match(await page.locator("#year-text").innerText(), new RegExp(`^Caffeine on ${days_with_caffeine} of 365 days, on average ${mg(average_per_day)} a day`));
  await page.getByText("Months as a table").click();
  await page.locator("#year-table table").waitFor();
  const drinks = (await rows(page, "year-table")).reduce((sum, row) => sum + Number(row[2]), 0);
  assert.equal(drinks, days.reduce((sum, day) => sum + day.coffee_count, 0));

  const busiest = days.slice(1).reduce((best, day) => (day.coffee_count > best.coffee_count ? day : best));
  await page.locator(`rect[data-date="${busiest.date}"]`).click();
  await waitUntilEqual(() => page.locator("#history-list .entry").count(), busiest.coffee_count);
  assert.equal(await page.getByLabel("From").inputValue(), busiest.date);
});

browserTest("the heart rate chart describes the selected period", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const expectedText = async (days) => {
    const [start, end] = [Date.now() - days * 24 * HOUR, Date.now()].map((instant) => new Date(instant).toISOString());
    const { stats, readings_count } = (await server.api("GET", `/heartrate/range?start=${start}&end=${end}`)).body;
    const count = new Intl.NumberFormat("en-GB").format(readings_count);
    return `${count} readings: ${stats.min_bpm}–${stats.max_bpm} bpm, average ${stats.avg_bpm}, median ${stats.median_bpm}.`;
  };
  const text = page.locator("#heart-text");
  await text.filter({ hasText: await expectedText(1) }).waitFor();
  await page.locator("#heart-span").getByRole("radio", { name: "7 days" }).check();
  await text.filter({ hasText: await expectedText(7) }).waitFor();
  await page.getByText("Heart rate as a table").click();
  await page.locator("#heart-table table").waitFor();
  assert.ok((await rows(page, "heart-table")).length > 20);
  const box = await page.locator("#heart-chart .u-over").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.locator("#heart-readout", { hasText: /\(\d+–\d+\) bpm/ }).waitFor();
});

browserTest("the correlation shows the server's verdict", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const { body } = await server.api("GET", "/heartrate/correlation?days=30&hours_after=2&limit=1000");
  assert.equal(await page.locator("#verdict").innerText(), body.statistics.explanation);
  assert.equal(await page.locator("#evidence").innerText(), body.verdict === "no evidence" ? body.verdict : `${body.verdict} evidence`);
  await page.getByText("Drinks as a table").click();
  await page.locator("#correlation-table table").waitFor();
  const table = await rows(page, "correlation-table");
  assert.deepEqual(table.map((row) => row[2]), body.correlations.map((pair) => mg(pair.caffeine_mg)));
  await page.getByLabel("Time after the drink").selectOption("4 h after");
  const later = (await server.api("GET", "/heartrate/correlation?days=30&hours_after=4&limit=1000")).body;
  await waitUntilEqual(async () => (await rows(page, "correlation-table")).map((row) => row[4]), later.correlations.map((pair) => String(pair.avg_heartrate_after)));
});
