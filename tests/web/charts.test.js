// Charts: descriptions, data tables and readouts match the server's responses.

import assert from "node:assert/strict";

import { DEMO, TIMEZONE, browserTest } from "./helpers.js";
import { coffees, loadAllSections, open, waitUntilEqual } from "./actions.js";

const HOUR = 3_600_000;
const rows = (page, id) => page.locator(`#${id} tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
const mg = (n) => `${n !== 0 && n < 9.95 ? Math.round(n * 10) / 10 : Math.round(n)} mg`;
/** Formats a time as the page does. */
const clock = (instant) => new Intl.DateTimeFormat("en-GB", { hour: "numeric", minute: "2-digit", timeZone: TIMEZONE }).format(instant);

/** Returns the first instant of yesterday, where the chart starts. */
function yesterday() {
  const midnight = new Date(`${new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.now() - 24 * HOUR)}T00:00:00Z`);
  const local = new Date(midnight.toLocaleString("en", { timeZone: TIMEZONE }));
  const utc = new Date(midnight.toLocaleString("en", { timeZone: "UTC" }));
  return midnight.getTime() - (local - utc);
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
  await page.locator("#caffeine-table summary").click();
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

browserTest("the caffeine chart follows a changed profile", {}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 120, timestamp: new Date(yesterday() + 9.1 * HOUR).toISOString() });
  await open(page, server);
  await page.locator("#caffeine-text", { hasText: "your 50 mg sleep limit" }).waitFor();
  assert.equal((await server.api("PATCH", "/profile", { half_life_hours: 9, sleep_threshold_mg: 30 })).status, 200);
  // The refresh of every minute.
  await page.evaluate(async () => {
    const { CURRENT_PARTS, refresh } = await import("/static/app/store.js");
    await refresh(CURRENT_PARTS);
  });
  await page.locator("#at-bedtime-detail", { hasText: "your sleep limit: 30 mg" }).waitFor();
  await page.locator("#caffeine-text", { hasText: "your 30 mg sleep limit" }).waitFor();
  await page.locator("#caffeine-table summary").click();
  await page.locator("#caffeine-table table").waitFor();
  const { curve } = (await server.api("GET", `/coffee/active?at=${new Date(yesterday()).toISOString()}&hours=54`)).body;
  const expected = curve.filter((point) => point.at.slice(14, 16) === "00").map((point) => mg(point.mg));
  assert.deepEqual((await rows(page, "caffeine-table")).map((row) => row[1]), expected);
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
  const when = Math.ceil(Date.now() / quarter) * quarter + 3 * quarter;
  assert.match(await slider.getAttribute("aria-valuetext"), new RegExp(`${clock(when)}$`));
  const [ke, hours] = [Math.LN2 / halfLife, (Date.parse(bedtime) - when) / HOUR];
  const more = ((80 * ka) / (ka - ke)) * (Math.exp(-ke * hours) - Math.exp(-ka * hours));
  const match = /^(\d+) mg at bedtime, [\d:]+ \((\d+) without it\), over your 50 mg sleep limit\./.exec(words);
  assert.ok(match, words);
  assert.ok(Math.abs(Number(match[1]) - (left + more)) <= 1.1, `${words}: ${left} + ${more}`);
  assert.ok(Math.abs(Number(match[2]) - left) <= 1.1, words);
  assert.equal((await coffees(server)).length, 1);
  await page.locator("#what-if").getByLabel("Dose (mg)").fill("0");
  await page.getByText("Choose a drink and a time").waitFor();
});

browserTest("week and year show the server's daily totals", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const { daily_breakdown: days, days_with_caffeine } = (await server.api("GET", "/coffee/days")).body;
  const byDate = new Map(days.map((day) => [day.date, day.total_mg]));
  const date = (ago) => new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.now() - ago * 24 * HOUR);
  const bars = await page.locator("#week-bars .amount").evaluateAll((elements) => elements.map((element) => element.textContent));
  assert.deepEqual(bars, [6, 5, 4, 3, 2, 1, 0].map((ago) => mg(byDate.get(date(ago)) ?? 0)));
  const cells = await page.locator("#year-chart rect").evaluateAll((elements) => elements.map((element) => [element.dataset.date, element.getAttribute("class")]));
  assert.deepEqual(cells.map(([day]) => day), Array.from({ length: 365 }, (_, n) => date(364 - n)));
  const heat = (total) => `heat-${total > 400 ? 5 : Math.ceil(total / 100)}`;
  assert.deepEqual(cells.map(([, name]) => name), cells.map(([day]) => heat(byDate.get(day) ?? 0)));
  assert.match(await page.locator("#year-text").innerText(), new RegExp(`^Caffeine on ${days_with_caffeine} of 365 days, on average ${mg(days.reduce((sum, day) => sum + day.total_mg, 0) / days.length)} on those days`));
  await page.locator("#year-table summary").click();
  await page.locator("#year-table table").waitFor();
  const drinks = (await rows(page, "year-table")).reduce((sum, row) => sum + Number(row[2]), 0);
  assert.equal(drinks, days.reduce((sum, day) => sum + day.coffee_count, 0));
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
  await page.locator("#heart-table summary").click();
  await page.locator("#heart-table table").waitFor();
  assert.ok((await rows(page, "heart-table")).length > 20);
  const box = await page.locator("#heart-chart .u-over").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.locator("#heart-readout", { hasText: /\(\d+–\d+\) bpm/ }).waitFor();
});

browserTest("without data, the correlation has no verdict yet", {}, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  assert.equal(await page.locator("#verdict").innerText(), "Not enough data for a verdict yet.");
  assert.ok(await page.locator("#evidence").isHidden());
});

browserTest("the correlation shows the server's verdict", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const { body } = await server.api("GET", "/heartrate/correlation?days=30&hours_after=2&limit=1000");
  assert.equal(await page.locator("#verdict").innerText(), body.statistics.explanation);
  assert.equal(await page.locator("#evidence").innerText(), body.verdict === "no evidence" ? body.verdict : `${body.verdict} evidence`);
  await page.locator("#correlation-table summary").click();
  await page.locator("#correlation-table table").waitFor();
  const table = await rows(page, "correlation-table");
  assert.deepEqual(table.map((row) => row[2]), body.correlations.map((pair) => mg(pair.caffeine_mg)));
  await page.getByLabel("Time after the drink").selectOption("4 h after");
  const later = (await server.api("GET", "/heartrate/correlation?days=30&hours_after=4&limit=1000")).body;
  await waitUntilEqual(async () => (await rows(page, "correlation-table")).map((row) => row[4]), later.correlations.map((pair) => String(pair.avg_heartrate_after)));
});

browserTest("trends compare the weeks, late caffeine and the limit with the server's data", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const date = (ago) => new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.now() - ago * 24 * HOUR);
  const byDate = new Map((await server.api("GET", "/coffee/days")).body.daily_breakdown.map((day) => [day.date, day.total_mg]));
  const total = (ago) => byDate.get(date(ago)) ?? 0;
  const sum = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => total(from + n)).reduce((a, b) => a + b, 0);
  const [now, before] = [sum(0, 6), sum(7, 13)];
  const format = (n) => `${new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 }).format(n)} mg`;
  const percent = Math.round((100 * (now - before)) / before);
  assert.ok(percent !== 0);
  assert.equal(await page.locator("#trend-week-text").innerText(), `${format(now)} in the last 7 days, ${Math.abs(percent)}% ${percent < 0 ? "less" : "more"} than in the 7 days before (${format(before)}).`);
  await page.locator("#trend-week-table summary").click();
  await waitUntilEqual(async () => (await rows(page, "trend-week-table")).map((row) => row.slice(1)), [6, 5, 4, 3, 2, 1, 0].map((ago) => [mg(total(ago)), mg(total(ago + 7))]));

  const { body: coffees } = await server.api("GET", `/coffee/?since=${date(27)}&limit=1000`);
  const hour = (timestamp) => Number(new Intl.DateTimeFormat("en-GB", { hour: "2-digit", timeZone: TIMEZONE }).format(Date.parse(timestamp)));
  await page.locator("#trends").getByLabel("After").selectOption("12:00");
  const late = coffees.filter((coffee) => hour(coffee.timestamp) >= 12 || hour(coffee.timestamp) < 4);
  const mgOf = (list) => list.reduce((all, coffee) => all + coffee.caffeine_mg, 0);
  const share = Math.round((100 * mgOf(late)) / mgOf(coffees));
  await page.locator("#trend-late-text", { hasText: `${share}% of your caffeine in the last 4 weeks was after 12:00, on ` }).waitFor();
  await page.locator("#trend-late-table summary").click();
  await page.locator("#trend-late-table tbody tr").first().waitFor();
  const lateTotal = (await rows(page, "trend-late-table")).reduce((all, row) => all + parseFloat(row[1].replace(",", "")), 0);
  assert.ok(Math.abs(lateTotal - mgOf(late)) < 28, `${lateTotal}: ${mgOf(late)}`);
  await page.reload();
  await loadAllSections(page);
  assert.equal(await page.locator("#trends").getByLabel("After").inputValue(), "12", "the hour is kept");

  const runs = { current: 0, longest: 0 };
  for (let ago = byDate.size; ago >= 1; ago -= 1) {
    runs.current = total(ago) > 400 ? 0 : runs.current + 1;
    if (byDate.has(date(ago))) runs.longest = Math.max(runs.longest, runs.current);
  }
  const text = await page.locator("#trend-limit-text").innerText();
  const sentence = total(0) > 400 ? "Today is over your limit" : runs.current ? `${runs.current} day` : "Yesterday was over your limit";
  assert.ok(text.startsWith(sentence) && text.includes(`Longest in 12 months: ${runs.longest} day`), `${text}: ${JSON.stringify(runs)}`);
});
