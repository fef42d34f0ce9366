// The docs page, as somebody uses it who has just installed the server.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

import { KEY, accessibilityFaults, bytesOverTheWire, picture, scenario, widthBeyondTheWindow } from "./helpers.js";

const ROUTE = "#operations-coffee-add_coffee";
const LIST = "#operations-coffee-list_coffees";

async function openDocs(page, server) {
  await page.goto(`${server.url}/docs`);
  await page.locator(".swagger-ui .opblock").first().waitFor();
}

async function authorize(page) {
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").fill(KEY);
  await dialog.getByRole("button", { name: "Authorize" }).click();
  await dialog.getByRole("button", { name: "Close" }).last().click();
}

/** Opens a route and sends what it asks for, with `body` as the body where there is one. */
async function tryItOut(page, selector, body = null) {
  const route = page.locator(selector);
  await route.locator(".opblock-summary-control").click();
  await route.getByRole("button", { name: "Try it out" }).click();
  if (body) await route.locator("textarea.body-param__text").fill(JSON.stringify(body));
  await route.getByRole("button", { name: "Execute" }).click();
  const answer = route.locator(".live-responses-table");
  await answer.waitFor();
  return answer.innerText();
}

scenario("after Authorize, a coffee sent by Try it out is really logged", {}, async ({ page, server }) => {
  await openDocs(page, server);
  await authorize(page);
  const answer = await tryItOut(page, ROUTE, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  assert.match(answer, /\b201\b/);
  const { body } = await server.api("GET", "/coffee/");
  assert.equal(body.length, 1);
  const { caffeine_mg, coffee_type, notes } = body[0];
  assert.deepEqual({ caffeine_mg, coffee_type, notes }, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  // The list as it opens: no filter that somebody has not set hides what was logged.
  assert.match(await tryItOut(page, LIST), /\b200\b[^]*from the docs/);
  await picture(page, "docs/tried-out");
});

scenario("the key stays in the page and is forgotten with it", { expected: [/status of 401/] }, async ({ page, server }) => {
  await openDocs(page, server);
  await authorize(page);
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
  await page.reload();
  await page.locator(ROUTE).waitFor();
  assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /\b401\b/);
});

scenario(
  "without the key Try it out is told that one is needed, and nothing is logged",
  { expected: [/status of 401/] },
  async ({ page, server }) => {
    await openDocs(page, server);
    assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /A valid API key is needed/);
    assert.deepEqual((await server.api("GET", "/coffee/")).body, []);
  },
);

scenario("the guide speaks of the server that it was read on", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const samples = await page.locator("#curl pre").first().innerText();
  assert.ok(samples.includes(`${server.url}/coffee/`), samples);
  assert.ok((await page.locator("#prometheus pre").innerText()).includes(`["127.0.0.1:${server.port}"]`));
  for (const title of ["Your key", "A first coffee, by curl", "An Apple Shortcut", "Home Assistant", "Prometheus"]) {
    await page.getByRole("heading", { name: title, exact: true }).waitFor();
  }
});

scenario("the guide's curl lines work as they stand, once the key is the right one", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const samples = await page.locator("#curl pre code").allInnerTexts();
  const script = samples.join("\n").replace("KEY=ct_…", `KEY=${KEY}`).replaceAll("curl ", "curl -sS --fail --max-time 20 ");
  execFileSync("bash", ["-euc", script], { encoding: "utf8" });
  const [coffee] = (await server.api("GET", "/coffee/")).body;
  assert.deepEqual([coffee.caffeine_mg, coffee.coffee_type], [80, "espresso"]);
  assert.equal((await server.api("GET", "/heartrate/current")).body.bpm, 72);
});

scenario("a sample is copied by its button", { permissions: ["clipboard-read", "clipboard-write"] }, async ({ page, server }) => {
  await openDocs(page, server);
  const sample = page.locator("#prometheus .sample");
  await sample.getByRole("button").click();
  await sample.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await sample.locator("code").innerText());
});

scenario("over plain HTTP, where a page may not write to the clipboard, the sample is selected", {}, async ({ page, server }) => {
  await page.goto(`http://kitchen.lan:${server.port}/docs`);
  const sample = page.locator("#curl .sample").first();
  await sample.getByRole("button").click();
  await sample.getByRole("button", { name: "Selected" }).waitFor();
  const selected = await page.evaluate(() => String(getSelection()));
  assert.ok(selected.includes(`http://kitchen.lan:${server.port}/coffee/`), selected);
  await authorize(page);
  assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /\b201\b/);
});

scenario("/redoc leads here, and a link to one route opens it", { expected: [/escaping deep link whitespace/] }, async ({ page, server }) => {
  await page.goto(`${server.url}/redoc`);
  assert.equal(new URL(page.url()).pathname, "/docs");
  await page.goto(`${server.url}/docs#/coffee/add_coffee`);
  await page.reload();
  await page.locator(`${ROUTE} .opblock-body`).waitFor();
});

scenario("a server that does not answer is said to be so, and the guide is there all the same", { expected: [/Failed to load/] }, async ({ page, server }) => {
  await page.route("**/openapi.json", (route) => route.abort());
  await page.goto(`${server.url}/docs`);
  await page.getByText("The server cannot be reached. Reload this page in a moment.").waitFor();
  await page.route("**/openapi.json", (route) => route.fulfill({ status: 429, json: {} }));
  await page.reload();
  await page.getByText("The server answered 429. Reload this page in a moment.").waitFor();
  await page.getByRole("heading", { name: "Home Assistant" }).waitFor();
});

scenario("the keyboard alone will do", { expected: [/status of 401/] }, async ({ page, server }) => {
  await openDocs(page, server);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip-link");
  await page.keyboard.press("Enter");
  const route = page.locator(ROUTE);
  await route.locator(".opblock-summary-control").focus();
  await page.keyboard.press("Enter");
  await route.getByRole("button", { name: "Try it out" }).press("Enter");
  await route.getByRole("button", { name: "Execute" }).press("Space");
  await route.locator(".live-responses-table").waitFor();
});

scenario("every operation of the document is shown", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const { body } = await server.api("GET", "/openapi.json");
  const methods = Object.values(body.paths).flatMap((item) => Object.keys(item));
  assert.equal(await page.locator(".swagger-ui .opblock").count(), methods.length);
});

scenario("the first visit takes at most 550 KB over the wire and the second 10 KB", {}, async ({ page, server }) => {
  const first = await bytesOverTheWire(page, () => openDocs(page, server));
  const second = await bytesOverTheWire(page, () => openDocs(page, server));
  console.log(`docs over the wire: first visit ${first} bytes, second ${second}`);
  assert.ok(first > 100_000 && first <= 550_000, `first visit: ${first} bytes`);
  assert.ok(second > 0 && second <= 10_000, `second visit: ${second} bytes`);
});

for (const colorScheme of ["light", "dark"]) {
  for (const screen of ["wide", "phone", "narrow"]) {
    scenario(`it reads well: ${colorScheme}, ${screen}`, { colorScheme, screen }, async ({ page, server }) => {
      const look = async (what, options) => {
        await picture(page, `docs/${screen}-${colorScheme}${what}`, options);
        assert.equal(await widthBeyondTheWindow(page), 0, `nothing is wider than the window${what}`);
        assert.equal(await accessibilityFaults(page), "", what);
      };
      await openDocs(page, server);
      await look("", { whole: true });
      await page.getByRole("button", { name: "Authorize" }).first().click();
      await page.locator(".modal-ux").waitFor();
      await look("-key", { whole: false });
      await page.locator(".modal-ux").getByRole("button", { name: "Close" }).last().click();
      await authorize(page);
      await tryItOut(page, ROUTE, { caffeine_mg: 64 });
      await page.locator(ROUTE).scrollIntoViewIfNeeded();
      await look("-tried", { whole: true });
    });
  }
}

scenario("it reads well on a very large screen", { screen: "huge" }, async ({ page, server }) => {
  await openDocs(page, server);
  await picture(page, "docs/huge-light", { whole: false });
  assert.equal(await widthBeyondTheWindow(page), 0);
});
