// The history: everything that was logged can be found, corrected, deleted, taken back and taken along.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { DEMO, KEY, scenario } from "./helpers.js";
import { becomes, coffee, coffees, open, seeAll } from "./person.js";

const entries = (page) => page.locator("#history-list .entry");
const times = (page) => entries(page).locator("time").evaluateAll((all) => all.map((one) => one.getAttribute("datetime")));

async function openHistory(page, server) {
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-list > *").first().waitFor();
}

scenario("it goes back page by page, to the very first, also over many at one instant", {}, async ({ page, server }) => {
  const at = (n) => new Date(Date.UTC(2026, 0, 2, 8) - n * 60_000).toISOString();
  // More than a page of them have the same time.
  for (let n = 0; n < 95; n += 1) {
    await server.api("POST", "/coffee/", { caffeine_mg: n, timestamp: n > 20 && n < 60 ? at(21).replace("00.000Z", "00.000123Z") : at(n) });
  }
  await openHistory(page, server);
  await becomes(() => entries(page).count(), 12);
  // What is logged meanwhile moves nothing.
  await server.api("POST", "/coffee/", { caffeine_mg: 999 });
  for (const count of [42, 72, 95]) {
    await page.getByRole("button", { name: "Load more" }).click();
    await becomes(() => entries(page).count(), count);
  }
  assert.equal(await page.getByRole("button", { name: "Load more" }).count(), 0);
  const doses = await entries(page).locator(".amount").evaluateAll((all) => all.map((one) => parseInt(one.textContent, 10)));
  assert.deepEqual([...doses].sort((a, b) => a - b), Array.from({ length: 95 }, (_, n) => n));
});

scenario("it is found by drink and by day", { person: DEMO }, async ({ page, server }) => {
  await openHistory(page, server);
  const { body } = await server.api("GET", "/coffee/?coffee_type=espresso&limit=1000");
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.parse(body[0].timestamp));
  const ofDay = body.filter((one) => new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.parse(one.timestamp)) === day);
  const filter = page.locator("#history-filter");
  await filter.getByLabel("Drink").fill("espresso");
  await filter.getByLabel("From").fill(day);
  await filter.getByLabel("To").fill(day);
  await filter.getByLabel("To").blur();
  await becomes(() => times(page), ofDay.map((one) => one.timestamp));
  await filter.getByLabel("Drink").fill("nobody drinks this");
  await filter.getByLabel("Drink").blur();
  await page.getByText("Nothing matches.").waitFor();
  await filter.getByRole("button", { name: "Clear" }).click();
  await becomes(() => entries(page).count(), 12);
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await filter.getByLabel("While").fill("sleeping");
  await filter.getByLabel("While").blur();
  const { body: asleep } = await server.api("GET", "/heartrate/?context=sleeping&limit=12");
  await becomes(() => times(page), asleep.map((one) => one.timestamp));
});

scenario("an entry is corrected, and what the server refuses stays as it was typed", { expected: [/status of 422/] }, async ({ page, server }) => {
  const timestamp = "2026-03-01T07:30:12.345678Z";
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso", notes: "one\ntwo", timestamp });
  await openHistory(page, server);
  const change = page.getByRole("button", { name: "Change espresso, 80 mg, 8:30" });
  await change.click();
  const sheet = page.getByRole("dialog", { name: "Change this entry" });
  await sheet.getByLabel("Caffeine, mg").fill("95.5");
  await sheet.getByLabel("What").fill("ristretto");
  await sheet.getByLabel("When").fill("2096-03-01T08:31");
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.getByText("5 minutes").waitFor();
  assert.equal(await sheet.getByLabel("What").inputValue(), "ristretto");
  await sheet.getByLabel("When").fill("2026-03-01T08:30");
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.waitFor({ state: "hidden" });
  const { body } = await server.api("GET", "/coffee/1");
  assert.deepEqual(body, { id: 1, timestamp, caffeine_mg: 95.5, coffee_type: "ristretto", notes: "one\ntwo" });
  await page.getByRole("button", { name: "Change ristretto, 96 mg, 8:30" }).click();
  await page.getByRole("dialog").getByLabel("Notes").fill("");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await becomes(() => coffees(server), [coffee("ristretto", 95.5)]);
});

scenario("after a correction the list is as long as it was", { person: DEMO }, async ({ page, server }) => {
  await openHistory(page, server);
  await page.getByRole("button", { name: "Load more" }).click();
  await becomes(() => entries(page).count(), 42);
  const before = await times(page);
  await page.getByRole("button", { name: /^Change/ }).nth(35).click();
  await page.getByRole("dialog").getByLabel("Notes").fill("corrected");
  const [, again] = await Promise.all([
    page.getByRole("dialog").getByRole("button", { name: "Save" }).click(),
    page.waitForResponse((reply) => reply.url().includes("/coffee/?limit=")),
  ]);
  assert.equal((await again.json()).length, 42);
  await entries(page).nth(35).getByText("corrected").waitFor();
  assert.deepEqual(await times(page), before);
});

scenario("a deletion can be taken back, and is done when it no longer can", {}, async ({ page, server }) => {
  for (const [n, name] of ["a", "b", "c"].entries()) await server.api("POST", "/coffee/", { caffeine_mg: 50, coffee_type: name, timestamp: `2026-03-0${n + 1}T08:00:00Z` });
  const all = (await server.api("GET", "/coffee/")).body;
  await openHistory(page, server);
  await page.getByRole("button", { name: /^Delete b,/ }).click();
  await becomes(() => entries(page).count(), 2);
  await page.getByRole("button", { name: "Undo" }).click();
  await becomes(() => entries(page).count(), 3);
  assert.deepEqual((await server.api("GET", "/coffee/")).body, all, "nothing was touched");
  await page.getByRole("button", { name: /^Delete b,/ }).click();
  await becomes(() => entries(page).count(), 2);
  // Who leaves means it.
  await page.goto("about:blank");
  await becomes(async () => (await coffees(server)).map((one) => one.coffee_type), ["c", "a"]);
});

scenario("on a phone the sheet deletes", { screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/heartrate/", { bpm: 70, context: "gym" });
  await openHistory(page, server);
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await page.getByRole("button", { name: /^Change 70 bpm, gym/ }).click();
  assert.equal(await page.getByRole("dialog").getByLabel("While").inputValue(), "gym", "a word of one's own is kept");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Deleted: 70 bpm, gym").waitFor();
  await page.goto("about:blank");
  await becomes(async () => (await server.api("GET", "/heartrate/")).body, []);
});

scenario("what people write is text wherever it stands", {}, async ({ page, server }) => {
  const evil = '<img src="/static/icon.svg" onload="document.title=1"><script>document.title=1</script>';
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: evil, notes: evil });
  await server.api("POST", "/heartrate/", { bpm: 80, context: "<b>bold</b>", notes: evil });
  await open(page, server);
  await seeAll(page);
  assert.deepEqual(await entries(page).locator(".what span").allTextContents(), [evil, evil]);
  assert.ok((await page.locator(".drink").first().innerText()).toLowerCase().startsWith("<img"));
  assert.ok((await page.locator("#heart-now-more").innerText()).startsWith("<b>bold</b>"));
  await page.getByRole("button", { name: /^Delete/ }).click();
  await page.locator(".toast", { hasText: "<script>" }).waitFor();
  assert.equal(await page.title(), "Coffee Tracker");
  assert.equal(await page.locator("main img").count(), 0);
});

/** The browser's own dialog cannot be answered from here: without it, downloads go through memory. */
const withoutPicker = (page) => page.addInitScript(() => delete window.showSaveFilePicker);

scenario("everything is exported, or the chosen days, as the server would", { person: DEMO }, async ({ page, server }) => {
  await withoutPicker(page);
  await openHistory(page, server);
  const asked = async (path) => (await fetch(server.url + path, { headers: { Authorization: `Bearer ${KEY}` } })).text();
  const [whole] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).click()]);
  assert.match(whole.suggestedFilename(), /^coffee.*\.csv$/);
  assert.equal(readFileSync(await whole.path(), "utf8"), await asked("/export/coffee?format=csv"));
  const { body } = await server.api("GET", "/heartrate/?limit=1");
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Berlin" }).format(Date.parse(body[0].timestamp));
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await page.getByLabel("From").fill(day);
  const [part] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "JSON Lines" }).click()]);
  const since = (await page.evaluate((date) => new Date(`${date}T00:00`).toISOString(), day));
  assert.equal(readFileSync(await part.path(), "utf8"), await asked(`/export/heartrate?format=jsonl&since=${since}`));
});

scenario("where the browser can, an export goes straight to the disk", { person: DEMO }, async ({ page, server }) => {
  await page.addInitScript(() => {
    window.showSaveFilePicker = async ({ suggestedName }) => (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true });
  });
  await openHistory(page, server);
  await page.getByRole("button", { name: "CSV" }).click();
  await page.locator(".toast", { hasText: "Exported: coffee.csv" }).waitFor();
  const written = await page.evaluate(async () => {
    const folder = await navigator.storage.getDirectory();
    return (await (await folder.getFileHandle("coffee.csv")).getFile()).text();
  });
  const whole = await fetch(`${server.url}/export/coffee`, { headers: { Authorization: `Bearer ${KEY}` } });
  assert.equal(written, await whole.text());
});
