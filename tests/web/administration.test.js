// Settings for whoever looks after the data: backups, old entries, people, and the check of the installation.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { DEMO, KEY, accessibilityViolations, browserTest, horizontalOverflow, screenshot } from "./helpers.js";
import { addKeys, revokeKey, signIn, storeKey, waitUntilEqual } from "./actions.js";
import { UNREACHABLE, holdJobs, startUnreliableProxy } from "./network.js";

/** Opens a section of the settings, signed in for this window. */
async function openSection(page, server, section, key = KEY) {
  await storeKey(page, key);
  await page.goto(`${server.url}/settings/${section}`);
}

const button = (page, name) => page.getByRole("button", { name, exact: true });
const rows = (page, list) => page.locator(`#${list} > li`);
const toast = (page, text) => page.locator(".toast:visible", { hasText: text });
const sheet = (page) => page.locator("#sheet[open]");
const totals = async (server) => (await server.api("GET", "/coffee/stats?days=3650")).body.total_coffees;
const people = async (server) => (await server.api("GET", "/people")).body.people.map(({ name }) => name);
const backups = async (server) => (await server.api("GET", "/backups")).body.backups;

for (const screen of ["wide", "phone", "narrow"]) {
  for (const colorScheme of ["light", "dark"]) {
    browserTest(`backups, data, people and system are accessible and fit the window: ${screen}, ${colorScheme}`, { screen, colorScheme, sampleData: DEMO }, async ({ page, server }) => {
      await server.api("POST", "/backups", {});
      await server.api("POST", "/people", { name: "anna", display_name: "Anna" });
      server.command("person", "freeze", "anna");
      await waitUntilEqual(async () => (await backups(server)).length, 1);
      for (const [section, content] of [["backups", "#backup-list > li .row"], ["data", "form .danger"], ["people", "#people-list :text('Moving to another machine. Changes have been rejected since')"], ["system", "#findings > li"]]) {
        await openSection(page, server, section);
        await page.locator(content).first().waitFor();
        await screenshot(page, `settings/${screen}-${colorScheme}-${section}`);
        assert.equal(await horizontalOverflow(page), 0, section);
        assert.equal(await accessibilityViolations(page), "", section);
      }
    });
  }
}

browserTest("a backup is made, verified, downloaded and restored, and the restore is undone", { sampleData: DEMO }, async ({ page, server }) => {
  await openSection(page, server, "backups");
  await page.getByText("There is no backup yet.").waitFor();
  await button(page, "Back up now").click();
  await toast(page, "Backed up").waitFor();
  await rows(page, "backup-list").locator("text=Made by hand").waitFor();
  await page.locator("#backup-state", { hasText: "Last verified backup" }).waitFor();
  const [{ file }] = await backups(server);

  await page.getByRole("button", { name: /^Verify:/ }).click();
  await toast(page, "This backup can be restored").waitFor();

  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: /^Download:/ }).click();
  const download = await downloading;
  assert.equal(download.suggestedFilename(), file);
  assert.deepEqual(readFileSync(await download.path()), readFileSync(join(server.folder, "backups", file)));

  const before = await totals(server);
  for (let n = 0; n < 3; n += 1) await server.api("POST", "/coffee/", { caffeine_mg: 80 });
  await page.getByRole("button", { name: /^Restore…/ }).click();
  await sheet(page).getByText("You lose 3 drinks from").waitFor();
  await screenshot(page, "settings/wide-light-restore", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  const confirmation = sheet(page).getByLabel("Type “owner” to confirm");
  await confirmation.fill("anna");
  await button(page, "Restore").click();
  await sheet(page).getByText("Type owner to confirm").waitFor();
  await confirmation.fill("owner");
  await button(page, "Restore").click();
  await toast(page, "Restored").waitFor();
  assert.equal(await totals(server), before);
  // The undo is offered after a reload, too.
  await page.reload();
  await button(page, "Undo restore").click();
  await toast(page, "The state before the restore is back").waitFor();
  assert.equal(await totals(server), before + 3);
});

browserTest("a download that is cut off twice goes on where it was", { sampleData: DEMO }, async ({ page, server }) => {
  await server.api("POST", "/backups", {});
  await waitUntilEqual(async () => (await backups(server)).length, 1);
  const [{ file }] = await backups(server);
  const content = readFileSync(join(server.folder, "backups", file));
  const ranges = [];
  await page.route(`**/backups/${file}`, async (route) => {
    const headers = route.request().headers();
    ranges.push(headers.range ?? null);
    if (ranges.length > 2) return route.continue();
    const from = Number(/bytes=(\d+)-/.exec(headers.range ?? "bytes=0-")[1]);
    const response = await route.fetch();
    // A body that is shorter than its length is a lost connection.
    const part = content.subarray(from, from + 10_000);
    return route.fulfill({ response, body: part, headers: { ...response.headers(), "content-length": String(part.length) } });
  });
  await openSection(page, server, "backups");
  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: /^Download:/ }).click();
  const download = await downloading;
  assert.deepEqual(readFileSync(await download.path()), content);
  assert.deepEqual(ranges, [null, "bytes=10000-", "bytes=20000-"]);
});

browserTest("an upload is checked before it is listed, and refused with the reason", { sampleData: DEMO }, async ({ page, server }) => {
  await openSection(page, server, "backups");
  await button(page, "Back up now").click();
  await toast(page, "Backed up").waitFor();
  const [{ file }] = await backups(server);
  const content = readFileSync(join(server.folder, "backups", file));
  const junk = join(server.folder, "junk.db");
  writeFileSync(junk, "flat white");
  await page.locator("#backup-file").setInputFiles(junk);
  await toast(page, "The file is not kept").waitFor();
  assert.equal((await backups(server)).length, 1);
  const good = join(server.folder, "good.db");
  writeFileSync(good, content);
  await page.locator("#backup-file").setInputFiles(good);
  await toast(page, "Uploaded").waitFor();
  await waitUntilEqual(() => rows(page, "backup-list").count(), 2);
  assert.deepEqual(readdirSync(join(server.folder, "backups")).filter((name) => name.endsWith(".tmp")), []);
});

browserTest("the job of a click is followed once, also when the list of jobs arrives late", {}, async ({ page, server }) => {
  const releaseJobs = await holdJobs(page);
  await openSection(page, server, "backups");
  await button(page, "Back up now").click();
  await toast(page, "Backed up").waitFor();
  let lists = 0;
  page.on("response", (response) => response.url().endsWith("/jobs") && (lists += 1));
  releaseJobs();
  // The second list is requested after the job of the first one, if any, has ended.
  await waitUntilEqual(() => lists, 2);
  assert.equal(await page.locator(".toast", { hasText: "Done" }).count(), 0);
});

const uploadProgress = (page) => page.locator(".upload .job");
const temporaryFiles = (server) => readdirSync(join(server.folder, "backups")).filter((name) => name.endsWith(".tmp"));

for (const [screen, colorScheme] of [["wide", "light"], ["phone", "dark"]]) {
  browserTest(`an upload shows its progress, and can be cancelled or tried again: ${screen}, ${colorScheme}`, { screen, colorScheme, expected: [...UNREACHABLE, /request to http:/] }, async ({ page, server }) => {
    const proxy = await startUnreliableProxy(server);
    try {
      await server.api("POST", "/backups", {});
      const file = join(server.folder, "junk.db");
      writeFileSync(file, Buffer.alloc(64 << 20, "flat white"));
      await openSection(page, { ...server, url: proxy.url }, "backups");
      await button(page, "Back up now").waitFor();
      const choose = async () => {
        proxy.stall(1 << 20);
        await page.locator("#backup-file").setInputFiles(file);
        await uploadProgress(page).getByText("Uploading junk.db…").waitFor();
        await uploadProgress(page).getByText(/^[1-9]\d? % · [\d.]+ MB of 67.1 MB$/).waitFor();
      };
      await choose();
      const share = await uploadProgress(page).locator("progress").evaluate((bar) => bar.value);
      assert.ok(share > 0 && share < 1, share);
      await screenshot(page, `settings/${screen}-${colorScheme}-upload`, { fullPage: false });
      assert.equal(await horizontalOverflow(page), 0);
      assert.equal(await accessibilityViolations(page), "");
      // Leaving would cancel it.
      await page.locator(screen === "wide" ? "#section-list a >> nth=0" : "#back").click();
      await sheet(page).getByText("The upload is cancelled.").waitFor();
      await button(page, "Stay").click();
      await button(page, "Cancel upload").click();
      await uploadProgress(page).waitFor({ state: "hidden" });
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Upload…");
      proxy.mend();
      await waitUntilEqual(() => temporaryFiles(server), []);

      await choose();
      proxy.cut();
      await page.getByText("Can't reach the server. junk.db is still selected. Try again once you are connected.").waitFor();
      await screenshot(page, `settings/${screen}-${colorScheme}-upload-failed`, { fullPage: false });
      assert.equal(await accessibilityViolations(page), "");
      proxy.mend();
      await button(page, "Try again").click();
      await toast(page, "The file is not kept").waitFor();
      assert.equal(await page.getByText("is still selected").count(), 0);
      await waitUntilEqual(() => temporaryFiles(server), []);
    } finally {
      proxy.stop();
    }
  });
}

browserTest("a full disk and a revoked key are said plainly, and the chosen file is kept", { expected: [...UNREACHABLE, /status of (401|413|429)/], sampleData: DEMO }, async ({ page, server }) => {
  const { laptop, tablet } = await addKeys(server, { laptop: "read,write,manage", tablet: "read,write,manage" });
  await server.api("POST", "/backups", {});
  await waitUntilEqual(async () => (await backups(server)).length, 1);
  const [{ file }] = await backups(server);
  const good = join(server.folder, "good.db");
  writeFileSync(good, readFileSync(join(server.folder, "backups", file)));
  await openSection(page, server, "backups", laptop);
  const detail = "there is not enough space on the disk: 1000 bytes are free, and 67108864 stay reserved";
  await page.route("**/backups/upload", (route) => route.fulfill({ status: 413, contentType: "application/problem+json", json: { title: "Content Too Large", status: 413, detail } }));
  await page.locator("#backup-file").setInputFiles(good);
  await page.getByText("There is not enough space on the server's disk. good.db is still selected. Make room, then try again.").waitFor();
  await page.unrouteAll();
  await page.route("**/backups/upload", (route) => route.fulfill({ status: 413, contentType: "text/html", body: "<h1>413 Request Entity Too Large</h1>" }));
  await button(page, "Try again").click();
  await page.getByText("A proxy in front of the server refuses a file of this size. good.db is still selected.").waitFor();
  await page.unrouteAll();
  await revokeKey(server, "laptop", laptop);
  await button(page, "Try again").click();
  await page.getByLabel("API key").waitFor();
  await signIn(page, tablet);
  await page.getByText("Your API key is no longer valid. good.db is still selected. Sign in, then try again.").waitFor();
  await button(page, "Try again").click();
  await toast(page, "Uploaded").waitFor();
  assert.equal((await backups(server)).length, 2);
});

const daysAgo = (days) => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);

browserTest("the entries of some days are deleted after a backup, both days included, and come back", { sampleData: DEMO }, async ({ page, server }) => {
  const count = async () => (await server.api("GET", "/coffee/?limit=1000")).body.length;
  const inRange = async () => (await server.api("GET", `/coffee/?limit=1000&since=${daysAgo(20)}&until=${daysAgo(9)}`)).body.length;
  const [all, expected] = [await count(), await inRange()];
  assert.ok(expected > 0 && expected < all, `${expected} of ${all}`);
  await openSection(page, server, "data");
  const to = page.getByLabel("To", { exact: true });
  await page.getByLabel("From").fill(daysAgo(20));
  await to.fill(daysAgo(21));
  await button(page, "Delete…").click();
  await page.getByText("Must not be before “From”").waitFor();
  await to.fill(daysAgo(10));
  await button(page, "Delete…").click();
  await sheet(page).getByText(/^Delete everything from .* to .*\?$/).waitFor();
  await button(page, "Delete").click();
  await toast(page, "Deleted").waitFor();
  assert.deepEqual([await count(), await inRange()], [all - expected, 0]);
  await page.getByRole("button", { name: /^Undo/ }).click();
  await toast(page, "The entries are back").waitFor();
  assert.equal(await count(), all);
});

// A browser that is a day ahead of the server or behind it.
browserTest("the days of entries to delete are the server's", { timezoneId: "Pacific/Kiritimati" }, async ({ page, server }) => {
  let sent = null;
  await page.route("**/prune", (route) => {
    sent = route.request().postDataJSON();
    return route.continue();
  });
  await openSection(page, server, "data");
  await page.getByLabel("From").fill("2020-02-27");
  await page.getByLabel("To", { exact: true }).fill("2020-02-28");
  await button(page, "Delete…").click();
  await button(page, "Delete").click();
  await toast(page, "There are no entries in this period").waitFor();
  assert.deepEqual([sent.since, sent.before], ["2020-02-27", "2020-02-29"]);
});

browserTest("old entries are deleted after a backup, and come back", { sampleData: DEMO }, async ({ page, server }) => {
  const before = await totals(server);
  await openSection(page, server, "data");
  await page.getByLabel("To", { exact: true }).fill(daysAgo(30));
  await button(page, "Delete…").click();
  await button(page, "Delete").click();
  await toast(page, "Deleted").waitFor();
  assert.ok((await totals(server)) < before);
  await page.getByRole("button", { name: /^Undo/ }).click();
  await toast(page, "The entries are back").waitFor();
  assert.equal(await totals(server), before);
});

browserTest("a person is added, signed in by the link, renamed, removed and brought back", { expected: [/status of 422/] }, async ({ page, server, context }) => {
  await openSection(page, server, "people");
  await button(page, "Add a person").click();
  await sheet(page).getByLabel("Name shown on pages").fill("Anna");
  await sheet(page).getByLabel("Short name").fill("owner");
  await button(page, "Add").click();
  await sheet(page).getByText("must not be owner").waitFor();
  await sheet(page).getByLabel("Short name").fill("anna");
  await button(page, "Add").click();
  await sheet(page).getByText("It is shown only once").waitFor();
  const link = await sheet(page).getByLabel("Link").inputValue();
  await button(page, "Done").click();
  await rows(page, "people-list").filter({ hasText: "Anna" }).waitFor();

  const hers = await (await context.browser().newContext()).newPage();
  await hers.goto(link);
  await hers.locator("#person", { hasText: "Anna" }).waitFor();
  assert.equal(new URL(hers.url()).hash, "");
  await hers.goto(`${server.url}/settings`);
  await hers.locator("#section-list a").first().waitFor();
  assert.deepEqual(await hers.locator("#section-list .section-name").allInnerTexts(), ["You", "Devices", "Data", "Backups"]);
  await hers.goto(`${server.url}/settings/people`);
  await hers.getByText("can't open this section").waitFor();
  await hers.context().close();

  await button(page, "Rename Anna").click();
  await sheet(page).getByLabel("Name shown on pages").fill("Anna B.");
  await button(page, "Save").click();
  await button(page, "Remove Anna B.…").click();
  await button(page, "Remove").click();
  await toast(page, "Removed Anna B.").waitFor();
  await waitUntilEqual(() => rows(page, "people-list").count(), 1);
  await rows(page, "removed-list").getByText(/^Deleted for good on .*20\d\d/).waitFor();
  await button(page, "Bring back anna").click();
  await toast(page, "anna is back").waitFor();
  await waitUntilEqual(() => rows(page, "people-list").count(), 2);
});

browserTest("the owner adds a key of a person, whose link signs in, and revokes it", { expected: [/status of 409/] }, async ({ page, server, context }) => {
  await server.api("POST", "/people", { name: "anna", display_name: "Anna" });
  await openSection(page, server, "people");
  await button(page, "Keys of Anna").click();
  await sheet(page).getByText("Can see and add entries and manage devices and backups").waitFor();
  await button(page, "Add key").click();
  await sheet(page).getByLabel("Name").fill("first");
  await button(page, "Add").click();
  await sheet(page).getByText("A key named first exists already").waitFor();
  await sheet(page).getByLabel("Name").fill("phone");
  assert.equal(await sheet(page).getByText("metrics").count(), 0);
  assert.equal(await accessibilityViolations(page), "");
  await button(page, "Add").click();
  await sheet(page).getByText("It is shown only once, and whoever has it can see and add entries.").waitFor();
  const link = await sheet(page).getByLabel("Link").inputValue();
  await button(page, "Done").click();
  await rows(page, "people-list").filter({ hasText: "Anna" }).getByText("2 device keys").waitFor();

  const hers = await (await context.browser().newContext()).newPage();
  await hers.goto(link);
  await hers.locator("#person", { hasText: "Anna" }).waitFor();
  await hers.context().close();

  await button(page, "Keys of Anna").click();
  await waitUntilEqual(() => rows(page, "person-keys").locator(".device-name").allInnerTexts(), ["phone", "first"]);
  await rows(page, "person-keys").first().getByText("last used just now").waitFor();
  await screenshot(page, "settings/wide-light-keys-of-person", { fullPage: false });
  assert.equal(await accessibilityViolations(page), "");
  await button(page, "Revoke: phone").click();
  await button(page, "Revoke").click();
  await sheet(page).getByText("Revoked phone").waitFor();
  // A key that cannot sign in to the pages is shown as text.
  await button(page, "Add key").click();
  await sheet(page).getByLabel("Name").fill("watch");
  await sheet(page).getByRole("radio", { name: "Add entries only" }).check();
  await button(page, "Add").click();
  assert.match(await sheet(page).getByLabel("Key", { exact: true }).inputValue(), /^ct_/);
  await button(page, "Done").click();
  await button(page, "Keys of Anna").click();
  await rows(page, "person-keys").filter({ hasText: "watch" }).waitFor();
  await button(page, "Revoke: watch").click();
  await button(page, "Revoke").click();
  await sheet(page).getByText("Revoked watch").waitFor();
  assert.deepEqual(await rows(page, "person-keys").locator(".device-name").allInnerTexts(), ["first"]);
  const me = await fetch(`${server.url}/me`, { headers: { Authorization: `Bearer ${link.split("#key=")[1]}` } });
  assert.equal(me.status, 401);
});

browserTest("a key whose name would change the path of a request is not revoked in the browser", {}, async ({ page, server }) => {
  await server.api("POST", "/people", { name: "anna", display_name: "Anna" });
  const { body } = await server.api("GET", "/people/anna/keys");
  await page.route("**/people/anna/keys", (route) => route.fulfill({ json: { keys: [{ ...body.keys[0], name: ".." }] } }));
  await openSection(page, server, "people");
  await button(page, "Keys of Anna").click();
  await button(page, "Revoke: ..").click();
  await button(page, "Revoke").click();
  await toast(page, "A key with this name can only be revoked on the command line").waitFor();
  assert.equal((await server.api("GET", "/people/anna")).status, 200);
});

const confirmation = (page) => page.getByRole("dialog", { name: "Confirm it's you" });

/** Opens a section of a page with a clock, and lets more than ten minutes pass since the key was entered. */
async function openUnattended(page, server, section, content) {
  await openSection(page, server, section);
  await page.locator(content).first().waitFor();
  await page.clock.fastForward("10:01");
}

for (const [screen, colorScheme] of [["wide", "light"], ["phone", "dark"]]) {
  browserTest(`ten minutes after the key was entered, a change asks for it again: ${screen}, ${colorScheme}`, { screen, colorScheme }, async ({ page, server }) => {
    await page.clock.install();
    await openUnattended(page, server, "people", "#people-list > li .row");
    await button(page, "Add a person").click();
    await sheet(page).getByLabel("Name shown on pages").fill("Anna");
    await sheet(page).getByLabel("Short name").fill("anna");
    await button(page, "Add").click();
    await confirmation(page).waitFor();
    await confirmation(page).getByLabel("Owner's key").fill("the-wrong-key");
    await confirmation(page).getByRole("button", { name: "Confirm" }).click();
    await confirmation(page).getByText("Wrong key.").waitFor();
    await screenshot(page, `settings/${screen}-${colorScheme}-confirmation`, { fullPage: false });
    assert.equal(await accessibilityViolations(page), "");
    // Cancelling changes nothing, and what was typed is still there.
    await confirmation(page).getByRole("button", { name: "Cancel" }).click();
    await confirmation(page).waitFor({ state: "hidden" });
    assert.equal(await sheet(page).getByLabel("Short name").inputValue(), "anna");
    assert.deepEqual(await people(server), ["owner"]);
    await button(page, "Add").click();
    await confirmation(page).getByLabel("Owner's key").fill(KEY);
    await page.keyboard.press("Enter");
    await sheet(page).getByText("It is shown only once").waitFor();
    await button(page, "Done").click();
    // It is not asked for again.
    await button(page, "Rename Anna").click();
    await sheet(page).getByLabel("Name shown on pages").fill("Anna B.");
    await button(page, "Save").click();
    await rows(page, "people-list").filter({ hasText: "Anna B." }).waitFor();
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    assert.equal(stored.split(KEY).length, 2, "the key is stored once");
    // Another ten minutes later, reading needs no confirmation.
    await page.clock.fastForward("10:01");
    await openSection(page, server, "system");
    await page.locator("#findings > li").first().waitFor();
    assert.equal(await confirmation(page).count(), 0);
  });
}

/** Actions of the owner by their section: what it shows, and what the owner does. */
const OWNERS_ACTIONS = {
  "an upload": ["backups", "#backup-list > li .row", (page) => page.locator("#backup-file").setInputFiles({ name: "junk.db", mimeType: "application/vnd.sqlite3", buffer: Buffer.from("flat white") })],
  "a restore": ["backups", "#backup-list > li .row", async (page) => {
    await page.getByRole("button", { name: /^Restore…/ }).click();
    await sheet(page).getByLabel("Type “owner” to confirm").fill("owner");
    await button(page, "Restore").click();
  }],
  "deleting old entries": ["data", "form .danger", async (page) => {
    const days = [Date.now() - 86_400_000, Date.now()].map((time) => new Date(time).toISOString().slice(0, 10));
    for (const [n, input] of (await page.locator("form input[type=date]").all()).entries()) await input.fill(days[n]);
    await button(page, "Delete…").click();
    await button(page, "Delete").click();
  }],
  "removing a person": ["people", "#people-list > li .row", async (page) => {
    await button(page, "Remove Anna…").click();
    await button(page, "Remove").click();
  }],
  "revoking a key": ["devices", "#device-list .device", async (page) => {
    await button(page, "Revoke: phone").click();
    await button(page, "Revoke").click();
  }],
};

browserTest("every action of the owner asks for the key, and is not carried out without it", { sampleData: DEMO }, async ({ page, server }) => {
  await server.api("POST", "/people", { name: "anna", display_name: "Anna" });
  await server.api("POST", "/keys", { name: "phone", scopes: ["read"] });
  await server.api("POST", "/backups", {});
  await waitUntilEqual(async () => (await backups(server)).length, 1);
  await server.api("POST", "/coffee/", { caffeine_mg: 80 });
  const state = async () => [await people(server), await totals(server), (await backups(server)).length, (await server.api("GET", "/keys")).body.keys.length];
  const before = await state();
  const sent = [];
  page.on("request", (request) => request.method() !== "GET" && sent.push(`${request.method()} ${new URL(request.url()).pathname} ${request.postData()}`));
  await page.clock.install();
  for (const [what, [section, content, act]] of Object.entries(OWNERS_ACTIONS)) {
    await openUnattended(page, server, section, content);
    await act(page);
    await confirmation(page).waitFor();
    await page.keyboard.press("Escape");
    await confirmation(page).waitFor({ state: "hidden" });
    assert.equal(await page.locator(".toast:visible, .field-error:visible").count(), 0, what);
  }
  assert.deepEqual(sent.filter((request) => !request.includes("dry_run")), []);
  assert.deepEqual(await state(), before);
});

browserTest("a key that is not the owner's is never asked for again", {}, async ({ page, server }) => {
  const { laptop } = await addKeys(server, { laptop: "read,write,manage" });
  await page.clock.install();
  await openSection(page, server, "backups", laptop);
  await page.getByText("There is no backup yet.").waitFor();
  await page.clock.fastForward("10:01");
  await OWNERS_ACTIONS["an upload"][2](page);
  await toast(page, "The file is not kept").waitFor();
});

browserTest("the check of the installation names what to fix", {}, async ({ page, server }) => {
  await openSection(page, server, "system");
  await page.locator("#system-state", { hasText: "need" }).waitFor();
  await rows(page, "findings").filter({ hasText: "backups" }).first().waitFor();
});

const fact = (page, name) => page.locator("#facts > div").filter({ has: page.locator("dt", { hasText: name }) }).locator("dd").allInnerTexts();

browserTest("disk, clock, version and last verification are shown first", { expected: [/status of 500/] }, async ({ page, server }) => {
  const { body: health } = await server.api("GET", "/health");
  await openSection(page, server, "system");
  await page.locator("#facts > div").first().waitFor();
  assert.deepEqual(await page.locator("#facts dt").allInnerTexts(), ["Disk", "Clock", "Version", "Last verification"]);
  const [[free, size], [, clock], version, verification] = await Promise.all(["Disk", "Clock", "Version", "Last verification"].map((name) => fact(page, name)));
  assert.match(`${free} ${size}`, /^(⚠ )?[\d,.]+ [MG]B free of [\d,.]+ [MG]B/);
  assert.equal(clock, "Same as on this device");
  assert.deepEqual(version, [health.version, "Started just now"]);
  assert.deepEqual(verification, ["⚠ Never", "No backup was verified yet"]);
  await server.api("POST", "/backups", {});
  await waitUntilEqual(async () => (await backups(server)).length, 1);
  await page.route("**/check", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), disk: { status: "low", free_bytes: 900_000_000, size_bytes: 32e9 }, warnings: [{ at: health.timestamp, level: "warning", message: "a query took 1.3 s" }] } });
  });
  await page.route("**/health", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...health, clock: { status: "suspect" } } });
  });
  await button(page, "Check again").click();
  await page.locator("#facts").getByText("⚠ 900 MB free").waitFor();
  assert.deepEqual(await fact(page, "Disk"), ["⚠ 900 MB free", "of 32 GB, more than 80 % is used"]);
  assert.equal((await fact(page, "Clock"))[1], "Seems to be wrong: it is before the newest entry or this version");
  assert.match((await fact(page, "Last verification")).join(), /^\d+:\d+,Your backup of \d+:\d+$/);
  await rows(page, "warnings").getByText("a query took 1.3 s").waitFor();
  // The findings are shown although the other requests fail.
  await page.route(/\/(health|backups)$/, (route) => route.fulfill({ status: 500, body: "" }));
  await button(page, "Check again").click();
  await page.locator("#facts").getByText("The backups can't be read").waitFor();
  assert.deepEqual(await fact(page, "Version"), ["⚠ Unknown", "The server didn't answer"]);
});

browserTest("the diagnostics are copied without keys and entries", {}, async ({ page, server, context }) => {
  await server.api("POST", "/coffee/", { caffeine_mg: 80, coffee_type: "flat white", notes: "double shot" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await openSection(page, server, "system");
  await page.locator("#findings > li").first().waitFor();
  await button(page, "Copy diagnostics").click();
  await toast(page, "Copied. It has no keys and no entries").waitFor();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(text, /^Coffee Tracker \d[^]*\ndisk: \d+ of \d+ bytes free\n[^]*warnings:[^]*"uptime_seconds"/);
  assert.doesNotMatch(text, new RegExp(`${KEY}|flat white|double shot`));
});

browserTest("where there is no clipboard, the diagnostics are shown to be copied by hand", {}, async ({ page, server }) => {
  await openSection(page, { ...server, url: server.url.replace("127.0.0.1", "kitchen.lan") }, "system");
  await page.locator("#findings > li").first().waitFor();
  await button(page, "Copy diagnostics").click();
  await page.locator("pre[aria-label=Diagnostics]", { hasText: "uptime_seconds" }).waitFor();
  await page.getByRole("button", { name: "Copy: Diagnostics" }).click();
  assert.match(await page.evaluate(() => getSelection().toString()), /^Coffee Tracker \d/);
  assert.equal(await horizontalOverflow(page), 0);
});

browserTest("a lost connection is said plainly, and the section loads again", { expected: [/ERR_INTERNET_DISCONNECTED|Failed to load resource/] }, async ({ page, server, context }) => {
  await openSection(page, server, "backups");
  await page.getByText("There is no backup yet.").waitFor();
  await context.setOffline(true);
  await button(page, "Back up now").click();
  await toast(page, "Can't reach the server").waitFor();
  await context.setOffline(false);
  await button(page, "Back up now").click();
  await toast(page, "Backed up").waitFor();
});

browserTest("a key without the scope for backups does not see them", {}, async ({ page, server }) => {
  const { phone } = await addKeys(server, { phone: "read,write" });
  await openSection(page, server, "backups", phone);
  await page.getByText("can't open this section").waitFor();
});
