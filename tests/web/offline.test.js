// The dashboard while the server is unreachable, rate limited, rejects entries or has revoked the key: no input
// is lost, no entry is logged twice, and the page shows the problem.

import assert from "node:assert/strict";

import { UNREACHABLE, blockCoffeePosts, isPost, loseResponses, retry } from "./network.js";
import { KEY, browserTest, screenshot, startServer } from "./helpers.js";
import { banner, coffee, coffees, drinkButton, minutesAgo, open, signIn, waitUntilEqual } from "./actions.js";

/** Restarts the server with the same port and data for the duration of `body`. */
async function withRestartedServer(server, settings, body) {
  const restarted = await startServer({ port: server.port, folder: server.folder, settings });
  try {
    await body(restarted);
  } finally {
    await restarted.stop();
  }
}

browserTest("entries logged while the server is down are sent once it is back, with their own time", { expected: UNREACHABLE, screen: "phone" }, async ({ page, server }) => {
  await open(page, server);
  await server.stop();
  await drinkButton(page, "espresso").click();
  await page.getByRole("radio", { name: "2 h ago" }).check();
  await drinkButton(page, "black tea").click();
  await page.locator("#heart-form").getByLabel("Heart rate (bpm)").fill("71");
  await page.locator("#heart-form").getByRole("button", { name: "Log heart rate" }).click();
  await banner(page, "Can't reach the server. 3 entries saved on this device.").waitFor();
  await page.getByText("130 of 400 mg").waitFor();
  await page.locator("#active", { hasText: /^[1-9]/ }).waitFor();
  await screenshot(page, "dashboard/phone-down", { fullPage: false });
  await withRestartedServer(server, {}, async (restarted) => {
    await retry(page);
    await waitUntilEqual(() => coffees(restarted), [coffee("espresso", 80), coffee("black tea", 50)]);
    await waitUntilEqual(async () => (await restarted.api("GET", "/heartrate/")).body.map((entry) => entry.bpm), [71]);
    const [, tea] = (await restarted.api("GET", "/coffee/")).body;
    const minutes = minutesAgo(tea.timestamp);
    assert.ok(minutes > 119.5 && minutes < 123, `${minutes} minutes ago`);
    await page.locator("#banner").waitFor({ state: "hidden" });
    await page.getByText("130 of 400 mg").waitFor();
  });
});

browserTest("an entry whose response was lost is sent again and logged once", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  const restoreNetwork = await loseResponses(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved").waitFor();
  assert.equal((await coffees(server)).length, 1, "it has reached the server");
  restoreNetwork();
  await retry(page);
  await page.locator("#banner").waitFor({ state: "hidden" });
  assert.deepEqual(await coffees(server), [coffee("espresso", 80)]);
});

browserTest("an entry whose response was lost can be undone", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  const restoreNetwork = await loseResponses(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved").waitFor();
  assert.equal((await coffees(server)).length, 1);
  restoreNetwork();
  await page.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(() => coffees(server), []);
  await page.getByText("0 of 400 mg").waitFor();
});

browserTest("two tabs send pending entries once", { expected: UNREACHABLE }, async ({ page, server, context }) => {
  await open(page, server);
  const other = await context.newPage();
  await open(other, server);
  await server.stop();
  for (const name of ["espresso", "cola", "black tea"]) await drinkButton(page, name).click();
  await banner(other, "3 entries").waitFor();
  await drinkButton(other, "energy drink").click();
  await banner(page, "4 entries").waitFor();
  await withRestartedServer(server, {}, async (restarted) => {
    await Promise.all([retry(page), retry(other)]);
    const all = [coffee("energy drink", 80), coffee("black tea", 50), coffee("cola", 40), coffee("espresso", 80)];
    await waitUntilEqual(() => coffees(restarted), all);
    await Promise.all([page, other].map((tab) => tab.locator("#banner").waitFor({ state: "hidden" })));
    assert.deepEqual(await coffees(restarted), all);
  });
});

browserTest("an entry is undone before it is sent", { expected: UNREACHABLE }, async ({ page, server }) => {
  await open(page, server);
  await server.stop();
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved").waitFor();
  await drinkButton(page, "cola").click();
  await banner(page, "2 entries saved").waitFor();
  await page.getByText("120 of 400 mg").waitFor();
  await page.keyboard.press("Control+z");
  await banner(page, "1 entry saved").waitFor();
  await page.getByText("80 of 400 mg").waitFor();
  await withRestartedServer(server, {}, async (restarted) => {
    await retry(page);
    await waitUntilEqual(() => coffees(restarted), [coffee("espresso", 80)]);
    await page.locator("#banner").waitFor({ state: "hidden" });
    assert.deepEqual(await coffees(restarted), [coffee("espresso", 80)]);
  });
});

browserTest("after the key is revoked, the input on the page is kept, and sent with the next key of the same person", { expected: [...UNREACHABLE, /status of 401/] }, async ({ page, server }) => {
  await open(page, server);
  await page.getByText("Custom drink").click();
  await page.locator("#custom-form").getByLabel("Notes").fill("typed before");
  await server.stop();
  const API_KEY = "another-key-of-these-tests";
  await withRestartedServer(server, { API_KEY }, async (restarted) => {
    await drinkButton(page, "espresso").evaluate((button) => button.click());
    const dialog = page.getByRole("dialog", { name: "Coffee Tracker" });
    await dialog.waitFor();
    await screenshot(page, "dashboard/key-revoked", { fullPage: false });
    await dialog.getByRole("button", { name: "Not now" }).click();
    await banner(page, "Your API key is no longer valid. 1 entry saved on this device.").waitFor();
    await page.getByRole("button", { name: "Sign in" }).click();
    await signIn(page, API_KEY);
    await page.locator("#banner").waitFor({ state: "hidden" });
    const list = async () => (await fetch(`${restarted.url}/coffee/`, { headers: { Authorization: `Bearer ${API_KEY}` } })).json();
    await waitUntilEqual(async () => (await list()).map((entry) => entry.coffee_type), ["espresso"]);
    assert.equal(await page.locator("#custom-form").getByLabel("Notes").inputValue(), "typed before");
  });
});

browserTest("when rate limited, the page shows a countdown and then sends the entry", {
  expected: [/status of 429/],
  settings: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_COFFEE_WRITE: "6/minute" },
}, async ({ page, server }) => {
  await open(page, server);
  // The limit is used up right before the page's first request, however long the page takes to load.
  let isUsedUp = false;
  await page.route("**/coffee/", async (route) => {
    if (!isPost(route) || isUsedUp) return route.continue();
    isUsedUp = true;
    let status;
    do ({ status } = await server.api("POST", "/coffee/", { caffeine_mg: 1 }));
    while (status === 201);
    return route.continue();
  });
  await drinkButton(page, "espresso").click();
  await banner(page, "Waiting to try again. 1 entry saved on this device.").waitFor();
  await screenshot(page, "dashboard/limited", { fullPage: false });
  await waitUntilEqual(async () => (await coffees(server)).filter((entry) => entry.coffee_type === "espresso").length, 1);
  await page.locator("#banner").waitFor({ state: "hidden" });
});

browserTest("a rejected entry is kept and can be edited", { expected: [...UNREACHABLE, /status of 422/], settings: { MAX_CAFFEINE_MG: "200" } }, async ({ page, server }) => {
  // Without the limits of /info, the form accepts any dose.
  await page.route("**/info", (route) => route.abort());
  await open(page, server);
  await page.getByText("Custom drink").click();
  await page.locator("#custom-form").getByLabel("Drink").fill("a whole pot");
  await page.locator("#custom-form").getByLabel("Caffeine (mg)").fill("700");
  await page.locator("#custom-form").getByRole("button", { name: "Log drink" }).click();
  await banner(page, "1 entry couldn't be saved.").waitFor();
  await page.getByRole("button", { name: "Review" }).click();
  await page.getByText("Couldn't be saved: caffeine_mg: must be between 0 and 200").waitFor();
  await screenshot(page, "dashboard/refused");
  await page.reload();
  await page.getByRole("button", { name: "Edit", exact: true }).click();
  const sheet = page.getByRole("dialog", { name: "Edit entry" });
  await sheet.getByLabel("Caffeine (mg)").fill("170");
  await sheet.getByRole("button", { name: "Save" }).click();
  await waitUntilEqual(() => coffees(server), [coffee("a whole pot", 170)]);
  await page.locator("#banner").waitFor({ state: "hidden" });
});

browserTest("signing out with pending entries asks first, and the next sign-in sends them", { expected: UNREACHABLE }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  await blockCoffeePosts(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  const sheet = page.getByRole("dialog", { name: "Sign out?" });
  await sheet.getByText("1 entry has not been sent yet").waitFor();
  await page.unrouteAll();
  await sheet.getByRole("button", { name: "Keep and sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await signIn(page);
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
});

browserTest("the installed app starts offline, shows cached data, logs, and sends later", { expected: UNREACHABLE, serviceWorkers: "allow", screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("120 of 400 mg").waitFor();
  await page.locator("#caffeine").scrollIntoViewIfNeeded();
  await page.locator("#caffeine-chart canvas").waitFor();
  await page.waitForLoadState("networkidle");
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    while (!(await caches.match("/", { ignoreVary: true }))) await new Promise((resolve) => setTimeout(resolve, 50));
  });
  await server.stop();
  await page.reload();
  await banner(page, "Can't reach the server.").waitFor();
  await page.getByText("120 of 400 mg").waitFor();
  await page.locator("#caffeine").scrollIntoViewIfNeeded();
  await page.locator("#caffeine-chart canvas").waitFor();
  await drinkButton(page, "mocha").click();
  await page.getByText("240 of 400 mg").waitFor();
  await page.reload();
  await page.getByText("240 of 400 mg").waitFor();
  await screenshot(page, "dashboard/phone-started-offline");
  await withRestartedServer(server, {}, async (restarted) => {
    await retry(page);
    await waitUntilEqual(() => coffees(restarted), [coffee("mocha", 120), coffee("mocha", 120)]);
    await page.locator("#banner").waitFor({ state: "hidden" });
  });
});

browserTest("over plain HTTP the open page queues entries and explains that offline start needs HTTPS", { expected: UNREACHABLE }, async ({ page, server }) => {
  await page.goto(`http://kitchen.lan:${server.port}/`);
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  assert.deepEqual(await page.evaluate(() => [isSecureContext, "serviceWorker" in navigator, typeof crypto.randomUUID]), [false, false, "undefined"]);
  await page.getByText("Opening it without a connection requires HTTPS").waitFor();
  await server.stop();
  await drinkButton(page, "cola").click();
  await banner(page, "1 entry saved on this device").waitFor();
  await withRestartedServer(server, {}, async (restarted) => {
    await retry(page);
    await waitUntilEqual(() => coffees(restarted), [coffee("cola", 40)]);
  });
});

browserTest("entries from a device with a wrong clock get the right time", {}, async ({ page, server }) => {
  await page.clock.install({ time: Date.now() + 3 * 3_600_000 });
  await open(page, server);
  await page.getByText("This device's clock differs from the server's").waitFor();
  await drinkButton(page, "espresso").click();
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
  const minutes = minutesAgo((await server.api("GET", "/coffee/")).body[0].timestamp);
  assert.ok(Math.abs(minutes) < 0.5, `${minutes} minutes ago`);
});

browserTest("in another time zone, times are the device's and the server's zone is named", {
  settings: { TZ: "Europe/Berlin" },
  timezoneId: "America/New_York",
  locale: "en-US",
}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, timestamp: "2026-03-01T08:30:00Z" });
  await open(page, server);
  await page.getByText("Times are shown in this device's time zone (America/New_York). Days and bedtime use the server's time zone (Europe/Berlin).").waitFor();
  await page.locator("#history").scrollIntoViewIfNeeded();
  assert.match(await page.locator("#history-list time").innerText(), /^3:30.AM$/);
});

browserTest("sections further down are shown after the connection was lost before they came into view", { expected: UNREACHABLE, screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  const loaded = page.waitForResponse((response) => response.url().endsWith("/charts/correlation.js"));
  await open(page, server);
  // They are loaded a while after the start.
  await loaded;
  await page.waitForLoadState("networkidle");
  await server.stop();
  await drinkButton(page, "mocha").click();
  await banner(page, "1 entry saved").waitFor();
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-unsent", { hasText: "Waiting to send" }).waitFor();
});
