// Takes README's pictures: the dashboard of a made-up person who has drunk coffee for a year, on a desk and
// on a phone. Wherever it is made, it is an afternoon.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { scenario } from "./helpers.js";
import { open, seeAll } from "./person.js";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
/** What a picture may weigh, in bytes. */
const MOST = 150_000;
const PERSON = { days: 365, "coffees-per-day": 3, "readings-per-day": 288 };

/** A zone in which it is between three and four in the afternoon; the sign of its name is the other way round. */
function afternoon() {
  const ahead = ((15 - new Date().getUTCHours() + 36) % 24) - 12;
  return ahead ? `Etc/GMT${ahead < 0 ? "+" : "-"}${Math.abs(ahead)}` : "Etc/GMT";
}

/** Keeps what the window shows as docs/NAME.webp. */
async function photograph(page, name) {
  const session = await page.context().newCDPSession(page);
  const [width, height, scale] = await page.evaluate(() => [innerWidth, innerHeight, devicePixelRatio]);
  const clip = { x: 0, y: 0, width, height, scale };
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 82, clip });
  const file = join(DOCS, `${name}.webp`);
  mkdirSync(DOCS, { recursive: true });
  writeFileSync(file, data, "base64");
  const { size } = statSync(file);
  console.log(`docs/${name}.webp: ${size} bytes`);
  if (size > MOST) throw new Error(`docs/${name}.webp is over ${MOST} bytes`);
}

const zone = afternoon();
const shared = { person: PERSON, settings: { TZ: zone }, timezoneId: zone, locale: "en-GB" };

scenario("the dashboard on a desk", { ...shared, viewport: { width: 1280, height: 1180 }, deviceScaleFactor: 1.25 }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  await photograph(page, "dashboard");
});

scenario("the dashboard on a phone", { ...shared, viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: "dark" }, async ({ page, server }) => {
  await open(page, server);
  await seeAll(page);
  await photograph(page, "dashboard-phone");
});
