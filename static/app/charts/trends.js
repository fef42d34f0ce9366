// The "Trends" card: the last 7 days against the 7 before, caffeine late in the day, and days within the limit, each
// with a sentence, bars and a table.

import * as api from "../api.js";
import { minutesOf } from "../bedtimes.js";
import { byId, field, h, select, setText } from "../dom.js";
import { addDays, formatDate, formatInteger, formatMg, formatTime, plural } from "../format.js";
import { loadItem, saveItem } from "../session.js";
import { dailyLimit, serverDate, serverHour, serverToday, usualBedtime } from "../store.js";
import { dataTable } from "./chart.js";
import * as days from "./days.js";

/** Days of the bars of late caffeine and of the limit. */
const SPAN = 28;
const CUTOFF_ITEM = "coffee.cutoff";
/** Hours between the cut-off and bedtime, until the user chooses a cut-off. */
const BEFORE_BEDTIME = 8;
const CUTOFF_HOURS = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
/** Hour until which a drink counts as late, not as early. */
const NIGHT_END = 4;
/** The server's maximum page size. */
const PAGE = 1000;

/** Drinks of the last days; null before they are loaded. */
let coffees = null;
let cutoffSelect = null;
const updateTables = [];

/** Returns the calendar days of the last `count` days, oldest first. */
const lastDays = (count) => Array.from({ length: count }, (_, n) => addDays(serverToday(), n + 1 - count));
const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
const formatHour = (hour) => formatTime(new Date().setHours(hour, 0));

/** Shows bars `{mg, level}` on one scale. `limit` draws the daily limit. */
function showBars(id, bars, limit = 0) {
  const max = Math.max(1, limit, ...bars.map(({ mg }) => mg));
  const container = byId(id);
  container.setAttribute("role", "img");
  container.setAttribute("aria-label", "Bar chart, described above");
  container.replaceChildren(...bars.map(({ mg, level }) => {
    const bar = h("span", { class: level });
    bar.style.setProperty("--share", mg / max);
    return bar;
  }));
  container.classList.toggle("has-limit", limit > 0);
  container.style.setProperty("--limit", limit / max);
}

/** Returns the last seven days, each with the same weekday before: `{date, mg, before}`. */
const weeks = () => lastDays(7).map((date) => ({ date, mg: days.totalOf(date), before: days.totalOf(addDays(date, -7)) }));

function showWeeks() {
  const week = weeks();
  const [now, before] = [sum(week.map((day) => day.mg)), sum(week.map((day) => day.before))];
  const percent = Math.round((100 * (now - before)) / before);
  const change = percent === 0 ? "about as much as" : `${formatInteger(Math.abs(percent))}% ${percent < 0 ? "less" : "more"} than`;
  const comparison = before ? `${change} in the 7 days before (${formatMg(before)})` : "none in the 7 days before";
  setText(byId("trend-week-text"), now || before ? `${formatMg(now)} in the last 7 days, ${comparison}.` : "No caffeine in the last 14 days.");
  showBars("trend-week-chart", week.flatMap((day) => [{ mg: day.before, level: "before" }, { mg: day.mg, level: "heat-3" }]));
}

const weekTable = () => ({ head: ["Day", "Last 7 days", "7 days earlier"], rows: weeks().map((day) => [formatDate(day.date), formatMg(day.mg), formatMg(day.before)]) });

/** Returns the caffeine after the cut-off of each of the last days: `{date, mg}`. */
function lateDays() {
  const cutoff = Number(cutoffSelect.value);
  const late = new Map();
  for (const { timestamp, caffeine_mg: mg } of coffees ?? []) {
    const instant = Date.parse(timestamp);
    if (serverHour(instant) >= cutoff || serverHour(instant) < NIGHT_END) late.set(serverDate(instant), (late.get(serverDate(instant)) ?? 0) + mg);
  }
  return lastDays(SPAN).map((date) => ({ date, mg: late.get(date) ?? 0 }));
}

function showLate() {
  if (!coffees) return;
  const late = lateDays();
  const [mg, total, cutoff] = [sum(late.map((day) => day.mg)), sum(coffees.map((coffee) => coffee.caffeine_mg)), formatHour(cutoffSelect.value)];
  const count = late.filter((day) => day.mg > 0).length;
  setText(byId("trend-late-text"), mg ? `${formatInteger((100 * mg) / total)}% of your caffeine in the last 4 weeks was after ${cutoff}, on ${plural(count, "day")}.` : `No caffeine after ${cutoff} in the last 4 weeks.`);
  showBars("trend-late-chart", late.map((day) => ({ mg: day.mg, level: "heat-3" })));
}

const lateTable = () => ({ head: ["Day", `After ${formatHour(cutoffSelect.value)}`], rows: lateDays().map((day) => [formatDate(day.date), formatMg(day.mg)]) });

/** Returns the number of days in a row within the limit up to yesterday, and the highest number in the loaded months. */
function streaks() {
  const first = days.firstDate();
  const runs = { current: 0, longest: 0 };
  for (let date = first; date && date < serverToday(); date = addDays(date, 1)) {
    runs.current = days.totalOf(date) > dailyLimit() ? 0 : runs.current + 1;
    runs.longest = Math.max(runs.longest, runs.current);
  }
  return runs;
}

function showStreak() {
  const { current, longest } = streaks();
  const limit = formatMg(dailyLimit());
  const isOver = days.totalOf(serverToday()) > dailyLimit();
  const run = current ? `${plural(current, "day")} in a row within your limit of ${limit}, up to yesterday.` : `Yesterday was over your limit of ${limit}.`;
  const text = isOver ? `Today is over your limit of ${limit}.` : days.firstDate() === serverToday() ? `Today is within your limit of ${limit}.` : run;
  setText(byId("trend-limit-text"), days.firstDate() ? `${text} Longest in 12 months: ${plural(longest, "day")}.` : "No caffeine in the last 12 months.");
  const bars = lastDays(SPAN).map(days.totalOf).map((mg) => ({ mg, level: mg > dailyLimit() ? "heat-5" : "heat-3" }));
  showBars("trend-limit-chart", bars, days.firstDate() ? dailyLimit() : 0);
}

const limitTable = () => ({
  head: ["Day", "Caffeine", "Within the limit"],
  rows: lastDays(SPAN).map((date) => [formatDate(date), formatMg(days.totalOf(date)), days.totalOf(date) > dailyLimit() ? "no" : "yes"]),
});

function show() {
  if (days.isLoaded()) {
    showWeeks();
    showStreak();
  }
  showLate();
  for (const update of updateTables) update();
}

/** Loads the drinks of the last days, and shows all trends. */
export function refresh() {
  return api.catchApiError(async () => {
    const loaded = [];
    do loaded.push(...(await api.get(api.withQuery("/coffee/", { since: lastDays(SPAN)[0], limit: PAGE, offset: loaded.length }))));
    while (loaded.length && loaded.length % PAGE === 0);
    coffees = loaded;
    show();
  }, (error) => coffees || setText(byId("trend-late-text"), error.message));
}

export function start() {
  const bedtime = usualBedtime();
  const hour = bedtime && Math.floor(minutesOf(bedtime) / 60 + 24 - BEFORE_BEDTIME) % 24;
  const usual = bedtime ? Math.min(20, Math.max(10, hour)) : 15;
  cutoffSelect = select(CUTOFF_HOURS.map((hour) => [hour, formatHour(hour)]), {
    onchange: () => {
      saveItem(CUTOFF_ITEM, Number(cutoffSelect.value));
      show();
    },
  });
  cutoffSelect.value = loadItem(CUTOFF_ITEM) ?? usual;
  byId("trend-late-cutoff").append(field("After", cutoffSelect));
  for (const [name, table] of [["week", weekTable], ["late", lateTable], ["limit", limitTable]]) updateTables.push(dataTable(byId(`trend-${name}-table`), table));
  days.onLoad(show);
}
