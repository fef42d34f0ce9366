// Takes the screenshots of the README: the dashboard with a year of sample data on a desktop and a phone, always
// in the afternoon.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { browserTest } from "./helpers.js";
import { loadAllSections, open } from "./actions.js";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
/** Maximum size of a screenshot in bytes. */
const MAX_BYTES = 150_000;
const SAMPLE_DATA = { days: 365, "coffees-per-day": 3, "readings-per-day": 288 };

/** Returns a time zone in which it is between 3 and 4 pm. The sign in Etc/GMT names is inverted. */
function afternoon() {
  const ahead = ((15 - new Date().getUTCHours() + 36) % 24) - 12;
  return ahead ? `Etc/GMT${ahead < 0 ? "+" : "-"}${Math.abs(ahead)}` : "Etc/GMT";
}

/** Saves a screenshot of the window as docs/NAME.webp. */
async function saveScreenshot(page, name) {
  const session = await page.context().newCDPSession(page);
  const [width, height, scale] = await page.evaluate(() => [innerWidth, innerHeight, devicePixelRatio]);
  const clip = { x: 0, y: 0, width, height, scale };
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 82, clip });
  const file = join(DOCS, `${name}.webp`);
  mkdirSync(DOCS, { recursive: true });
  writeFileSync(file, data, "base64");
  const { size } = statSync(file);
  console.log(`docs/${name}.webp: ${size} bytes`);
  if (size > MAX_BYTES) throw new Error(`docs/${name}.webp is over ${MAX_BYTES} bytes`);
}

const zone = afternoon();
const shared = { sampleData: SAMPLE_DATA, settings: { TZ: zone }, timezoneId: zone, locale: "en-GB" };

browserTest("README screenshot: desktop", { ...shared, viewport: { width: 1280, height: 1180 }, deviceScaleFactor: 1.25 }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  await saveScreenshot(page, "dashboard");
});

browserTest("README screenshot: phone", { ...shared, viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: "dark" }, async ({ page, server }) => {
  await open(page, server);
  await loadAllSections(page);
  await saveScreenshot(page, "dashboard-phone");
});
