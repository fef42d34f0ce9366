// Starts the real program on a folder of its own and a real browser beside it, and watches: whatever
// a page says to the console, loads from elsewhere or breaks of its policy ends the test.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const TOP = fileURLToPath(new URL("../..", import.meta.url));
/** The program under test. */
export const PROGRAM = resolve(process.env.COFFEE_TRACKER ?? join(TOP, "target/debug/coffee-tracker"));
const PICTURES = join(TOP, "target/web");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The right key. */
export const KEY = "the-right-key-of-these-tests";
/** A person of two months, small enough to be made at once. */
export const DEMO = { days: 60, "readings-per-day": 48 };
/** What a screen may be. */
export const SCREENS = {
  wide: { width: 1280, height: 900 },
  phone: { width: 390, height: 844 },
  narrow: { width: 320, height: 640 },
  huge: { width: 3840, height: 2160 },
};

const scratch = mkdtempSync(join(tmpdir(), "coffee-web-"));
/** Ends of servers that were told to stop: each gives its open connections a few seconds. */
const endings = [];
let browser;

after(async () => {
  await browser?.close();
  await Promise.all(endings);
  rmSync(scratch, { recursive: true, force: true });
});

/** Nothing of this machine's own settings reaches the program. */
const environment = (extra = {}) => ({ PATH: process.env.PATH, HOME: scratch, TZ: "Europe/Berlin", ...extra });

/** The database of a made-up person who lives by this zone, made once. */
function demo(person, settings) {
  const file = join(scratch, `${[...Object.values(person), settings.TZ].join("-").replaceAll("/", "-")}.db`);
  if (!existsSync(file)) {
    const flags = Object.entries(person).map(([name, value]) => `--${name}=${value}`);
    const made = spawnSync(PROGRAM, ["demo", ...flags, `--database-url=${file}`], {
      cwd: scratch,
      env: environment(settings.TZ ? { TZ: settings.TZ } : {}),
      encoding: "utf8",
    });
    assert.equal(made.status, 0, `coffee-tracker demo: ${made.stderr || made.error}`);
  }
  return file;
}

/** Starts the server: `person` fills its database, `settings` are variables as in `.env`. */
export async function startServer({ person = null, settings = {}, port = 0, folder = null } = {}) {
  folder ??= mkdtempSync(join(scratch, "server-"));
  if (person) cpSync(demo(person, settings), join(folder, "coffee.db"));
  const child = spawn(PROGRAM, ["serve"], {
    cwd: folder,
    env: environment({
      PORT: String(port),
      DATABASE_URL: join(folder, "coffee.db"),
      BACKUP_DIR: join(folder, "backups"),
      API_KEY: KEY,
      RATE_LIMIT_ENABLED: "false",
      ...settings,
    }),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const url = await new Promise((resolve, reject) => {
    let said = "";
    const listen = (chunk) => {
      said += chunk;
      const found = said.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (found) resolve(found[0]);
    };
    child.stdout.setEncoding("utf8").on("data", listen);
    child.stderr.setEncoding("utf8").on("data", listen);
    ended.then((code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  return {
    url,
    folder,
    port: Number(new URL(url).port),
    /** Asks the API as a script would. */
    async api(method, path, body, headers = {}) {
      const reply = await fetch(url + path, {
        method,
        headers: { Authorization: `Bearer ${KEY}`, ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await reply.text();
      return { status: reply.status, body: text ? JSON.parse(text) : null };
    },
    async stop() {
      this.dismiss();
      await ended;
    },
    /** Tells it to stop, and does not wait. */
    dismiss() {
      if (child.exitCode === null) child.kill("SIGTERM");
      endings.push(ended);
    },
  };
}

async function launch() {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // A name of a LAN, at which a page is no secure context.
      "--host-resolver-rules=MAP kitchen.lan 127.0.0.1",
    ],
  });
  return browser;
}

/** Opens a window and keeps what goes wrong in it. */
async function openWindow(url, { screen = "wide", ...options }) {
  const context = await (await launch()).newContext({
    viewport: SCREENS[screen],
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    reducedMotion: "reduce",
    serviceWorkers: "block",
    ...options,
  });
  context.setDefaultTimeout(15_000);
  const wrongs = [];
  const home = [new URL(url).host, `kitchen.lan:${new URL(url).port}`];
  context.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol.startsWith("http") && !home.includes(host)) wrongs.push(`asked ${request.url()}`);
  });
  context.on("console", (message) => {
    const isOurDoing = message.text().includes("Service Worker registration blocked");
    if (["error", "warning"].includes(message.type()) && !isOurDoing) wrongs.push(`console: ${message.text()}`);
  });
  context.on("weberror", (fault) => wrongs.push(`thrown: ${fault.error().message}`));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) =>
      console.error(`policy: ${event.violatedDirective} stops ${event.blockedURI}`),
    );
  });
  return { context, page: await context.newPage(), wrongs };
}

/** Keeps a picture as target/web/NAME.png. */
export async function picture(page, name, { whole = true } = {}) {
  const file = join(PICTURES, `${name}.png`);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, await page.screenshot({ fullPage: whole }));
}

/** What axe finds against WCAG 2.2 A and AA, a line each; `without` are rules that somebody else's markup breaks. */
export async function accessibilityFaults(page, { without = [] } = {}) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async (off) => {
    const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const rules = Object.fromEntries(off.map((rule) => [rule, { enabled: false }]));
    return (await window.axe.run(document, { runOnly, rules })).violations;
  }, without);
  const line = (fault, node) => `${fault.id}: ${node.target.join(" ")}: ${node.failureSummary?.split("\n")[1]?.trim()}`;
  return found.flatMap((fault) => fault.nodes.slice(0, 4).map((node) => line(fault, node))).join("\n");
}

/** Is anything wider than the window? */
export async function widthBeyondTheWindow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** Bytes over the wire, headers and all, of everything that `visit` loads. */
export async function bytesOverTheWire(page, visit) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  let bytes = 0;
  session.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  await visit();
  await page.waitForLoadState("networkidle");
  await session.detach();
  return bytes;
}

/**
 * A test in a browser of one's own against a server of one's own: `scenario("logs a coffee", {person},
 * async ({page, server}) => …)`. Ends with the window clean, but for what `expected` (patterns) allows.
 */
export function scenario(name, options, body) {
  const { person, settings, expected = [], ...window } = options;
  test(name, { timeout: 120_000 }, async () => {
    const server = await startServer({ person, settings });
    const { context, page, wrongs } = await openWindow(server.url, window);
    try {
      await body({ page, server, context });
      const unexpected = wrongs.filter((wrong) => !expected.some((pattern) => pattern.test(wrong)));
      assert.deepEqual(unexpected, []);
    } catch (failure) {
      await picture(page, `failed/${name.replaceAll(/\W+/g, "-").slice(0, 80)}`).catch(() => {});
      throw failure;
    } finally {
      await context.close();
      server.dismiss();
    }
  });
}
