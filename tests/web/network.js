// Network failures, as a page sees them.

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
