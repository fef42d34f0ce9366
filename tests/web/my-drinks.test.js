// "My drinks": pins, order, hidden drinks, own doses, renaming and merging; app shortcuts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { accessibilityViolations, browserTest, horizontalOverflow, screenshot } from "./helpers.js";
import { coffee, coffees, drinkButton, open, waitUntilEqual } from "./actions.js";

const names = (page) => page.locator("#drinks .drink bdi").allTextContents();
const sheet = (page) => page.getByRole("dialog", { name: "My drinks" });

async function openMyDrinks(page) {
  await page.getByRole("button", { name: "My drinks" }).click();
  await sheet(page).waitFor();
}

/** Opens the form of a drink in the list. */
async function edit(page, name) {
  await sheet(page).locator("summary", { hasText: new RegExp(`^${name}`) }).click();
  return sheet(page).locator("[open] form");
}

browserTest("drinks are pinned, ordered, hidden and get own doses, which this browser keeps", { screen: "phone" }, async ({ page, server }) => {
  await open(page, server);
  await waitUntilEqual(() => names(page), ["espresso", "filter coffee", "black tea", "cola", "energy drink", "dark chocolate"]);
  await openMyDrinks(page);
  await (await edit(page, "cola")).getByRole("button", { name: "Pin to top" }).click();
  await (await edit(page, "black tea")).getByRole("button", { name: "Pin to top" }).click();
  await sheet(page).locator("[open] form").getByRole("button", { name: "Move up" }).click();
  await (await edit(page, "energy drink")).getByRole("button", { name: "Hide" }).click();
  const form = await edit(page, "espresso");
  await form.getByLabel("Caffeine (mg)").fill("63");
  await screenshot(page, "dashboard/phone-my-drinks", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  await form.getByRole("button", { name: "Save" }).click();
  await sheet(page).getByRole("button", { name: "Done" }).click();
  for (const isReloaded of [false, true]) {
    if (isReloaded) await page.reload();
    await waitUntilEqual(() => names(page), ["black tea", "cola", "espresso", "filter coffee", "dark chocolate"]);
  }
  await drinkButton(page, "espresso").click();
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 63)]);
  await openMyDrinks(page);
  await (await edit(page, "energy drink")).getByRole("button", { name: "Show" }).click();
  await sheet(page).getByRole("button", { name: "Done" }).click();
  await waitUntilEqual(async () => (await names(page)).includes("energy drink"), true);
  assert.equal(await horizontalOverflow(page), 0);
});

browserTest("a drink is renamed in every past entry, and Undo restores each spelling", {}, async ({ page, server }) => {
  for (const [n, name] of ["Oat Latte", "oat latte", "mocha", "oat latte"].entries()) {
    await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: name, timestamp: `2026-03-0${n + 1}T08:00:00Z` });
  }
  const types = async () => (await coffees(server)).map((entry) => entry.coffee_type);
  await open(page, server);
  await openMyDrinks(page);
  const form = await edit(page, "Oat Latte");
  await form.getByLabel("Name").fill(" flat white ");
  await form.getByText("Your past entries are renamed, too.").waitFor();
  await form.getByRole("button", { name: "Save" }).click();
  const toast = page.locator(".toast", { hasText: "Renamed Oat Latte to flat white in 3 entries" });
  await toast.waitFor();
  assert.deepEqual(await types(), ["flat white", "mocha", "flat white", "flat white"]);
  await waitUntilEqual(async () => (await names(page)).includes("flat white"), true);
  await toast.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(types, ["oat latte", "mocha", "oat latte", "Oat Latte"]);
});

browserTest("two drinks become one when the new name is another drink's", {}, async ({ page, server }) => {
  for (const [n, name] of ["latte", "caffe latte"].entries()) {
    await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: name, timestamp: `2026-03-0${n + 1}T08:00:00Z` });
  }
  await open(page, server);
  await openMyDrinks(page);
  const form = await edit(page, "caffe latte");
  await form.getByLabel("Name").fill("latte");
  await form.getByText("Both become one drink").waitFor();
  await form.getByRole("button", { name: "Merge" }).click();
  await page.locator(".toast", { hasText: "in 1 entry" }).waitFor();
  assert.deepEqual((await coffees(server)).map((entry) => entry.coffee_type), ["latte", "latte"]);
});

browserTest("many entries are renamed at once, whatever the limit of changes, and Undo too", {
  settings: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_COFFEE_CHANGE: "5/hour" },
}, async ({ page, server }) => {
  for (let n = 1; n < 34; n += 1) {
    await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: "latte", timestamp: `2026-03-01T08:${String(n).padStart(2, "0")}:00Z` });
  }
  const types = async () => [...new Set((await coffees(server)).map((entry) => entry.coffee_type))];
  await open(page, server);
  await openMyDrinks(page);
  const form = await edit(page, "latte");
  await form.getByLabel("Name").fill("flat white");
  await form.getByRole("button", { name: "Save" }).click();
  const toast = page.locator(".toast", { hasText: "Renamed latte to flat white in 33 entries" });
  await toast.waitFor();
  assert.deepEqual(await types(), ["flat white"]);
  await toast.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(types, ["latte"]);
});

browserTest("an app shortcut logs its drink after a confirmation, once", {}, async ({ page, server }) => {
  const manifest = JSON.parse(readFileSync(new URL("../../static/manifest.webmanifest", import.meta.url), "utf8"));
  const { url } = manifest.shortcuts.find((shortcut) => shortcut.name === "Log espresso");
  await open(page, server);
  await page.goto(server.url + url);
  const log = page.getByRole("dialog").getByRole("button", { name: "Log espresso, 80 mg" });
  await log.waitFor();
  assert.deepEqual(await coffees(server), [], "another website may have opened the address");
  assert.ok(await log.evaluate((element) => element === document.activeElement));
  await screenshot(page, "dashboard/shortcut", { fullPage: false });
  await page.keyboard.press("Enter");
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  await page.reload();
  await page.locator("#today-total", { hasText: "80 of" }).waitFor();
  assert.equal(await page.getByRole("dialog").count(), 0);
  // Every shortcut names a drink of the server.
  const { presets } = (await server.api("GET", "/coffee/types")).body;
  for (const shortcut of manifest.shortcuts) {
    const name = new URL(shortcut.url, server.url).searchParams.get("log");
    assert.ok(presets.some((preset) => preset.coffee_type === name), name);
  }
});
