// History card: paging, filter, editing, deletion with undo, and export.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { DEMO, KEY, TIMEZONE, browserTest } from "./helpers.js";
import { coffee, coffees, loadAllSections, open, waitUntilEqual } from "./actions.js";

const entries = (page) => page.locator("#history-list .entry");
const times = (page) => entries(page).locator("time").evaluateAll((elements) => elements.map((element) => element.getAttribute("datetime")));

async function openHistory(page, server) {
  await open(page, server);
  await page.locator("#history").scrollIntoViewIfNeeded();
  await page.locator("#history-list > *").first().waitFor();
}

browserTest("the history loads page by page, also across many entries with the same time", {}, async ({ page, server }) => {
  const at = (n) => new Date(Date.UTC(2026, 0, 2, 8) - n * 60_000).toISOString();
  // More than one page has the same time.
  for (let n = 0; n < 95; n += 1) {
    await server.api("POST", "/coffee/", { caffeine_mg: n, timestamp: n > 20 && n < 60 ? at(21).replace("00.000Z", "00.000123Z") : at(n) });
  }
  await openHistory(page, server);
  await waitUntilEqual(() => entries(page).count(), 12);
  // A new entry does not shift the pages.
  await server.api("POST", "/coffee/", { caffeine_mg: 999 });
  for (const count of [42, 72, 95]) {
    await page.getByRole("button", { name: "Load more" }).click();
    await waitUntilEqual(() => entries(page).count(), count);
  }
  assert.equal(await page.getByRole("button", { name: "Load more" }).count(), 0);
  const doses = await entries(page).locator(".amount").evaluateAll((elements) => elements.map((element) => parseInt(element.textContent, 10)));
  assert.deepEqual([...doses].sort((a, b) => a - b), Array.from({ length: 95 }, (_, n) => n));
});

browserTest("entries are filtered by drink and by day", { sampleData: DEMO }, async ({ page, server }) => {
  await openHistory(page, server);
  const { body } = await server.api("GET", "/coffee/?coffee_type=espresso&limit=1000");
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.parse(body[0].timestamp));
  const ofDay = body.filter((entry) => new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.parse(entry.timestamp)) === day);
  const filter = page.locator("#history-filter");
  await filter.getByLabel("Drink").fill("espresso");
  await filter.getByLabel("From").fill(day);
  await filter.getByLabel("To").fill(day);
  await filter.getByLabel("To").blur();
  await waitUntilEqual(() => times(page), ofDay.map((entry) => entry.timestamp));
  await filter.getByLabel("Drink").fill("no such drink");
  await filter.getByLabel("Drink").blur();
  await page.getByText("No matching entries").waitFor();
  await filter.getByRole("button", { name: "Clear" }).click();
  await waitUntilEqual(() => entries(page).count(), 12);
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await filter.getByLabel("Context").fill("sleeping");
  await filter.getByLabel("Context").blur();
  const { body: sleeping } = await server.api("GET", "/heartrate/?context=sleeping&limit=12");
  await waitUntilEqual(() => times(page), sleeping.map((entry) => entry.timestamp));
});

browserTest("the filter ignores case and surrounding space, and suggests one's own drinks", {}, async ({ page, server }) => {
  const at = ["2026-03-01T08:00:00Z", "2026-03-01T09:00:00Z"];
  for (const [n, name] of ["Oat Latte", "oat latte"].entries()) await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: name, timestamp: at[n] });
  for (const [n, context] of ["Gym", "gym"].entries()) await server.api("POST", "/heartrate/", { bpm: 90, context, timestamp: at[n] });
  await server.api("POST", "/coffee/", { caffeine_mg: 40, coffee_type: "mate" });
  await openHistory(page, server);
  const filter = page.locator("#history-filter");
  await filter.getByLabel("Drink").focus();
  const suggestions = () => page.locator("#filter-names option").evaluateAll((options) => options.map((option) => option.value.toLowerCase()).sort());
  await waitUntilEqual(suggestions, ["mate", "oat latte"]);
  await filter.getByLabel("Drink").fill(" OAT latte ");
  await filter.getByLabel("Drink").blur();
  await waitUntilEqual(() => times(page), at.toReversed().map((time) => time.replace("Z", ".000000Z")));
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await filter.getByLabel("Context").fill("GYM ");
  await filter.getByLabel("Context").blur();
  await waitUntilEqual(() => times(page), at.toReversed().map((time) => time.replace("Z", ".000000Z")));
});

browserTest("a period that ends before it starts is reported and not loaded", { sampleData: DEMO }, async ({ page, server }) => {
  await openHistory(page, server);
  const filter = page.locator("#history-filter");
  const before = await times(page);
  await filter.getByLabel("From").fill("2026-03-02");
  await waitUntilEqual(() => times(page), before);
  let requests = 0;
  page.on("request", (request) => (requests += request.url().includes("/coffee/?") ? 1 : 0));
  await filter.getByLabel("To").fill("2026-03-01");
  await filter.getByText("Must not be before “From”").waitFor();
  assert.deepEqual(await times(page), before);
  assert.equal(requests, 0);
  assert.deepEqual([await filter.getByLabel("From").getAttribute("max"), await filter.getByLabel("To").getAttribute("min")], ["2026-03-01", "2026-03-02"]);
  await filter.getByLabel("To").fill("2026-03-02");
  await filter.getByText("Must not be before").waitFor({ state: "hidden" });
  await page.getByText("No matching entries").waitFor();
});

browserTest("a name with bidirectional control characters does not reorder the text around it", {}, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "\u202eossse", notes: "\u202enote" });
  await server.api("POST", "/coffee/", { caffeine_mg: 60, coffee_type: "قهوة" });
  await openHistory(page, server);
  for (const row of await entries(page).all()) {
    const [name, amount] = [row.locator("bdi").first(), row.locator(".amount")];
    assert.equal(await name.evaluate((element) => getComputedStyle(element).unicodeBidi), "isolate");
    assert.match(await amount.innerText(), /^\d+ mg$/);
  }
  assert.equal(await page.locator("#drinks bdi").count(), 6);
  // In plain text the name is isolated by control characters, and its own are left out.
  await entries(page).last().getByRole("button", { name: /^Delete/ }).click();
  await page.locator(".toast", { hasText: "Deleted \u2068ossse\u2069, 80 mg" }).waitFor();
});

browserTest("an entry is edited, and a rejected edit keeps the input", { timezone: "Europe/Berlin", expected: [/status of 422/] }, async ({ page, server }) => {
  const timestamp = "2026-03-01T07:30:12.345678Z";
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "espresso", notes: "one\ntwo", timestamp });
  await openHistory(page, server);
  const change = page.getByRole("button", { name: "Edit espresso, 80 mg, 8:30" });
  await change.click();
  const sheet = page.getByRole("dialog", { name: "Edit entry" });
  await sheet.getByLabel("Caffeine (mg)").fill("95.5");
  await sheet.getByLabel("Drink").fill("ristretto");
  await sheet.getByLabel("Time", { exact: true }).fill("2096-03-01T08:31");
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.getByText("5 minutes").waitFor();
  assert.equal(await sheet.getByLabel("Drink").inputValue(), "ristretto");
  await sheet.getByLabel("Time", { exact: true }).fill("2026-03-01T08:30");
  await sheet.getByRole("button", { name: "Save" }).click();
  await sheet.waitFor({ state: "hidden" });
  const { body } = await server.api("GET", "/coffee/1");
  assert.deepEqual(body, { id: 1, timestamp, caffeine_mg: 95.5, coffee_type: "ristretto", notes: "one\ntwo" });
  await page.getByRole("button", { name: "Edit ristretto, 96 mg, 8:30" }).click();
  await page.getByRole("dialog").getByLabel("Notes").fill("");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await waitUntilEqual(() => coffees(server), [coffee("ristretto", 95.5)]);
});

browserTest("after an edit the list keeps its length", { sampleData: DEMO }, async ({ page, server }) => {
  await openHistory(page, server);
  await page.getByRole("button", { name: "Load more" }).click();
  await waitUntilEqual(() => entries(page).count(), 42);
  const before = await times(page);
  await page.getByRole("button", { name: /^Edit/ }).nth(35).click();
  await page.getByRole("dialog").getByLabel("Notes").fill("corrected");
  const [, again] = await Promise.all([
    page.getByRole("dialog").getByRole("button", { name: "Save" }).click(),
    page.waitForResponse((reply) => reply.url().endsWith("/coffee/?limit=42")),
  ]);
  assert.equal((await again.json()).length, 42);
  await entries(page).nth(35).getByText("corrected").waitFor();
  assert.deepEqual(await times(page), before);
});

browserTest("a deletion can be undone, and is carried out when the page is left", {}, async ({ page, server }) => {
  for (const [n, name] of ["a", "b", "c"].entries()) await server.api("POST", "/coffee/", { caffeine_mg: 50, coffee_type: name, timestamp: `2026-03-0${n + 1}T08:00:00Z` });
  const all = (await server.api("GET", "/coffee/")).body;
  await openHistory(page, server);
  await page.getByRole("button", { name: /^Delete b,/ }).click();
  await waitUntilEqual(() => entries(page).count(), 2);
  await page.getByRole("button", { name: "Undo" }).click();
  await waitUntilEqual(() => entries(page).count(), 3);
  assert.deepEqual((await server.api("GET", "/coffee/")).body, all, "nothing is deleted yet");
  await page.getByRole("button", { name: /^Delete b,/ }).click();
  await waitUntilEqual(() => entries(page).count(), 2);
  // Leaving the page carries out the deletion.
  await page.goto("about:blank");
  await waitUntilEqual(async () => (await coffees(server)).map((entry) => entry.coffee_type), ["c", "a"]);
});

browserTest("on a phone an entry is deleted in the edit dialog", { screen: "phone" }, async ({ page, server }) => {
  await server.api("POST", "/heartrate/", { bpm: 70, context: "gym" });
  await openHistory(page, server);
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await page.getByRole("button", { name: /^Edit 70 bpm, gym/ }).click();
  assert.equal(await page.getByRole("dialog").getByLabel("Context").inputValue(), "gym", "a custom context is kept");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Deleted 70 bpm, gym").waitFor();
  await page.goto("about:blank");
  await waitUntilEqual(async () => (await server.api("GET", "/heartrate/")).body, []);
});

browserTest("user text is never interpreted as HTML", {}, async ({ page, server }) => {
  const html = '<img src="/static/icon.svg" onload="document.title=1"><script>document.title=1</script>';
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: html, notes: html });
  await server.api("POST", "/heartrate/", { bpm: 80, context: "<b>bold</b>", notes: html });
  await open(page, server);
  await loadAllSections(page);
  assert.deepEqual(await entries(page).locator(".entry-text span").allTextContents(), [html, html]);
  assert.ok((await page.locator(".drink").first().innerText()).toLowerCase().startsWith("<img"));
  assert.ok((await page.locator("#heart-now-detail").innerText()).startsWith("<b>bold</b>"));
  await page.getByRole("button", { name: /^Delete/ }).click();
  await page.locator(".toast", { hasText: "<script>" }).waitFor();
  assert.equal(await page.title(), "Coffee Tracker");
  assert.equal(await page.locator("main img").count(), 0);
});

/** Removes the file picker, which tests cannot operate: exports become downloads. */
const withoutPicker = (page) => page.addInitScript(() => delete window.showSaveFilePicker);

browserTest("all entries or selected days are exported, as the API returns them", { sampleData: DEMO }, async ({ page, server }) => {
  await withoutPicker(page);
  await openHistory(page, server);
  const exported = async (path) => (await fetch(server.url + path, { headers: { Authorization: `Bearer ${KEY}` } })).text();
  const [all] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).click()]);
  assert.match(all.suggestedFilename(), /^coffee.*\.csv$/);
  assert.equal(readFileSync(await all.path(), "utf8"), await exported("/export/coffee?format=csv"));
  const { body } = await server.api("GET", "/heartrate/?limit=1");
  const day = new Intl.DateTimeFormat("sv-SE", { timeZone: TIMEZONE }).format(Date.parse(body[0].timestamp));
  await page.getByRole("radio", { name: "Heart rates" }).check();
  await page.getByLabel("From").fill(day);
  const [part] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "JSON Lines" }).click()]);
  const since = (await page.evaluate((date) => new Date(`${date}T00:00`).toISOString(), day));
  assert.equal(readFileSync(await part.path(), "utf8"), await exported(`/export/heartrate?format=jsonl&since=${since}`));
});

browserTest("an export for spreadsheets contains no formulas", { timezone: "Europe/Berlin" }, async ({ page, server }) => {
  await withoutPicker(page);
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "=1+1", notes: "@note", timestamp: "2026-03-01T08:00:00Z" });
  await openHistory(page, server);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Spreadsheet" }).click()]);
  assert.match(file.suggestedFilename(), /^coffee_\d+_spreadsheet\.csv$/);
  assert.equal(readFileSync(await file.path(), "utf8"), "\ufeffid,timestamp,caffeine_mg,coffee_type,notes,source\n1,2026-03-01 09:00:00,80,'=1+1,'@note,\n");
});

browserTest("an export is written directly to disk where the browser supports it", { sampleData: DEMO }, async ({ page, server }) => {
  await page.addInitScript(() => {
    window.showSaveFilePicker = async ({ suggestedName }) => (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true });
  });
  await openHistory(page, server);
  await page.getByRole("button", { name: "CSV" }).click();
  await page.locator(".toast", { hasText: "Exported coffee.csv" }).waitFor();
  const written = await page.evaluate(async () => {
    const folder = await navigator.storage.getDirectory();
    return (await (await folder.getFileHandle("coffee.csv")).getFile()).text();
  });
  const expected = await fetch(`${server.url}/export/coffee`, { headers: { Authorization: `Bearer ${KEY}` } });
  assert.equal(written, await expected.text());
});
