// The docs page, as somebody uses it who has just installed the server.

import assert from "node:assert/strict";

import { KEY, accessibilityFaults, bytesOverTheWire, picture, scenario, widthBeyondTheWindow } from "./helpers.js";

/** Swagger UI's own: a route's button has the link to it inside, which works by keyboard all the same. */
const SWAGGER_UI = ["nested-interactive"];
const ROUTE = "#operations-coffee-add_coffee";

async function openDocs(page, server) {
  await page.goto(`${server.url}/docs`);
  await page.locator(".swagger-ui .opblock").first().waitFor();
}

async function authorize(page) {
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").fill(KEY);
  await dialog.getByRole("button", { name: "Apply credentials" }).click();
  await dialog.getByRole("button", { name: "Close" }).last().click();
}

/** Opens the route that logs a coffee, and sends one. */
async function tryItOut(page, coffee) {
  const route = page.locator(ROUTE);
  await route.locator(".opblock-summary-control").click();
  await route.getByRole("button", { name: "Try it out" }).click();
  await route.locator("textarea.body-param__text").fill(JSON.stringify(coffee));
  await route.getByRole("button", { name: "Execute" }).click();
  const answer = route.locator(".live-responses-table");
  await answer.waitFor();
  return answer.innerText();
}

scenario("after Authorize, a coffee sent by Try it out is really logged", {}, async ({ page, server }) => {
  await openDocs(page, server);
  await authorize(page);
  const answer = await tryItOut(page, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  assert.match(answer, /\b201\b/);
  const { body } = await server.api("GET", "/coffee/");
  assert.equal(body.length, 1);
  const { caffeine_mg, coffee_type, notes } = body[0];
  assert.deepEqual({ caffeine_mg, coffee_type, notes }, { caffeine_mg: 64, coffee_type: "espresso", notes: "from the docs" });
  await picture(page, "docs/tried-out");
});

scenario(
  "without the key Try it out is told that one is needed, and nothing is logged",
  { expected: [/status of 401/] },
  async ({ page, server }) => {
    await openDocs(page, server);
    assert.match(await tryItOut(page, { caffeine_mg: 64 }), /A valid API key is needed/);
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
      await openDocs(page, server);
      await picture(page, `docs/${screen}-${colorScheme}`, { whole: screen !== "narrow" });
      assert.equal(await widthBeyondTheWindow(page), 0, "nothing is wider than the window");
      assert.equal(await accessibilityFaults(page, { without: SWAGGER_UI }), "");
      await page.locator(`${ROUTE} .opblock-summary-control`).click();
      await page.locator(`${ROUTE} .opblock-body`).waitFor();
      await page.locator(ROUTE).scrollIntoViewIfNeeded();
      await picture(page, `docs/${screen}-${colorScheme}-route`, { whole: false });
      assert.equal(await widthBeyondTheWindow(page), 0, "nor with a route open");
    });
  }
}
