// Sign-in by a reverse proxy, here nginx: people use the dashboard without a key, and pages of other origins cannot add
// anything in their name.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";

import { banner, checkAgain, coffee, drinkButton, waitUntilEqual } from "./actions.js";
import { BINARY, accessibilityViolations, browserTest, openWindow, screenshot } from "./helpers.js";
import { UNREACHABLE, blockCoffeePosts, isPost } from "./network.js";
import { BASIC, REFUSALS, SETTINGS, USERS, byCookie, skip, startNginx } from "./nginx.js";

/** Ways of signing people in. */
const RULES = { "basic authentication": BASIC, cookie: byCookie(REFUSALS["status 401"]) };
const REFUSED = /status of 401/;

/** Adds a person; returns the first key. */
function addPerson(server, name, displayName) {
  const added = spawnSync(BINARY, ["person", "add", name, "--display-name", displayName, `--database-url=${server.folder}/coffee.db`], { encoding: "utf8" });
  assert.equal(added.status, 0, added.stderr);
  return added.stdout.match(/ct_\w+/)[0];
}

/**
 * Defines a test with a server, the people anna and ben, and nginx. `openAs` opens a window of a person, and checks at
 * the end that it reported no other problems than those of `expected`.
 */
function proxyTest(name, { rules, expected = [], host = "127.0.0.1" }, body) {
  browserTest(name, { settings: SETTINGS, skip }, async ({ server }) => {
    const keys = { anna: addPerson(server, "anna", "Anna"), ben: addPerson(server, "ben", "Ben") };
    const nginx = await startNginx(server, rules);
    const url = nginx.url.replace("127.0.0.1", host);
    const windows = [];
    const openAs = async (user) => {
      const httpCredentials = rules === BASIC && user ? { username: user, password: USERS[user] } : undefined;
      const opened = await openWindow(url, { httpCredentials });
      windows.push(opened);
      if (rules !== BASIC && user) await setSession(opened.context, url, user);
      return opened;
    };
    try {
      await waitUntilEqual(async () => (await api(server, nginx.url, "anna", "/me")).status, 200, { interval: 200 });
      await waitUntilEqual(async () => (await api(server, nginx.url, "ben", "/me")).status, 200, { interval: 200 });
      await body({ server, nginx, url, openAs, keys, stored: (user) => storedCoffees(server, nginx.url, user) });
      const problems = windows.flatMap((opened) => opened.problems);
      assert.deepEqual(problems.filter((problem) => !expected.some((pattern) => pattern.test(problem))), []);
    } catch (error) {
      for (const [n, { page }] of windows.entries()) await screenshot(page, `failed/${name.replaceAll(/\W+/g, "-").slice(0, 70)}-${n}`).catch(() => {});
      throw error;
    } finally {
      for (const { context } of windows) await context.close();
      await nginx.stop();
    }
  });
}

/** Signs a browser in at the proxy that uses a cookie. */
const setSession = (context, url, user) => context.addCookies([{ name: "session", value: user, url }]);

/** Sends a request through the proxy as a user, in both ways of signing in. */
const api = (server, url, user, path, options = {}) => {
  const basic = Buffer.from(`${user}:${USERS[user]}`).toString("base64");
  return fetch(url + path, { ...options, headers: { Authorization: `Basic ${basic}`, Cookie: `session=${user}`, ...options.headers } });
};

/** Returns the coffees of a person. */
async function storedCoffees(server, url, user) {
  const coffees = await (await api(server, url, user, "/coffee/?limit=1000")).json();
  return coffees.map(({ caffeine_mg, coffee_type, notes }) => ({ caffeine_mg, coffee_type, notes }));
}

const person = (page) => page.locator("#person:visible").innerText();
/** Records the requests that have a key. */
const recordKeys = (context, keys) => context.on("request", (request) => request.headers().authorization?.startsWith("Bearer") && keys.push(request.url()));

// Over HTTP, only pages of loopback addresses are secure contexts, whose requests have the header Sec-Fetch-Site.
for (const host of ["127.0.0.1", "kitchen.lan"]) {
  proxyTest(`two people use the dashboard without a key, each with their own entries: ${host}`, { rules: BASIC, host }, async ({ url, openAs, stored }) => {
    const withKey = [];
    const [anna, ben] = [await openAs("anna"), await openAs("ben")];
    for (const { context } of [anna, ben]) recordKeys(context, withKey);
    for (const [{ page }, name] of [[anna, "Anna"], [ben, "Ben"]]) {
      await page.goto(url);
      await page.getByText("0 of 400 mg").waitFor();
      assert.match(await person(page), new RegExp(`${name}$`));
      assert.equal(await page.locator("#sign-in[open]").count(), 0);
      assert.equal(await page.getByRole("button", { name: "Sign out" }).count(), 0);
    }
    await drinkButton(anna.page, "espresso").click();
    await anna.page.getByText("80 of 400 mg").waitFor();
    await waitUntilEqual(() => stored("anna"), [coffee("espresso", 80)]);
    await ben.page.reload();
    await ben.page.getByText("0 of 400 mg").waitFor();
    assert.deepEqual(await stored("ben"), []);
    await drinkButton(ben.page, "cola").click();
    await waitUntilEqual(() => stored("ben"), [coffee("cola", 40)]);
    // Changing and deleting need the same origin as well.
    await anna.page.locator("#history").scrollIntoViewIfNeeded();
    await anna.page.getByRole("button", { name: /^Edit espresso/ }).click();
    await anna.page.locator("#sheet").getByLabel("Notes").fill("double");
    await anna.page.locator("#sheet").getByRole("button", { name: "Save" }).click();
    await waitUntilEqual(() => stored("anna"), [coffee("espresso", 80, "double")]);
    await anna.page.getByRole("button", { name: /^Delete espresso/ }).click();
    await anna.page.locator(".toast", { hasText: "Deleted espresso" }).waitFor();
    // Leaving the page carries the deletion out.
    await anna.page.goto("about:blank");
    await waitUntilEqual(() => stored("anna"), []);
    assert.deepEqual(await stored("ben"), [coffee("cola", 40)]);
    assert.deepEqual(withKey, []);
    await ben.page.waitForLoadState("networkidle");
    await screenshot(ben.page, `proxy/signed-in-${host}`, { fullPage: false });
    assert.equal(await accessibilityViolations(ben.page), "");
    // Nothing but the name of the person is kept for the next start.
    assert.doesNotMatch(await ben.page.evaluate(() => JSON.stringify([localStorage, sessionStorage])), /cola|coffee\.answer/);
  });
}

proxyTest("a client that sends the header itself gains nothing", { rules: BASIC }, async ({ server, nginx }) => {
  const asBen = await api(server, nginx.url, "ben", "/me", { headers: { "Remote-User": "anna" } });
  assert.equal((await asBen.json()).person.name, "ben");
  assert.equal((await fetch(`${nginx.url}/me`, { headers: { "Remote-User": "anna" } })).status, 401);
  assert.equal((await fetch(`${nginx.url}/me`, { headers: { Authorization: "Bearer invalid", "Remote-User": "anna" } })).status, 401);
  assert.equal((await fetch(`${server.url}/me`, { headers: { "Remote-User": "anna" } })).status, 401);
});

/** Serves a page that tries to add a coffee at `target`, in every way that needs no permission of that origin. */
async function startAttacker(target) {
  const page = `<!doctype html><meta charset="utf-8"><title>Attack</title>
    <form method="post" enctype="text/plain" action="${target}/coffee/"><input name='{"caffeine_mg": 99, "notes": "' value='"}'></form>
    <script>
      const body = JSON.stringify({ caffeine_mg: 99 });
      const send = (options) => fetch("${target}/coffee/", { method: "POST", body, credentials: "include", ...options }).then(() => "response", () => "failed");
      window.attack = async () => [
        await send({ mode: "no-cors" }),
        await send({}),
        await send({ headers: { "Content-Type": "application/json" } }),
        await send({ headers: { "X-Person": "anna" } }),
        navigator.sendBeacon("${target}/coffee/", body),
      ];
    </script>`;
  const server = createServer((_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end(page));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), server.close()) };
}

const ATTACK = [/request to http:\/\/127/, /status of 40[13]/, /blocked by CORS policy/, /net::ERR_(FAILED|BLOCKED_BY_RESPONSE)/];
for (const [what, rules] of Object.entries(RULES)) {
  proxyTest(`a page of another origin cannot add a coffee: ${what}`, { rules, expected: ATTACK }, async ({ server, url, openAs, stored }) => {
    const attacker = await startAttacker(url);
    try {
      const { page } = await openAs("anna");
      await page.goto(url);
      await page.getByText("0 of 400 mg").waitFor();
      await page.goto(attacker.url);
      const outcome = await page.evaluate(() => window.attack());
      assert.deepEqual(outcome, ["failed", "failed", "failed", "failed", true]);
      const [response] = await Promise.all([page.waitForResponse(`${url}/coffee/`), page.evaluate(() => document.forms[0].submit())]);
      assert.equal(response.status(), 403);
      await page.getByText("Changes are accepted only from pages of this server").waitFor();
      // They came through the proxy, and the server refused them.
      const refused = async () => Number((await server.metrics()).match(/auth_failures_total\{reason="origin"\} (\d+)/)[1]) >= 4;
      await waitUntilEqual(refused, true);
      assert.deepEqual(await stored("anna"), []);
      // The same request is accepted from a page of the server.
      await page.goto(url);
      await drinkButton(page, "espresso").click();
      await waitUntilEqual(() => stored("anna"), [coffee("espresso", 80)]);
    } finally {
      attacker.stop();
    }
  });
}

/** Opens Anna's dashboard, ends her session at the proxy and waits until the page has noticed. */
async function endSession({ url, openAs }) {
  const { page, context } = await openAs("anna");
  await page.goto(url);
  await page.getByText("0 of 400 mg").waitFor();
  await blockCoffeePosts(page);
  await drinkButton(page, "espresso").click();
  await banner(page, "1 entry saved on this device").waitFor();
  // On a slow machine the page would still be loading them, and the browser reports modules that the proxy refuses.
  await page.evaluate(() => {
    const modules = ["charts/caffeine", "charts/correlation", "charts/days", "charts/heart-rate", "charts/trends", "day-view", "dialogs", "history"];
    return Promise.all(modules.map((name) => import(`/static/app/${name}.js`)));
  });
  await context.clearCookies();
  await page.unrouteAll();
  await checkAgain(page);
  await banner(page, "You have to sign in again. 1 entry saved on this device.").waitFor();
  return { page, context };
}

for (const [what, refusal] of Object.entries(REFUSALS)) {
  const expected = [REFUSED, /request to http:\/\/localhost/, ...UNREACHABLE];
  proxyTest(`when the session of the proxy ends, entries wait until the person signs in again: ${what}`, { rules: byCookie(refusal), expected }, async ({ url, openAs, stored }) => {
    const { page, context } = await endSession({ url, openAs });
    assert.doesNotMatch(await page.evaluate(() => document.body.innerText), /Anna|of 400 mg/);
    assert.equal(await page.locator("#sign-in[open]").count(), 0);
    await drinkButton(page, "cola").click();
    await banner(page, "You have to sign in again. 2 entries saved on this device.").waitFor();
    await screenshot(page, `proxy/session-ended-${what.replaceAll(" ", "-")}`, { fullPage: false });
    assert.equal(await accessibilityViolations(page), "");
    await banner(page, "You have to").getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Sign in at the proxy").waitFor();
    await setSession(context, url, "anna");
    await page.goto(`${url}/?sign-in`);
    await page.getByText("120 of 400 mg").waitFor();
    assert.equal(page.url(), `${url}/`);
    await waitUntilEqual(async () => (await stored("anna")).map((entry) => entry.coffee_type).sort(), ["cola", "espresso"]);
  });
}

proxyTest("an open page goes on after the person has signed in again in another tab", { rules: RULES.cookie, expected: [REFUSED, ...UNREACHABLE] }, async ({ url, openAs, stored }) => {
  const { page, context } = await endSession({ url, openAs });
  await setSession(context, url, "anna");
  await checkAgain(page);
  await page.getByText("80 of 400 mg").waitFor();
  assert.match(await person(page), /Anna$/);
  await page.locator("#banner").waitFor({ state: "hidden" });
  await waitUntilEqual(() => stored("anna"), [coffee("espresso", 80)]);
});

proxyTest("entries of one person are not sent after another has signed in at the proxy", { rules: RULES.cookie, expected: [REFUSED, ...UNREACHABLE] }, async ({ url, openAs, stored }) => {
  const { page, context } = await openAs("anna");
  await page.goto(url);
  await page.getByText("0 of 400 mg").waitFor();
  await drinkButton(page, "espresso").waitFor();
  // The session changes between the page's last request and the entry.
  await page.route("**/coffee/", async (route) => {
    if (isPost(route)) await setSession(context, url, "ben");
    await route.continue();
  });
  await drinkButton(page, "espresso").click();
  await page.locator("#person", { hasText: "Ben" }).waitFor();
  await page.getByText("0 of 400 mg").waitFor();
  await page.getByText("1 entry logged with another key is waiting on this device").waitFor();
  assert.deepEqual([await stored("ben"), await stored("anna")], [[], []]);
  await page.unrouteAll();
  await setSession(context, url, "anna");
  await page.reload();
  await page.locator("#person", { hasText: "Anna" }).waitFor();
  await waitUntilEqual(() => stored("anna"), [coffee("espresso", 80)]);
  assert.deepEqual(await stored("ben"), []);
});

for (const [what, rules] of Object.entries(RULES)) {
  proxyTest(`a key takes precedence over the proxy until the person signs out: ${what}`, { rules }, async ({ url, openAs, keys, stored }) => {
    const { page } = await openAs("anna");
    await page.goto(url);
    await page.getByText("0 of 400 mg").waitFor();
    await page.evaluate((key) => (location.hash = `#key=${key}`), keys.ben);
    await page.getByText("Switch to Ben?").waitFor();
    await page.getByText("You are signed in as Anna.").waitFor();
    await page.locator("#sheet").getByRole("button", { name: "Switch" }).click();
    await page.locator("#person", { hasText: "Ben" }).waitFor();
    await drinkButton(page, "cola").click();
    await waitUntilEqual(() => stored("ben"), [coffee("cola", 40)]);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.locator("#person", { hasText: "Anna" }).waitFor();
    await page.getByText("0 of 400 mg").waitFor();
    assert.equal(await page.getByRole("button", { name: "Sign out" }).count(), 0);
  });
}

proxyTest("somebody whom the server does not have needs a key", { rules: RULES.cookie, expected: [REFUSED] }, async ({ url, openAs, keys }) => {
  const { page, context } = await openAs("eve");
  await page.goto(url);
  await page.getByLabel("API key").waitFor();
  // Likewise if the page was signed in before.
  await setSession(context, url, "anna");
  await page.reload();
  await page.locator("#person", { hasText: "Anna" }).waitFor();
  // Requests that the reload still sends would be refused, too, and reload the page again.
  await page.waitForLoadState("networkidle");
  await setSession(context, url, "eve");
  await checkAgain(page);
  await page.getByLabel("API key").fill(keys.ben);
  await page.locator("#sign-in").getByRole("button", { name: "Sign in" }).click();
  await page.locator("#person", { hasText: "Ben" }).waitFor();
});
