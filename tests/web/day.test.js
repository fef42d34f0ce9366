// Day view: the drinks, the caffeine level and the heart rate of one day, at its own address.

import assert from "node:assert/strict";

import { DEMO, TIMEZONE, accessibilityViolations, browserTest, horizontalOverflow, screenshot } from "./helpers.js";
import { loadAllSections, open, waitUntilEqual } from "./actions.js";

const DAY = 86_400_000;
const localDate = (instant) => new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(instant);
const drinks = (page) => page.locator("#day-drinks time").evaluateAll((elements) => elements.map((element) => element.getAttribute("datetime")));
const ofDay = async (server, date, next) => (await server.api("GET", `/coffee/?since=${date}&until=${next}&limit=1000`)).body.map((coffee) => coffee.timestamp);

browserTest("a day is opened from the calendar and from the week, and Back returns to the same place", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  const [date, next] = [20, 19].map((ago) => localDate(Date.now() - ago * DAY));
  const cell = page.locator(`rect[data-date="${date}"]`);
  await cell.scrollIntoViewIfNeeded();
  const scrolled = await page.evaluate(() => scrollY);
  await cell.click();
  await waitUntilEqual(() => drinks(page), await ofDay(server, date, next));
  assert.equal(new URL(page.url()).hash, `#day/${date}`);
  assert.equal(await page.locator("#week").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "day-title");
  await page.goBack();
  await page.locator("#week").waitFor();
  assert.equal(await page.locator("#day").isVisible(), false);
  await waitUntilEqual(() => page.evaluate(() => scrollY), scrolled);

  const bar = page.locator("#week-bars a").nth(4);
  await bar.focus();
  await page.keyboard.press("Enter");
  const weekDate = localDate(Date.now() - 2 * DAY);
  await waitUntilEqual(() => drinks(page).then((found) => found.length > 0), true);
  assert.deepEqual(await drinks(page), await ofDay(server, weekDate, localDate(Date.now() - DAY)));
  await page.getByRole("button", { name: "Close" }).click();
  await page.locator("#week").waitFor();
  assert.ok(await bar.evaluate((element) => element === document.activeElement), "the focus returns to the bar");
});

browserTest("a day's total, curve and heart rate are the server's, and the neighbouring days are one click away", { sampleData: DEMO }, async ({ page, server }) => {
  const [before, date, next] = [9, 8, 7].map((ago) => localDate(Date.now() - ago * DAY));
  const { body: coffees } = await server.api("GET", `/coffee/?since=${date}&until=${next}`);
  const total = coffees.reduce((sum, coffee) => sum + coffee.caffeine_mg, 0);
  await open(page, server);
  await page.goto(`${server.url}/#day/${date}`);
  await page.getByText(`${coffees.length} drinks, ${Math.round(total)} mg, ${Math.round(total / 4)}% of your daily limit.`).waitFor();
  const { curve } = (await server.api("GET", `/coffee/active?at=${date}&hours=24&step_minutes=60`)).body;
  await page.locator("#day-caffeine-table summary").click();
  const levels = () => page.locator("#day-caffeine-table tbody tr").evaluateAll((rows) => rows.map((row) => parseFloat(row.cells[1].textContent)));
  await waitUntilEqual(async () => (await levels()).length, 25);
  for (const [n, level] of (await levels()).entries()) assert.ok(Math.abs(level - curve[n].mg) <= 0.51, `${n}: ${level}, ${curve[n].mg}`);
  const { stats, readings_count: count } = (await server.api("GET", `/heartrate/range?start=${date}&end=${next}`)).body;
  await page.locator("#day-heart-text", { hasText: `${count} readings: ${stats.min_bpm}–${stats.max_bpm} bpm` }).waitFor();
  await page.getByRole("button", { name: "Previous day" }).click();
  await waitUntilEqual(() => drinks(page), await ofDay(server, before, date));
  await page.getByLabel("Go to date").fill(next);
  await waitUntilEqual(() => drinks(page), await ofDay(server, next, localDate(Date.now() - 6 * DAY)));
  // Days replace each other, so that Back leads to the dashboard, and an opened address has Close.
  await page.getByRole("button", { name: "Close" }).click();
  await page.locator("#week").waitFor();
  await page.goto(`${server.url}/#day/${localDate(Date.now())}`);
  await page.getByRole("heading", { name: new RegExp(String(new Date().getFullYear())) }).waitFor();
  assert.ok(await page.getByRole("button", { name: "Next day" }).isDisabled(), "there is no day after today");
});

browserTest("a drink is corrected and deleted in the day view", { timezone: "Europe/Berlin", screen: "narrow" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso", timestamp: "2026-03-01T07:30:00Z" });
  await server.api("POST", "/coffee/", { caffeine_mg: 40, coffee_type: "cola", timestamp: "2026-03-01T22:59:00Z" });
  await server.api("POST", "/coffee/", { caffeine_mg: 40, coffee_type: "cola", timestamp: "2026-03-01T23:00:00Z" });
  await open(page, server);
  await page.goto(`${server.url}/#day/2026-03-01`);
  await page.getByText("2 drinks, 120 mg, 30% of your daily limit.").waitFor();
  await page.getByRole("button", { name: "Edit espresso" }).click();
  await page.getByRole("dialog").getByLabel("Caffeine (mg)").fill("60");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText("2 drinks, 100 mg, 25% of your daily limit.").waitFor();
  // On phones, entries are deleted in the dialog.
  await page.getByRole("button", { name: "Edit espresso" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("1 drink, 40 mg, 10% of your daily limit.").waitFor();
  await page.locator("#day-notes", { hasText: "Deleted espresso" }).waitFor();
  assert.match(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), /^Edit cola/, "the next row has the focus");
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByText("2 drinks, 100 mg, 25% of your daily limit.").waitFor();
});

for (const screen of ["wide", "phone", "narrow"]) {
  for (const [colorScheme, forcedColors] of [["light", "none"], ["dark", "none"], ["light", "active"]]) {
    const name = `${screen}-${colorScheme}${forcedColors === "active" ? "-forced" : ""}`;
    browserTest(`the day view is accessible and fits the window: ${name}`, { sampleData: DEMO, screen, colorScheme, forcedColors }, async ({ page, server }) => {
      await open(page, server);
      await page.goto(`${server.url}/#day/${localDate(Date.now() - 3 * DAY)}`);
      await page.locator("#day-heart-text", { hasText: "readings" }).waitFor();
      await page.locator("#day-drinks li").first().waitFor();
      for (const summary of await page.locator("#day summary").all()) await summary.click();
      await screenshot(page, `day/${name}`);
      assert.equal(await horizontalOverflow(page), 0);
      assert.equal(await accessibilityViolations(page), "");
    });
  }
}

browserTest("a day without entries is shown as empty", { screen: "phone" }, async ({ page, server }) => {
  await open(page, server);
  await page.goto(`${server.url}/#day/2026-01-02`);
  await page.getByText("No drinks on this day.").waitFor();
  await page.locator("#day-heart-text", { hasText: "No heart rate readings in this period." }).waitFor();
  await screenshot(page, "day/empty");
});
