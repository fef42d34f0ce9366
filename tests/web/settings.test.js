// Settings: the list and its sections, the profile over today's curve, devices and pairing.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { UNREACHABLE } from "./network.js";
import { DEMO, KEY, TIMEZONE, accessibilityViolations, browserTest, horizontalOverflow, openWindow, screenshot } from "./helpers.js";
import { addKeys, open, revokeKey, signIn, storeKey, waitUntilEqual } from "./actions.js";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));

/** Opens an address of the settings, signed in for this window. */
async function openSettings(page, server, section = "you", key = KEY) {
  await storeKey(page, key);
  await page.goto(`${server.url}/settings${section && `/${section}`}`);
}

/** Returns axe's violations in a window that shows the whole page, so that no part of it is below a sticky one. */
async function violations(page) {
  const size = page.viewportSize();
  await page.setViewportSize({ width: size.width, height: 4000 });
  const found = await accessibilityViolations(page);
  await page.setViewportSize(size);
  return found;
}

const focused = (page) => page.evaluate(() => document.activeElement.innerText || document.activeElement.getAttribute("aria-label"));
const sheet = (page) => page.locator("#sheet[open]");
const toast = (page, text) => page.locator(".toast:visible", { hasText: text });
const heading = (page, name) => page.getByRole("heading", { name, exact: true, level: 2 });
const link = (page, name) => page.locator("#section-list").getByRole("link", { name: new RegExp(`^${name}`) });
const field = (page, label) => page.locator("#you-form").getByRole("spinbutton", { name: label });
const bedtime = (page) => page.locator("#you-form input[type=time]").first();
const slider = (page, label) => page.locator("#you-form").getByRole("slider", { name: label });
const save = (page) => page.getByRole("button", { name: "Save", exact: true });
const profile = async (server) => Object.fromEntries(Object.entries((await server.api("GET", "/profile")).body).map(([name, { value, is_default: isDefault }]) => [name, isDefault ? null : value]));
const DEFAULTS = { bedtime: null, bedtime_by_weekday: null, half_life_hours: null, sleep_threshold_mg: null, usual_dose_mg: null, daily_limit_mg: null };

test("settings.html names every module that it uses, so that all are cached for offline use", () => {
  const html = readFileSync(join(STATIC, "settings.html"), "utf8");
  const named = [...html.matchAll(/href="\/static\/((?:app|settings)\/[^"]*\.js)"/g)].map(([, path]) => path);
  const used = new Set(readdirSync(join(STATIC, "settings")).map((name) => `settings/${name}`));
  for (const path of used) {
    const imports = readFileSync(join(STATIC, path), "utf8").matchAll(/(?:from|import)\s*\(?"(\.[^"]+)"/g);
    for (const [, imported] of imports) used.add(new URL(imported, `file:///${path}`).pathname.slice(1));
  }
  assert.deepEqual([...named, "settings/main.js"].sort(), [...used].sort());
});

for (const screen of ["wide", "phone", "narrow"]) {
  for (const colorScheme of ["light", "dark"]) {
    browserTest(`the settings are accessible and fit the window: ${screen}, ${colorScheme}`, { screen, colorScheme, sampleData: DEMO }, async ({ page, server }) => {
      await openSettings(page, server, "");
      await link(page, "You").waitFor();
      if (screen === "wide") await page.locator("#you-chart canvas").waitFor();
      await screenshot(page, `settings/${screen}-${colorScheme}-list`);
      assert.equal(await violations(page), "");
      await openSettings(page, server);
      await page.locator("#you-chart canvas").waitFor();
      await slider(page, "Half-life of caffeine (hours)").fill("8");
      await page.getByText("With these changes:").waitFor();
      await screenshot(page, `settings/${screen}-${colorScheme}-you`);
      assert.equal(await horizontalOverflow(page), 0);
      assert.equal(await violations(page), "");
    });
  }
}

browserTest("sections open without loading the page again, and Back, deep links and reload work", { screen: "phone" }, async ({ page, server }) => {
  await openSettings(page, server, "");
  await page.evaluate(() => (window.isFirst = true));
  assert.equal(await page.title(), "Settings · Coffee Tracker");
  await link(page, "You").click();
  await heading(page, "You").waitFor();
  assert.equal(new URL(page.url()).pathname, "/settings/you");
  assert.equal(await page.title(), "You · Settings · Coffee Tracker");
  assert.equal(await focused(page), "You");
  assert.equal(await page.locator("#section-list:visible").count(), 0);
  await page.goBack();
  await link(page, "You").waitFor();
  assert.equal(await focused(page), "Settings");
  await page.goForward();
  await heading(page, "You").waitFor();
  await page.locator("#back").click();
  await link(page, "You").waitFor();
  assert.equal(new URL(page.url()).pathname, "/settings");
  await link(page, "You").click();
  assert.ok(await page.evaluate(() => window.isFirst));
  await page.reload();
  await heading(page, "You").waitFor();
  await field(page, "Daily limit").waitFor();
  await page.goBack();
  await link(page, "You").waitFor();
});

browserTest("on a desk the list is beside the section, and the first section is open", { sampleData: DEMO }, async ({ page, server }) => {
  await openSettings(page, server, "");
  await heading(page, "You").waitFor();
  await link(page, "You").waitFor();
  assert.equal(await link(page, "You").getAttribute("aria-current"), "page");
  await page.setViewportSize({ width: 390, height: 844 });
  await heading(page, "You").waitFor({ state: "hidden" });
  await link(page, "You").waitFor();
});

for (const screen of ["wide", "phone", "narrow"]) {
  browserTest(`the dashboard and the docs lead to the settings, and back: ${screen}`, { screen }, async ({ page, server }) => {
    await open(page, server);
    await screenshot(page, `settings/${screen}-dashboard-link`, { fullPage: false });
    assert.equal(await horizontalOverflow(page), 0);
    await page.getByRole("link", { name: "Settings", exact: true }).click();
    await page.getByRole("heading", { name: screen === "wide" ? "You" : "Settings", exact: true }).waitFor();
    await page.getByRole("link", { name: "Docs", exact: true }).click();
    await page.getByRole("link", { name: "Settings", exact: true }).waitFor();
    await screenshot(page, `settings/${screen}-docs-link`, { fullPage: false });
    assert.equal(await horizontalOverflow(page), 0);
    await page.getByRole("link", { name: "Settings", exact: true }).click();
    await page.getByRole("link", { name: "Dashboard", exact: true }).click();
    await page.locator("#today-total", { hasText: "mg" }).waitFor();
  });
}

browserTest("sections that the key may not use are not listed, and do not open", { screen: "phone" }, async ({ page, server }) => {
  const { reader } = await addKeys(server, { reader: "read" });
  await page.goto(`${server.url}/settings`);
  await signIn(page, reader);
  await page.getByText("This key can't change any settings.").waitFor();
  await page.goto(`${server.url}/settings/you`);
  await page.getByText("The key of this device can't open this section.").waitFor();
  assert.equal(await violations(page), "");
});

browserTest("signing out leaves nothing of the settings on the screen, in every tab", {}, async ({ page, server, context }) => {
  await page.goto(`${server.url}/settings/you`);
  await signIn(page, KEY, { remember: true });
  await field(page, "Daily limit").waitFor();
  const other = await context.newPage();
  await open(other, server);
  await other.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  assert.equal(await field(page, "Daily limit").count(), 0);
});

browserTest("a change of the profile shows its effect, is saved, and undone", { sampleData: DEMO }, async ({ page, server }) => {
  await openSettings(page, server);
  await page.locator("#you-verdict:not(:empty)").waitFor();
  assert.doesNotMatch(await page.locator("#you-verdict").innerText(), /With these changes/);
  assert.equal(await field(page, "Half-life").inputValue(), "5");
  await page.getByText("Default: 5 h, as set on this server (CAFFEINE_HALF_LIFE_HOURS).").waitFor();
  await page.getByText("Default: the median of your latest 50 drinks.").waitFor();
  await field(page, "Half-life").fill("7.5");
  assert.equal(await slider(page, "Half-life").inputValue(), "7.5");
  await bedtime(page).fill("22:30");
  assert.equal(await slider(page, "Bedtime").getAttribute("aria-valuetext"), "22:30");
  await slider(page, "Daily limit").fill("300");
  assert.equal(await field(page, "Daily limit").inputValue(), "300");
  await page.locator("#you-verdict", { hasText: /^With these changes: .*\(\d+ mg as saved\) from bedtime on\./ }).waitFor();
  assert.deepEqual(await profile(server), DEFAULTS, "nothing is saved yet");
  await page.getByText("Show as table").click();
  assert.deepEqual(await page.locator("#you-table th").allInnerTexts(), ["Time", "As saved", "With the values above"]);
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, bedtime: "22:30", half_life_hours: 7.5, daily_limit_mg: 300 });
  assert.doesNotMatch(await page.locator("#you-verdict").innerText(), /With these changes/);
  await toast(page, "Saved").getByRole("button", { name: "Undo" }).click();
  await toast(page, "Restored the former values").waitFor();
  assert.deepEqual(await profile(server), DEFAULTS);
  assert.equal(await field(page, "Half-life").inputValue(), "5");
});

browserTest("the preview is what the server computes once it is saved", { sampleData: DEMO }, async ({ page, server }) => {
  await openSettings(page, server);
  await page.locator("#you-verdict:not(:empty)").waitFor();
  for (const halfLife of ["3.5", "8"]) {
    await field(page, "Half-life").fill(halfLife);
    await bedtime(page).fill("21:45");
    const preview = (await page.locator("#you-verdict").innerText()).replace("With these changes: ", "").replaceAll(/ \([^)]* as saved\)/g, "");
    await save(page).click();
    await toast(page, "Saved").waitFor();
    await waitUntilEqual(() => page.locator("#you-verdict").innerText(), preview);
  }
});

browserTest("a value is reset to its default, and changes can be discarded", {}, async ({ page, server }) => {
  await server.api("PATCH", "/profile", { sleep_threshold_mg: 30, daily_limit_mg: 250 });
  await openSettings(page, server);
  await page.getByText("The default is 50 mg, as set on this server (SLEEP_THRESHOLD_MG).").waitFor();
  await page.getByRole("button", { name: "Reset to default: Sleep limit" }).click();
  assert.equal(await field(page, "Sleep limit").inputValue(), "50");
  await field(page, "Daily limit").fill("500");
  await page.getByRole("button", { name: "Discard changes" }).click();
  assert.deepEqual([await field(page, "Sleep limit").inputValue(), await field(page, "Daily limit").inputValue()], ["30", "250"]);
  await page.getByRole("button", { name: "Reset to default: Sleep limit" }).click();
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, daily_limit_mg: 250 });
});

browserTest("a weekday gets a bedtime of its own, which is shown, saved, undone and removed", { sampleData: DEMO }, async ({ page, server }) => {
  await openSettings(page, server);
  await page.locator("#you-verdict:not(:empty)").waitFor();
  const weekdays = page.locator("#weekdays");
  const summary = weekdays.locator("summary");
  assert.equal(await summary.innerText(), "Different on some days");
  await summary.focus();
  await page.keyboard.press("Enter");
  const day = (name) => weekdays.getByLabel(name, { exact: true });
  const usualDays = weekdays.locator("span:visible", { hasText: /^As usual$/ });
  assert.equal(await usualDays.count(), 7);
  const today = new Date().toLocaleDateString("en", { weekday: "long", timeZone: TIMEZONE });
  const other = today === "Friday" ? "Monday" : "Friday";
  await day(today).fill("20:15");
  await day(other).fill("00:30");
  await page.locator("#you-verdict", { hasText: /^With these changes: .* as saved\) from bedtime on\./ }).waitFor();
  assert.equal(await usualDays.count(), 5);
  assert.deepEqual(await profile(server), DEFAULTS, "nothing is saved yet");
  assert.match(await summary.innerText(), /^Different on some days: /);
  assert.equal(await violations(page), "");
  await screenshot(page, "settings/wide-weekdays");
  const saved = { ...DEFAULTS, bedtime_by_weekday: { [today.toLowerCase()]: "20:15", [other.toLowerCase()]: "00:30" } };
  const preview = (await page.locator("#you-verdict").innerText()).replace("With these changes: ", "").replaceAll(/ \([^)]* as saved\)/g, "");
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), saved);
  await waitUntilEqual(() => page.locator("#you-verdict").innerText(), preview);
  await toast(page, "Saved").getByRole("button", { name: "Undo" }).click();
  await toast(page, "Restored the former values").waitFor();
  assert.deepEqual(await profile(server), DEFAULTS);
  assert.equal(await usualDays.count(), 7);
  assert.equal(await day(today).inputValue(), "");
});

browserTest("the bedtime of a weekday is reset, and a refused one is shown at its day", { screen: "narrow", expected: [/status of 422/] }, async ({ page, server }) => {
  await server.api("PATCH", "/profile", { bedtime_by_weekday: { friday: "00:30", saturday: "01:00" } });
  await openSettings(page, server);
  const weekdays = page.locator("#weekdays");
  await weekdays.getByText(/^Different on some days: Friday 0?0:30, Saturday 0?1:00$/).waitFor();
  await weekdays.locator("summary").click();
  await screenshot(page, "settings/narrow-weekdays");
  assert.equal(await horizontalOverflow(page), 0);
  assert.equal(await violations(page), "");
  await page.getByRole("button", { name: "Reset to usual: Friday" }).click();
  assert.equal(await page.evaluate(() => document.activeElement.labels[0].innerText), "Friday");
  await weekdays.locator("summary").click();
  const refusal = { title: "Unprocessable Content", status: 422, detail: "refused", errors: [{ location: "body", field: "bedtime_by_weekday.saturday", message: "must be earlier" }] };
  await page.route("**/profile", (route) => (route.request().method() === "PATCH" ? route.fulfill({ status: 422, contentType: "application/problem+json", body: JSON.stringify(refusal) }) : route.continue()));
  await save(page).click();
  await weekdays.getByText("must be earlier").waitFor();
  await page.unroute("**/profile");
  assert.equal(await page.evaluate(() => document.activeElement.labels[0].innerText), "Saturday");
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, bedtime_by_weekday: { saturday: "01:00" } });
});

browserTest("what is set on the server is shown locked, with the names of the settings", { settings: { MAX_CAFFEINE_MG: "500", MIN_HEART_RATE_BPM: "35", MAX_HEART_RATE_BPM: "220", BEDTIME: "22:15", USUAL_DOSE_MG: "90" } }, async ({ page, server }) => {
  const { body: added } = await server.api("POST", "/people", { name: "anna" });
  await openSettings(page, server, "you", added.key.key);
  const fixed = page.locator("#fixed-settings");
  await fixed.locator("dt").first().waitFor();
  assert.deepEqual(await fixed.locator("dt").allInnerTexts(), ["Time zone", "Largest drink", "Lowest heart rate", "Highest heart rate"]);
  assert.deepEqual(await fixed.locator("dd").allInnerTexts(), [`${TIMEZONE}\nTZ`, "500 mg\nMAX_CAFFEINE_MG", "35 bpm\nMIN_HEART_RATE_BPM", "220 bpm\nMAX_HEART_RATE_BPM"]);
  assert.equal(await fixed.locator("input, button, a").count(), 0);
  await page.getByText("Default: 22:15, as set on this server (BEDTIME).").waitFor();
  await page.getByText("Default: 90 mg, as set on this server (USUAL_DOSE_MG).").waitFor();
  await slider(page, "Usual drink (mg)").fill("120");
  await page.getByText("The default is 90 mg, as set on this server (USUAL_DOSE_MG).").waitFor();
});

browserTest("presets name their sources, and pregnancy offers a lower daily limit", { screen: "phone" }, async ({ page, server }) => {
  await openSettings(page, server);
  const preset = (name) => page.getByRole("button", { name });
  for (const [name, halfLife] of [["Smoker", "3.5"], ["Oral contraceptives", "8"], ["Pregnancy", "8"]]) {
    await preset(name).click();
    assert.equal(await field(page, "Half-life").inputValue(), halfLife);
    assert.equal(await preset(name).getAttribute("aria-pressed"), "true");
    assert.equal(await page.locator("#presets [aria-pressed=true]").count(), 1);
  }
  await page.getByText("In pregnancy, at most 200 mg a day is advised").waitFor();
  await screenshot(page, "settings/phone-pregnancy", { fullPage: false });
  await preset("Set daily limit to 200 mg").click();
  assert.equal(await field(page, "Daily limit").inputValue(), "200");
  assert.deepEqual(await page.locator("#presets a").evaluateAll((links) => links.map((one) => one.href)), [
    "https://doi.org/10.17226/10219", "https://doi.org/10.1002/cpt197824140", "https://doi.org/10.1007/BF00544361", "https://doi.org/10.1007/BF00637512",
  ]);
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, half_life_hours: 8, daily_limit_mg: 200 });
});

browserTest("errors of the server are shown at the field, and without a connection the input is kept", { expected: [...UNREACHABLE, /status of 422/] }, async ({ page, server }) => {
  await openSettings(page, server);
  await field(page, "Half-life").fill("6");
  await page.route("**/profile", (route) => (route.request().method() === "PATCH" ? route.fulfill({ status: 422, contentType: "application/problem+json", json: { title: "Unprocessable Content", status: 422, detail: "half_life_hours: must be between 1 and 24", errors: [{ location: "body", field: "half_life_hours", message: "must be between 1 and 24" }] } }) : route.continue()));
  await save(page).click();
  await page.locator("#you-form .field", { hasText: "Half-life" }).getByText("must be between 1 and 24").waitFor();
  assert.equal(await violations(page), "");
  await page.unrouteAll();
  await page.route("**/profile", (route) => route.abort());
  await save(page).click();
  await page.getByText("Can't reach the server. Your changes are kept here").waitFor();
  assert.equal(await field(page, "Half-life").inputValue(), "6");
  await page.unrouteAll();
  await save(page).click();
  await toast(page, "Saved").waitFor();
  // What the browser itself finds invalid is not sent.
  await field(page, "Half-life").fill("40");
  await save(page).click();
  assert.equal(await page.evaluate(() => document.activeElement.validity.rangeOverflow), true);
  assert.deepEqual(await profile(server), { ...DEFAULTS, half_life_hours: 6 });
});

/** Response of a server whose disk is full. */
const diskFull = (detail) => ({ status: 503, contentType: "application/problem+json", json: { title: "Service Unavailable", status: 503, detail } });

browserTest("a full disk and a revoked key are said plainly, and changes of the profile are kept", { expected: [/status of (401|429|503)/] }, async ({ page, server }) => {
  const { laptop, tablet } = await addKeys(server, { laptop: "read,write", tablet: "read,write" });
  await openSettings(page, server, "you", laptop);
  await field(page, "Half-life").fill("6");
  await page.route("**/profile", (route) => (route.request().method() === "PATCH" ? route.fulfill(diskFull("The disk is full: nothing was stored")) : route.continue()));
  await save(page).click();
  await page.getByText("The disk is full: nothing was stored. Your changes are kept here.").waitFor();
  await page.unrouteAll();
  await revokeKey(server, "laptop", laptop);
  await save(page).click();
  await page.getByLabel("API key").waitFor();
  await signIn(page, tablet);
  await page.getByText("Your API key is no longer valid. Your changes are kept here. Sign in, then try again.").waitFor();
  assert.equal(await field(page, "Half-life").inputValue(), "6");
  assert.equal(await violations(page), "");
  await save(page).click();
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, half_life_hours: 6 });
});

browserTest("leaving with unsaved changes asks first, also with Back and when the page is closed", { screen: "phone" }, async ({ page, server }) => {
  await openSettings(page, server, "");
  await link(page, "You").click();
  await field(page, "Daily limit").fill("250");
  await page.locator("#back").click();
  await sheet(page).getByText("Discard your changes?").waitFor();
  await screenshot(page, "settings/phone-leave", { fullPage: false });
  assert.equal(await violations(page), "");
  await sheet(page).getByRole("button", { name: "Keep editing" }).click();
  assert.equal(await field(page, "Daily limit").inputValue(), "250");
  for (const decision of ["Keep editing", "Discard"]) {
    await page.evaluate(() => history.back());
    await sheet(page).getByText("Discard your changes?").waitFor();
    await page.waitForURL("**/settings/you");
    await sheet(page).getByRole("button", { name: decision }).click();
  }
  await link(page, "You").waitFor();
  assert.equal(new URL(page.url()).pathname, "/settings");
  await link(page, "You").click();
  await field(page, "Daily limit").waitFor();
  assert.equal(await field(page, "Daily limit").inputValue(), "400");
  await field(page, "Daily limit").fill("250");
  const asked = new Promise((resolve) => page.once("dialog", async (dialog) => {
    resolve(dialog.type());
    await dialog.dismiss();
  }));
  await page.getByRole("link", { name: "Dashboard", exact: true }).click();
  assert.equal(await asked, "beforeunload");
  assert.equal(await field(page, "Daily limit").inputValue(), "250");
});

browserTest("the profile is changed with the keyboard alone", {}, async ({ page, server }) => {
  await openSettings(page, server, "");
  await field(page, "Daily limit").waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const tabTo = async (description) => {
    for (let n = 0; n < 60; n += 1) {
      await page.keyboard.press("Tab");
      if ((await page.evaluate(() => `${document.activeElement.type} ${document.activeElement.getAttribute("aria-label") ?? document.activeElement.labels?.[0]?.innerText ?? document.activeElement.innerText}`)).includes(description)) return;
    }
    assert.fail(`not reached: ${description}`);
  };
  await tabTo("range Sleep limit");
  await page.keyboard.press("ArrowRight");
  await tabTo("Reset to default: Sleep limit");
  await tabTo("submit Save");
  await page.keyboard.press("Enter");
  await toast(page, "Saved").waitFor();
  assert.deepEqual(await profile(server), { ...DEFAULTS, sleep_threshold_mg: 55 });
  await page.keyboard.press("Control+z");
  await toast(page, "Restored the former values").waitFor();
  assert.deepEqual(await profile(server), DEFAULTS);
});

const thisDevice = (page) => page.locator("#this-device");
const addCard = (page) => page.locator("#add-device");
const device = (page, name) => page.locator("#device-list > li", { hasText: name });

/** Fills in the form "Add device" and submits it with a button. */
async function addDevice(page, name, buttonName, choice = "See and add entries For") {
  await addCard(page).getByLabel("Name").fill(name);
  await addCard(page).getByRole("radio", { name: choice }).check();
  await addCard(page).getByRole("button", { name: buttonName }).click();
}

/** Returns the text of the key that is shown. */
const shownKey = (page) => page.locator("pre[aria-label=Key]").innerText();
const statusOf = async (server, key, path = "/me") => (await fetch(server.url + path, { headers: { Authorization: `Bearer ${key}` } })).status;

browserTest("a key is added and shown once with instructions, and the device is listed", { screen: "phone" }, async ({ page, server }) => {
  await openSettings(page, server, "devices");
  await thisDevice(page).getByText("Owner's key").waitFor();
  await thisDevice(page).getByText("/etc/coffee-tracker/api_key").waitFor();
  await page.getByText("No other devices yet.").waitFor();
  await addDevice(page, "scales", "Show the key", "Add entries only");
  await page.getByRole("heading", { name: "Key of scales" }).waitFor();
  assert.equal(await focused(page), "Key of scales");
  const key = await shownKey(page);
  assert.match(key, /^ct_/);
  assert.deepEqual([await statusOf(server, key), await statusOf(server, key, "/coffee/")], [200, 403]);
  for (const name of ["Health Auto Export", "HC Webhook", "Apple Shortcut", "Home Assistant", "curl"]) await page.locator("summary", { hasText: name }).click();
  const curl = await page.locator("pre[aria-label=curl]").innerText();
  assert.equal(curl, `curl -H "Authorization: Bearer ${key}" -d '{"caffeine_mg": 80, "coffee_type": "espresso"}' ${server.url}/coffee/`);
  for (const [app, path] of [["Health Auto Export", "health-auto-export"], ["HC Webhook", "hc-webhook"]]) {
    assert.equal(await page.locator(`pre[aria-label='${app} URL']`).innerText(), `${server.url}/ingest/${path}`);
    assert.equal(await page.locator(`pre[aria-label='${app} header']`).innerText(), `Bearer ${key}`);
  }
  assert.match(await page.locator("pre[aria-label='Home Assistant configuration']").innerText(), /url: http:\/\/127\.0\.0\.1:\d+\/coffee\/\n/);
  await screenshot(page, "settings/phone-key");
  await page.evaluate(() => scrollTo(0, 0));
  assert.equal(await horizontalOverflow(page), 0);
  assert.equal(await violations(page), "");
  // Leaving would lose it.
  await page.locator("#back").click();
  await sheet(page).getByText("The new key is not shown again.").waitFor();
  await sheet(page).getByRole("button", { name: "Stay" }).click();
  await addCard(page).getByRole("button", { name: "Done" }).click();
  assert.equal(await page.getByText(key).count(), 0);
  await device(page, "scales").getByText("Can add entries, cannot see them").waitFor();
  await device(page, "scales").getByText("Added today · ").waitFor();
});

browserTest("a key that cannot add entries has no instructions for health apps", {}, async ({ page, server }) => {
  await openSettings(page, server, "devices");
  await addDevice(page, "display", "Show the key", "See entries only");
  await page.getByRole("heading", { name: "Key of display" }).waitFor();
  assert.deepEqual(await addCard(page).locator("summary").allInnerTexts(), ["Home Assistant", "curl"]);
});

browserTest("a name that is taken, or invalid, is reported at the field", { expected: [/status of (409|422)/] }, async ({ page, server }) => {
  await addKeys(server, { before: "read" });
  await openSettings(page, server, "devices");
  await addDevice(page, "phone", "Show the key");
  await addCard(page).getByRole("button", { name: "Done" }).click();
  await addDevice(page, "phone", "Pair with a code");
  await addCard(page).locator(".field-error:visible").waitFor();
  assert.equal(await focused(page), await addCard(page).getByLabel("Name").evaluate((input) => input.innerText || input.getAttribute("aria-label")));
  await addCard(page).getByLabel("Name").fill("Anna's phone");
  await addCard(page).getByRole("button", { name: "Pair with a code" }).click();
  assert.equal(await page.evaluate(() => document.activeElement.validity.patternMismatch), true);
});

/** Returns the text of the QR code on the page, or null if zbarimg is not installed. */
async function decodeQrCode(page, name) {
  const file = join(mkdtempSync(join(tmpdir(), "coffee-qr-")), `${name}.png`);
  await page.locator(".qr").screenshot({ path: file });
  const decoded = spawnSync("zbarimg", ["--quiet", "--raw", file], { encoding: "utf8" });
  if (decoded.error) {
    console.log("skipped: decoding the QR code (zbarimg is not installed)");
    return null;
  }
  assert.equal(decoded.status, 0, decoded.stderr);
  return decoded.stdout.trim();
}

for (const colorScheme of ["light", "dark"]) {
  browserTest(`a phone scans the QR code and is signed in: ${colorScheme}`, { colorScheme, deviceScaleFactor: 2 }, async ({ page, server }) => {
    await openSettings(page, server, "devices");
    await addDevice(page, "phone", "Pair with a code");
    await page.getByRole("heading", { name: "Pair phone" }).waitFor();
    assert.equal(await focused(page), "Pair phone");
    await page.getByText("this address works on this computer only").waitFor();
    await page.getByText(/^[45]:\d\d left$/).waitFor();
    await page.locator(".qr").waitFor();
    await screenshot(page, `settings/wide-${colorScheme}-pairing`);
    assert.equal(await violations(page), "");
    const link = await decodeQrCode(page, colorScheme);
    const phone = await openWindow(server.url, { screen: "phone" });
    try {
      if (link) {
        assert.match(link, new RegExp(`^${server.url}/#pair=[A-Za-z0-9_-]{22}$`));
        await phone.page.goto(link);
      } else {
        await phone.page.goto(server.url);
        await phone.page.getByRole("button", { name: "Enter a pairing code" }).click();
        await phone.page.getByLabel("Pairing code").fill(await page.locator(".digits").innerText());
        await phone.page.locator("#sign-in").getByRole("button", { name: "Sign in" }).click();
      }
      await phone.page.getByText("0 of 400 mg").waitFor();
      assert.equal(phone.page.url(), `${server.url}/`);
      assert.match(await phone.page.evaluate(() => localStorage.getItem("coffee.key") ?? sessionStorage.getItem("coffee.key")), /^ct_/);
      await page.getByText("Paired. phone is signed in.").waitFor();
      await screenshot(page, `settings/wide-${colorScheme}-paired`);
      await device(page, "phone").getByText("Can see and add entries").waitFor();
      // A code works once.
      if (link) {
        await phone.page.evaluate(() => localStorage.clear());
        await phone.page.goto("about:blank");
        await phone.page.goto(link);
        await phone.page.getByText("This code is unknown, used or expired").waitFor();
        assert.equal(await accessibilityViolations(phone.page), "");
      }
      assert.deepEqual(phone.problems.filter((problem) => !/status of 404/.test(problem)), []);
    } finally {
      await phone.context.close();
    }
  });
}

browserTest("six digits sign a device in, and wrong ones are refused", { expected: [/status of 404/], screen: "phone" }, async ({ page, server, context }) => {
  await openSettings(page, server, "devices");
  await addDevice(page, "tablet", "Pair with a code", "See entries only");
  const digits = await page.locator(".digits").innerText();
  assert.match(digits, /^\d{3} \d{3}$/);
  await screenshot(page, "settings/phone-pairing");
  assert.equal(await horizontalOverflow(page), 0);
  const other = await openWindow(server.url, { screen: "narrow" });
  try {
    await other.page.goto(server.url);
    await other.page.getByRole("button", { name: "Enter a pairing code" }).click();
    await screenshot(other.page, "settings/narrow-enter-code", { fullPage: false });
    assert.equal(await accessibilityViolations(other.page), "");
    const enter = async (text) => {
      await other.page.getByLabel("Pairing code").fill(text);
      await other.page.locator("#sign-in").getByRole("button", { name: "Sign in" }).click();
    };
    await enter("12345");
    await other.page.getByText("Enter the six digits").waitFor();
    await enter(digits === "000 000" ? "000 001" : "000 000");
    await other.page.getByText("This code is unknown, used or expired").waitFor();
    await enter(digits);
    await other.page.getByText("This key can view entries, but not add or change them.").waitFor();
    await page.getByText("Paired. tablet is signed in.").waitFor();
  } finally {
    await other.context.close();
  }
  await addCard(page).getByRole("button", { name: "Done" }).click();
  await addDevice(page, "watch", "Pair with a code");
  await addCard(page).getByRole("button", { name: "Cancel" }).click();
  await addCard(page).getByLabel("Name").waitFor();
});

browserTest("a pairing link asks before it replaces the key of a device that is signed in", {}, async ({ page, server }) => {
  const { body } = await server.api("POST", "/pairings", { name: "laptop", scopes: ["read", "write"], base_url: server.url });
  await open(page, server);
  await page.evaluate((code) => (location.hash = `#pair=${code}`), body.code);
  await sheet(page).getByText("Pair this device?").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  await screenshot(page, "settings/wide-pair-signed-in", { fullPage: false });
  await sheet(page).getByRole("button", { name: "Pair" }).click();
  await page.waitForFunction(() => sessionStorage.getItem("coffee.key").startsWith("ct_"));
  await waitUntilEqual(async () => (await server.api("GET", `/pairings/${body.id}`)).body.state, "paired");
  await openSettings(page, server, "devices");
  await link(page, "Devices").waitFor({ state: "hidden" });
});

browserTest("revoking says what stops, and can be undone", { screen: "phone" }, async ({ page, server }) => {
  await openSettings(page, server, "devices");
  await addDevice(page, "phone", "Show the key");
  const key = await shownKey(page);
  await addCard(page).getByRole("button", { name: "Done" }).click();
  await page.getByRole("button", { name: "Revoke: phone" }).click();
  await sheet(page).getByText("phone can no longer see and add entries.").waitFor();
  await screenshot(page, "settings/phone-revoke", { fullPage: false });
  assert.equal(await violations(page), "");
  await sheet(page).getByRole("button", { name: "Revoke" }).click();
  await toast(page, "Revoked the key of phone").waitFor();
  await page.getByText("No other devices yet.").waitFor();
  await waitUntilEqual(() => statusOf(server, key), 401, { interval: 500 });
  await toast(page, "Revoked the key of phone").getByRole("button", { name: "Undo" }).click();
  await toast(page, "phone can be used again").waitFor();
  await device(page, "phone").waitFor();
});

browserTest("a replaced key works beside the old one, and this device changes to its new key by itself", { expected: [/status of 401/] }, async ({ page, server }) => {
  const { body: own } = await server.api("POST", "/keys", { name: "laptop", scopes: ["read", "write", "manage"] });
  await openSettings(page, server, "devices", own.key);
  await thisDevice(page).getByText("laptop").waitFor();
  await thisDevice(page).getByText("Can see and add entries and manage devices and backups").waitFor();
  await page.getByRole("button", { name: "Replace key: laptop" }).click();
  await sheet(page).getByText("This device changes to the new key by itself.").waitFor();
  await sheet(page).getByRole("button", { name: "Replace key" }).click();
  const key = await shownKey(page);
  assert.notEqual(key, own.key);
  await page.waitForFunction((value) => sessionStorage.getItem("coffee.key") === value, key);
  assert.deepEqual([await statusOf(server, key), await statusOf(server, own.key)], [200, 200]);
  await device(page, "laptop").getByText("expires tomorrow").waitFor();
  await addCard(page).getByRole("button", { name: "Done" }).click();
  // Revoking the own key signs out.
  await thisDevice(page).getByRole("button", { name: "Revoke: laptop" }).click();
  await sheet(page).getByText("This is the key of this device.").waitFor();
  await screenshot(page, "settings/wide-revoke-own", { fullPage: false });
  await sheet(page).getByRole("button", { name: "Revoke" }).click();
  await page.getByLabel("API key").waitFor();
});

browserTest("without a connection, what was typed about a new device is kept", { expected: UNREACHABLE }, async ({ page, server }) => {
  await openSettings(page, server, "devices");
  await page.getByText("No other devices yet.").waitFor();
  await page.route(/\/(pairings|keys)$/, (route) => route.abort());
  for (const name of ["Pair with a code", "Show the key"]) {
    await addDevice(page, "phone", name);
    await addCard(page).getByText("Can't reach the server. Try again once you are connected.").waitFor();
    assert.equal(await addCard(page).getByLabel("Name").inputValue(), "phone");
  }
  await page.unrouteAll();
  await addDevice(page, "phone", "Show the key");
  await page.getByRole("heading", { name: "Key of phone" }).waitFor();
});

browserTest("a full disk and a revoked key are said plainly, and what was typed about a new device is kept", { expected: [/status of (401|429|503)/] }, async ({ page, server }) => {
  const { laptop, tablet } = await addKeys(server, { laptop: "read,write,manage", tablet: "read,write,manage" });
  await openSettings(page, server, "devices", laptop);
  await device(page, "tablet").waitFor();
  await page.route(/\/keys$/, (route) => (route.request().method() === "POST" ? route.fulfill(diskFull("The keys cannot be written (disk full, quota, limit or fault)")) : route.continue()));
  await addDevice(page, "phone", "Show the key");
  await addCard(page).getByText("The keys cannot be written (disk full, quota, limit or fault)").waitFor();
  await page.unrouteAll();
  await revokeKey(server, "laptop", laptop);
  await addCard(page).getByRole("button", { name: "Show the key" }).click();
  await page.getByLabel("API key").waitFor();
  await signIn(page, tablet);
  await addCard(page).getByText("Your API key is no longer valid. Sign in, then try again.").waitFor();
  assert.equal(await addCard(page).getByLabel("Name").inputValue(), "phone");
  await addCard(page).getByRole("button", { name: "Show the key" }).click();
  await page.getByRole("heading", { name: "Key of phone" }).waitFor();
});

for (const screen of ["wide", "phone", "narrow"]) {
  for (const colorScheme of ["light", "dark"]) {
    browserTest(`the devices are accessible and fit the window: ${screen}, ${colorScheme}`, { screen, colorScheme }, async ({ page, server }) => {
      for (const [name, scopes] of [["phone", ["read", "write"]], ["kitchen-scales-with-a-very-long-name", ["write"]], ["display", ["read"]]]) await server.api("POST", "/keys", { name, scopes });
      await openSettings(page, server, "devices");
      await device(page, "display").waitFor();
      await screenshot(page, `settings/${screen}-${colorScheme}-devices`);
      assert.equal(await horizontalOverflow(page), 0);
      assert.equal(await violations(page), "");
    });
  }
}

browserTest("a pairing warns of plain HTTP, and a code that has expired is replaced by a new one", {}, async ({ page, server }) => {
  await page.clock.install();
  await openSettings(page, { ...server, url: server.url.replace("127.0.0.1", "kitchen.lan") }, "devices");
  await addDevice(page, "phone", "Pair with a code");
  await page.getByText("This address is not encrypted (HTTP). Pair only in a network that you trust.").waitFor();
  const digits = await page.locator(".digits").innerText();
  await page.clock.fastForward("05:01");
  await page.getByText("This code has expired.").waitFor();
  assert.equal(await page.locator(".digits").count(), 0);
  await page.getByRole("button", { name: "New code" }).click();
  await page.locator(".digits").waitFor();
  assert.notEqual(await page.locator(".digits").innerText(), digits);
});

browserTest("devices are added and revoked with the keyboard alone", {}, async ({ page, server }) => {
  await openSettings(page, server, "devices");
  await addCard(page).getByLabel("Name").focus();
  await page.keyboard.type("phone");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");
  for (let n = 0; n < 20 && (await focused(page)) !== "Show the key"; n += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Key of phone" }).waitFor();
  for (let n = 0; n < 20 && (await focused(page)) !== "Done"; n += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await device(page, "phone").getByText("Can add entries, cannot see them").waitFor();
  for (let n = 0; n < 30 && (await focused(page)) !== "Revoke"; n += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await sheet(page).getByRole("button", { name: "Revoke" }).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await toast(page, "Revoked the key of phone").waitFor();
  assert.equal(await focused(page), "Other devices");
  await page.keyboard.press("Control+z");
  await device(page, "phone").waitFor();
});
