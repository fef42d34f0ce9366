// Network failures, as a page sees them.

import { connect, createServer } from "node:net";

/** Console messages of the browser while the server is unreachable. */
export const UNREACHABLE = [/ERR_CONNECTION_REFUSED|ERR_FAILED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED/];

/** Clicks "Retry" in the banner, even if the page has reconnected and hidden it meanwhile. */
export const retry = (page) => page.locator("#banner button").dispatchEvent("click");

export const isPost = (route) => route.request().method() === "POST";

/** Lets coffees reach the server but drops the responses, until the returned function is called. */
export async function loseResponses(page) {
  let isBroken = true;
  await page.route("**/coffee/", async (route) => {
    if (!isPost(route) || !isBroken) return route.continue();
    await route.fetch();
    await route.abort();
  });
  return () => (isBroken = false);
}

/** Returns a promise, and the function that fulfils it. */
export function deferred() {
  let resolve;
  const promise = new Promise((fulfil) => (resolve = fulfil));
  return { promise, resolve };
}

/** Holds the first list of jobs back until the returned function is called; it then shows all jobs as running. */
export async function holdJobs(page) {
  const released = deferred();
  await page.route("**/jobs", async (route) => {
    await released.promise;
    const response = await route.fetch();
    const { jobs } = await response.json();
    await route.fulfill({ response, json: { jobs: jobs.map((job) => ({ ...job, state: "running" })) } });
  }, { times: 1 });
  return released.resolve;
}

/** Blocks coffees that this page sends. */
export const blockCoffeePosts = (page) => page.route("**/coffee/", (route) => (isPost(route) ? route.abort() : route.continue()));

/**
 * Starts a proxy of a server that loses the connection `cuts` times, each time after `bytes` bytes of the server on
 * one connection. Returns its URL, a function that tells how many cuts are left, and one that closes it.
 */
export async function startCuttingProxy(port, { cuts, bytes }) {
  let left = cuts;
  const proxy = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    let received = 0;
    upstream.on("data", (chunk) => {
      received += chunk.length;
      if (received < bytes || left === 0) return;
      left -= 1;
      client.destroy();
      upstream.destroy();
    });
    for (const socket of [client, upstream]) socket.on("error", () => {});
    client.pipe(upstream).pipe(client);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${proxy.address().port}`, cutsLeft: () => left, close: () => proxy.close() };
}

/**
 * Starts a TCP proxy in front of a server. `stall` lets it stop receiving from a connection after some bytes, `cut` closes
 * all connections and refuses new ones, and `mend` lets everything pass.
 */
export async function startUnreliableProxy(server) {
  const clients = new Set();
  let [limit, isCut] = [Infinity, false];
  const proxy = createServer((client) => {
    if (isCut) return void client.destroy();
    const upstream = connect(server.port, "127.0.0.1");
    let passed = 0;
    clients.add(client);
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      socket.on("error", () => other.destroy());
      socket.on("close", () => other.destroy());
    }
    upstream.pipe(client);
    client.on("data", (chunk) => {
      upstream.write(chunk);
      passed += chunk.length;
      if (passed > limit) client.pause();
    });
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const closeAll = () => clients.forEach((client) => client.destroy());
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    stall: (bytes) => (limit = bytes),
    cut() {
      isCut = true;
      closeAll();
    },
    mend() {
      [limit, isCut] = [Infinity, false];
      clients.forEach((client) => client.resume());
    },
    stop() {
      closeAll();
      proxy.close();
    },
  };
}
