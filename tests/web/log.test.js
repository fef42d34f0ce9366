// Sign-in and the Log card: drinks, heart rates, undo, keyboard.

import assert from "node:assert/strict";

import { DEMO, KEY, accessibilityViolations, browserTest, screenshot } from "./helpers.js";
import { coffee, coffees, drinkButton, minutesAgo, open, signIn, waitUntilEqual } from "./actions.js";

const toast = (page, text) => page.locator(".toast", { hasText: text });

browserTest("the key is verified before it is stored, and signing out removes it", { expected: [/status of 401/] }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page, "not the key at all");
  await page.getByText("Keys can't contain spaces or special characters").waitFor();
  await signIn(page, "the-wrong-key-of-these-tests");
  await page.getByText("Invalid API key").waitFor();
  assert.equal(await page.getByLabel("API key").inputValue(), "the-wrong-key-of-these-tests", "the input is kept");
  await screenshot(page, "dashboard/sign-in");
  assert.equal(await accessibilityViolations(page), "");
  await signIn(page, ` Bearer ${KEY} `);
  await page.getByText("0 of 400 mg").waitFor();
  await page.reload();
  await page.getByText("0 of 400 mg").waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("coffee.key")), null, "not stored on the device by default");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await page.reload();
  await page.getByLabel("API key").waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]).includes("the-right-key")), false);
});

browserTest("staying signed in works across windows, and signing out removes the key and cached responses", {}, async ({ page, server, context }) => {
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  const other = await context.newPage();
  await other.goto(server.url);
  await other.getByText("0 of 400 mg").waitFor();
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.getByLabel("API key").waitFor();
  const kept = await other.evaluate(() => Object.keys(localStorage).filter((name) => name === "coffee.key" || name.startsWith("coffee.answer")));
  assert.deepEqual(kept, []);
});

browserTest("when the key is revoked, cached responses are removed", { expected: [/status of 401/] }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  const cached = () => page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith("coffee.answer")).length);
  await waitUntilEqual(async () => (await cached()) > 0, true);
  await page.route("**/coffee/**", (route) => route.fulfill({ status: 401, json: { detail: "A valid API key is required" } }));
  await page.route("**/heartrate/**", (route) => route.fulfill({ status: 401, json: { detail: "A valid API key is required" } }));
  await page.reload();
  await page.getByText("Your API key is no longer valid.").waitFor();
  await waitUntilEqual(cached, 0);
});

browserTest("a drink is logged with one tap, undone with another, and logged for an earlier time with two", {}, async ({ page, server }) => {
  await open(page, server);
  await drinkButton(page, "espresso").click();
  await toast(page, "Logged espresso, 80 mg").waitFor();
  await page.getByText("80 of 400 mg").waitFor();
  assert.match(await page.locator("#today-count").innerText(), /1 drink/);
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  await page.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(() => coffees(server), []);
  await page.getByText("0 of 400 mg").waitFor();

  await page.getByRole("radio", { name: "1 h ago" }).check();
  await drinkButton(page, "filter coffee").click();
  await toast(page, "Logged filter coffee, 90 mg").waitFor();
  await waitUntilEqual(() => coffees(server), [coffee("filter coffee", 90)]);
  const { body } = await server.api("GET", "/coffee/");
  const minutes = minutesAgo(body[0].timestamp);
  assert.ok(minutes > 59.5 && minutes < 61, `${minutes} minutes ago`);
  assert.ok(await page.getByRole("radio", { name: "Now" }).isChecked(), "the time is reset to now");
});

browserTest("an accidental double tap logs one drink", {}, async ({ page, server }) => {
  await open(page, server);
  await drinkButton(page, "cola").dblclick();
  await drinkButton(page, "black tea").click();
  // Entries are sent in the order of the taps.
  await waitUntilEqual(async () => (await coffees(server))[0], coffee("black tea", 50));
  assert.deepEqual(await coffees(server), [coffee("black tea", 50), coffee("cola", 40)]);
});

browserTest("the user's own drinks come before the presets", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const { body } = await server.api("GET", "/coffee/types");
  await drinkButton(page, body.own[0].coffee_type).first().waitFor();
  await page.getByRole("button", { name: "More drinks" }).click();
  const names = await page.locator(".drink span:first-child").evaluateAll((elements) => elements.map((element) => element.textContent));
  const own = body.own.map((entry) => entry.coffee_type);
  assert.deepEqual(names, [...own, ...body.presets.map((entry) => entry.coffee_type).filter((name) => !own.includes(name))]);
});

browserTest("other drinks are logged with a form, with a custom time and notes", { timezone: "Europe/Berlin" }, async ({ page, server }) => {
  const notes = '<img src=x onerror="document.title=1"> strong';
  await open(page, server);
  await page.getByText("Custom drink").click();
  const form = page.locator("#custom-form");
  await form.getByLabel("Drink").fill("double espresso");
  await form.getByLabel("Caffeine (mg)").fill("1000.5");
  await form.getByLabel("Notes").fill(notes);
  await form.getByRole("button", { name: "Log drink" }).click();
  assert.deepEqual(await coffees(server), [], "the form rejects more than the server accepts");
  await form.getByLabel("Caffeine (mg)").fill("127.5");
  await page.getByRole("radio", { name: "Other" }).check();
  await page.getByLabel("Time", { exact: true }).fill("2026-01-15T07:45");
  await form.getByRole("button", { name: "Log drink" }).click();
  await toast(page, "double espresso, 128 mg, Thu, 15 Jan").or(toast(page, "double espresso, 128 mg, Thu 15 Jan")).waitFor();
  await waitUntilEqual(() => coffees(server), [coffee("double espresso", 127.5, notes)]);
  const { body } = await server.api("GET", "/coffee/");
  assert.equal(body[0].timestamp, "2026-01-15T06:45:00.000000Z", "the time is in this device's zone");
});

browserTest("a future or missing time is reported and nothing is logged", { timezone: "Europe/Berlin" }, async ({ page, server }) => {
  await open(page, server);
  await page.getByRole("radio", { name: "Other" }).check();
  const when = page.getByLabel("Time", { exact: true });
  for (const [value, name] of [["2096-01-15T07:45", "espresso"], ["", "cola"]]) {
    await when.fill(value);
    await drinkButton(page, name).click();
    assert.equal(await when.evaluate((input) => input.validity.valid), false);
    assert.equal(await page.evaluate(() => document.activeElement.id), "when-time", "the invalid field has the focus");
  }
  await page.locator("#heart-form").getByLabel("Heart rate (bpm)").fill("64");
  await page.locator("#heart-form").getByRole("button", { name: "Log heart rate" }).click();
  assert.equal(await page.locator("#heart-form").getByLabel("Heart rate (bpm)").inputValue(), "64", "the input is kept");
  assert.equal(await page.locator(".toast").count(), 0);
  await when.fill("2026-01-15T07:45");
  await page.locator("#heart-form").getByRole("button", { name: "Log heart rate" }).click();
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body.map((entry) => entry.timestamp), ["2026-01-15T06:45:00.000000Z"]);
  assert.deepEqual(await coffees(server), []);
});

browserTest("a heart rate is logged, shown and undone", {}, async ({ page, server }) => {
  await open(page, server);
  assert.equal(await page.locator("#heart-now").innerText(), "No readings yet");
  const form = page.locator("#heart-form");
  await form.getByLabel("Heart rate (bpm)").fill("64");
  await form.getByLabel("Context").selectOption("post-coffee");
  await form.getByRole("button").click();
  await page.locator("#heart-now", { hasText: "64 bpm" }).waitFor();
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body.map(({ bpm, context }) => [bpm, context]), [[64, "post-coffee"]]);
  await page.keyboard.press("Control+z");
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body, []);
  await page.locator("#heart-now", { hasText: "No readings yet" }).waitFor();
});

browserTest("the dashboard can be used with the keyboard only", {}, async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByLabel("API key").waitFor();
  await page.keyboard.type(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("0 of 400 mg").waitFor();
  await page.getByRole("radio", { name: "Now" }).focus();
  await page.keyboard.press("ArrowRight");
  // Time, size, drinks.
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "drink");
  await page.keyboard.press("Enter");
  await waitUntilEqual(async () => (await coffees(server)).length, 1);
  const { body } = await server.api("GET", "/coffee/");
  const minutes = minutesAgo(body[0].timestamp);
  assert.ok(minutes > 14.5 && minutes < 16, `${minutes} minutes ago`);
  await page.keyboard.press("Control+z");
  await waitUntilEqual(() => coffees(server), []);
});

browserTest("every element that receives focus shows it", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Delete/ }).nth(11).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  const seen = new Set();
  const unmarked = [];
  for (let n = 0; n < 100; n += 1) {
    await page.keyboard.press("Tab");
    const [name, isLast, outline, isInView] = await page.evaluate(async () => {
      // With reduced motion, transitions end within a frame.
      for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
      const focused = document.activeElement;
      // A chip draws the outline on its label.
      const drawn = focused.type === "radio" ? focused.nextElementSibling : focused;
      const { outlineStyle, outlineWidth } = getComputedStyle(drawn);
      const { top, bottom } = drawn.getBoundingClientRect();
      const all = [...document.querySelectorAll("#export button")];
      return [`${focused.tagName} ${focused.id} ${focused.textContent || focused.getAttribute("aria-label")}`, focused === all.at(-2), `${outlineStyle} ${outlineWidth}`, top < innerHeight && bottom > 0];
    });
    seen.add(name);
    if (outline !== "solid 3px" || !isInView) unmarked.push(`${name}: ${outline}, in view: ${isInView}`);
    if (isLast) break;
  }
  assert.ok(seen.size > 45, `${seen.size} elements`);
  assert.deepEqual(unmarked, []);
});

browserTest("days of 23 and 25 hours count as one day", { timezone: "Europe/Berlin" }, async ({ page, server }) => {
  await open(page, server);
  // In Berlin, clocks went back on 26 October 2025 and forward on 29 March 2026.
  const found = await page.evaluate(async () => {
    const { addDays, addLocalDays, toLocalInput } = await import("/static/app/format.js");
    const nextDay = (text) => new Date(addLocalDays(Date.parse(text), 1)).toISOString();
    return [nextDay("2025-10-25T21:00Z"), nextDay("2026-03-28T22:00Z"), addDays("2025-10-26", 1), addDays("2026-03-29", -1), toLocalInput(Date.parse("2025-10-26T01:30Z"))];
  });
  assert.deepEqual(found, ["2025-10-26T22:00:00.000Z", "2026-03-29T21:00:00.000Z", "2025-10-27", "2026-03-28", "2025-10-26T02:30"]);
});

browserTest("the Now card shows the server's values", { sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const of = async (path) => (await server.api("GET", path)).body;
  const [summary, today, active, heart] = [await of("/coffee/summary"), await of("/coffee/today"), await of("/coffee/active"), await of("/heartrate/current")];
  const text = (id) => page.locator(`#${id}`).innerText();
  const expectedStatus = summary.status === "Good" && summary.last_safe_coffee_at === null ? "Caution" : summary.status;
  assert.equal(await text("status"), expectedStatus);
  const total = today.total_caffeine_mg;
  assert.equal(await text("today-level"), total > 400 ? (total >= 600 ? "well over your limit" : "over your limit") : `${Math.round(total / 4)}% of your daily limit`);
  assert.equal(await text("today-total"), `${Math.round(today.total_caffeine_mg)} of 400 mg`);
  assert.ok(Math.abs(Number(await text("active")) - active.active_caffeine_mg) <= 1.5, await text("active"));
  assert.equal(await text("heart-now"), `${heart.bpm} bpm`);
  assert.match(await text("bedtime-label"), /^At bedtime \(23:00\)$/);
});
