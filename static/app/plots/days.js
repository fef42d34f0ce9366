// The last seven days as bars, and the last twelve months as a calendar: both of one answer.

import * as api from "../api.js";
import { at, h, s, say } from "../elements.js";
import { calendarText, calendarWeekdayText, count, integer, mg, monthOfYearText, monthText, plusDays } from "../format.js";
import { dailyLimit, today } from "../live.js";
import { px, twin } from "./canvas.js";

const DAYS = 365;
const GAP = 2;
const NOTHING = { total_mg: 0, coffee_count: 0 };
/** Monday is 1; where the browser does not know, weeks begin with it. */
const locale = new Intl.Locale(navigator.language);
const firstDay = (locale.getWeekInfo?.() ?? locale.weekInfo)?.firstDay ?? 1;

let answer = null;
let byDate = new Map();
let refill = null;

const of = (date) => byDate.get(date) ?? NOTHING;
const over = (days) => days.filter((day) => day.total_mg > dailyLimit()).length;

/** A step of the scale from none to far too much. */
function heat(total) {
  return total > dailyLimit() ? 5 : Math.ceil((total / dailyLimit()) * 4);
}

function showWeek() {
  const days = Array.from({ length: 7 }, (_, n) => ({ date: plusDays(today(), n - 6), ...of(plusDays(today(), n - 6)) }));
  const most = Math.max(dailyLimit(), ...days.map((day) => day.total_mg));
  const bar = ({ date, total_mg: total }) => {
    const fill = h("span", { class: `bar heat-${heat(total)}` });
    fill.style.setProperty("--share", total / most);
    return h("li", {}, h("span", {}, date === today() ? "today" : calendarWeekdayText(date)), h("span", { class: "track" }, fill), h("span", { class: "amount" }, mg(total)));
  };
  at("week-bars").replaceChildren(...days.map(bar));
  at("week-bars").style.setProperty("--limit", dailyLimit() / most);
  const average = days.reduce((sum, day) => sum + day.total_mg, 0) / 7;
  const above = over(days) ? `above the line of ${mg(dailyLimit())} on ${count(over(days), "day")}` : `never above the line of ${mg(dailyLimit())}`;
  say(at("week-text"), average ? `${mg(average)} a day on average, ${above}.` : "No caffeine in these seven days.");
}

/** Days from the week's first day to this one. */
const weekday = (date) => (new Date(`${date}T12:00:00Z`).getUTCDay() - (firstDay % 7) + 7) % 7;

/** A calendar of the days in [from, to]: a column for each week, `size` pixels wide. */
function calendar([from, to], size) {
  const [cells, labels, left, top] = [[], [], px(34), px(18)];
  let column = 0;
  for (let date = from; date <= to; date = plusDays(date, 1)) {
    const row = weekday(date);
    if (row === 0 && date !== from) column += 1;
    const [x, y] = [left + column * size, top + row * size];
    cells.push(s("rect", { x, y, width: size - GAP, height: size - GAP, rx: 2.5, class: `heat-${heat(of(date).total_mg)}`, "data-date": date }));
    if (date.endsWith("-01")) labels.push(s("text", { x: row === 0 ? x : x + size, y: px(11) }, monthText(date)));
  }
  for (const row of [0, 2, 4]) labels.push(s("text", { x: 0, y: top + (row + 0.5) * size + px(3) }, calendarWeekdayText(plusDays(from, row - weekday(from)))));
  return s("svg", { width: left + (column + 1) * size, height: top + 7 * size, "aria-hidden": "true" }, cells, labels);
}

function showYear() {
  const [first, last] = [plusDays(today(), 1 - DAYS), today()];
  const width = at("year-plot").clientWidth;
  // In less width a year does not fit side by side: two halves do, one below the other.
  const isNarrow = width < px(640);
  // So that the second half begins with a week.
  const middle = plusDays(last, -183);
  const half = plusDays(middle, -weekday(middle));
  const spans = isNarrow ? [[first, plusDays(half, -1)], [half, last]] : [[first, last]];
  const size = Math.floor(((width - px(34)) / (isNarrow ? 28 : 54)) * 10) / 10;
  const step = dailyLimit() / 4;
  const scale = ["none", ...[1, 2, 3, 4].map((n) => `to ${integer(n * step)}`), `above ${mg(dailyLimit())}`];
  const legend = h("p", { class: "scale" }, scale.map((word, n) => h("span", {}, h("i", { class: `heat-${n}` }), word)));
  at("year-plot").replaceChildren(...spans.map((span) => calendar(span, size)), legend);
}

function inWords() {
  const days = answer.daily_breakdown;
  const most = days.reduce((best, day) => (day.total_mg > best.total_mg ? day : best), NOTHING);
  if (!most.date) return "No caffeine was logged in these twelve months.";
  const words = `Caffeine on ${count(answer.days_with_caffeine, "day")} of ${DAYS}, ${mg(answer.average_per_day)} a day on average.`;
  return `${words} The most was ${mg(most.total_mg)} on ${calendarText(most.date)}; ${count(over(days), "day")} above ${mg(dailyLimit())}.`;
}

function table() {
  const months = new Map();
  for (const { date, total_mg, coffee_count } of answer.daily_breakdown) {
    const month = months.get(date.slice(0, 7)) ?? { total: 0, drinks: 0, days: 0, most: 0 };
    months.set(date.slice(0, 7), { total: month.total + total_mg, drinks: month.drinks + coffee_count, days: month.days + 1, most: Math.max(month.most, total_mg) });
  }
  const row = ([month, { total, drinks, days, most }]) => [monthOfYearText(`${month}-01`), mg(total), integer(drinks), integer(days), mg(most)];
  return { head: ["Month", "Caffeine", "Drinks", "Days with any", "Most on a day"], rows: [...months].map(row) };
}

/** Asks for the days and shows them. */
export function refresh() {
  return api.trying(async () => {
    answer = await api.get(`/coffee/days?days=${DAYS}`);
    byDate = new Map(answer.daily_breakdown.map((day) => [day.date, day]));
    showWeek();
    showYear();
    say(at("year-text"), inWords());
    refill();
  }, (fault) => answer || say(at("year-text"), fault.message));
}

/** `choose` is called with the calendar day that was pressed. */
export function start(choose) {
  const place = at("year-plot");
  const readOut = ({ target }) => {
    const { date } = target.dataset;
    say(at("year-readout"), date ? `${calendarText(date)}: ${mg(of(date).total_mg)}, ${count(of(date).coffee_count, "drink")}` : "");
  };
  place.addEventListener("pointermove", readOut);
  place.addEventListener("pointerleave", readOut);
  place.addEventListener("click", ({ target }) => target.dataset.date && choose(target.dataset.date));
  new ResizeObserver(() => answer && showYear()).observe(place);
  refill = twin(at("year-table"), table);
}
