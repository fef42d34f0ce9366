// What a person does on the dashboard, for the tests that do it.

import assert from "node:assert/strict";

import { KEY } from "./helpers.js";

/** Opens the dashboard with the key, as somebody does who has it kept for this window. */
export async function open(page, server, { key = KEY } = {}) {
  await page.addInitScript((value) => {
    // A blank page, or that of an error, has no storage.
    if (location.protocol.startsWith("http")) sessionStorage.getItem("coffee.key") ?? sessionStorage.setItem("coffee.key", value);
  }, key);
  await page.goto(server.url);
  await page.locator("#today-total", { hasText: "mg" }).waitFor();
}

/** Scrolls through the whole page, so that everything on it is loaded, and back to the top. */
export async function seeAll(page) {
  for (const [section, filled] of [["week", "#week-bars li"], ["correlation", "#verdict:not(:empty)"], ["history", "#history-list > *"]]) {
    await page.locator(`#${section}`).scrollIntoViewIfNeeded();
    await page.locator(filled).first().waitFor();
  }
  await page.waitForLoadState("networkidle");
  await page.evaluate(() => scrollTo(0, 0));
}

/** Enters a key into the form that asks for it. */
export async function signIn(page, key = KEY, { remember = false } = {}) {
  await page.getByLabel("This server's API key").fill(key);
  await page.getByRole("checkbox").setChecked(remember);
  await page.getByRole("button", { name: "Open", exact: true }).click();
}

/** Waits until `ask` answers as `expected`, which the page brings about in its own time. */
export async function becomes(ask, expected, patience = 10_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await ask();
    try {
      assert.deepEqual(found, expected);
      return;
    } catch (difference) {
      if (Date.now() > end) throw difference;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** What the server has, newest first, without ids. */
export async function coffees(server) {
  const { body } = await server.api("GET", "/coffee/?limit=1000");
  return body.map(({ caffeine_mg, coffee_type, notes }) => ({ caffeine_mg, coffee_type, notes }));
}

/** A coffee as it is asked for by `coffees`. */
export const coffee = (coffee_type, caffeine_mg, notes = null) => ({ caffeine_mg, coffee_type, notes });

/** The button of a drink. */
export const drink = (page, name) => page.locator("#drinks").getByRole("button", { name: new RegExp(`^${name} `) });

/** The strip at the foot of the window, saying this. */
export const strip = (page, text) => page.locator("#strip", { hasText: text });

/** Minutes since a time as the server writes it. */
export const minutesAgo = (timestamp) => (Date.now() - Date.parse(timestamp)) / 60_000;
