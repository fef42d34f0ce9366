// Daily totals: bars of the last 7 days and a calendar heatmap of the last 12 months, both from one response.

import { byId, h, setText, svg } from "../dom.js";
import { addDays, formatDate, formatInteger, formatMg, formatMonth, formatMonthAndYear, formatWeekday, plural } from "../format.js";
import { DAYS, dailyLimit, dayChanges, onChange, serverToday, store, want } from "../store.js";
import { dataTable, px } from "./chart.js";

const CELL_GAP = 2;
const EMPTY_DAY = { total_mg: 0, coffee_count: 0 };
/** First day of the week: Monday is 1, also the default where the browser does not provide it. */
const locale = new Intl.Locale(navigator.language);
const firstWeekday = (locale.getWeekInfo?.() ?? locale.weekInfo)?.firstDay ?? 1;

let response = null;
let byDate = new Map();
/** What the response does not include yet, by day. */
let changes = new Map();
let shownVersion = "";
let updateTable = null;

const listeners = [];
/** Calls `listener` whenever the days have been loaded. */
export const onLoad = (listener) => listeners.push(listener);
export const isLoaded = () => response !== null;
/** Returns the caffeine of a day in mg. */
export const totalOf = (date) => dayOf(date).total_mg;
/** Returns the first loaded day with caffeine, or undefined. */
export const firstDate = () => response?.daily_breakdown.at(-1)?.date;

function dayOf(date) {
  const [day, change] = [byDate.get(date) ?? EMPTY_DAY, changes.get(date) ?? EMPTY_DAY];
  return { total_mg: Math.max(0, day.total_mg + change.total_mg), coffee_count: day.coffee_count + change.coffee_count };
}

const countOverLimit = (days) => days.filter((day) => day.total_mg > dailyLimit()).length;

/** Returns the address of a day's view. */
export const dayAddress = (date) => `#day/${date}`;

/** Returns the heat level of a total: 0 for none, 1 to 4 up to the limit, 5 above it. */
function heatLevel(total) {
  return total > dailyLimit() ? 5 : Math.ceil((total / dailyLimit()) * 4);
}

function showWeek() {
  const dates = Array.from({ length: 7 }, (_, n) => addDays(serverToday(), n - 6));
  const days = dates.map((date) => ({ date, ...dayOf(date) }));
  const scaleMax = Math.max(dailyLimit(), ...days.map((day) => day.total_mg));
  const bar = ({ date, total_mg: total }) => {
    const fill = h("span", { class: `bar heat-${heatLevel(total)}` });
    fill.style.setProperty("--share", total / scaleMax);
    const name = h("span", {}, date === serverToday() ? "today" : formatWeekday(date));
    return h("li", {}, h("a", { href: dayAddress(date) }, name, h("span", { class: "bar-track" }, fill), h("span", { class: "amount" }, formatMg(total))));
  };
  byId("week-bars").replaceChildren(...days.map(bar));
  byId("week-bars").style.setProperty("--limit", dailyLimit() / scaleMax);
  const average = days.reduce((sum, day) => sum + day.total_mg, 0) / 7;
  const overLimit = countOverLimit(days) ? `over ${formatMg(dailyLimit())} on ${plural(countOverLimit(days), "day")}` : `never over ${formatMg(dailyLimit())}`;
  setText(byId("week-text"), average ? `Average ${formatMg(average)} a day, ${overLimit}. Select a day to see it.` : "No caffeine in the last 7 days.");
}

/** Returns the number of days since the start of the week. */
const weekday = (date) => (new Date(`${date}T12:00:00Z`).getUTCDay() - (firstWeekday % 7) + 7) % 7;

/** Draws the days from `first` to `last` with a column for each week, `size` pixels wide. */
function calendar([first, last], size) {
  const [cells, labels, left, top] = [[], [], px(34), px(18)];
  let column = 0;
  for (let date = first; date <= last; date = addDays(date, 1)) {
    const row = weekday(date);
    if (row === 0 && date !== first) column += 1;
    const [x, y] = [left + column * size, top + row * size];
    cells.push(svg("rect", { x, y, width: size - CELL_GAP, height: size - CELL_GAP, rx: 2.5, class: `heat-${heatLevel(dayOf(date).total_mg)}`, "data-date": date }));
    if (date.endsWith("-01")) labels.push(svg("text", { x: row === 0 ? x : x + size, y: px(11) }, formatMonth(date)));
  }
  for (const row of [0, 2, 4]) labels.push(svg("text", { x: 0, y: top + (row + 0.5) * size + px(3) }, formatWeekday(addDays(first, row - weekday(first)))));
  return svg("svg", { width: left + (column + 1) * size, height: top + 7 * size, "aria-hidden": "true" }, cells, labels);
}

function showYear() {
  const [first, last] = [addDays(serverToday(), 1 - DAYS), serverToday()];
  const width = byId("year-chart").clientWidth;
  // Another view is shown.
  if (!width) return;
  // On narrow screens the year is split into two halves, one below the other.
  const isNarrow = width < px(640);
  // The second half starts with a week.
  const middle = addDays(last, -183);
  const half = addDays(middle, -weekday(middle));
  const spans = isNarrow ? [[first, addDays(half, -1)], [half, last]] : [[first, last]];
  const size = Math.floor(((width - px(34)) / (isNarrow ? 28 : 54)) * 10) / 10;
  const step = dailyLimit() / 4;
  const labels = ["none", ...[1, 2, 3, 4].map((n) => `up to ${formatInteger(n * step)}`), `over ${formatMg(dailyLimit())}`];
  const legend = h("p", { class: "legend" }, labels.map((label, n) => h("span", {}, h("i", { class: `heat-${n}` }), label)));
  byId("year-chart").replaceChildren(...spans.map((span) => calendar(span, size)), legend);
}

function description() {
  const days = response.daily_breakdown;
  const highest = days.reduce((max, day) => (day.total_mg > max.total_mg ? day : max), EMPTY_DAY);
  if (!highest.date) return "No caffeine in the last 12 months.";
  const average = days.reduce((sum, day) => sum + day.total_mg, 0) / days.length;
  const summary = `Caffeine on ${formatInteger(response.days_with_caffeine)} of ${DAYS} days, on average ${formatMg(average)} on those days.`;
  return `${summary} Highest: ${formatMg(highest.total_mg)} on ${formatDate(highest.date)}. Over ${formatMg(dailyLimit())} on ${plural(countOverLimit(days), "day")}.`;
}

function table() {
  const months = new Map();
  for (const { date, total_mg, coffee_count } of response.daily_breakdown) {
    const month = months.get(date.slice(0, 7)) ?? { total: 0, drinks: 0, days: 0, highest: 0 };
    months.set(date.slice(0, 7), { total: month.total + total_mg, drinks: month.drinks + coffee_count, days: month.days + 1, highest: Math.max(month.highest, total_mg) });
  }
  const row = ([month, { total, drinks, days, highest }]) => [formatMonthAndYear(`${month}-01`), formatMg(total), formatInteger(drinks), formatInteger(days), formatMg(highest)];
  return { head: ["Month", "Caffeine", "Drinks", "Days with caffeine", "Highest day"], rows: [...months].map(row) };
}

/** Shows the days if they have changed. */
function show() {
  if (!store.days) return store.error && setText(byId("year-text"), store.error.message);
  changes = dayChanges();
  const version = JSON.stringify([...changes, serverToday(), dailyLimit()]);
  if (response === store.days && version === shownVersion) return;
  [response, shownVersion] = [store.days, version];
  byDate = new Map(response.daily_breakdown.map((day) => [day.date, day]));
  showWeek();
  showYear();
  setText(byId("year-text"), description());
  updateTable();
  for (const listener of listeners) listener();
}

/** Loads and shows the days. */
export const refresh = () => want("days");

export function start() {
  const container = byId("year-chart");
  const showReadout = ({ target }) => {
    const { date } = target.dataset;
    setText(byId("year-readout"), date ? `${formatDate(date)}: ${formatMg(dayOf(date).total_mg)}, ${plural(dayOf(date).coffee_count, "drink")}` : "");
  };
  container.addEventListener("pointermove", showReadout);
  container.addEventListener("pointerleave", showReadout);
  container.addEventListener("click", ({ target }) => target.dataset.date && (location.hash = dayAddress(target.dataset.date)));
  new ResizeObserver(() => response && showYear()).observe(container);
  updateTable = dataTable(byId("year-table"), table);
  onChange(show);
}
