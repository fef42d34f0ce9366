// Several people in one browser: whose page it is, sign-in links, and that nothing of one person is sent or shown with
// the key of another.

import assert from "node:assert/strict";

import { UNREACHABLE, blockCoffeePosts, deferred, isPost, retry } from "./network.js";
import { KEY, accessibilityViolations, browserTest, horizontalOverflow, screenshot } from "./helpers.js";
import { addKeys, banner, checkAgain, coffee, coffees, drinkButton, revokeKey, signIn, waitUntilEqual } from "./actions.js";

const ANNA = { name: "anna", display_name: "Anna" };
const BEN = { name: "ben", display_name: "Ben" };
const INVALID = { expected: [/status of 401/] };
/** After ten requests with an invalid key, the server limits them. */
const REVOKED = { expected: [/status of (401|429)/] };
const OTHER_ENTRY = "1 entry logged with another key is waiting on this device";

/** Lets the server name the person of each key. The keys of these tests share one database. */
async function namePeople(context, people) {
  await context.route("**/me", async (route) => {
    const response = await route.fetch();
    const key = route.request().headers().authorization.replace("Bearer ", "");
    const { person: _, ...me } = await response.json();
    await route.fulfill({ response, json: { ...me, ...(people[key] && { person: people[key] }) } });
  });
}

/** Creates keys of two people, one of them with two devices. */
async function addPeople(server, context) {
  const keys = await addKeys(server, { phone: "read,write", tablet: "read,write", ben: "read,write" });
  await namePeople(context, { [keys.phone]: ANNA, [keys.tablet]: ANNA, [keys.ben]: BEN });
  return keys;
}

const person = (page) => page.locator("#person:visible").innerText();
const sheet = (page) => page.locator("#sheet[open]");
const signOut = (page) => page.getByRole("button", { name: "Sign out", exact: true }).click();
/** Returns the addresses in the history of the tab. */
const addresses = (page) => page.evaluate(() => navigation.entries().map((entry) => entry.url?.replace(/^[^#]*/, "") ?? ""));
const storedKeys = (page) => page.evaluate(() => [localStorage, sessionStorage].map((storage) => storage.getItem("coffee.key")));

/** Logs an espresso that cannot be sent. */
async function logUnsent(page) {
  await page.getByText("0 of 400 mg").waitFor();
  await blockCoffeePosts(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved on this device").waitFor();
}

for (const screen of ["wide", "phone", "narrow"]) {
  browserTest(`the page shows whose it is: ${screen}`, { screen }, async ({ page, server, context }) => {
    const { phone } = await addKeys(server, { phone: "read,write" });
    await namePeople(context, { [phone]: { name: "anna", display_name: "Anna-Katharina von Württemberg-Hohenzollern" } });
    await page.goto(server.url);
    assert.equal(await page.title(), "Coffee Tracker");
    await signIn(page, phone, { remember: true });
    for (const isReloaded of [false, true]) {
      if (isReloaded) await page.reload();
      await page.getByText("0 of 400 mg").waitFor();
      assert.match(await person(page), /Anna-Katharina von Württemberg-Hohenzollern$/);
      assert.equal(await page.title(), "Anna-Katharina von Württemberg-Hohenzollern · Coffee Tracker");
    }
    assert.equal(await horizontalOverflow(page), 0);
    await screenshot(page, `people/${screen}-name`, { fullPage: false });
    assert.equal(await accessibilityViolations(page), "");
    await page.evaluate(() => (location.hash = "#day/2026-03-01"));
    await page.waitForFunction(() => /^.*2026 · Anna-Katharina .* · Coffee Tracker$/.test(document.title));
    await page.evaluate(() => (location.hash = ""));
    await page.waitForFunction(() => document.title.startsWith("Anna"));
  });
}

for (const [what, shown, me] of [
  ["a person without a display name is shown by name", "ben", { name: "ben", display_name: null }],
  ["an owner with a display name is shown", "Olga", { name: "owner", display_name: "Olga" }],
  ["a lone owner is not shown", null, { name: "owner", display_name: "" }],
  ["a server that does not name people shows nobody", null, undefined],
]) {
  browserTest(what, {}, async ({ page, server, context }) => {
    await namePeople(context, { [KEY]: me });
    await page.goto(server.url);
    await signIn(page);
    await page.getByText("0 of 400 mg").waitFor();
    if (shown) assert.match(await person(page), new RegExp(`${shown}$`));
    else assert.equal(await page.locator("#person:visible").count(), 0);
    assert.equal(await page.title(), shown ? `${shown} · Coffee Tracker` : "Coffee Tracker");
  });
}

browserTest("a link with a key signs in, and the key leaves the address at once", { screen: "phone" }, async ({ page, server, context }) => {
  const { phone } = await addPeople(server, context);
  // The address is read when the page's first script after it runs.
  await page.addInitScript(() => document.addEventListener("readystatechange", () => (window.firstHash ??= location.hash)));
  await page.goto(`${server.url}/docs`);
  await page.goto(`${server.url}/#key=${phone}`);
  await page.getByText("0 of 400 mg").waitFor();
  assert.match(await person(page), /Anna$/);
  assert.equal(page.url(), `${server.url}/`);
  assert.equal(await page.evaluate(() => window.firstHash), "");
  assert.deepEqual(await addresses(page), ["", ""]);
  assert.deepEqual(await storedKeys(page), [phone, null], "the device stays signed in");
  assert.equal(await page.evaluate(() => "signInLink" in window), false);
  await page.reload();
  await page.getByText("0 of 400 mg").waitFor();
});

browserTest("a link whose key is percent-encoded signs in", { settings: { API_KEY: "a_key?_100%_of+it&#/" } }, async ({ page, server }) => {
  const key = "a_key?_100%_of+it&#/";
  for (const fragment of [`#key=${encodeURIComponent(key)}`, `#key%3D${encodeURIComponent(key)}`, `#key=%20${encodeURIComponent(key)}%0A`]) {
    await page.goto(`${server.url}/${fragment}`);
    await page.getByText("0 of 400 mg").waitFor();
    assert.equal(page.url(), `${server.url}/`);
    assert.deepEqual(await storedKeys(page), [key, null]);
    await signOut(page);
    await page.getByLabel("API key").waitFor();
    await page.goto("about:blank");
  }
});

browserTest("a link with an invalid key says so in the sign-in dialog", INVALID, async ({ page, server }) => {
  await page.goto(`${server.url}/#key=ct_invalid`);
  await page.locator("#sign-in").getByText("Invalid API key").waitFor();
  assert.equal(page.url(), `${server.url}/`);
  assert.deepEqual(await storedKeys(page), [null, null]);
  assert.equal(await accessibilityViolations(page), "");
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
});

browserTest("a link with the key of another person asks before it switches", { expected: UNREACHABLE }, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  const sent = [];
  context.on("request", (request) => ["POST", "DELETE"].includes(request.method()) && sent.push(`${request.method()} ${request.headers().authorization}`));
  await server.api("POST", "/coffee/", { caffeine_mg: 50, coffee_type: "mocha", timestamp: "2026-03-01T08:00:00Z" });
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await logUnsent(page);
  // In the open page, the address changes without loading the page again.
  await page.evaluate((key) => (location.hash = `#key=${key}`), ben);
  await sheet(page).getByText("Switch to Ben?").waitFor();
  await sheet(page).getByText("You are signed in as Anna.").waitFor();
  await sheet(page).getByText("1 entry not sent yet will wait on this device").waitFor();
  assert.deepEqual(await addresses(page), ["", ""]);
  await screenshot(page, "people/switch", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  await sheet(page).getByRole("button", { name: "Cancel" }).click();
  assert.match(await person(page), /Anna$/);
  assert.deepEqual(await storedKeys(page), [phone, null]);
  // A deletion that can still be undone is carried out with the key it was made with.
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Delete mocha/ }).click();
  await page.locator(".toast", { hasText: "Deleted mocha" }).waitFor();
  sent.length = 0;
  await page.evaluate((key) => (location.hash = `#key=${key}`), ben);
  await page.unrouteAll();
  await page.route("**/coffee/", (route) => (isPost(route) && route.request().headers().authorization.endsWith(phone) ? route.abort() : route.continue()));
  await sheet(page).getByRole("button", { name: "Switch" }).click();
  await page.getByText(OTHER_ENTRY).waitFor();
  assert.match(await person(page), /Ben$/);
  assert.deepEqual(await storedKeys(page), [ben, null]);
  assert.deepEqual(await coffees(server), []);
  assert.deepEqual(new Set(sent.filter((request) => request.endsWith(ben))), new Set());
  assert.ok(sent.includes(`DELETE Bearer ${phone}`));
});

browserTest("a link with an invalid key leaves the present key alone", INVALID, async ({ page, server, context }) => {
  const { phone } = await addPeople(server, context);
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  for (const open of [() => page.goto(`${server.url}/#key=ct_invalid`), () => page.goto("about:blank").then(() => page.goto(`${server.url}/#key=ct_invalid`))]) {
    await open();
    await sheet(page).getByText("Invalid API key").waitFor();
    await sheet(page).getByText("You are still signed in as Anna.").waitFor();
    assert.equal(page.url(), `${server.url}/`);
    assert.equal(await accessibilityViolations(page), "");
    await sheet(page).getByRole("button", { name: "OK" }).click();
    assert.deepEqual(await storedKeys(page), [phone, null]);
    await page.getByText("0 of 400 mg").waitFor();
  }
});

browserTest("a link with another key of the same person replaces the key", {}, async ({ page, server, context }) => {
  const { phone, tablet } = await addPeople(server, context);
  await page.goto(server.url);
  await signIn(page, phone);
  await page.getByText("0 of 400 mg").waitFor();
  await page.evaluate((key) => (location.hash = `#key=${key}`), tablet);
  await waitUntilEqual(() => storedKeys(page), [null, tablet]);
  assert.equal(await sheet(page).count(), 0);
});

browserTest("a link signs in when the stored key was revoked", REVOKED, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  await revokeKey(server, "phone", phone);
  await page.goto("about:blank");
  await page.goto(`${server.url}/#key=${ben}`);
  await page.locator("#person", { hasText: "Ben" }).waitFor();
  await page.getByText("0 of 400 mg").waitFor();
  assert.deepEqual(await storedKeys(page), [ben, null]);
});

browserTest("entries that wait are sent with any key of their person and with no other", { expected: UNREACHABLE }, async ({ page, server, context }) => {
  const { phone, tablet, ben } = await addPeople(server, context);
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.headers().authorization));
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await logUnsent(page);
  await signOut(page);
  await sheet(page).getByText("sent the next time you sign in as Anna.").waitFor();
  await sheet(page).getByRole("button", { name: "Keep and sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await page.unrouteAll();
  sent.length = 0;
  await signIn(page, ben);
  await page.getByText(OTHER_ENTRY).waitFor();
  await page.getByText("0 of 400 mg").waitFor();
  await drinkButton(page, "cola").click();
  await waitUntilEqual(() => coffees(server), [coffee("cola", 40)]);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-list .entry").waitFor();
  assert.equal(await page.locator("#history-unsent .entry").count(), 0);
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  await signIn(page, tablet);
  await waitUntilEqual(async () => (await coffees(server)).map((entry) => entry.coffee_type).sort(), ["cola", "espresso"]);
  assert.deepEqual(sent, [`Bearer ${ben}`, `Bearer ${tablet}`]);
  await page.getByText(OTHER_ENTRY).waitFor({ state: "hidden" });
});

browserTest("entries of another person that wait can be discarded", { expected: UNREACHABLE, screen: "phone" }, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  await page.goto(server.url);
  await signIn(page, phone);
  await logUnsent(page);
  await signOut(page);
  await sheet(page).getByRole("button", { name: "Keep and sign out" }).click();
  await page.getByLabel("API key").waitFor();
  await signIn(page, ben);
  await page.locator("#today-total", { hasText: "0 of" }).waitFor();
  await drinkButton(page, "cola").click();
  await banner(page, "1 entry saved").waitFor();
  const discard = page.locator("#footer").getByRole("button", { name: "Discard" });
  await discard.click();
  await sheet(page).getByText("Discard 1 entry?").waitFor();
  await screenshot(page, "people/phone-discard", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  await sheet(page).getByRole("button", { name: "Cancel" }).click();
  await page.getByText(OTHER_ENTRY).waitFor();
  await discard.click();
  await sheet(page).getByRole("button", { name: "Discard" }).click();
  await page.getByText(OTHER_ENTRY).waitFor({ state: "hidden" });
  await banner(page, "1 entry saved").waitFor();
  await page.unrouteAll();
  await retry(page);
  await waitUntilEqual(() => coffees(server), [coffee("cola", 40)]);
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  await signIn(page, phone);
  await page.locator("#today-total", { hasText: "40 of" }).waitFor();
  assert.deepEqual(await coffees(server), [coffee("cola", 40)]);
});

browserTest("entries of version 1.0.0, which name no key, are sent with a key of the owner only", {}, async ({ page, server, context }) => {
  const { ben } = await addPeople(server, context);
  await page.goto(server.url);
  await page.evaluate(async () => {
    const opened = indexedDB.open("coffee-tracker");
    opened.onupgradeneeded = () => opened.result.createObjectStore("queue", { keyPath: "id" });
    await new Promise((resolve) => (opened.onsuccess = resolve));
    const body = { caffeine_mg: 80, coffee_type: "espresso", timestamp: new Date().toISOString() };
    const put = opened.result.transaction("queue", "readwrite").objectStore("queue").put({ id: "of-version-1", route: "/coffee/", body, state: "waiting", tries: 0, added: 1 });
    await new Promise((resolve) => (put.onsuccess = resolve));
  });
  await signIn(page, ben);
  await page.getByText(OTHER_ENTRY).waitFor();
  await page.getByText("0 of 400 mg").waitFor();
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  assert.deepEqual(await coffees(server), []);
  await signIn(page, KEY);
  await waitUntilEqual(() => coffees(server), [coffee("espresso", 80)]);
});

const signInDialog = (page) => page.getByRole("dialog", { name: "Coffee Tracker" });

/** Shows an entry in every place and in a dialog, and revokes the key. */
async function revokeShownKey(page, server, key) {
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  await page.goto(server.url);
  await signIn(page, key, { remember: true });
  await page.getByText("120 of 400 mg").waitFor();
  await drinkButton(page, "mocha").waitFor();
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Edit mocha/ }).first().click();
  await sheet(page).getByLabel("Notes").fill("private");
  await revokeKey(server, "phone", key);
  await checkAgain(page);
  await signInDialog(page).waitFor();
}

for (const screen of ["wide", "phone"]) {
  browserTest(`when the key is revoked, its data disappears, also behind the dialog: ${screen}`, { ...REVOKED, screen }, async ({ page, server, context }) => {
    const { phone, tablet } = await addPeople(server, context);
    await revokeShownKey(page, server, phone);
    const visibleText = () => page.evaluate(() => document.body.innerText);
    await screenshot(page, `people/${screen}-revoked`, { fullPage: false });
    assert.doesNotMatch(await visibleText(), /mocha|Anna|120/);
    assert.equal(await page.title(), "Coffee Tracker");
    assert.equal(await page.locator("#sheet[open]").count(), 0);
    await signInDialog(page).getByRole("button", { name: "Not now" }).click();
    await banner(page, "Your API key is no longer valid.").waitFor();
    await drinkButton(page, "espresso").waitFor();
    assert.doesNotMatch(await visibleText(), /mocha|Anna|120/);
    await screenshot(page, `people/${screen}-revoked-not-now`);
    assert.equal(await accessibilityViolations(page), "");
    // What was typed is kept for the same person.
    await page.getByRole("button", { name: "Sign in" }).click();
    await signIn(page, tablet);
    await sheet(page).getByLabel("Notes").waitFor();
    assert.equal(await sheet(page).getByLabel("Notes").inputValue(), "private");
    assert.equal(await page.title(), "Anna · Coffee Tracker");
    await page.getByText("120 of 400 mg").waitFor();
    assert.match(await visibleText(), /mocha/);
  });
}

browserTest("after a key was revoked, nothing of its person is left when another person signs in", REVOKED, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  await revokeShownKey(page, server, phone);
  const [{ id }] = (await server.api("GET", "/coffee/")).body;
  await server.api("DELETE", `/coffee/${id}`);
  await signIn(page, ben, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  assert.match(await person(page), /Ben$/);
  assert.doesNotMatch(await page.content(), /mocha|Anna|private/);
  assert.doesNotMatch(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage])), /mocha|Anna|private/);
});

browserTest("late responses bring back neither the dismissed sign-in nor the data of a revoked key", REVOKED, async ({ page, server, context }) => {
  const { phone } = await addPeople(server, context);
  const [sent, mayArrive] = [deferred(), deferred()];
  await page.route("**/coffee/?limit=2", async (route) => {
    const response = await route.fetch();
    sent.resolve();
    await mayArrive.promise;
    await route.fulfill({ response });
  });
  await page.route("**/coffee/?limit=3", (route) => route.fulfill({ status: 429, headers: { "Retry-After": "60" }, json: {} }));
  const get = (path) => page.evaluate(async (requested) => {
    const { get: load } = await import("/static/app/api.js");
    return load(requested).then((list) => list.length, (error) => error.kind);
  }, path);
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  await page.goto(server.url);
  await signIn(page, phone);
  await page.getByText("120 of 400 mg").waitFor();
  const late = get("/coffee/?limit=2");
  await sent.promise;
  await revokeKey(server, "phone", phone);
  await checkAgain(page);
  await signInDialog(page).getByRole("button", { name: "Not now" }).click();
  mayArrive.resolve();
  assert.equal(await late, 1);
  assert.equal(await get("/coffee/?limit=3"), "rate-limited");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  assert.doesNotMatch(await page.evaluate(() => document.body.innerText), /mocha|Anna|120/);
});

browserTest("a response that arrives after the key was replaced is neither shown nor cached", {}, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  await server.api("POST", "/coffee/", { caffeine_mg: 120, coffee_type: "mocha" });
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await page.getByText("120 of 400 mg").waitFor();
  const outcome = await page.evaluate(async (key) => {
    const [api, session] = await Promise.all([import("/static/app/api.js"), import("/static/app/session.js")]);
    const response = api.get("/coffee/").then(() => "received", (error) => error.kind);
    session.signIn(key, { key: { scopes: ["read", "write"] }, person: { name: "ben" } }, true);
    const refused = api.request("DELETE", "/coffee/1", { owner: "0123456789abcdef" }).then(() => "sent", (error) => error.kind);
    return Promise.all([response, refused]);
  }, ben);
  assert.deepEqual(outcome, ["key-changed", "key-changed"]);
  assert.equal((await coffees(server)).length, 1);
});

browserTest("between a sign-out and the restart of the page, nothing is requested", {}, async ({ page, server }) => {
  await page.goto(server.url);
  await signIn(page);
  await page.getByText("0 of 400 mg").waitFor();
  const outcome = await page.evaluate(async () => {
    const [api, session] = await Promise.all([import("/static/app/api.js"), import("/static/app/session.js")]);
    session.signOut();
    // As by a section that has just been loaded.
    return api.get("/coffee/").then(() => "received", (error) => error.kind);
  });
  assert.equal(outcome, "key-changed");
});

browserTest("every tab follows when one signs in as somebody else", INVALID, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  const other = await context.newPage();
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await page.getByText("0 of 400 mg").waitFor();
  await other.goto(server.url);
  await other.getByText("0 of 400 mg").waitFor();
  await page.evaluate((key) => (location.hash = `#key=${key}`), ben);
  await sheet(page).getByRole("button", { name: "Switch" }).click();
  for (const tab of [page, other]) await tab.locator("#person", { hasText: "Ben" }).waitFor();
  // A tab that was frozen has missed it.
  await other.evaluate((key) => {
    localStorage.setItem("coffee.key", key);
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
  }, phone);
  for (const tab of [page, other]) await tab.locator("#person", { hasText: "Anna" }).waitFor();
});

browserTest("drinks that one person arranged and limits of one person are not those of another", {}, async ({ page, server, context }) => {
  const { phone, ben } = await addPeople(server, context);
  let limit = 300;
  await context.route("**/info", async (route) => {
    const response = await route.fetch();
    const info = await response.json();
    info.validation.max_caffeine_mg = limit;
    await route.fulfill({ response, json: info });
  });
  const names = () => page.locator("#drinks .drink bdi").allTextContents();
  const max = () => page.locator("#custom-form").getByLabel("Caffeine (mg)").getAttribute("max");
  await page.goto(server.url);
  await signIn(page, phone, { remember: true });
  await drinkButton(page, "espresso").waitFor();
  await page.getByRole("button", { name: "My drinks" }).click();
  await sheet(page).locator("summary", { hasText: /^espresso/ }).click();
  await sheet(page).locator("[open] form").getByRole("button", { name: "Hide" }).click();
  await sheet(page).getByRole("button", { name: "Done" }).click();
  await waitUntilEqual(async () => (await names()).includes("espresso"), false);
  const stored = () => page.evaluate(() => JSON.parse(localStorage.getItem("coffee.info"))?.info?.validation.max_caffeine_mg);
  await waitUntilEqual(stored, 300);
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  limit = 500;
  await signIn(page, ben, { remember: true });
  await drinkButton(page, "espresso").waitFor();
  await waitUntilEqual(stored, 500);
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  await signIn(page, phone, { remember: true });
  await drinkButton(page, "cola").waitFor();
  await waitUntilEqual(async () => (await names()).includes("espresso"), false);
});

/** Adds people of the server, each with a database; returns their keys. */
async function createPeople(server, labels) {
  const keys = {};
  for (const label of labels) {
    const name = label.toLowerCase();
    keys[name] = (await server.api("POST", "/people", { name, display_name: label })).body.key.key;
  }
  return keys;
}

/** Sends a request with a key. */
async function requestWith(server, key, method, path, body) {
  const response = await fetch(server.url + path, { method, headers: { Authorization: `Bearer ${key}` }, body: body && JSON.stringify(body) });
  return response.json();
}
const typesOf = async (server, key) => (await requestWith(server, key, "GET", "/coffee/")).map((entry) => entry.coffee_type).sort();

const switcher = (page) => page.locator(".switcher summary:visible");
const menuItem = (page, name) => page.locator(".menu").getByRole("button", { name, exact: true });
/** Chooses an item of the menu of people. */
async function choose(page, name) {
  await switcher(page).click();
  await menuItem(page, name).click();
}
/** The name at the top of the page, without the menu. */
const shownPerson = (page, name) => page.locator("#person > bdi, #person summary", { hasText: name });
/** Waits until the page shows a person and a total. */
async function shows(page, name, total) {
  await shownPerson(page, name).waitFor();
  await page.getByText(`${total} of 400 mg`).waitFor();
}
/** Opens a link that signs in, in the page that is open, and agrees. */
async function openLink(page, key, name) {
  await page.evaluate((value) => (location.hash = `#key=${value}`), key);
  await sheet(page).getByText(`Switch to ${name}?`).waitFor();
  await sheet(page).getByText("You can switch back at the top of the page.").waitFor();
  await sheet(page).getByRole("button", { name: "Switch" }).click();
  await shownPerson(page, name).waitFor();
}

/** Opens the dashboard and signs in as a person who has logged nothing. */
async function openAs(page, server, key, label, options = {}) {
  await page.goto(server.url);
  await signIn(page, key, options);
  await shows(page, label, 0);
}

/** Opens the dashboard with keys of two people and shows Ben; returns the keys. */
async function openAsAnnaAndBen(page, server) {
  const keys = await createPeople(server, ["Anna", "Ben"]);
  await openAs(page, server, keys.anna, "Anna", { remember: true });
  await openLink(page, keys.ben, "Ben");
  await shows(page, "Ben", 0);
  return keys;
}

for (const [screen, colorScheme] of [["wide", "light"], ["phone", "dark"], ["narrow", "light"]]) {
  browserTest(`with keys of two people, the name is a menu that switches between them: ${screen}, ${colorScheme}`, { screen, colorScheme }, async ({ page, server }) => {
    const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
    await openAs(page, server, anna, "Anna", { remember: true });
    assert.equal(await page.locator(".switcher").count(), 0, "with one person, there is no menu");
    await drinkButton(page, "espresso").click();
    await shows(page, "Anna", 80);
    await openLink(page, ben, "Ben");
    await shows(page, "Ben", 0);
    assert.equal(await page.title(), "Ben · Coffee Tracker");
    assert.equal(await page.getByRole("button", { name: "Sign out" }).count(), 0, "signing out is part of the menu");
    await switcher(page).click();
    assert.deepEqual(await page.locator(".menu button").allTextContents(), ["Anna", "Ben", "Add person", "Sign out"]);
    assert.equal(await menuItem(page, "Ben").getAttribute("aria-current"), "true");
    await screenshot(page, `people/${screen}-${colorScheme}-menu`, { fullPage: false });
    assert.equal(await horizontalOverflow(page), 0);
    assert.equal(await accessibilityViolations(page), "");
    await menuItem(page, "Anna").click();
    await shows(page, "Anna", 80);
    await page.reload();
    await shows(page, "Anna", 80);
    await page.getByRole("link", { name: "Settings", exact: true }).click();
    await page.locator("#section-list a").first().waitFor();
    await screenshot(page, `people/${screen}-${colorScheme}-settings`, { fullPage: false });
    assert.equal(await horizontalOverflow(page), 0);
    await choose(page, "Ben");
    await shownPerson(page, "Ben").waitFor();
    assert.deepEqual(await typesOf(server, ben), []);
  });
}

browserTest("entries that wait are sent as the person who entered them, and signing out leaves the other person signed in", { expected: UNREACHABLE }, async ({ page, server }) => {
  const { anna, ben } = await openAsAnnaAndBen(page, server);
  await choose(page, "Anna");
  await shows(page, "Anna", 0);
  await logUnsent(page);
  await choose(page, "Ben");
  await shows(page, "Ben", 0);
  await page.getByText(`${OTHER_ENTRY}, to be sent when you switch to that person.`).waitFor();
  await page.unrouteAll();
  await drinkButton(page, "cola").click();
  await waitUntilEqual(() => typesOf(server, ben), ["cola"]);
  assert.deepEqual(await typesOf(server, anna), []);
  await choose(page, "Anna");
  await waitUntilEqual(() => typesOf(server, anna), ["espresso"]);
  await shows(page, "Anna", 80);
  await choose(page, "Sign out");
  await shows(page, "Ben", 40);
  assert.equal(await page.locator(".switcher").count(), 0);
  assert.doesNotMatch(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])), new RegExp(`Anna|${anna}`));
  await signOut(page);
  await page.getByLabel("API key").waitFor();
  assert.doesNotMatch(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])), new RegExp(`Ben|${ben}`));
});

browserTest("a person is added in the menu, and a newer key of a person replaces the former one", INVALID, async ({ page, server }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  const { key: newer } = await requestWith(server, anna, "POST", "/keys", { name: "tablet", scopes: ["read", "write"] });
  await openAs(page, server, anna, "Anna");
  await openLink(page, ben, "Ben");
  const dialog = page.getByRole("dialog", { name: "Add person" });
  await choose(page, "Add person");
  await dialog.getByLabel("API key").fill("ct_invalid");
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await dialog.getByText("Invalid API key").waitFor();
  assert.equal(await dialog.getByRole("checkbox").count(), 0);
  await screenshot(page, "people/add-person", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await shows(page, "Ben", 0);
  await choose(page, "Add person");
  await dialog.getByLabel("API key").fill(KEY);
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await shows(page, "Owner", 0);
  await choose(page, "Add person");
  await dialog.getByLabel("API key").fill(newer);
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await shows(page, "Anna", 0);
  await switcher(page).click();
  assert.deepEqual(await page.locator(".menu button").allTextContents(), ["Anna", "Ben", "Owner", "Add person", "Sign out"]);
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(stored.includes(newer) && stored.includes(ben) && stored.includes(KEY) && !stored.includes(anna));
  assert.equal(await page.evaluate(() => localStorage.getItem("coffee.others")), null, "keys of this window stay in it");
});

browserTest("a pairing code of another person keeps the present one", {}, async ({ page, server }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  const { code } = await requestWith(server, ben, "POST", "/pairings", { name: "laptop", scopes: ["read", "write"], base_url: server.url });
  await openAs(page, server, anna, "Anna", { remember: true });
  await page.evaluate((value) => (location.hash = `#pair=${value}`), code);
  await sheet(page).getByText("you can switch back at the top of the page.").waitFor();
  await sheet(page).getByRole("button", { name: "Pair" }).click();
  await shownPerson(page, "Ben").waitFor();
  await choose(page, "Anna");
  await shows(page, "Anna", 0);
});

browserTest("every tab follows when the person is switched or signed out", {}, async ({ page, server, context }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  const other = await context.newPage();
  await openAs(page, server, anna, "Anna", { remember: true });
  await other.goto(server.url);
  await openLink(page, ben, "Ben");
  await shownPerson(other, "Ben").waitFor();
  await choose(other, "Anna");
  for (const tab of [page, other]) await shows(tab, "Anna", 0);
  await choose(page, "Sign out");
  for (const tab of [page, other]) {
    await shows(tab, "Ben", 0);
    assert.equal(await tab.locator(".switcher").count(), 0);
  }
});

browserTest("a page to which the user goes back is not that of a person who has signed out meanwhile", {}, async ({ page, server }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  // Dispatched as the browser does when it restores a page that has not been unloaded.
  const goBack = () => page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await openAs(page, server, anna, "Anna");
  await openLink(page, ben, "Ben");
  await shows(page, "Ben", 0);
  await goBack();
  await page.evaluate(() => (window.isSamePage = true));
  // The settings were opened in the same window meanwhile, which has switched the person there.
  await page.evaluate(() => {
    const [other] = JSON.parse(sessionStorage.getItem("coffee.others"));
    sessionStorage.removeItem("coffee.others");
    sessionStorage.setItem("coffee.me", JSON.stringify(other.me));
    sessionStorage.setItem("coffee.key", other.key);
  });
  await goBack();
  await shows(page, "Anna", 0);
  await page.evaluate(() => sessionStorage.clear());
  await goBack();
  await page.getByLabel("API key").waitFor();
  assert.equal(await page.evaluate(() => "isSamePage" in window), false);
});

browserTest("a person added in a window of its own leaves the other windows signed in", {}, async ({ page, server, context }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  const other = await context.newPage();
  await openAs(page, server, ben, "Ben");
  await other.goto(server.url);
  await signIn(other, KEY, { remember: true });
  await other.getByText("0 of 400 mg").waitFor();
  await openLink(page, anna, "Anna");
  await shows(page, "Anna", 0);
  assert.deepEqual(await storedKeys(page), [KEY, anna]);
  await other.reload();
  await other.getByText("0 of 400 mg").waitFor();
  assert.equal(await other.locator("#person:visible").count(), 0, "the lone owner");
  await choose(page, "Ben");
  await shows(page, "Ben", 0);
  await choose(page, "Owner");
  await shows(page, "Owner", 0);
  assert.deepEqual(await storedKeys(page), [KEY, null]);
});

browserTest("a key that takes the place of another person's on this device keeps it", {}, async ({ page, server, context }) => {
  const { anna, ben, clara } = await createPeople(server, ["Anna", "Ben", "Clara"]);
  const other = await context.newPage();
  await openAs(page, server, ben, "Ben");
  await openAs(other, server, anna, "Anna", { remember: true });
  await openLink(other, clara, "Clara");
  await shows(other, "Clara", 0);
  // Anna's key waits beside the present one of the other windows.
  await choose(page, "Anna");
  for (const tab of [page, other]) await shows(tab, "Anna", 0);
  await choose(page, "Clara");
  for (const tab of [page, other]) await shows(tab, "Clara", 0);
});

browserTest("what is stored about a former key of the window does not hide the person of the present one", {}, async ({ page, server }) => {
  const { anna } = await createPeople(server, ["Anna"]);
  await openAs(page, server, anna, "Anna", { remember: true });
  await page.evaluate(() => sessionStorage.setItem("coffee.me", JSON.stringify({ owner: "0123456789abcdef", scopes: ["read"], person: { name: "ben", display_name: "Ben" } })));
  // Without the response, the person is the stored one.
  await page.route("**/me", (route) => new Promise(() => {}));
  await page.reload();
  await shownPerson(page, "Anna").waitFor();
});

browserTest("the time zone of the server is kept when the person is switched", { expected: UNREACHABLE, settings: { TZ: "Asia/Kolkata" } }, async ({ page, server }) => {
  const { anna, ben } = await createPeople(server, ["Anna", "Ben"]);
  const note = page.getByText("Days and bedtime use the server's time zone (Asia/Kolkata).");
  await page.goto(server.url);
  await signIn(page, anna, { remember: true });
  await note.waitFor();
  await page.route("**/info", (route) => route.abort());
  await openLink(page, ben, "Ben");
  await shows(page, "Ben", 0);
  await note.waitFor();
});

browserTest("after the key of one person was revoked, signing out leads to the other", REVOKED, async ({ page, server }) => {
  const { anna } = await openAsAnnaAndBen(page, server);
  await requestWith(server, anna, "DELETE", "/keys/first");
  await choose(page, "Anna");
  await signInDialog(page).getByRole("button", { name: "Not now" }).click();
  assert.equal(await page.locator(".switcher").count(), 0);
  await signOut(page);
  await shows(page, "Ben", 0);
  assert.equal(await page.locator(".switcher").count(), 0);
});

browserTest("the menu of people works with the keyboard, and unsaved changes are not lost without asking", {}, async ({ page, server }) => {
  await openAsAnnaAndBen(page, server);
  await page.goto(`${server.url}/settings/you`);
  const limit = page.locator("#you-form").getByRole("spinbutton", { name: "Daily limit" });
  await limit.fill("250");
  await switcher(page).focus();
  await page.keyboard.press("Enter");
  await menuItem(page, "Anna").waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Escape");
  await menuItem(page, "Anna").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SUMMARY");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await sheet(page).getByText("Discard your changes?").waitFor();
  await sheet(page).getByRole("button", { name: "Keep editing" }).click();
  assert.equal(await limit.inputValue(), "250");
  await choose(page, "Anna");
  await sheet(page).getByRole("button", { name: "Discard" }).click();
  await shownPerson(page, "Anna").waitFor();
  await limit.waitFor();
  assert.equal(await limit.inputValue(), "400");
  // A click elsewhere closes the menu.
  await switcher(page).click();
  await page.locator("#section-title").click();
  await menuItem(page, "Ben").waitFor({ state: "hidden" });
});
