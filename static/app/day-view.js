// The day view: the drinks of one day of the server's calendar, with the caffeine level and the heart rate. Its address
// is #day/2026-03-01, so that the browser's Back button returns to the dashboard.

import * as api from "./api.js";
import { CaffeineCurve } from "./caffeine-model.js";
import { Chart, axis, bandEdge, color, drawDots, drawLine, timeAxis } from "./charts/chart.js";
import { dayAddress } from "./charts/days.js";
import { HeartRateChart } from "./charts/heart-rate.js";
import { byId, setText } from "./dom.js";
import { addDays, formatDate, formatInteger, formatMg, formatMgRange, formatTime, plural } from "./format.js";
import * as history from "./history.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { dailyLimit, serverDate, serverToday } from "./store.js";
import { setTitle } from "./title.js";

const ADDRESS = /^#day\/(\d{4}-\d{2}-\d{2})$/;
/** Minutes between two points of the curve. */
const STEP_MINUTES = 5;

/** The day that is shown, or null. */
let shownDate = null;
/** Whether Back leads to the dashboard: the day was not opened by its address. */
let wasOpenedHere = false;
/** Scroll position and focus of the dashboard, to which the user returns. */
let returnTo = { scrollY: 0, focus: null };
/** The loaded drinks, newest first, the curve of the day and its end; null before they are loaded. */
let day = null;
let caffeineChart = null;
let heartRateChart = null;

/** Returns the drinks of the day that wait to be sent, as `{at, mg}`. */
function pendingDoses() {
  const ofDay = queue.pending().filter((entry) => entry.route === "/coffee/" && serverDate(Date.parse(entry.body.timestamp)) === shownDate);
  return ofDay.map(({ body }) => ({ at: Date.parse(body.timestamp), mg: body.caffeine_mg }));
}

/** Returns the drinks on the server, without those that are being deleted. */
const savedDrinks = () => history.withoutDeleted("/coffee/", day.coffees);
const savedDoses = () => savedDrinks().map((coffee) => ({ at: Date.parse(coffee.timestamp), mg: coffee.caffeine_mg }));

function options() {
  const dashed = { stroke: color("chart-threshold"), dash: [5, 4] };
  const draw = (u) => {
    // The next day is being loaded.
    if (!day) return;
    drawLine(u, { y: day.curve.response.sleep_threshold_mg, ...dashed });
    if (shownDate === serverToday()) drawLine(u, { x: api.now() / 1000, stroke: color("chart-axis"), label: "now" });
    drawDots(u, [...savedDoses(), ...pendingDoses()].map((dose) => [dose.at / 1000, day.curve.at(dose.at)?.mg ?? 0]));
  };
  return {
    scales: { y: { range: (_, __, max) => [0, Math.max(100, max * 1.12)] } },
    axes: [timeAxis(), axis({ values: (_, levels) => levels.map(formatInteger) })],
    series: [{}, bandEdge(), bandEdge(), { stroke: color("chart-caffeine"), width: 2.5, points: { show: false } }],
    bands: [{ series: [2, 1], fill: color("chart-band") }],
    hooks: { draw: [draw] },
  };
}

/** Returns the points of the curve within the day, none while it is being loaded. */
const times = () => day?.curve.times.filter((instant) => instant <= day.end) ?? [];

function readout(index) {
  const instant = times()[index];
  if (!instant) return "";
  const { mg, low_mg: low, high_mg: high } = day.curve.at(instant);
  return `${formatTime(instant)}: ${formatMg(mg)} (${formatMgRange(low, high)})`;
}

function table() {
  const rows = times().filter((_, n) => n % (60 / STEP_MINUTES) === 0).map((instant) => {
    const { mg, low_mg: low, high_mg: high } = day.curve.at(instant);
    return [formatTime(instant), formatMg(mg), formatMgRange(low, high)];
  });
  return { head: ["Time", "Caffeine level", "Likely range"], rows };
}

function description() {
  const levels = times().map((instant) => [day.curve.at(instant).mg, instant]);
  const [peak, peakAt] = levels.reduce((highest, point) => (point[0] > highest[0] ? point : highest), [0, 0]);
  if (peak < 0.5) return "No caffeine on this day.";
  const threshold = formatMg(day.curve.response.sleep_threshold_mg);
  return `Peak: ${formatMg(peak)} at ${formatTime(peakAt)}. Dots: drinks; shaded: faster and slower metabolisms; dashed line: your ${threshold} sleep limit.`;
}

function showDrinks() {
  const pending = pendingDoses();
  const saved = savedDrinks();
  const total = [...saved.map((coffee) => coffee.caffeine_mg), ...pending.map((dose) => dose.mg)].reduce((sum, mg) => sum + mg, 0);
  const count = saved.length + pending.length;
  const share = dailyLimit() ? `, ${formatInteger((100 * total) / dailyLimit())}% of your daily limit` : "";
  const unsent = pending.length ? ` ${plural(pending.length, "drink")} not sent yet.` : "";
  setText(byId("day-total"), count ? `${plural(count, "drink")}, ${formatMg(total)}${share}.${unsent}` : "No drinks on this day.");
  history.replaceRows(byId("day-drinks"), saved.map((coffee) => history.savedRow("/coffee/", coffee)));
}

function show() {
  if (!day) return;
  day.curve = new CaffeineCurve(day.curve.response, pendingDoses());
  showDrinks();
  const levels = times().map((instant) => day.curve.at(instant));
  const column = (name) => levels.map((level) => level[name]);
  caffeineChart.show([times().map((instant) => instant / 1000), column("low_mg"), column("high_mg"), column("mg")], description());
}

/** Loads the day that is shown, if there is one. */
export function refresh() {
  const date = shownDate;
  if (!date || !session.isSignedIn() || !session.may("read")) return null;
  const isCurrent = () => date === shownDate;
  // Days without a time start at midnight in the server's time zone.
  const next = addDays(date, 1);
  const loadDrinks = async () => {
    const [coffees, response] = await Promise.all([
      api.get(api.withQuery("/coffee/", { since: date, until: next, limit: 1000 })),
      // The day on which summer time ends has 25 hours.
      api.get(api.withQuery("/coffee/active", { at: date, hours: 25, step_minutes: STEP_MINUTES })),
    ]);
    if (!isCurrent()) return;
    const curve = new CaffeineCurve(response);
    day = { coffees, curve, end: curve.times.findLast((instant) => serverDate(instant - 1) === date) };
    show();
  };
  const onError = (error) => isCurrent() && !day && setText(byId("day-total"), error.message);
  return Promise.all([
    api.catchApiError(loadDrinks, onError),
    api.catchApiError(() => heartRateChart.load(date, next, isCurrent), (error) => isCurrent() && heartRateChart.showError(error)),
  ]);
}

function open(date) {
  if (!shownDate) returnTo = { scrollY: returnTo.scrollY, focus: document.activeElement };
  [shownDate, day, heartRateChart.period] = [date, null, null];
  byId("day").hidden = false;
  byId("main").dataset.view = "day";
  setText(byId("day-title"), formatDate(date));
  setTitle({ view: formatDate(date) });
  setText(byId("day-total"), "");
  byId("day-drinks").replaceChildren();
  byId("day-date").value = date;
  byId("day-date").max = serverToday();
  byId("day-next").disabled = date >= serverToday();
  scrollTo(0, 0);
  byId("day-title").focus();
  refresh();
}

function close() {
  shownDate = null;
  byId("day").hidden = true;
  delete byId("main").dataset.view;
  setTitle({ view: null });
  scrollTo(0, returnTo.scrollY);
  if (returnTo.focus?.isConnected) returnTo.focus.focus({ preventScroll: true });
}

/** Shows what the address names. Addresses of other places, such as the skip link's, change nothing. */
function follow(event) {
  const date = ADDRESS.exec(location.hash)?.[1];
  if (date && !Number.isNaN(Date.parse(date))) {
    wasOpenedHere ||= Boolean(event) && !shownDate;
    open(date);
  } else if (shownDate && location.hash !== "#main") close();
}

/** Opens another day in place of this one: Back still leads to the dashboard. */
const replaceBy = (date) => location.replace(dayAddress(date));

export function start() {
  caffeineChart = new Chart("day-caffeine", { options, table, readout });
  heartRateChart = new HeartRateChart("day-heart");
  byId("day-previous").addEventListener("click", () => replaceBy(addDays(shownDate, -1)));
  byId("day-next").addEventListener("click", () => replaceBy(addDays(shownDate, 1)));
  byId("day-date").addEventListener("change", ({ target }) => target.value && target.validity.valid && replaceBy(target.value));
  byId("day-close").addEventListener("click", () => {
    if (wasOpenedHere) window.history.back();
    else location.hash = "";
    wasOpenedHere = false;
  });
  // Hiding the dashboard changes the scroll position.
  addEventListener("scroll", () => shownDate || (returnTo.scrollY = scrollY), { passive: true });
  addEventListener("hashchange", follow);
  queue.on("change", show);
  history.onListChange(show);
  // The address of a day may have been opened.
  follow();
}
