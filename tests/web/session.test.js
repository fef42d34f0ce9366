// Sessions: what a key may do, and several tabs. Several people: people.test.js.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { KEY, accessibilityViolations, browserTest, importModule, screenshot } from "./helpers.js";
import { addKeys, coffee, coffees, drinkButton, signIn, waitUntilEqual } from "./actions.js";

test("the hash of a key is its SHA-256", async () => {
  const { sha256 } = await importModule("sha256.js");
  const texts = ["", "abc", "ct_9f", "ä€😀", "x".repeat(55), "x".repeat(56), "x".repeat(64), "x".repeat(1000)];
  for (const text of texts) assert.equal(sha256(text), createHash("sha256").update(text).digest("hex"), text);
});

browserTest("a key with the scope read shows entries and no buttons that it may not use", { screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso" });
  const { reader } = await addKeys(server, { reader: "read" });
  await page.goto(server.url);
  await signIn(page, reader);
  await page.getByText("80 of 400 mg").waitFor();
  await page.getByText("This key can view entries, but not add or change them.").waitFor();
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-list .entry").first().waitFor();
  assert.equal(await page.locator(".drink:visible, #custom:visible, #heart-form:visible, .icon-button:visible").count(), 0);
  assert.equal(await page.getByRole("button", { name: "Log this" }).count(), 0);
  await screenshot(page, "dashboard/phone-read-only");
  assert.equal(await accessibilityViolations(page), "");
});

browserTest("a key with the scope write logs drinks, and requests nothing that it may not read", { screen: "phone" }, async ({ page, server }) => {
  const { writer } = await addKeys(server, { writer: "write" });
  await page.goto(server.url);
  await signIn(page, writer);
  await page.getByText("This key can add entries, but not view them.").waitFor();
  await drinkButton(page, "espresso").click();
  await page.locator(".toast", { hasText: "Logged espresso, 80 mg" }).waitFor();
  await page.getByText("Custom drink").click();
  await page.locator("#custom-form").getByLabel("Caffeine (mg)").fill("60");
  await page.locator("#custom-form").getByRole("button", { name: "Log drink" }).click();
  await waitUntilEqual(() => coffees(server), [coffee(null, 60), coffee("espresso", 80)]);
  assert.equal(await page.locator("#now-title:visible, #history:visible, #week:visible, .chart:visible").count(), 0);
  await screenshot(page, "dashboard/phone-write-only");
  assert.equal(await accessibilityViolations(page), "");
  // A refused request would be a console error.
  await page.reload();
  await drinkButton(page, "cola").waitFor();
  await page.waitForLoadState("networkidle");
});

browserTest("a key with the scope metrics alone cannot sign in", {}, async ({ page, server }) => {
  const { prometheus } = await addKeys(server, { prometheus: "metrics" });
  await page.goto(server.url);
  await signIn(page, prometheus);
  await page.getByText("This key can't view or add entries.").waitFor();
  await page.reload();
  await page.getByLabel("API key").waitFor();
});

browserTest("every tab follows a sign-out at once", {}, async ({ page, server, context }) => {
  const tabs = [page, await context.newPage(), await context.newPage()];
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  for (const tab of tabs.slice(1)) await tab.goto(server.url);
  // The third tab has a key of its own, kept in this tab only.
  await tabs[2].evaluate((key) => sessionStorage.setItem("coffee.key", key), KEY);
  await tabs[2].reload();
  for (const tab of tabs) await tab.getByText("0 of 400 mg").waitFor();
  const docs = await context.newPage();
  await docs.goto(`${server.url}/docs`);
  await docs.locator("#browser-key:visible").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  for (const tab of tabs) await tab.getByLabel("API key").waitFor();
  await docs.locator("#browser-key").waitFor({ state: "hidden" });
  for (const tab of tabs) {
    const left = await tab.evaluate(() => [...Object.keys(localStorage), ...Object.keys(sessionStorage)].filter((name) => !name.startsWith("coffee.info")));
    assert.deepEqual(left, []);
  }
});

browserTest("a tab that missed the message signs out when it is shown again", {}, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  await page.evaluate(() => {
    localStorage.removeItem("coffee.key");
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
  });
  await page.getByLabel("API key").waitFor();
});
