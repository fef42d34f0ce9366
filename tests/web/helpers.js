// Runs the real server and a real browser for a test. A test fails on any console error or warning, any request
// to another host and any violation of the content security policy.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** The server binary under test. */
export const BINARY = resolve(process.env.COFFEE_TRACKER ?? join(PROJECT, "target/debug/coffee-tracker"));
const SCREENSHOTS = join(PROJECT, "target/web");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The server's API key. */
export const KEY = "the-right-key-of-these-tests";
/**
 * The time zone of servers and browsers: one in which it is now between 14:00 and 15:00, so that "2 hours ago" is
 * today and bedtime lies ahead whenever the tests run. WEB_TIMEZONE selects another.
 */
export const TIMEZONE = process.env.WEB_TIMEZONE ?? zoneAtHour(14);
/** Two months of sample data, small enough to be generated quickly. */
export const DEMO = { days: 60, "readings-per-day": 48 };
/** Window sizes. */
export const SCREENS = {
  wide: { width: 1280, height: 900 },
  phone: { width: 390, height: 844 },
  narrow: { width: 320, height: 640 },
  huge: { width: 3840, height: 2160 },
};

const scratch = mkdtempSync(join(tmpdir(), "coffee-web-"));
/** Exits of servers that were stopped without waiting: each waits a few seconds for open connections. */
const pendingExits = [];
let browser;

after(async () => {
  await browser?.close();
  await Promise.all(pendingExits);
  rmSync(scratch, { recursive: true, force: true });
});

/** Returns the time zone without daylight saving time whose current hour is `hour`. */
function zoneAtHour(hour) {
  const hoursAhead = hour - new Date().getUTCHours();
  // The signs of these names are reversed: Etc/GMT-2 is two hours ahead of UTC.
  return `Etc/GMT${hoursAhead > 0 ? "-" : "+"}${Math.abs(hoursAhead)}`;
}

let modules = null;
/** Imports a module of the dashboard that does not need a browser. */
export function importModule(name) {
  if (!modules) {
    // Node.js treats files as modules only next to a package.json of this type.
    modules = join(scratch, "app");
    cpSync(join(PROJECT, "static/app"), modules, { recursive: true });
    writeFileSync(join(modules, "package.json"), '{"type": "module"}');
  }
  return import(join(modules, name));
}

/** Returns the server's environment, without the settings of this machine. */
const environment = (extra = {}) => ({ PATH: process.env.PATH, HOME: scratch, TZ: TIMEZONE, ...extra });

/** Generates a database of sample data in the time zone of `settings`, once; returns its path. */
function sampleDatabase(sampleData, settings) {
  const file = join(scratch, `${[...Object.values(sampleData), settings.TZ].join("-").replaceAll("/", "-")}.db`);
  if (!existsSync(file)) {
    const flags = Object.entries(sampleData).map(([name, value]) => `--${name}=${value}`);
    const generated = spawnSync(BINARY, ["demo", ...flags, `--database-url=${file}`], {
      cwd: scratch,
      env: environment(settings.TZ ? { TZ: settings.TZ } : {}),
      encoding: "utf8",
    });
    assert.equal(generated.status, 0, `coffee-tracker demo: ${generated.stderr || generated.error}`);
  }
  return file;
}

/** Starts a server. `sampleData` are options of `coffee-tracker demo`, `settings` are environment variables. */
export async function startServer({ sampleData = null, settings = {}, port = 0, folder = null } = {}) {
  folder ??= mkdtempSync(join(scratch, "server-"));
  if (sampleData) cpSync(sampleDatabase(sampleData, settings), join(folder, "coffee.db"));
  const env = environment({
    PORT: String(port),
    DATABASE_URL: join(folder, "coffee.db"),
    BACKUP_DIR: join(folder, "backups"),
    API_KEY: KEY,
    RATE_LIMIT_ENABLED: "false",
    ...settings,
  });
  const child = spawn(BINARY, ["serve"], {
    cwd: folder,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const url = await new Promise((resolve, reject) => {
    let output = "";
    const onOutput = (chunk) => {
      output += chunk;
      const found = output.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (found) resolve(found[0]);
    };
    child.stdout.setEncoding("utf8").on("data", onOutput);
    child.stderr.setEncoding("utf8").on("data", onOutput);
    exited.then((code) => reject(new Error(`the server exited with ${code}: ${output}`)));
  });
  return {
    url,
    pid: child.pid,
    folder,
    port: Number(new URL(url).port),
    /** Sends an API request, independent of the browser. */
    async api(method, path, body, headers = {}) {
      const response = await fetch(url + path, {
        method,
        headers: { Authorization: `Bearer ${KEY}`, ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, body: text ? JSON.parse(text) : null };
    },
    /** Runs a command with the settings of the server. */
    command(...args) {
      const done = spawnSync(BINARY, args, { cwd: folder, env, encoding: "utf8" });
      assert.equal(done.status, 0, `coffee-tracker ${args.join(" ")}: ${done.stderr || done.error}`);
    },
    /** Returns the metrics as text. */
    metrics: async () => (await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${KEY}` } })).text(),
    async stop() {
      this.stopInBackground();
      await exited;
    },
    /** Stops the server without waiting for its exit. */
    stopInBackground() {
      if (child.exitCode === null) child.kill("SIGTERM");
      pendingExits.push(exited);
    },
  };
}

async function launchBrowser() {
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
      // A host name whose pages are not secure contexts, unlike those of 127.0.0.1.
      "--host-resolver-rules=MAP kitchen.lan 127.0.0.1",
    ],
  });
  return browser;
}

/** Opens a window and collects the problems that occur in it. */
export async function openWindow(url, { screen = "wide", ...options }) {
  const context = await (await launchBrowser()).newContext({
    viewport: SCREENS[screen],
    locale: "en-GB",
    reducedMotion: "reduce",
    serviceWorkers: "block",
    ...options,
  });
  context.setDefaultTimeout(30_000);
  const problems = [];
  const ownHosts = [new URL(url).host, `kitchen.lan:${new URL(url).port}`];
  context.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol.startsWith("http") && !ownHosts.includes(host)) problems.push(`request to ${request.url()}`);
  });
  context.on("console", (message) => {
    const isBlockedWorker = message.text().includes("Service Worker registration blocked");
    // Over plain HTTP, browsers ignore the header and report that.
    const isIgnoredHeader = message.text().includes("The Cross-Origin-Opener-Policy header has been ignored");
    if (["error", "warning"].includes(message.type()) && !isBlockedWorker && !isIgnoredHeader) problems.push(`console: ${message.text()}`);
  });
  context.on("weberror", (event) => problems.push(`uncaught: ${event.error().message}`));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) =>
      console.error(`content security policy: ${event.violatedDirective} blocks ${event.blockedURI}`),
    );
  });
  return { context, page: await context.newPage(), problems };
}

/** Saves a screenshot as target/web/NAME.png. */
export async function screenshot(page, name, { fullPage = true } = {}) {
  const file = join(SCREENSHOTS, `${name}.png`);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, await page.screenshot({ fullPage }));
}

/**
 * Returns axe's violations of WCAG 2.2 A and AA, one per line; only those of colors with `colorsOnly`, and only those
 * within the elements that match a selector with `within`.
 */
export async function accessibilityViolations(page, { colorsOnly = false, within = "html" } = {}) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  // A control that has been scrolled below the top bar would count as too small.
  await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));
  const violations = await page.evaluate(async ([colorsOnly, within]) => {
    const runOnly = colorsOnly ? ["color-contrast"] : ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    return (await window.axe.run(within, { runOnly })).violations;
  }, [colorsOnly, within]);
  const line = (violation, node) => `${violation.id}: ${node.target.join(" ")}: ${node.failureSummary?.split("\n")[1]?.trim()}`;
  return violations.flatMap((violation) => violation.nodes.slice(0, 4).map((node) => line(violation, node))).join("\n");
}

/** Returns by how many pixels the page is wider than the window. */
export async function horizontalOverflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** Returns the bytes transferred, including headers, for everything that `visit` loads. */
export async function transferredBytes(page, visit) {
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
 * Defines a test with its own server and browser window: `browserTest("logs a coffee", { sampleData },
 * async ({ page, server, context }) => …)`. `timezone` is that of the server and the browser; `expected` are patterns
 * of problems that the test provokes.
 */
export function browserTest(name, options, body) {
  const { sampleData, settings, timezone = TIMEZONE, expected = [], skip = false, ...windowOptions } = options;
  test(name, { timeout: 120_000, skip }, async () => {
    const server = await startServer({ sampleData, settings: { TZ: timezone, ...settings } });
    const { context, page, problems } = await openWindow(server.url, { timezoneId: timezone, ...windowOptions });
    try {
      await body({ page, server, context });
      const unexpected = problems.filter((problem) => !expected.some((pattern) => pattern.test(problem)));
      assert.deepEqual(unexpected, []);
    } catch (error) {
      await screenshot(page, `failed/${name.replaceAll(/\W+/g, "-").slice(0, 80)}`).catch(() => {});
      throw error;
    } finally {
      // A request that a route still handles must not fail the file after its test.
      for (const routed of [...context.pages(), context]) await routed.unrouteAll({ behavior: "ignoreErrors" });
      await context.close();
      server.stopInBackground();
    }
  });
}
