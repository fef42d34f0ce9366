// The server that is away, slow or cut off, as a page sees it.

/** What a browser says to its console about a server that is not there, or that refuses. */
export const AWAY = [/ERR_CONNECTION_REFUSED|ERR_FAILED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED/];

/** Whether or not the page came to it by itself meanwhile. */
export const tryNow = (page) => page.locator("#strip button").dispatchEvent("click");

export const isPost = (route) => route.request().method() === "POST";

/** Coffees reach the server, and the answers do not reach the page, until what this returns is called. */
export async function loseAnswers(page) {
  let isBroken = true;
  await page.route("**/coffee/", async (route) => {
    if (!isPost(route) || !isBroken) return route.continue();
    await route.fetch();
    await route.abort();
  });
  return () => (isBroken = false);
}

/** Coffees leave this page no more. */
export const cutOff = (page) => page.route("**/coffee/", (route) => (isPost(route) ? route.abort() : route.continue()));
