// Offline queue: every entry is logged exactly once, across reloads and tabs, without locks and without storage;
// undone and discarded entries are not logged.

import assert from "node:assert/strict";

import { UNREACHABLE, blockCoffeePosts, isPost, loseResponses, retry } from "./network.js";
import { KEY, browserTest, startServer } from "./helpers.js";
import { banner, coffee, coffees, drinkButton, open, signIn, waitUntilEqual } from "./actions.js";

browserTest("an entry whose response was lost is logged once, also after a reload", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  const restoreNetwork = await loseResponses(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved on this device").waitFor();
  await page.reload();
  await page.getByText("80 of 400 mg").waitFor();
  assert.equal((await coffees(server)).length, 1, "it has reached the server");
  restoreNetwork();
  await retry(page);
  await page.locator("#banner").waitFor({ state: "hidden" });
  await page.getByText("80 of 400 mg").waitFor();
  assert.deepEqual(await coffees(server), [coffee("espresso", 80)]);
});

browserTest("over plain HTTP, without locks, two tabs that send at the same time log an entry once", { expected: UNREACHABLE }, async ({ page, server, context }) => {
  const insecure = { url: `http://kitchen.lan:${server.port}` };
  const other = await context.newPage();
  for (const tab of [page, other]) await open(tab, insecure);
  assert.equal(await page.evaluate(() => typeof navigator.locks), "undefined");
  // Requests are held until both tabs have sent one.
  const heldRequests = [];
  const keys = new Set();
  await context.route("**/coffee/", (route) => {
    if (!isPost(route) || heldRequests.length === 2) return route.continue();
    keys.add(route.request().headers()["idempotency-key"]);
    heldRequests.push(route);
  });
  await drinkButton(page, "espresso").click();
  await waitUntilEqual(() => heldRequests.length, 1);
  await other.evaluate(() => dispatchEvent(new Event("online")));
  await waitUntilEqual(() => heldRequests.length, 2);
  await Promise.all(heldRequests.map((route) => route.continue()));
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  for (const tab of [page, other]) await tab.getByText("80 of 400 mg").waitFor();
  assert.equal(keys.size, 1, "both requests have the same key");
});

browserTest("an entry sent by another tab can be undone in the tab that logged it", { expected: UNREACHABLE }, async ({ page, server, context }) => {
  await open(page, server);
  const other = await context.newPage();
  await open(other, server);
  await blockCoffeePosts(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved").waitFor();
  await banner(other, "1 entry").waitFor();
  await retry(other);
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  await page.locator("#banner").waitFor({ state: "hidden" });
  await page.getByText("80 of 400 mg").waitFor();
  await page.unrouteAll();
  await page.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(() => coffees(server), []);
  for (const tab of [page, other]) await tab.getByText("0 of 400 mg").waitFor();
});

for (const [what, breakStorage] of [
  ["has no storage", () => {
    for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
      Object.defineProperty(window, name, { get: () => { throw new DOMException("refused", "SecurityError"); } });
    }
  }],
  ["has a full disk", () => {
    IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
  }],
]) {
  browserTest(`a browser that ${what} queues entries while the page is open`, { expected: UNREACHABLE }, async ({ page, server }) => {
    await page.addInitScript(breakStorage);
    await page.goto(server.url);
    await signIn(page);
    await page.getByText("0 of 400 mg").waitFor();
    await blockCoffeePosts(page);
    await drinkButton(page, "espresso").click();
    await drinkButton(page, "cola").click();
    await banner(page, "2 entries saved until you close this page").waitFor();
    await page.getByText("120 of 400 mg").waitFor();
    await page.unrouteAll();
    await retry(page);
    await page.locator("#banner").waitFor({ state: "hidden" });
    await waitUntilEqual(() => coffees(server), [coffee("cola", 40), coffee("espresso", 80)]);
  });
}

browserTest("signing out can discard pending entries, leaving no data on the device", { expected: UNREACHABLE }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  await blockCoffeePosts(page);
  await page.getByText("Custom drink").click();
  await page.locator("#custom-form").getByLabel("Caffeine (mg)").fill("60");
  await page.locator("#custom-form").getByLabel("Notes").fill("private");
  await page.locator("#custom-form").getByRole("button", { name: "Log drink" }).click();
  await banner(page, "1 entry saved").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  const sheet = page.getByRole("dialog", { name: "Sign out?" });
  await sheet.getByRole("button", { name: "Cancel" }).click();
  await sheet.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Sign out" }).click();
  await sheet.getByRole("button", { name: "Discard and sign out" }).click();
  await page.getByLabel("API key").waitFor();
  const left = await page.evaluate(async () => {
    const opened = indexedDB.open("coffee-tracker");
    await new Promise((resolve) => (opened.onsuccess = resolve));
    const all = opened.result.transaction("queue").objectStore("queue").getAll();
    await new Promise((resolve) => (all.onsuccess = resolve));
    return [all.result, Object.keys(localStorage).filter((name) => !name.startsWith("coffee.info")), Object.keys(sessionStorage)];
  });
  // This window was signed in through the dialog, so that no key is set on reload.
  assert.deepEqual(left, [[], [], []]);
  await page.unrouteAll();
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  assert.deepEqual(await coffees(server), []);
});

browserTest("signing out carries out a deletion that could still be undone", {}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso" });
  await page.goto(server.url);
  await signIn(page);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Delete espresso/ }).click();
  await page.locator(".toast", { hasText: "Deleted espresso" }).waitFor();
  assert.equal((await coffees(server)).length, 1, "not yet");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  assert.deepEqual(await coffees(server), []);
});

browserTest("entries from an earlier window are sent in order and with their own times", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  await server.stop();
  const names = ["espresso", "cola", "black tea", "energy drink"];
  for (const [n, name] of names.entries()) {
    await drinkButton(page, name).click();
    await banner(page, n ? `${n + 1} entries` : "1 entry").waitFor();
  }
  const times = await page.evaluate(async () => {
    const opened = indexedDB.open("coffee-tracker");
    await new Promise((resolve) => (opened.onsuccess = resolve));
    const all = opened.result.transaction("queue").objectStore("queue").getAll();
    await new Promise((resolve) => (all.onsuccess = resolve));
    return all.result.map((entry) => entry.body.timestamp).sort();
  });
  await page.goto("about:blank");
  const next = await startServer({ port: server.port, folder: server.folder });
  try {
    await page.goto(server.url);
    await waitUntilEqual(async () => (await next.api("GET", "/coffee/")).body.map((entry) => entry.timestamp.replace("000Z", "Z")).reverse(), times);
    assert.deepEqual((await coffees(next)).map((entry) => entry.coffee_type).reverse(), names);
  } finally {
    await next.stop();
  }
});
