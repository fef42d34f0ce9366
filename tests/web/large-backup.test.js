// A large backup on its way from one server to another, by clicks alone: downloaded over a connection that is lost
// twice, uploaded to a second server and restored there while other clients write. LARGE_BACKUP_DAYS sets the size:
// 180 days (24 MB) by default, 3100 days are 400 MB.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";

import { DEMO, TIMEZONE, openWindow, startServer } from "./helpers.js";
import { signIn } from "./actions.js";
import { UNREACHABLE, startCuttingProxy } from "./network.js";

const DAYS = Number(process.env.LARGE_BACKUP_DAYS ?? 180);
const CLIENTS = 4;
/** Largest memory of a server, MiB. */
const MAX_MEMORY = 40;
/** Guards against a hang, in ms. */
const PATIENCE = 900_000;

async function digest(file) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

/** Returns the peak of a server's resident memory, MiB. */
function peakMemory({ pid }) {
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return kilobytes / 1024;
}

/** Opens the backups of a server, signed in with its key. */
async function openBackups(url) {
  const opened = await openWindow(url, { timezoneId: TIMEZONE });
  opened.context.setDefaultTimeout(PATIENCE);
  await opened.page.goto(`${url}/settings/backups`);
  await signIn(opened.page);
  await opened.page.locator("#backup-state:not(:empty)").waitFor();
  return opened;
}

/** Lets clients log coffees until the returned function is called, which returns the statuses of the responses. */
function startClients(server) {
  let isRunning = true;
  const statuses = [];
  const log = async () => {
    while (isRunning) statuses.push((await server.api("POST", "/coffee/", { caffeine_mg: 1, coffee_type: "meanwhile" })).status);
  };
  const clients = Array.from({ length: CLIENTS }, log);
  return async () => {
    isRunning = false;
    await Promise.all(clients);
    return statuses;
  };
}

const button = (page, name) => page.getByRole("button", { name });
const toast = (page, text) => page.locator(".toast:visible", { hasText: text });

/** Makes a backup and downloads it over a connection that is lost twice; returns the file of the browser. */
async function downloadBackup(server) {
  const size = statSync(join(server.folder, "coffee.db")).size;
  const proxy = await startCuttingProxy(server.port, { cuts: 2, bytes: Math.floor(size / 4) });
  const { page, context, problems } = await openBackups(proxy.url);
  await button(page, "Back up now").click();
  await toast(page, "Backed up").waitFor();
  const downloading = page.waitForEvent("download");
  await button(page, /^Download:/).click();
  const download = await downloading;
  const file = join(server.folder, download.suggestedFilename());
  await download.saveAs(file);
  assert.equal(proxy.cutsLeft(), 0);
  const isLoss = (problem) => [...UNREACHABLE, /ERR_CONTENT_LENGTH_MISMATCH|ERR_INCOMPLETE_CHUNKED_ENCODING/].some((pattern) => pattern.test(problem));
  assert.deepEqual(problems.filter((problem) => !isLoss(problem)), []);
  await context.close();
  proxy.close();
  return file;
}

/** Uploads a backup and restores it. */
async function uploadAndRestore(server, file) {
  const { page, context, problems } = await openBackups(server.url);
  const choosing = page.waitForEvent("filechooser");
  await button(page, "Upload…").click();
  await (await choosing).setFiles(file);
  await toast(page, "Uploaded").waitFor();
  await button(page, /^Restore…/).first().click();
  await page.getByLabel(/to confirm/).fill("owner");
  await button(page, "Restore").last().click();
  // The toast of the upload ends in "can be restored".
  await toast(page, /Restored:/).waitFor();
  assert.deepEqual(problems, []);
  await context.close();
}

test("a large backup moves to another server while clients write", { timeout: PATIENCE }, async () => {
  const from = await startServer({ sampleData: { days: DAYS, "readings-per-day": 1440 }, settings: { TZ: TIMEZONE } });
  const to = await startServer({ sampleData: DEMO, settings: { TZ: TIMEZONE } });
  try {
    const file = await downloadBackup(from);
    const original = await digest(join(from.folder, "backups", readdirSync(join(from.folder, "backups")).find((name) => name.endsWith(".db"))));
    assert.equal(await digest(file), original);

    const stopClients = startClients(to);
    await uploadAndRestore(to, file);
    const statuses = await stopClients();
    assert.deepEqual(new Set(statuses), new Set([201]));
    const kept = (await to.api("GET", "/backups")).body.backups.filter(({ origin }) => origin !== "own");
    assert.equal(await digest(join(to.folder, "backups", kept[0].file)), original);
    const expected = (await from.api("GET", "/heartrate/stats?days=3650")).body;
    assert.equal((await to.api("GET", "/heartrate/stats?days=3650")).body.total_readings, expected.total_readings);
    const [sent, received] = [from, to].map(peakMemory);
    console.log(`${(statSync(file).size / 1e6).toFixed(0)} MB, ${statuses.length} coffees logged meanwhile; peak memory of the sender ${sent.toFixed(1)} MiB, of the receiver ${received.toFixed(1)} MiB`);
    assert.ok(Math.max(sent, received) <= MAX_MEMORY);
  } finally {
    from.stopInBackground();
    to.stopInBackground();
  }
});
