// What happens when the server is down, slow to answer, full, strict or has changed its key: nothing typed is
// lost, nothing arrives twice, and the page says what is the matter.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

import { AWAY, cutOff, loseAnswers, tryNow } from "./away.js";
import { KEY, PROGRAM, SCREENS, picture, scenario, startServer } from "./helpers.js";
import { becomes, coffee, coffees, drink, minutesAgo, open, signIn, strip } from "./person.js";

/** Starts the server again where it was, and stops it when `body` is done. */
async function again(server, settings, body) {
  const next = await startServer({ port: server.port, folder: server.folder, settings });
  try {
    await body(next);
  } finally {
    await next.stop();
  }
}

scenario("what is logged while the server is down arrives once it is back, once, with its own time", { expected: AWAY, screen: "phone" }, async ({ page, server }) => {
  await open(page, server);
  await server.stop();
  await drink(page, "espresso").click();
  await page.getByRole("radio", { name: "2 h ago" }).check();
  await drink(page, "black tea").click();
  await page.locator("#heart-form").getByLabel("Beats a minute").fill("71");
  await page.locator("#heart-form").getByRole("button").click();
  await strip(page, "The server does not answer. 3 entries kept on this device.").waitFor();
  await page.getByText("130 of 400 mg").waitFor();
  await page.locator("#active", { hasText: /^[1-9]/ }).waitFor();
  await picture(page, "dashboard/phone-down", { whole: false });
  await again(server, {}, async (next) => {
    await tryNow(page);
    await becomes(() => coffees(next), [coffee("espresso", 80), coffee("black tea", 50)]);
    await becomes(async () => (await next.api("GET", "/heartrate/")).body.map((one) => one.bpm), [71]);
    const [, tea] = (await next.api("GET", "/coffee/")).body;
    const minutes = minutesAgo(tea.timestamp);
    assert.ok(minutes > 119.5 && minutes < 123, `${minutes} minutes ago`);
    await page.locator("#strip").waitFor({ state: "hidden" });
    await page.getByText("130 of 400 mg").waitFor();
  });
});

scenario("an entry whose answer was lost is sent again and stored once", { expected: AWAY }, async ({ page, server }) => {
  await open(page, server);
  const heal = await loseAnswers(page);
  await drink(page, "espresso").click();
  await strip(page, "1 entry kept").waitFor();
  assert.equal((await coffees(server)).length, 1, "it arrived, and the page cannot know");
  heal();
  await tryNow(page);
  await page.locator("#strip").waitFor({ state: "hidden" });
  assert.deepEqual(await coffees(server), [coffee("espresso", 80)]);
});

scenario("an entry whose answer was lost can be undone all the same", { expected: AWAY }, async ({ page, server }) => {
  await open(page, server);
  const heal = await loseAnswers(page);
  await drink(page, "espresso").click();
  await strip(page, "1 entry kept").waitFor();
  assert.equal((await coffees(server)).length, 1);
  heal();
  await page.getByRole("button", { name: "Undo" }).click();
  await becomes(() => coffees(server), []);
  await page.getByText("0 of 400 mg").waitFor();
});

scenario("two tabs send what waits once", { expected: AWAY }, async ({ page, server, context }) => {
  await open(page, server);
  const other = await context.newPage();
  await open(other, server);
  await server.stop();
  for (const name of ["espresso", "cola", "black tea"]) await drink(page, name).click();
  await strip(other, "3 entries").waitFor();
  await drink(other, "energy drink").click();
  await strip(page, "4 entries").waitFor();
  await again(server, {}, async (next) => {
    await Promise.all([tryNow(page), tryNow(other)]);
    const all = [coffee("energy drink", 80), coffee("black tea", 50), coffee("cola", 40), coffee("espresso", 80)];
    await becomes(() => coffees(next), all);
    await Promise.all([page, other].map((one) => one.locator("#strip").waitFor({ state: "hidden" })));
    assert.deepEqual(await coffees(next), all);
  });
});

scenario("an entry is taken back before it ever left", { expected: AWAY }, async ({ page, server }) => {
  await open(page, server);
  await server.stop();
  await drink(page, "espresso").click();
  await strip(page, "1 entry kept").waitFor();
  await drink(page, "cola").click();
  await strip(page, "2 entries kept").waitFor();
  await page.getByText("120 of 400 mg").waitFor();
  await page.keyboard.press("Control+z");
  await strip(page, "1 entry kept").waitFor();
  await page.getByText("80 of 400 mg").waitFor();
  await again(server, {}, async (next) => {
    await tryNow(page);
    await becomes(() => coffees(next), [coffee("espresso", 80)]);
    await page.locator("#strip").waitFor({ state: "hidden" });
    assert.deepEqual(await coffees(next), [coffee("espresso", 80)]);
  });
});

scenario("a key that was revoked is asked for anew, over the page with all that was typed", { expected: [...AWAY, /status of 401/] }, async ({ page, server }) => {
  await open(page, server);
  await page.getByText("Something else").click();
  await page.locator("#custom-form").getByLabel("Notes").fill("typed before");
  await server.stop();
  const API_KEY = "another-key-of-these-tests";
  await again(server, { API_KEY }, async (next) => {
    await drink(page, "espresso").evaluate((button) => button.click());
    const dialog = page.getByRole("dialog", { name: "Coffee Tracker" });
    await dialog.waitFor();
    await picture(page, "dashboard/key-revoked", { whole: false });
    await dialog.getByRole("button", { name: "Not now" }).click();
    await strip(page, "The server no longer takes this key. 1 entry kept on this device.").waitFor();
    await page.getByRole("button", { name: "Enter a key" }).click();
    await signIn(page, API_KEY);
    await page.locator("#strip").waitFor({ state: "hidden" });
    const list = async () => (await fetch(`${next.url}/coffee/`, { headers: { Authorization: `Bearer ${API_KEY}` } })).json();
    await becomes(async () => (await list()).map((one) => one.coffee_type), ["espresso"]);
    assert.equal(await page.locator("#custom-form").getByLabel("Notes").inputValue(), "typed before");
  });
});

scenario("over the limit, the page counts down and then sends by itself", {
  expected: [/status of 429/],
  settings: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_COFFEE_WRITE: "20/minute" },
}, async ({ page, server }) => {
  for (let n = 0; n < 20; n += 1) await server.api("POST", "/coffee/", { caffeine_mg: 1 });
  await open(page, server);
  await drink(page, "espresso").click();
  await strip(page, "asks to wait. 1 entry kept on this device.").waitFor();
  await picture(page, "dashboard/limited", { whole: false });
  await becomes(async () => (await coffees(server)).filter((one) => one.coffee_type === "espresso").length, 1);
  await page.locator("#strip").waitFor({ state: "hidden" });
});

scenario("what the server refuses is kept, told and corrected", { expected: [...AWAY, /status of 422/], settings: { MAX_CAFFEINE_MG: "200" } }, async ({ page, server }) => {
  // Its rules could not be asked for.
  await page.route("**/info", (route) => route.abort());
  await open(page, server);
  await page.getByText("Something else").click();
  await page.locator("#custom-form").getByLabel("What").fill("a whole pot");
  await page.locator("#custom-form").getByLabel("Caffeine, mg").fill("700");
  await page.locator("#custom-form").getByRole("button", { name: "Log it" }).click();
  await strip(page, "The server refused 1 entry.").waitFor();
  await page.getByRole("button", { name: "Look" }).click();
  await page.getByText("Refused: caffeine_mg: must be between 0 and 200").waitFor();
  await picture(page, "dashboard/refused");
  await page.reload();
  await page.getByRole("button", { name: "Correct" }).click();
  const sheet = page.getByRole("dialog", { name: "Correct this entry" });
  await sheet.getByLabel("Caffeine, mg").fill("170");
  await sheet.getByRole("button", { name: "Save" }).click();
  await becomes(() => coffees(server), [coffee("a whole pot", 170)]);
  await page.locator("#strip").waitFor({ state: "hidden" });
});

scenario("signing out with entries that wait asks first, and a later sign-in sends them", { expected: AWAY }, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  await cutOff(page);
  await drink(page, "espresso").click();
  await strip(page, "1 entry kept").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  const sheet = page.getByRole("dialog", { name: "Sign out?" });
  await sheet.getByText("1 entry did not reach the server").waitFor();
  await page.unrouteAll();
  await sheet.getByRole("button", { name: "Keep and sign out" }).click();
  await page.getByLabel("This server's API key").waitFor();
  await signIn(page);
  await becomes(() => coffees(server), [coffee("espresso", 80)]);
});

scenario("installed, it starts without the server, shows what it knew, logs, and delivers", { expected: AWAY, serviceWorkers: "allow", screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  await page.goto(server.url);
  await signIn(page, KEY, { remember: true });
  await page.getByText("120 of 400 mg").waitFor();
  await page.waitForLoadState("networkidle");
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    while (!(await caches.match("/", { ignoreVary: true }))) await new Promise((resolve) => setTimeout(resolve, 50));
  });
  await server.stop();
  await page.reload();
  await strip(page, "The server does not answer.").waitFor();
  await page.getByText("120 of 400 mg").waitFor();
  await page.locator("#curve-plot canvas").waitFor();
  await drink(page, "mocha").click();
  await page.getByText("240 of 400 mg").waitFor();
  await page.reload();
  await page.getByText("240 of 400 mg").waitFor();
  await picture(page, "dashboard/phone-started-offline");
  await again(server, {}, async (next) => {
    await tryNow(page);
    await becomes(() => coffees(next), [coffee("mocha", 120), coffee("mocha", 120)]);
    await page.locator("#strip").waitFor({ state: "hidden" });
  });
});

scenario("over plain HTTP the open page queues, and says what starting without a connection needs", { expected: AWAY }, async ({ page, server }) => {
  await page.goto(`http://kitchen.lan:${server.port}/`);
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  assert.deepEqual(await page.evaluate(() => [isSecureContext, "serviceWorker" in navigator, typeof crypto.randomUUID]), [false, false, "undefined"]);
  await page.getByText("To start without a connection, it needs HTTPS").waitFor();
  await server.stop();
  await drink(page, "cola").click();
  await strip(page, "1 entry kept on this device").waitFor();
  await again(server, {}, async (next) => {
    await tryNow(page);
    await becomes(() => coffees(next), [coffee("cola", 40)]);
  });
});

scenario("what is logged on a device whose clock is wrong gets the right time", {}, async ({ page, server }) => {
  await page.clock.install({ time: Date.now() + 3 * 3_600_000 });
  await open(page, server);
  await page.getByText("This device's clock and the server's differ").waitFor();
  await drink(page, "espresso").click();
  await becomes(() => coffees(server), [coffee("espresso", 80)]);
  const minutes = minutesAgo((await server.api("GET", "/coffee/")).body[0].timestamp);
  assert.ok(Math.abs(minutes) < 0.5, `${minutes} minutes ago`);
});

scenario("far from home the server's time zone is named, and times are this device's", { timezoneId: "America/New_York", locale: "en-US" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, timestamp: "2026-03-01T08:30:00Z" });
  await open(page, server);
  await page.getByText("Times are this device's (America/New_York). Days and bedtime are the server's, in Europe/Berlin.").waitFor();
  await page.locator("#history").scrollIntoViewIfNeeded();
  assert.match(await page.locator("#history-list time").innerText(), /^3:30.AM$/);
});

scenario("a key that may only log, logs; and one that may only look is told so", { expected: [/status of 403/] }, async ({ page, server, context }) => {
  const keys = {};
  for (const scope of ["write", "read"]) {
    const made = spawnSync(PROGRAM, ["key", "add", scope, "--scope", scope, `--database-url=${server.folder}/coffee.db`], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    keys[scope] = made.stdout.trim();
  }
  // The server looks at its file of keys every few moments.
  const status = async (key) => (await fetch(`${server.url}/coffee/today`, { headers: { Authorization: `Bearer ${key}` } })).status;
  await becomes(async () => [await status(keys.write), await status(keys.read)], [403, 200]);
  await page.goto(server.url);
  await signIn(page, keys.write);
  await page.getByText("This API key lacks the scope read").first().waitFor();
  await page.getByText("Something else").click();
  await page.locator("#custom-form").getByLabel("Caffeine, mg").fill("60");
  await page.locator("#custom-form").getByRole("button", { name: "Log it" }).click();
  await becomes(() => coffees(server), [coffee(null, 60)]);
  const other = await context.newPage();
  await other.setViewportSize(SCREENS.phone);
  await other.goto(server.url);
  await signIn(other, keys.read);
  await drink(other, "espresso").click();
  await strip(other, "The server refused 1 entry.").waitFor();
  await other.getByText("Refused: This API key lacks the scope write").waitFor();
});
