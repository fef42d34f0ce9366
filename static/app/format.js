// Formats numbers, times and days in the browser's locale. Instants are shown in this device's time zone;
// calendar days are the server's, written as dates without a zone (2026-03-01).

const number = (digits) => new Intl.NumberFormat(undefined, { maximumFractionDigits: digits });
const whole = number(0);
const tenths = number(1);
/** Options of the formats of a time: the browser's own, with 12 or with 24 hours. */
const HOURS = { system: {}, 12: { hourCycle: "h12" }, 24: { hourCycle: "h23" } };
const timeFormats = Object.fromEntries(Object.entries(HOURS).map(([name, options]) => [name, new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", ...options })]));
let timeFormat = timeFormats.system;
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDateFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDateFormat = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const utcFormat = (options) => new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" });
const dateFormat = utcFormat({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
const dateWeekdayFormat = utcFormat({ weekday: "short" });
const dateMonthFormat = utcFormat({ month: "short" });
const dateMonthAndYearFormat = utcFormat({ month: "long", year: "numeric" });

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const formatInteger = (n) => whole.format(n);
export const formatDecimal = (n) => tenths.format(n);
/** Formats milligrams: with one decimal below ten, else as an integer. */
export const formatMg = (n) => `${n !== 0 && Math.abs(n) < 9.95 ? tenths.format(n) : whole.format(n)} mg`;
/** Formats two amounts in milligrams with the same number of decimals, without the unit. */
export function formatMgPair(a, b) {
  const { format } = Math.max(a, b) < 9.95 ? tenths : whole;
  return [format(a), format(b)];
}
/** Formats a range of milligrams, both ends with the same number of decimals. */
export const formatMgRange = (low, high) => `${formatMgPair(low, high).join("–")} mg`;
/** Formats a number with its sign. */
export const formatSigned = (n) => `${n < 0 ? "−" : n > 0 ? "+" : ""}${tenths.format(Math.abs(n))}`;
/** Formats a size in kilobytes, megabytes or gigabytes. */
export const formatBytes = (n) => (n < 1e6 ? `${whole.format(n / 1e3)} KB` : n < 1e9 ? `${tenths.format(n / 1e6)} MB` : `${tenths.format(n / 1e9)} GB`);
/** Formats a count with its noun: 1 coffee, 2 coffees. */
export const plural = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

/** Text in which a name can change the direction of what follows it. */
const BIDI = /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/;
/** Characters that change the direction of the text around them. */
const BIDI_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;
/** Isolates the writing direction of a name inside other text, where a `<bdi>` element cannot be used. */
export const isolate = (name) => (BIDI.test(name) ? `\u2068${name.replace(BIDI_CONTROLS, "")}\u2069` : name);

/** Sets how times are shown: "system", "12" or "24". */
export const setTimeFormat = (name) => (timeFormat = timeFormats[name] ?? timeFormats.system);
export const formatTime = (instant) => timeFormat.format(instant);

/** Returns the number of calendar days from today to `instant` in this device's zone. */
function daysFromToday(instant) {
  const midnight = (when) => new Date(when).setHours(0, 0, 0, 0);
  return Math.round((midnight(instant) - midnight(Date.now())) / DAY);
}

/** Formats the day of an instant: today, yesterday, Tue 3 Mar, with the year if it is not this year. */
export function formatDay(instant) {
  const relative = { "-1": "yesterday", 0: "today", 1: "tomorrow" }[daysFromToday(instant)];
  if (relative) return relative;
  const date = new Date(instant);
  if (date.getFullYear() !== new Date().getFullYear()) return longDateFormat.format(date);
  return `${weekdayFormat.format(date)} ${shortDateFormat.format(date)}`;
}

/** Formats a time, with the day if it is not today. */
export const formatDayTime = (instant) => (daysFromToday(instant) === 0 ? formatTime(instant) : `${formatDay(instant)} ${formatTime(instant)}`);

/** Formats an age in minutes: just now, 5 min ago, 3 h ago. */
export function formatAge(minutes) {
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return `${formatInteger(Math.floor(minutes / 60 / 24))} days ago`;
}

const noon = (date) => new Date(`${date}T12:00:00Z`);
export const formatDate = (date) => dateFormat.format(noon(date));
export const formatWeekday = (date) => dateWeekdayFormat.format(noon(date));
export const formatMonth = (date) => dateMonthFormat.format(noon(date));
export const formatMonthAndYear = (date) => dateMonthAndYearFormat.format(noon(date));
/** Adds days to a calendar day. */
export const addDays = (date, days) => new Date(noon(date).getTime() + days * DAY).toISOString().slice(0, 10);
/** Returns the same local time some days later, even if a day has 23 or 25 hours. */
export const addLocalDays = (instant, days) => new Date(instant).setDate(new Date(instant).getDate() + days);

/** Formats an instant as the value of `<input type="datetime-local">`. */
export function toLocalInput(instant) {
  const date = new Date(instant);
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

/** Formats a tick of a time axis: the day at midnight, else the time. */
export function formatTick(seconds) {
  const date = new Date(seconds * 1000);
  return date.getHours() === 0 && date.getMinutes() === 0 ? `${weekdayFormat.format(date)} ${date.getDate()}` : timeFormat.format(date);
}
