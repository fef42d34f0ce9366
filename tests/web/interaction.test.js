// How the dashboard behaves in the hand and at the keyboard: where things are on a phone, what Esc does, where the
// focus goes, what is announced, and that totals and lists agree.

import assert from "node:assert/strict";

import { UNREACHABLE, blockCoffeePosts } from "./network.js";
import { DEMO, KEY, TIMEZONE, browserTest, horizontalOverflow } from "./helpers.js";
import { coffee, coffees, drinkButton, minutesAgo, open, signIn, waitUntilEqual } from "./actions.js";

const PHONE = { viewport: { width: 390, height: 664 }, hasTouch: true, isMobile: true };
const HOUR = 3_600_000;
const toast = (page, text) => page.locator(".toast:visible", { hasText: text });
const focused = (page) => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText ?? document.activeElement.id);
const text = (page, id) => page.locator(`#${id}`).innerText();
/** Formats a time as settings of the server need it. */
const clock = (instant) => new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: TIMEZONE }).format(instant);

async function openHistory(page, server) {
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-list > *").first().waitFor();
}

browserTest("on a phone the six usual drinks are above the fold", { ...PHONE, sampleData: DEMO }, async ({ page, server }) => {
  await open(page, server);
  await drinkButton(page, "espresso").first().waitFor();
  const bottoms = await page.locator(".drink").evaluateAll((elements) => elements.map((element) => element.getBoundingClientRect().bottom));
  assert.equal(bottoms.length, 6);
  assert.ok(Math.max(...bottoms) < 664, `${bottoms}`);
  assert.equal(await horizontalOverflow(page), 0);
});

for (const [name, options] of [["phone", PHONE], ["narrow", { screen: "narrow" }], ["wide", { screen: "wide" }]]) {
  browserTest(`a toast covers nothing and moves no button: ${name}`, options, async ({ page, server }) => {
    await open(page, server);
    const targets = () => page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, summary, a")]
      .filter((element) => element.checkVisibility() && !element.closest(".toast"))
      .map((element) => [element.id || element.innerText, element.getBoundingClientRect().top + scrollY]));
    await page.waitForLoadState("networkidle");
    const before = await targets();
    for (const drink of ["espresso", "cola"]) await drinkButton(page, drink).click();
    await toast(page, "Logged cola, 40 mg").waitFor();
    const moved = (await targets()).filter(([id, top], n) => before[n]?.[0] === id && Math.abs(before[n][1] - top) > 1);
    assert.deepEqual(moved, []);
    const overlaps = await page.evaluate(() => {
      const boxes = [...document.querySelectorAll(".toast")].filter((element) => element.checkVisibility()).map((element) => element.getBoundingClientRect());
      const others = [...document.querySelectorAll("button, input, select, textarea, summary, a")].filter((element) => element.checkVisibility() && !element.closest(".toast"));
      return others.filter((element) => {
        const { left, right, top, bottom } = element.getBoundingClientRect();
        return boxes.some((box) => left < box.right && right > box.left && top < box.bottom && bottom > box.top);
      }).map((element) => element.outerHTML);
    });
    assert.deepEqual(overlaps, []);
    await waitUntilEqual(async () => (await coffees(server)).length, 2);
  });
}

browserTest("on a phone the banner does not cover the toast above it", { ...PHONE, expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  await blockCoffeePosts(page);
  for (const name of ["espresso", "cola", "black tea"]) await drinkButton(page, name).tap();
  await page.locator("#banner", { hasText: "3 entries saved" }).waitFor();
  const [undo, banner] = await Promise.all([toast(page, "Logged black tea").getByRole("button").boundingBox(), page.locator("#banner").boundingBox()]);
  assert.ok(undo.y + undo.height <= banner.y, `${undo.y + undo.height} and ${banner.y}`);
});

browserTest("a drink that was logged now is on its way", {}, async ({ page, server }) => {
  await open(page, server);
  assert.equal(await text(page, "on-its-way"), "");
  await drinkButton(page, "espresso").click();
  await page.locator("#on-its-way", { hasText: "+80 mg on its way" }).waitFor();
  assert.equal(await text(page, "active"), "0");
});

browserTest("five drinks that wait give one message, and the same once they have arrived", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  await blockCoffeePosts(page);
  const names = ["espresso", "filter coffee", "energy drink", "black tea", "cola"];
  for (const name of names) await drinkButton(page, name).click();
  await page.getByRole("radio", { name: "Double" }).check();
  await drinkButton(page, "espresso").click();
  await page.getByText("500 of 400 mg").waitFor();
  const shown = async () => [await text(page, "status"), await text(page, "insight"), await text(page, "today-level"), await text(page, "can-drink"), await text(page, "can-drink-detail"), await text(page, "last-safe"), await text(page, "last-safe-detail")];
  const waiting = await shown();
  assert.deepEqual(waiting, [
    "Warning", "500 mg today is over your daily limit of 400 mg.", "over your limit", "None", "daily limit reached", "Not today", "for your usual 80 mg: daily limit reached",
  ]);
  await page.unrouteAll();
  await page.locator("#banner button").dispatchEvent("click");
  await waitUntilEqual(async () => (await coffees(server)).length, 6);
  await page.locator("#banner").waitFor({ state: "hidden" });
  await waitUntilEqual(shown, waiting);
});

browserTest("after bedtime, the status is about the night that has begun", { settings: { BEDTIME: clock(Date.now() - 2 * HOUR) } }, async ({ page, server }) => {
  await open(page, server);
  await page.locator("#insight", { hasText: "It's past your bedtime. Another 80 mg now would likely disturb your sleep." }).waitFor();
  assert.equal(await text(page, "status"), "Caution");
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha", timestamp: new Date(Date.now() - HOUR).toISOString() });
  await page.reload();
  await page.locator("#insight", { hasText: /^It's past your bedtime, with about \d+ mg in your body: over your 50 mg sleep limit\.$/ }).waitFor();
  assert.equal(await text(page, "can-drink"), "None");
});

browserTest("the last coffee before bed names the dose for which it is computed", {
  settings: { USUAL_DOSE_MG: "250", BEDTIME: clock(Date.now() + 20 * HOUR), SLEEP_THRESHOLD_MG: "190" },
}, async ({ page, server }) => {
  await open(page, server);
  assert.equal(await text(page, "last-safe-detail"), "for 200 mg, the advised maximum (your usual: 250 mg)");
  assert.equal(await text(page, "can-drink-detail"), "the advised maximum for a single dose");
});

browserTest("Esc does not close the sign-in dialog, and signing in shows progress", {}, async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByLabel("API key").waitFor();
  for (let n = 0; n < 4; n += 1) await page.keyboard.press("Escape");
  assert.ok(await page.locator("#sign-in").evaluate((dialog) => dialog.open));
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/me", async (route) => {
    await held;
    await route.continue();
  });
  await page.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Signing in…", disabled: true }).waitFor();
  release();
  await page.getByText("0 of 400 mg").waitFor();
});

browserTest("Esc asks before it discards an edited entry", {}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso" });
  await openHistory(page, server);
  const edit = page.getByRole("button", { name: /^Edit espresso/ });
  const sheet = page.getByRole("dialog", { name: "Edit entry" });
  await edit.click();
  await page.keyboard.press("Escape");
  await sheet.waitFor({ state: "hidden" });
  assert.match(await focused(page), /^Edit espresso/, "the focus returns");
  await edit.click();
  await sheet.getByLabel("Notes").fill("typed");
  for (let n = 0; n < 3; n += 1) await page.keyboard.press("Escape");
  await sheet.getByText("Discard your changes?").waitFor();
  await sheet.getByRole("button", { name: "Keep editing" }).click();
  assert.equal(await sheet.getByLabel("Notes").inputValue(), "typed");
  await page.keyboard.press("Escape");
  await sheet.getByRole("button", { name: "Discard" }).click();
  await sheet.waitFor({ state: "hidden" });
  assert.deepEqual(await coffees(server), [coffee("espresso", 80)]);
});

browserTest("after saving, deleting and undoing, the focus is at the entry and the result is announced", {}, async ({ page, server }) => {
  for (const [n, name] of ["a", "b", "c"].entries()) await server.api("POST", "/coffee/", { caffeine_mg: 50, coffee_type: name, timestamp: `2026-03-0${n + 1}T08:00:00Z` });
  await openHistory(page, server);
  const announced = (words) => page.locator("[role=status]", { hasText: words }).waitFor();
  await page.getByRole("button", { name: /^Edit b,/ }).click();
  await page.getByRole("dialog").getByLabel("Caffeine (mg)").fill("60");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await announced("Saved b, 60 mg");
  await waitUntilEqual(async () => (await focused(page)).slice(0, 13), "Edit b, 60 mg");
  await page.getByRole("button", { name: /^Delete b,/ }).click();
  await announced("Deleted b, 60 mg");
  await waitUntilEqual(async () => (await focused(page)).slice(0, 6), "Edit a");
  await page.keyboard.press("Control+z");
  await announced("Restored b, 60 mg");
  await waitUntilEqual(async () => (await focused(page)).slice(0, 6), "Edit b");
});

browserTest("Ctrl+Z undoes an entry right after it was logged from a form", {}, async ({ page, server }) => {
  await open(page, server);
  await page.locator("#heart-form").getByLabel("Heart rate (bpm)").fill("64");
  await page.keyboard.press("Enter");
  await toast(page, "Logged 64 bpm, resting").waitFor();
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body.length, 1);
  assert.match(await toast(page, "Logged 64 bpm").innerText(), /Undo\s*(Ctrl\+Z|⌘Z)/);
  await page.keyboard.press("Control+z");
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body.length, 0);
  await page.locator("[role=status]", { hasText: "Removed 64 bpm, resting" }).waitFor();
});

browserTest("totals and list agree while a deletion can still be undone", {}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 100, coffee_type: "a" });
  await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: "b" });
  await openHistory(page, server);
  await page.getByText("160 of 400 mg").waitFor();
  await page.locator("#week").scrollIntoViewIfNeeded();
  await page.locator("#week-bars .amount", { hasText: /^160 mg$/ }).waitFor();
  await page.getByRole("button", { name: /^Delete a,/ }).click();
  await page.getByText("60 of 400 mg").waitFor();
  assert.equal(await text(page, "today-count"), "1 drink");
  await page.locator("#week-bars .amount", { hasText: /^60 mg$/ }).waitFor();
  assert.equal((await coffees(server)).length, 2, "nothing is deleted yet");
  await page.keyboard.press("Control+z");
  await page.getByText("160 of 400 mg").waitFor();
  await page.locator("#week-bars .amount", { hasText: /^160 mg$/ }).waitFor();
});

browserTest("a year before 2000 must be confirmed", {}, async ({ page, server }) => {
  await open(page, server);
  await page.getByText("Time, for drinks and heart rate").waitFor();
  await page.getByRole("radio", { name: "Other…" }).check();
  await page.getByLabel("Time", { exact: true }).fill("1926-01-15T07:45");
  await drinkButton(page, "espresso").click();
  await page.getByText("Is the year 1926 correct?").waitFor();
  assert.deepEqual(await coffees(server), []);
  await drinkButton(page, "espresso").click();
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Edit espresso/ }).click();
  const sheet = page.getByRole("dialog");
  await sheet.getByLabel("Time", { exact: true }).fill("1925-01-15T07:45");
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.getByText("Is the year 1925 correct?").waitFor();
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.waitFor({ state: "hidden" });
  assert.match((await server.api("GET", "/coffee/")).body[0].timestamp, /^1925/);
});

browserTest("What if? judges a drink after bedtime, rounds alike, and logs the drink", {
  settings: { BEDTIME: clock(Date.now() + 2 * HOUR) },
}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 9, coffee_type: "decaf", timestamp: new Date(Date.now() - 3 * HOUR).toISOString() });
  await open(page, server);
  const whatIf = page.locator("#what-if");
  const result = page.locator(".what-if-result");
  await whatIf.getByLabel("Dose (mg)").fill("1");
  assert.match(await result.innerText(), /^\d\.\d mg at bedtime, \d+:\d+ \(\d\.\d without it\), within your 50 mg sleep limit\./);
  await whatIf.getByLabel("Drink").selectOption("filter coffee, 90 mg");
  const slider = whatIf.getByRole("slider");
  await slider.fill("16");
  assert.match(await result.innerText(), /^After bedtime \(\d+:\d+\): up to \d+ mg, over your 50 mg sleep limit\./);
  assert.ok(await page.getByRole("button", { name: "Log this" }).isDisabled(), "it has not been drunk yet");
  await slider.fill("0");
  assert.equal(await slider.getAttribute("aria-valuetext"), "now");
  await page.getByRole("button", { name: "Log this" }).click();
  await toast(page, "Logged filter coffee, 90 mg").waitFor();
  await waitUntilEqual(async () => (await coffees(server))[0], coffee("filter coffee", 90));
});

browserTest("a drink is logged double and in ml, and once more from the history", {}, async ({ page, server }) => {
  await open(page, server);
  await page.getByRole("radio", { name: "Double" }).check();
  await page.locator(".drink", { hasText: "160 mg" }).first().waitFor();
  await drinkButton(page, "espresso").click();
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 160, "double")]);
  assert.ok(await page.getByRole("radio", { name: "Single" }).isChecked(), "the size is reset");
  await page.getByRole("radio", { name: "In ml" }).check();
  await page.getByLabel("Amount (ml)").fill("300");
  await drinkButton(page, "filter coffee").click();
  await waitUntilEqual(async () => (await coffees(server))[0], coffee("filter coffee", 135, "300 ml"));
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Log again: espresso, 160 mg/ }).click();
  await waitUntilEqual(async () => (await coffees(server))[0], coffee("espresso", 160, "double"));
  const { body } = await server.api("GET", "/coffee/");
  assert.ok(minutesAgo(body[0].timestamp) < 1);
  assert.equal(body.length, 3);
});

browserTest("on a phone an entry is logged again from the edit dialog", PHONE, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso", timestamp: "2026-03-01T08:00:00Z" });
  await openHistory(page, server);
  await page.getByRole("button", { name: /^Edit espresso/ }).tap();
  await page.getByRole("dialog").getByRole("button", { name: "Log again" }).tap();
  await waitUntilEqual(async () => (await coffees(server)).length, 2);
});

browserTest("the second tab signs in as soon as the first does", {}, async ({ page, server, context }) => {
  const other = await context.newPage();
  await page.goto(server.url);
  await other.goto(server.url);
  await signIn(page, KEY, { remember: true });
  for (const tab of [page, other]) await tab.getByText("0 of 400 mg").waitFor();
});
