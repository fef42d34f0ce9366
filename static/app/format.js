// Numbers, times and days as the browser's locale writes them. Instants are shown in this device's time
// zone; a calendar day is the server's, a date without a zone.

const number = (digits) => new Intl.NumberFormat(undefined, { maximumFractionDigits: digits });
const whole = number(0);
const tenths = number(1);
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDate = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const calendar = (options) => new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" });
const calendarDay = calendar({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
const calendarWeekday = calendar({ weekday: "short" });
const calendarMonth = calendar({ month: "short" });
const calendarMonthOfYear = calendar({ month: "long", year: "numeric" });

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const integer = (n) => whole.format(n);
export const decimal = (n) => tenths.format(n);
/** Milligrams: whole ones, and tenths below ten. */
export const mg = (n) => `${n !== 0 && Math.abs(n) < 9.95 ? tenths.format(n) : whole.format(n)} mg`;
/** With its sign. */
export const signed = (n) => `${n < 0 ? "−" : n > 0 ? "+" : ""}${tenths.format(Math.abs(n))}`;

export const time = (instant) => clock.format(instant);

/** Calendar days from this device's today to that of `instant`. */
function daysAhead(instant) {
  const midnight = (when) => new Date(when).setHours(0, 0, 0, 0);
  return Math.round((midnight(instant) - midnight(Date.now())) / DAY);
}

/** A day in words: today, yesterday, Tue 3 Mar, and with its year when that is another one. */
export function day(instant) {
  const near = { "-1": "yesterday", 0: "today", 1: "tomorrow" }[daysAhead(instant)];
  if (near) return near;
  const date = new Date(instant);
  if (date.getFullYear() !== new Date().getFullYear()) return longDate.format(date);
  return `${weekday.format(date)} ${shortDate.format(date)}`;
}

/** A time of day, with its day when that is not today. */
export const dayTime = (instant) => (daysAhead(instant) === 0 ? time(instant) : `${day(instant)} ${time(instant)}`);

/** How long ago. */
export function ago(minutes) {
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return `${integer(Math.floor(minutes / 60 / 24))} days ago`;
}

/** So many of something: 1 coffee, 2 coffees. */
export const count = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

const noon = (date) => new Date(`${date}T12:00:00Z`);
/** Of a calendar day as the server writes it, 2026-03-01. */
export const calendarText = (date) => calendarDay.format(noon(date));
export const calendarWeekdayText = (date) => calendarWeekday.format(noon(date));
export const monthText = (date) => calendarMonth.format(noon(date));
export const monthOfYearText = (date) => calendarMonthOfYear.format(noon(date));
/** The calendar day so many days after. */
export const plusDays = (date, days) => new Date(noon(date).getTime() + days * DAY).toISOString().slice(0, 10);

/** As an <input type="datetime-local"> wants it. */
export function localInput(instant) {
  const date = new Date(instant);
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

/** For a tick of a time axis: the day at midnight, else the time. */
export function tick(seconds) {
  const date = new Date(seconds * 1000);
  return date.getHours() === 0 && date.getMinutes() === 0 ? `${weekday.format(date)} ${date.getDate()}` : clock.format(date);
}

/** Kilobytes or megabytes. */
export const bytes = (n) => (n < 1e6 ? `${whole.format(n / 1e3)} KB` : `${tenths.format(n / 1e6)} MB`);
