// Docs page: guides, examples and the interactive API reference.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

import { KEY, accessibilityViolations, browserTest, horizontalOverflow, screenshot, transferredBytes } from "./helpers.js";

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

/** Opens an operation, sends a request with an optional body, and returns the text of the response. */
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

browserTest("after Authorize, Try it out logs a coffee", {}, async ({ page, server }) => {
  await openDocs(page, server);
  await authorize(page);
  const answer = await tryItOut(page, ROUTE, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  assert.match(answer, /\b201\b/);
  const { body } = await server.api("GET", "/coffee/");
  assert.equal(body.length, 1);
  const { caffeine_mg, coffee_type, notes } = body[0];
  assert.deepEqual({ caffeine_mg, coffee_type, notes }, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  // No filter is prefilled that would hide the new coffee.
  assert.match(await tryItOut(page, LIST), /\b200\b[^]*from the docs/);
  await screenshot(page, "docs/tried-out");
});

browserTest("the key is not stored and is gone after a reload", { expected: [/status of 401/] }, async ({ page, server }) => {
  await openDocs(page, server);
  await authorize(page);
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
  await page.reload();
  await page.locator(ROUTE).waitFor();
  assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /\b401\b/);
});

browserTest(
  "without a key, Try it out shows the error and nothing is logged",
  { expected: [/status of 401/] },
  async ({ page, server }) => {
    await openDocs(page, server);
    assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /A valid API key is required/);
    assert.deepEqual((await server.api("GET", "/coffee/")).body, []);
  },
);

browserTest("the examples contain the address of this server", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const samples = await page.locator("#curl pre").nth(1).innerText();
  assert.ok(samples.includes(`${server.url}/coffee/`), samples);
  assert.ok((await page.locator("#prometheus pre").innerText()).includes(`["127.0.0.1:${server.port}"]`));
  const urls = await page.locator("#apps pre").allInnerTexts();
  assert.deepEqual(urls.slice(0, 2), [`${server.url}/ingest/health-auto-export`, `${server.url}/ingest/hc-webhook`]);
  for (const title of ["API key", "Health apps", "Log a coffee with curl", "Apple Shortcut", "Home Assistant", "Prometheus", "API reference"]) {
    await page.getByRole("heading", { name: title, exact: true }).waitFor();
  }
});

browserTest("the curl examples work with the right key", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const samples = await page.locator("#curl pre code").allInnerTexts();
  assert.equal(samples[0], "read -rs KEY");
  const script = samples.join("\n").replaceAll("curl ", "curl -sS --fail --max-time 20 ");
  execFileSync("bash", ["-euc", script], { encoding: "utf8", input: `${KEY}\n` });
  const [coffee] = (await server.api("GET", "/coffee/")).body;
  assert.deepEqual([coffee.caffeine_mg, coffee.coffee_type], [80, "espresso"]);
  assert.equal((await server.api("GET", "/heartrate/current")).body.bpm, 72);
});

browserTest("the test of a health app works with the right key and stores nothing", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const command = (await page.locator("#apps pre code").last().innerText()).replace("curl ", "curl -sS --fail --max-time 20 ");
  const response = JSON.parse(execFileSync("bash", ["-euc", command], { encoding: "utf8", env: { ...process.env, KEY } }));
  assert.deepEqual([response.received, response.inserted], [0, 0]);
  assert.deepEqual((await server.api("GET", "/heartrate/")).body, []);
});

browserTest("every example is copied as it runs: without comments, and revoking a key on its own", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const samples = await page.locator("#key pre code, #curl pre code").allInnerTexts();
  for (const sample of samples) assert.doesNotMatch(sample, /…|(^|\s)#/);
  assert.deepEqual(samples.filter((sample) => sample.includes("revoke")), ["coffee-tracker key revoke phone"]);
});

browserTest("the key of this browser is filled into the examples and Authorize, on request", { settings: { API_KEY: `it's-a-"key"-of-24-chars` } }, async ({ page, server }) => {
  await openDocs(page, server);
  const fill = page.getByRole("button", { name: "Use the key of this browser" });
  assert.equal(await fill.isVisible(), false, "nobody is signed in");
  await page.evaluate(() => sessionStorage.setItem("coffee.key", `it's-a-"key"-of-24-chars`));
  await page.reload();
  await page.locator(ROUTE).waitFor();
  assert.ok(!(await page.locator("#main").innerText()).includes("it's-a"), "the key is not shown without a click");
  await fill.click();
  const samples = await page.locator("#curl pre code").allInnerTexts();
  const script = samples.join("\n").replaceAll("curl ", "curl -sS --fail --max-time 20 ");
  execFileSync("bash", ["-euc", script], { encoding: "utf8" });
  assert.equal((await server.api("GET", "/health")).status, 200);
  assert.ok((await page.locator("#home-assistant pre").first().innerText()).includes(`"Bearer it's-a-\\"key\\"-of-24-chars"`));
  assert.match(await tryItOut(page, LIST), /\b200\b[^]*espresso/);
});

browserTest("the API reference has no pages and no files", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const paths = Object.keys((await server.api("GET", "/openapi.json")).body.paths);
  assert.deepEqual(paths.filter((path) => /static|sw\.js|manifest|favicon|docs|redoc/.test(path)), []);
});

browserTest("the Copy button copies an example", { permissions: ["clipboard-read", "clipboard-write"] }, async ({ page, server }) => {
  await openDocs(page, server);
  const sample = page.locator("#prometheus .example");
  await sample.getByRole("button").click();
  await sample.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await sample.locator("code").innerText());
});

browserTest("over plain HTTP, where the clipboard is not available, the Copy button selects the example", {}, async ({ page, server }) => {
  await page.goto(`http://kitchen.lan:${server.port}/docs`);
  const sample = page.locator("#curl .example").nth(1);
  await sample.getByRole("button").click();
  await sample.getByRole("button", { name: "Selected" }).waitFor();
  const selected = await page.evaluate(() => String(getSelection()));
  assert.ok(selected.includes(`http://kitchen.lan:${server.port}/coffee/`), selected);
  await authorize(page);
  assert.match(await tryItOut(page, ROUTE, { caffeine_mg: 64 }), /\b201\b/);
});

browserTest("/redoc redirects to the docs, and a link to an operation opens it", { expected: [/escaping deep link whitespace/] }, async ({ page, server }) => {
  await page.goto(`${server.url}/redoc`);
  assert.equal(new URL(page.url()).pathname, "/docs");
  await page.goto(`${server.url}/docs#/coffee/add_coffee`);
  await page.reload();
  await page.locator(`${ROUTE} .opblock-body`).waitFor();
});

browserTest("without the OpenAPI document, the page shows the error and the guides", { expected: [/Failed to load/] }, async ({ page, server }) => {
  await page.route("**/openapi.json", (route) => route.abort());
  await page.goto(`${server.url}/docs`);
  await page.getByText("Can't reach the server. Reload the page to try again.").waitFor();
  await page.route("**/openapi.json", (route) => route.fulfill({ status: 429, json: {} }));
  await page.reload();
  await page.getByText("The server returned status 429. Reload the page to try again.").waitFor();
  await page.getByRole("heading", { name: "Home Assistant" }).waitFor();
});

browserTest("the docs can be used with the keyboard only", { expected: [/status of 401/] }, async ({ page, server }) => {
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

browserTest("the API reference shows every operation", {}, async ({ page, server }) => {
  await openDocs(page, server);
  const { body } = await server.api("GET", "/openapi.json");
  const methods = Object.values(body.paths).flatMap((item) => Object.keys(item));
  assert.equal(await page.locator(".swagger-ui .opblock").count(), methods.length);
});

browserTest("the docs transfer at most 550 KB on the first visit and 10 KB on the second", {}, async ({ page, server }) => {
  const first = await transferredBytes(page, () => openDocs(page, server));
  const second = await transferredBytes(page, () => openDocs(page, server));
  console.log(`docs over the wire: first visit ${first} bytes, second ${second}`);
  assert.ok(first > 100_000 && first <= 550_000, `first visit: ${first} bytes`);
  assert.ok(second > 0 && second <= 10_000, `second visit: ${second} bytes`);
});

for (const screen of ["wide", "phone", "narrow"]) {
  browserTest(`the docs are accessible and fit the window: ${screen}`, { screen }, async ({ page, server }) => {
    // Axe takes long for the whole reference: a change is checked where it happens.
    const check = async (suffix, { fullPage, within }) => {
      for (const [colorScheme, forcedColors] of [["light", "none"], ["dark", "none"], ["dark", "active"]]) {
        const name = `${screen}-${colorScheme}${forcedColors === "active" ? "-forced" : ""}${suffix}`;
        await page.emulateMedia({ colorScheme, forcedColors });
        await screenshot(page, `docs/${name}`, { fullPage: fullPage && colorScheme === "light" });
        assert.equal(await horizontalOverflow(page), 0, `nothing is wider than the window: ${name}`);
        assert.equal(await accessibilityViolations(page, { colorsOnly: colorScheme === "dark", within }), "", name);
      }
    };
    await openDocs(page, server);
    await check("", { fullPage: true });
    await page.getByRole("button", { name: "Authorize" }).first().click();
    await page.locator(".modal-ux").waitFor();
    await check("-key", { fullPage: false, within: ".modal-ux" });
    await page.locator(".modal-ux").getByRole("button", { name: "Close" }).last().click();
    await authorize(page);
    await tryItOut(page, ROUTE, { caffeine_mg: 64 });
    await page.locator(ROUTE).scrollIntoViewIfNeeded();
    await check("-tried", { fullPage: true, within: ROUTE });
  });
}

browserTest("the docs fit a very large screen", { screen: "huge" }, async ({ page, server }) => {
  await openDocs(page, server);
  await screenshot(page, "docs/huge-light", { fullPage: false });
  assert.equal(await horizontalOverflow(page), 0);
});
