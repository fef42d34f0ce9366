// The apps and devices that readings come from, and when each delivered its newest one.

import { byId, setText } from "./dom.js";
import { MINUTE, formatAge, isolate } from "./format.js";
import { onChange, refresh, store, want } from "./store.js";

/** Number of sources that are shown. */
const SHOWN = 3;

/** Describes the sources of readings: "From Apple Watch, 12 min ago". */
export function describeSources(sources, now = Date.now()) {
  const readings = sources.filter((source) => source.kind === "heartrate");
  const age = (source) => formatAge(Math.max(0, now - Date.parse(source.newest_at)) / MINUTE);
  const shown = readings.slice(0, SHOWN).map((source) => `${isolate(source.name)}, ${age(source)}`);
  if (readings.length > SHOWN) shown.push(`${readings.length - SHOWN} more`);
  return shown.length ? `From ${shown.join(" · ")}` : "";
}

/** The heart rate that was the newest one when the sources were requested. */
let newestReading;

function show() {
  setText(byId("heart-sources"), describeSources(store.sources?.sources ?? []));
  // Requested again when a reading has arrived.
  const newest = store.heart?.timestamp;
  if (!newest || newest === newestReading) return;
  const isFirst = newestReading === undefined;
  newestReading = newest;
  if (!isFirst) refresh(["sources"]);
}

/** Shows the sources below the chart of the heart rate. */
export function start() {
  onChange(show);
  show();
  want("sources");
}
