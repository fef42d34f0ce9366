// The dashboard in the morning: the key, a coffee, a slip taken back, a pulse.

import assert from "node:assert/strict";

import { DEMO, KEY, accessibilityFaults, picture, scenario } from "./helpers.js";
import { becomes, coffee, coffees, drink, minutesAgo, open, signIn } from "./person.js";

const toast = (page, text) => page.locator(".toast", { hasText: text });

scenario("the key is asked for once, tried before it is kept, and forgotten on request", { expected: [/status of 401/] }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page, "not the key at all");
  await page.getByText("letters, digits and signs only").waitFor();
  await signIn(page, "the-wrong-key-of-these-tests");
  await page.getByText("The server does not know this key").waitFor();
  assert.equal(await page.getByLabel("This server's API key").inputValue(), "the-wrong-key-of-these-tests", "what was typed is still there");
  await picture(page, "dashboard/sign-in");
  assert.equal(await accessibilityFaults(page), "");
  await signIn(page, ` Bearer ${KEY} `);
  await page.getByText("0 of 400 mg").waitFor();
  await page.reload();
  await page.getByText("0 of 400 mg").waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("coffee.key")), null, "not on the device unless asked for");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("This server's API key").waitFor();
  await page.reload();
  await page.getByLabel("This server's API key").waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]).includes("the-right-key")), false);
});

scenario("a key that is remembered opens the next window, and signing out forgets it with all answers", {}, async ({ page, server, context }) => {
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  const other = await context.newPage();
  await other.goto(server.url);
  await other.getByText("0 of 400 mg").waitFor();
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.getByLabel("This server's API key").waitFor();
  const kept = await other.evaluate(() => Object.keys(localStorage).filter((name) => name === "coffee.key" || name.startsWith("coffee.answer")));
  assert.deepEqual(kept, []);
});

scenario("a drink is logged by one tap, undone by another, and an earlier one by two", {}, async ({ page, server }) => {
  await open(page, server);
  await drink(page, "espresso").click();
  await toast(page, "Logged: espresso, 80 mg").waitFor();
  await page.getByText("80 of 400 mg").waitFor();
  assert.match(await page.locator("#today-count").innerText(), /1 drink/);
  await becomes(() => coffees(server), [coffee("espresso", 80)]);
  await page.getByRole("button", { name: "Undo" }).click();
  await becomes(() => coffees(server), []);
  await page.getByText("0 of 400 mg").waitFor();

  await page.getByRole("radio", { name: "1 h ago" }).check();
  await drink(page, "filter coffee").click();
  await toast(page, "Logged: filter coffee, 90 mg").waitFor();
  await becomes(() => coffees(server), [coffee("filter coffee", 90)]);
  const { body } = await server.api("GET", "/coffee/");
  const minutes = minutesAgo(body[0].timestamp);
  assert.ok(minutes > 59.5 && minutes < 61, `${minutes} minutes ago`);
  assert.ok(await page.getByRole("radio", { name: "Now" }).isChecked(), "the next one is for now again");
});

scenario("a second tap that comes at once is a slip", {}, async ({ page, server }) => {
  await open(page, server);
  await drink(page, "cola").dblclick();
  await drink(page, "black tea").click();
  // They are sent in the order of the taps.
  await becomes(async () => (await coffees(server))[0], coffee("black tea", 50));
  assert.deepEqual(await coffees(server), [coffee("black tea", 50), coffee("cola", 40)]);
});

scenario("own habits come before what everybody drinks", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const { body } = await server.api("GET", "/coffee/types");
  await drink(page, body.own[0].coffee_type).first().waitFor();
  await page.getByRole("button", { name: "More drinks" }).click();
  const names = await page.locator(".drink span:first-child").evaluateAll((all) => all.map((one) => one.textContent));
  const own = body.own.map((one) => one.coffee_type);
  assert.deepEqual(names, [...own, ...body.presets.map((one) => one.coffee_type).filter((name) => !own.includes(name))]);
});

scenario("anything else is logged by a form, with a time of its own and notes that stay text", {}, async ({ page, server }) => {
  const notes = '<img src=x onerror="document.title=1"> strong';
  await open(page, server);
  await page.getByText("Something else").click();
  const form = page.locator("#custom-form");
  await form.getByLabel("What").fill("double espresso");
  await form.getByLabel("Caffeine, mg").fill("1000.5");
  await form.getByLabel("Notes").fill(notes);
  await form.getByRole("button", { name: "Log it" }).click();
  assert.deepEqual(await coffees(server), [], "more than the server takes does not leave the form");
  await form.getByLabel("Caffeine, mg").fill("127.5");
  await page.getByRole("radio", { name: "Other" }).check();
  await page.getByLabel("When it was").fill("2026-01-15T07:45");
  await form.getByRole("button", { name: "Log it" }).click();
  await toast(page, "double espresso, 128 mg, Thu, 15 Jan").or(toast(page, "double espresso, 128 mg, Thu 15 Jan")).waitFor();
  await becomes(() => coffees(server), [coffee("double espresso", 127.5, notes)]);
  const { body } = await server.api("GET", "/coffee/");
  assert.equal(body[0].timestamp, "2026-01-15T06:45:00.000000Z", "the time is this device's");
});

scenario("a time that lies ahead, or none, is not logged, and the browser says why", {}, async ({ page, server }) => {
  await open(page, server);
  await page.getByRole("radio", { name: "Other" }).check();
  const when = page.getByLabel("When it was");
  for (const [value, name] of [["2096-01-15T07:45", "espresso"], ["", "cola"]]) {
    await when.fill(value);
    await drink(page, name).click();
    assert.equal(await when.evaluate((input) => input.validity.valid), false);
    assert.equal(await page.evaluate(() => document.activeElement.id), "when-time", "where to mend it");
  }
  await page.locator("#heart-form").getByLabel("Beats a minute").fill("64");
  await page.locator("#heart-form").getByRole("button").click();
  assert.equal(await page.locator("#heart-form").getByLabel("Beats a minute").inputValue(), "64", "nothing typed is lost");
  assert.equal(await page.locator(".toast").count(), 0);
  await when.fill("2026-01-15T07:45");
  await page.locator("#heart-form").getByRole("button").click();
  await becomes(async () => (await server.api("GET", "/heartrate/")).body.map((one) => one.timestamp), ["2026-01-15T06:45:00.000000Z"]);
  assert.deepEqual(await coffees(server), []);
});

scenario("a heart rate is logged, shown and undone", {}, async ({ page, server }) => {
  await open(page, server);
  assert.equal(await page.locator("#heart-now").innerText(), "no reading yet");
  const form = page.locator("#heart-form");
  await form.getByLabel("Beats a minute").fill("64");
  await form.getByLabel("While").selectOption("post-coffee");
  await form.getByRole("button").click();
  await page.locator("#heart-now", { hasText: "64 bpm" }).waitFor();
  const { body } = await server.api("GET", "/heartrate/");
  assert.deepEqual([body.length, body[0].bpm, body[0].context], [1, 64, "post-coffee"]);
  await page.keyboard.press("Control+z");
  await becomes(async () => (await server.api("GET", "/heartrate/")).body, []);
  await page.locator("#heart-now", { hasText: "no reading yet" }).waitFor();
});

scenario("the keyboard alone will do", {}, async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByLabel("This server's API key").waitFor();
  await page.keyboard.type(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("0 of 400 mg").waitFor();
  await page.getByRole("radio", { name: "Now" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "drink");
  await page.keyboard.press("Enter");
  await becomes(async () => (await coffees(server)).length, 1);
  const { body } = await server.api("GET", "/coffee/");
  const minutes = minutesAgo(body[0].timestamp);
  assert.ok(minutes > 14.5 && minutes < 16, `${minutes} minutes ago`);
  await page.keyboard.press("Control+z");
  await becomes(() => coffees(server), []);
});

scenario("whoever goes through the page by Tab sees where they are", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Delete/ }).nth(11).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  const seen = new Set();
  const unmarked = [];
  for (let n = 0; n < 100; n += 1) {
    await page.keyboard.press("Tab");
    const [name, isLast, outline, isInView] = await page.evaluate(async () => {
      // With reduced motion, what moves does so within a frame.
      for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
      const focused = document.activeElement;
      // Of a chip, what is drawn for it.
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
  assert.ok(seen.size > 45, `${seen.size} places`);
  assert.deepEqual(unmarked, []);
});

scenario("a day of 25 hours is one day", { timezoneId: "Europe/Berlin" }, async ({ page, server }) => {
  await open(page, server);
  // In Berlin clocks went back on 26 October 2025 and forward on 29 March 2026.
  const found = await page.evaluate(async () => {
    const [{ daysLater }, { plusDays, localInput }] = await Promise.all(["live", "format"].map((name) => import(`/static/app/${name}.js`)));
    const bed = (text) => new Date(daysLater(Date.parse(text), 1)).toISOString();
    return [bed("2025-10-25T21:00Z"), bed("2026-03-28T22:00Z"), plusDays("2025-10-26", 1), plusDays("2026-03-29", -1), localInput(Date.parse("2025-10-26T01:30Z"))];
  });
  assert.deepEqual(found, ["2025-10-26T22:00:00.000Z", "2026-03-29T21:00:00.000Z", "2025-10-27", "2026-03-28", "2025-10-26T02:30"]);
});

scenario("what stands under Now is what the server says", { person: DEMO }, async ({ page, server }) => {
  await open(page, server);
  const of = async (path) => (await server.api("GET", path)).body;
  const [summary, today, active, heart] = [await of("/coffee/summary"), await of("/coffee/today"), await of("/coffee/active"), await of("/heartrate/current")];
  const text = (id) => page.locator(`#${id}`).innerText();
  assert.equal(await text("status"), summary.status);
  assert.equal(await text("insight"), summary.insight);
  assert.equal(await text("today-level"), today.addiction_level);
  assert.equal(await text("today-total"), `${Math.round(today.total_caffeine_mg)} of 400 mg`);
  assert.ok(Math.abs(Number(await text("active")) - active.active_caffeine_mg) <= 1.5, await text("active"));
  assert.equal(await text("heart-now"), `${heart.bpm} bpm`);
  assert.match(await text("bedtime-label"), /^In bed at 23:00$/);
});
