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
