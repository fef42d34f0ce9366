// Import of files in the settings: choose or drop a file, look at the preview, import it, and find the entries in the history.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { KEY, accessibilityViolations, browserTest, horizontalOverflow, screenshot } from "./helpers.js";
import { addKeys, storeKey, waitUntilEqual } from "./actions.js";
import { UNREACHABLE, holdJobs, startUnreliableProxy } from "./network.js";

/** Opens the data section of the settings, signed in for this window. */
async function openData(page, server, key = KEY) {
  await storeKey(page, key);
  await page.goto(`${server.url}/settings/data`);
  await button(page, "Choose a file…").waitFor();
}

const button = (page, name) => page.getByRole("button", { name, exact: true });
const counts = (page) => page.locator("#import-counts");
const heading = (page, text) => page.getByRole("heading", { name: text });
const stored = async (server) => ({
  coffees: (await server.api("GET", "/coffee/?limit=1000")).body.length,
  readings: (await server.api("GET", "/heartrate/?limit=1000")).body.length,
});
const temporaryFiles = (server) => readdirSync(server.folder).filter((name) => name.endsWith(".tmp"));

/** Chooses a file in the dialog of the browser. */
async function chooseFile(page, file) {
  const choosing = page.waitForEvent("filechooser");
  await button(page, "Choose a file…").click();
  await (await choosing).setFiles(file);
}

function csvFile(server) {
  const file = join(server.folder, "log.csv");
  writeFileSync(file, [
    "timestamp,caffeine_mg,coffee_type,notes,source",
    "2025-07-23T14:30:00Z,95,imported espresso,,",
    "2025-07-24T08:00:00Z,80,imported filter,,Kitchen scales",
    "2025-07-24T08:00:00Z,80,imported filter,,Kitchen scales",
    "soon,80,,private words,",
    "2025-07-24T09:00:00Z,5000,,,",
  ].join("\n"));
  return file;
}

/** Writes an export of Apple Health with this number of heart rates. */
function appleZip(server, heartRates) {
  const records = Array.from({ length: heartRates }, (_, n) => {
    const at = new Date(Date.UTC(2025, 0, 1) + n * 60_000).toISOString().replace("T", " ").replace(/\..*/, " +0000");
    return `<Record type="HKQuantityTypeIdentifierHeartRate" sourceName="Apple Watch" unit="count/min" startDate="${at}" endDate="${at}" value="${60 + (n % 40)}"/>`;
  });
  const caffeine = '<Record type="HKQuantityTypeIdentifierDietaryCaffeine" sourceName="HiCoffee" unit="mg" startDate="2025-01-01 08:00:00 +0000" endDate="2025-01-01 08:00:00 +0000" value="63"/>';
  const steps = '<Record type="HKQuantityTypeIdentifierStepCount" sourceName="iPhone" unit="count" startDate="2025-01-01 08:00:00 +0000" endDate="2025-01-01 08:00:00 +0000" value="5"/>';
  const document = `<?xml version="1.0" encoding="UTF-8"?>\n<HealthData locale="en_GB">\n${[...records, caffeine, steps].join("\n")}\n</HealthData>\n`;
  const script = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED).writestr('apple_health_export/export.xml', sys.stdin.read())";
  const file = join(server.folder, "export.zip");
  const written = spawnSync("python3", ["-c", script, file], { input: document, encoding: "utf8" });
  assert.equal(written.status, 0, written.stderr);
  return file;
}

browserTest("a CSV file is previewed and imported, and the history shows its drinks", { timezone: "UTC" }, async ({ page, server }) => {
  await server.api("POST", "/coffee/", { timestamp: "2025-07-01T08:00:00Z", caffeine_mg: 50 });
  await openData(page, server);
  await page.getByText("Which files, and where to find them").click();
  await page.getByText("Export All Health Data").waitFor();
  await chooseFile(page, csvFile(server));
  await heading(page, "Import log.csv?").waitFor();
  assert.equal(await counts(page).textContent(), "3 drinks will be added · 2 rows can't be imported");
  // The heading has the focus, so that it is read out.
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H4");
  await page.getByText("From Wed, 23 Jul 2025 to Thu, 24 Jul 2025").waitFor();
  await page.getByText("Recorded by Kitchen scales").waitFor();
  await page.getByText("Rows that can't be imported").click();
  await page.getByText("line 5: timestamp: must be a date and time").waitFor();
  await page.getByText("1 value is outside the limits").waitFor();
  assert.equal(await page.getByText("private words").count(), 0);
  assert.deepEqual(await stored(server), { coffees: 1, readings: 0 });
  await button(page, "Import").click();
  await heading(page, "log.csv was imported").waitFor();
  assert.equal(await counts(page).textContent(), "3 drinks were added · 2 rows can't be imported");
  assert.deepEqual(await stored(server), { coffees: 4, readings: 0 });
  assert.deepEqual(temporaryFiles(server), []);
  await page.getByRole("link", { name: "Show the history" }).click();
  await page.locator("#history-list").getByText("imported espresso").waitFor();

  await openData(page, server);
  await chooseFile(page, csvFile(server));
  await heading(page, "log.csv has nothing new").waitFor();
  assert.equal(await counts(page).textContent(), "Nothing new to add · 3 are stored already · 2 rows can't be imported");
  await button(page, "Close").click();
  await waitUntilEqual(() => temporaryFiles(server), []);
});

browserTest("the preview of a chosen file stays when the list of jobs arrives late", {}, async ({ page, server }) => {
  const releaseJobs = await holdJobs(page);
  await openData(page, server);
  await chooseFile(page, csvFile(server));
  await heading(page, "Import log.csv?").waitFor();
  const listed = page.waitForResponse("**/jobs");
  releaseJobs();
  await listed;
  await button(page, "Import").click();
  await heading(page, "log.csv was imported").waitFor();
});

for (const [screen, colorScheme] of [["wide", "light"], ["phone", "dark"], ["phone", "light"], ["narrow", "dark"]]) {
  browserTest(`an export of Apple Health is imported: ${screen}, ${colorScheme}`, { screen, colorScheme }, async ({ page, server }) => {
    await openData(page, server);
    await page.locator("#import-file").setInputFiles(appleZip(server, 2000));
    await heading(page, "Import export.zip?").waitFor();
    assert.equal(await counts(page).textContent(), "2,000 heart rates and 1 drink will be added");
    await page.getByText("1 other record is ignored").waitFor();
    await page.getByText("Recorded by Apple Watch, HiCoffee").waitFor();
    await screenshot(page, `settings/${screen}-${colorScheme}-import-preview`);
    assert.equal(await horizontalOverflow(page), 0);
    assert.equal(await accessibilityViolations(page), "");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await heading(page, "export.zip was imported").waitFor();
    await screenshot(page, `settings/${screen}-${colorScheme}-import-result`);
    assert.equal(await horizontalOverflow(page), 0);
    assert.equal(await accessibilityViolations(page), "");
    const { body } = await server.api("GET", "/heartrate/stats?days=3650");
    assert.equal(body.total_readings, 2000);
  });
}

browserTest("a dropped file is previewed, and cancelled", {}, async ({ page, server }) => {
  await openData(page, server);
  const data = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["timestamp,bpm\n2025-07-24T08:00:00Z,61\n"], "pulse.csv"));
    return transfer;
  });
  await page.locator(".drop-zone").dispatchEvent("dragover", { dataTransfer: data });
  await page.locator(".drop-zone.is-target").waitFor();
  await page.locator(".drop-zone").dispatchEvent("drop", { dataTransfer: data });
  await heading(page, "Import pulse.csv?").waitFor();
  assert.equal(await page.locator(".drop-zone.is-target").count(), 0);
  assert.equal(await counts(page).textContent(), "1 heart rate will be added");
  // Leaving would lose the preview.
  await page.locator("#section-list a").first().click();
  await page.getByText("Nothing of the file is imported.").waitFor();
  await button(page, "Stay").click();
  await button(page, "Cancel import").click();
  await waitUntilEqual(() => temporaryFiles(server), []);
  assert.equal(await counts(page).count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Choose a file…");
  assert.deepEqual(await stored(server), { coffees: 0, readings: 0 });
});

browserTest("a file that cannot be imported is explained, and another one can be chosen", {}, async ({ page, server }) => {
  await openData(page, server);
  const broken = join(server.folder, "photo.csv");
  for (const [content, reason] of [
    ["name,size\na,1\n", "photo.csv can't be imported: there is no column timestamp."],
    ["PK\u0003\u0004 no zip", "photo.csv can't be imported: the zip cannot be read"],
  ]) {
    writeFileSync(broken, content);
    await chooseFile(page, broken);
    await page.locator("#import-error", { hasText: reason }).waitFor();
    assert.equal(await accessibilityViolations(page, { within: "#import" }), "");
    await waitUntilEqual(() => temporaryFiles(server), []);
  }
  await chooseFile(page, csvFile(server));
  await heading(page, "Import log.csv?").waitFor();
  assert.equal(await page.locator("#import-error").textContent(), "");
});

browserTest("an upload can be cancelled or tried again, and a full disk is said plainly", { expected: [...UNREACHABLE, /request to http:/, /status of 413/] }, async ({ page, server }) => {
  const proxy = await startUnreliableProxy(server);
  try {
    const file = join(server.folder, "large.csv");
    writeFileSync(file, `timestamp,bpm,comment\n${`2025-07-24T08:00:00Z,61,${"x".repeat(1000)}\n`.repeat(60_000)}`);
    await openData(page, { ...server, url: proxy.url });
    proxy.stall(1 << 20);
    await page.locator("#import-file").setInputFiles(file);
    await page.getByText("Uploading large.csv…").waitFor();
    await page.getByText(/^[1-9]\d? % · [\d.]+ MB of 61.5 MB$/).waitFor();
    await button(page, "Cancel upload").click();
    proxy.mend();
    await waitUntilEqual(() => temporaryFiles(server), []);
    proxy.stall(1 << 20);
    await page.locator("#import-file").setInputFiles(file);
    await page.getByText(/^[1-9]\d? % · [\d.]+ MB of 61.5 MB$/).waitFor();
    proxy.cut();
    await page.getByText("Can't reach the server. large.csv is still selected. Try again once you are connected.").waitFor();
    proxy.mend();
    await page.route("**/imports", (route) => route.fulfill({ status: 413, contentType: "application/problem+json", json: { title: "Content Too Large", status: 413, detail: "there is not enough space on the disk: 1 byte is free" } }));
    await button(page, "Try again").click();
    await page.getByText("There is not enough space on the server's disk. large.csv is still selected. Make room, then try again.").waitFor();
    await page.unrouteAll();
    await button(page, "Try again").click();
    await heading(page, "Import large.csv?").waitFor();
    assert.equal(await counts(page).textContent(), "60,000 heart rates will be added");
  } finally {
    proxy.stop();
  }
});

browserTest("a preview that the server no longer has asks for the file again", { expected: [/status of 404/] }, async ({ page, server }) => {
  await openData(page, server);
  await chooseFile(page, csvFile(server));
  await heading(page, "Import log.csv?").waitFor();
  const [{ result }] = (await server.api("GET", "/jobs")).body.jobs;
  assert.equal((await server.api("DELETE", `/imports/${result.id}`)).status, 200);
  await button(page, "Import").click();
  await page.locator("#import-error", { hasText: "The server no longer has this file" }).waitFor();
  assert.equal(await counts(page).count(), 0);
});

browserTest("a failed or interrupted import is explained", {}, async ({ page, server }) => {
  await openData(page, server);
  const job = (state, problem) => ({ id: "0123456789abcdef", kind: "import", state, stage: null, progress: 0, created_at: "2026-01-01T00:00:00Z", finished_at: null, result: null, problem });
  const respond = (answer) => page.route(/\/imports\/\w+$/, (route) => route.fulfill({ status: 202, json: answer }), { times: 1 });
  await chooseFile(page, csvFile(server));
  await heading(page, "Import log.csv?").waitFor();
  await respond(job("failed", { title: "Try again later", status: 503, detail: "another command is using the database" }));
  await button(page, "Import").click();
  await page.getByText("The import failed: another command is using the database. Try again: what was stored already is skipped.").waitFor();
  await respond(job("interrupted", null));
  await button(page, "Try again").last().click();
  await page.getByText("The server stopped during the import. Choose the file again: what was stored already is skipped.").waitFor();
  assert.equal(await counts(page).count(), 0);
});

browserTest("a member of the household imports into their own data", {}, async ({ page, server }) => {
  const { body } = await server.api("POST", "/people", { name: "anna" });
  const { key } = body.key;
  await openData(page, server, key);
  await chooseFile(page, csvFile(server));
  await button(page, "Import").click();
  await heading(page, "log.csv was imported").waitFor();
  const response = await fetch(`${server.url}/coffee/`, { headers: { Authorization: `Bearer ${key}` } });
  assert.equal((await response.json()).length, 3);
  assert.deepEqual(await stored(server), { coffees: 0, readings: 0 });
});

browserTest("a key that may not manage sees no import", {}, async ({ page, server }) => {
  const { phone } = await addKeys(server, { phone: "read,write" });
  await storeKey(page, phone);
  await page.goto(`${server.url}/settings/data`);
  await page.getByText("The key of this device can't open this section.").waitFor();
  assert.equal(await page.locator("#import").count(), 0);
});
