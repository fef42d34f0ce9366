// Values that are set on the server for everyone, shown locked with the names of the settings.

import { byId, h, svg } from "../app/dom.js";
import { formatMg } from "../app/format.js";
import { store } from "../app/store.js";

const LOCK = "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3";
const lock = () => svg("svg", { class: "lock", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: LOCK }));

/** Returns the values as [label, value, name of the setting]. */
const valuesOf = ({ timezone, validation }) => [
  ["Time zone", timezone, "TZ"],
  ["Largest drink", formatMg(validation.max_caffeine_mg), "MAX_CAFFEINE_MG"],
  ["Lowest heart rate", `${validation.min_heart_rate_bpm} bpm`, "MIN_HEART_RATE_BPM"],
  ["Highest heart rate", `${validation.max_heart_rate_bpm} bpm`, "MAX_HEART_RATE_BPM"],
];

/** Creates the list, which is hidden until `showFixedSettings` is called with the values loaded. */
export const fixedSettings = () =>
  h("div", { class: "fixed-settings", id: "fixed-settings", hidden: true },
    h("h3", {}, "Set on the server"),
    h("p", { class: "muted" }, "The same for everyone. Whoever runs the server can change these settings there."),
    h("dl", { class: "rows" }));

/** Shows the values. */
export function showFixedSettings() {
  const element = byId("fixed-settings");
  if (!element || !store.info) return;
  const row = ([label, value, setting]) => h("div", {}, h("dt", {}, lock(), label), h("dd", {}, value, " ", h("code", { class: "small" }, setting)));
  element.lastElementChild.replaceChildren(...valuesOf(store.info).map(row));
  element.hidden = false;
}
