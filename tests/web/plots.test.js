// What the plots say: in words, as tables and under the pointer, the same as the server's answers.

import assert from "node:assert/strict";

import { DEMO, scenario } from "./helpers.js";
import { becomes, coffees, open, seeAll } from "./person.js";

const HOUR = 3_600_000;
const rows = (page, id) => page.locator(`#${id} tbody tr`).evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
const mg = (n) => `${n !== 0 && n < 9.95 ? Math.round(n * 10) / 10 : Math.round(n)} mg`;
/** A time of day in Berlin, as these windows write it. */
const clock = (instant) => new Intl.DateTimeFormat("en-GB", { hour: "numeric", minute: "2-digit", timeZone: "Europe/Berlin" }).format(instant);

/** The first instant of yesterday in Berlin: that of these windows' curves. */
function yesterday() {
  const midnight = new Date(`${new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.now() - 24 * HOUR)}T00:00:00Z`);
  const berlin = new Date(midnight.toLocaleString("en", { timeZone: "Europe/Berlin" }));
  const utc = new Date(midnight.toLocaleString("en", { timeZone: "UTC" }));
  return midnight.getTime() - (berlin - utc);
}

/** Puts the pointer over an instant of the curve. */
async function pointAt(page, instant) {
  const box = await page.locator("#curve-plot .u-over").boundingBox();
  const share = (instant - yesterday()) / (54 * HOUR);
  await page.mouse.move(box.x + share * box.width, box.y + box.height / 2);
}

scenario("the curve is the server's, point by point, with what was drunk", {}, async ({ page, server }) => {
  const drunk = yesterday() + 9.1 * HOUR;
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha <b>", timestamp: new Date(drunk).toISOString() });
  await open(page, server);
  await page.getByText("The curve as a table").click();
  await page.locator("#curve-table table").waitFor();
  const { curve } = (await server.api("GET", `/coffee/active?at=${new Date(yesterday()).toISOString()}&hours=54`)).body;
  const expected = curve.filter((point) => point.at.slice(14, 16) === "00").map((point) => mg(point.mg));
  const table = await rows(page, "curve-table");
  assert.equal(table.length, 55);
  assert.deepEqual(table.map((row) => row[1]), expected);
  assert.equal(table[9][0], "yesterday 9:00".replace("9:00", clock(yesterday() + 9 * HOUR)));
  assert.deepEqual(table.map((row) => row[3]).filter(Boolean), ["mocha <b> 120 mg"]);
  await pointAt(page, drunk);
  await page.locator("#curve-readout", { hasText: "mocha <b> 120 mg" }).waitFor();
  assert.match(await page.locator("#curve-text").innerText(), /at most 50 mg from now on/);
});

scenario("what if: the night is told what a drink would do, by the server's own formula, and nothing is logged", {
  // So that the bedtime lies some hours ahead, whenever this is run.
  settings: { BEDTIME: clock(Date.now() + 5 * HOUR).padStart(5, "0") },
}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 200 });
  await open(page, server);
  await page.getByText("Choose a drink and a time").waitFor();
  await page.locator("#what-if").getByLabel("Drink").selectOption("espresso, 80 mg");
  const slider = page.locator("#what-if").getByRole("slider");
  await slider.focus();
  for (let n = 0; n < 4; n += 1) await page.keyboard.press("ArrowRight");
  const words = await page.locator(".what-if-words").innerText();
  const { bedtime, at_bedtime_mg: left, half_life_hours: halfLife, absorption_per_hour: ka } = (await server.api("GET", "/coffee/active")).body;
  const quarter = HOUR / 4;
  const when = Math.ceil(Date.now() / quarter) * quarter + 4 * quarter;
  assert.match(await slider.getAttribute("aria-valuetext"), new RegExp(`${clock(when)}$`));
  const [ke, hours] = [Math.LN2 / halfLife, (Date.parse(bedtime) - when) / HOUR];
  const more = ((80 * ka) / (ka - ke)) * (Math.exp(-ke * hours) - Math.exp(-ka * hours));
  const found = /: ([\d.]+) mg instead of ([\d.]+) mg, above the 50 mg for sleep/.exec(words);
  assert.ok(found, words);
  assert.ok(Math.abs(Number(found[1]) - (left + more)) <= 1.1, `${words}: ${left} + ${more}`);
  assert.ok(Math.abs(Number(found[2]) - left) <= 1.1, words);
  assert.equal((await coffees(server)).length, 1);
  await page.locator("#what-if").getByLabel("mg").fill("0");
  await page.getByText("Choose a drink and a time").waitFor();
});

scenario("the week and the year are the server's days, and a day leads to its drinks", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  const { daily_breakdown: days, days_with_caffeine, average_per_day } = (await server.api("GET", "/coffee/days")).body;
  const byDate = new Map(days.map((day) => [day.date, day.total_mg]));
  const date = (ago) => new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.now() - ago * 24 * HOUR);
  const bars = await page.locator("#week-bars .amount").evaluateAll((all) => all.map((one) => one.textContent));
  assert.deepEqual(bars, [6, 5, 4, 3, 2, 1, 0].map((ago) => mg(byDate.get(date(ago)) ?? 0)));
  const cells = await page.locator("#year-plot rect").evaluateAll((all) => all.map((one) => [one.dataset.date, one.getAttribute("class")]));
  assert.deepEqual(cells.map(([day]) => day), Array.from({ length: 365 }, (_, n) => date(364 - n)));
  const heat = (total) => `heat-${total > 400 ? 5 : Math.ceil(total / 100)}`;
  assert.deepEqual(cells.map(([, name]) => name), cells.map(([day]) => heat(byDate.get(day) ?? 0)));
  assert.match(await page.locator("#year-text").innerText(), new RegExp(`^Caffeine on ${days_with_caffeine} days of 365, ${mg(average_per_day)} a day on average`));
  await page.getByText("The months as a table").click();
  await page.locator("#year-table table").waitFor();
  const drinks = (await rows(page, "year-table")).reduce((sum, row) => sum + Number(row[2]), 0);
  assert.equal(drinks, days.reduce((sum, day) => sum + day.coffee_count, 0));

  const busiest = days.slice(1).reduce((best, day) => (day.coffee_count > best.coffee_count ? day : best));
  await page.locator(`rect[data-date="${busiest.date}"]`).click();
  await becomes(() => page.locator("#history-list .entry").count(), busiest.coffee_count);
  assert.equal(await page.getByLabel("From").inputValue(), busiest.date);
});

scenario("heart rates are told in numbers, over the span that is chosen", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const told = async (days) => {
    const [start, end] = [Date.now() - days * 24 * HOUR, Date.now()].map((instant) => new Date(instant).toISOString());
    const { stats, readings_count } = (await server.api("GET", `/heartrate/range?start=${start}&end=${end}`)).body;
    const count = new Intl.NumberFormat("en-GB").format(readings_count);
    return `${count} readings: ${stats.min_bpm} to ${stats.max_bpm} bpm, average ${stats.avg_bpm}, median ${stats.median_bpm}.`;
  };
  const text = page.locator("#heart-text");
  await text.filter({ hasText: await told(1) }).waitFor();
  await page.locator("#heart-span").getByRole("radio", { name: "7 days" }).check();
  await text.filter({ hasText: await told(7) }).waitFor();
  await page.getByText("Heart rates as a table").click();
  await page.locator("#heart-table table").waitFor();
  assert.ok((await rows(page, "heart-table")).length > 20);
  const box = await page.locator("#heart-plot .u-over").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.locator("#heart-readout", { hasText: /\(\d+–\d+\) bpm/ }).waitFor();
});

scenario("what coffee does to the heart is the server's verdict", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  const { body } = await server.api("GET", "/heartrate/correlation?days=30&hours_after=2&limit=1000");
  assert.equal(await page.locator("#verdict").innerText(), body.statistics.explanation);
  assert.equal(await page.locator("#evidence").innerText(), body.verdict === "no evidence" ? body.verdict : `${body.verdict} evidence`);
  await page.getByText("The drinks as a table").click();
  await page.locator("#correlation-table table").waitFor();
  const table = await rows(page, "correlation-table");
  assert.deepEqual(table.map((row) => row[2]), body.correlations.map((pair) => mg(pair.caffeine_mg)));
  await page.getByLabel("Hours looked at").selectOption("4 h after");
  const later = (await server.api("GET", "/heartrate/correlation?days=30&hours_after=4&limit=1000")).body;
  await becomes(async () => (await rows(page, "correlation-table")).map((row) => row[4]), later.correlations.map((pair) => String(pair.avg_heartrate_after)));
});
