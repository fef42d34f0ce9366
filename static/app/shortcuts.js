// App shortcuts of the manifest: /?log=espresso asks whether to log a drink. It is not logged at once, because any
// website can link to such an address.

import * as api from "./api.js";
import { button, byId, h } from "./dom.js";
import { describeEntry } from "./entry-fields.js";
import { drinks, logEntry } from "./log.js";
import * as session from "./session.js";
import { onChange } from "./store.js";

/** The drink that a shortcut names, until the user was asked. */
let requestedName = new URLSearchParams(location.search).get("log");

async function log(drink) {
  byId("sheet").close();
  const fields = { coffee_type: drink.coffee_type, caffeine_mg: drink.caffeine_mg };
  await logEntry("/coffee/", fields, { at: api.now() });
}

function ask() {
  if (!requestedName || !session.isSignedIn() || !session.may("write")) return;
  const all = drinks();
  const drink = all.find((candidate) => candidate.coffee_type.toLowerCase() === requestedName.toLowerCase());
  // The drinks are still being loaded.
  if (!all.length) return;
  requestedName = null;
  if (!drink) return;
  byId("sheet").replaceChildren(
    h("h2", { id: "sheet-title" }, "Log ", h("bdi", {}, drink.coffee_type), "?"),
    h(
      "div",
      { class: "row dialog-actions" },
      button("Cancel", () => byId("sheet").close()),
      button(`Log ${describeEntry("/coffee/", drink)}`, () => log(drink), { class: "button primary", autofocus: true }),
    ),
  );
  byId("sheet").showModal();
}

export function start() {
  if (!requestedName) return;
  // Reloading the page must not ask again.
  window.history.replaceState(null, "", `/${location.hash}`);
  onChange(ask);
}
