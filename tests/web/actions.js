// Actions of a user on the dashboard, and locators and assertions for their results.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";

import { BINARY, KEY } from "./helpers.js";

/** Signs this window in before a page is opened, as if the key had been entered just now. */
export async function storeKey(page, key = KEY) {
  const owner = createHash("sha256").update(key).digest("hex").slice(0, 16);
  await page.addInitScript(([value, owner]) => {
    // Blank pages and error pages have no storage.
    if (!location.protocol.startsWith("http") || sessionStorage.getItem("coffee.key") !== null) return;
    sessionStorage.setItem("coffee.key", value);
    sessionStorage.setItem("coffee.key-entry", JSON.stringify({ owner, at: Date.now() }));
  }, [key, owner]);
}

/** Opens the dashboard, signed in for this window. */
export async function open(page, server, key = KEY) {
  await storeKey(page, key);
  await page.goto(server.url);
  await page.locator("#today-total", { hasText: "mg" }).waitFor();
}

/** Scrolls to every section that loads lazily and back to the top. */
export async function loadAllSections(page) {
  for (const [section, content] of [["week", "#week-bars li"], ["trends", "#trend-late-text:not(:empty)"], ["correlation", "#verdict:not(:empty)"], ["history", "#history-list > *"]]) {
    await page.locator(`#${section}`).scrollIntoViewIfNeeded();
    await page.locator(content).first().waitFor();
  }
  await page.waitForLoadState("networkidle");
  await page.evaluate(() => scrollTo(0, 0));
}

/** Fills in and submits the sign-in dialog. */
export async function signIn(page, key = KEY, { remember = false } = {}) {
  await page.getByLabel("API key").fill(key);
  await page.getByRole("checkbox").setChecked(remember);
  await page.locator("#sign-in").getByRole("button", { name: "Sign in" }).click();
}

/** Lets the page do what it does when the user returns to its tab. */
export const checkAgain = (page) => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));

/** Waits until `read` returns a value equal to `expected`. */
export async function waitUntilEqual(read, expected, { timeout = 30_000, interval = 50 } = {}) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const found = await read();
    try {
      assert.deepEqual(found, expected);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, interval));
    }
  }
}

const statusOf = async (server, key) => (await fetch(`${server.url}/me`, { headers: { Authorization: `Bearer ${key}` } })).status;

/** Creates keys with these scopes, and waits until the server has loaded them. */
export async function addKeys(server, scopesByName) {
  const keys = {};
  for (const [name, scope] of Object.entries(scopesByName)) {
    const added = spawnSync(BINARY, ["key", "add", name, "--scope", scope, `--database-url=${server.folder}/coffee.db`], { encoding: "utf8" });
    assert.equal(added.status, 0, added.stderr);
    keys[name] = added.stdout.trim();
  }
  // The server loads new keys together. Few attempts, as those with invalid keys are limited.
  await waitUntilEqual(() => statusOf(server, Object.values(keys).at(-1)), 200, { interval: 500 });
  return keys;
}

/** Revokes a key, and waits until the server refuses it. */
export async function revokeKey(server, name, key) {
  const revoked = spawnSync(BINARY, ["key", "revoke", name, `--database-url=${server.folder}/coffee.db`], { encoding: "utf8" });
  assert.equal(revoked.status, 0, revoked.stderr);
  await waitUntilEqual(() => statusOf(server, key), 401);
}

/** Returns the coffees on the server, newest first, without ids and times. */
export async function coffees(server) {
  const { body } = await server.api("GET", "/coffee/?limit=1000");
  return body.map(({ caffeine_mg, coffee_type, notes }) => ({ caffeine_mg, coffee_type, notes }));
}

/** A coffee as returned by `coffees`. */
export const coffee = (coffee_type, caffeine_mg, notes = null) => ({ caffeine_mg, coffee_type, notes });

/** The button that logs a drink. */
export const drinkButton = (page, name) => page.locator("#drinks").getByRole("button", { name: new RegExp(`^${name} `) });

/** The banner, when it contains a text. */
export const banner = (page, text) => page.locator("#banner", { hasText: text });

/** Returns the age of a timestamp in minutes. */
export const minutesAgo = (timestamp) => (Date.now() - Date.parse(timestamp)) / 60_000;
