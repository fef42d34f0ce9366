// "You": bedtimes, half-life and limits. Changes are shown over today's curve, and stay in the page until they are saved.

import * as api from "../app/api.js";
import { WEEKDAYS, minutesOf } from "../app/bedtimes.js";
import { Chart, axis, color, drawLine, timeAxis, translucent } from "../app/charts/chart.js";
import { button, byId, field, h, setFieldError, setText } from "../app/dom.js";
import { HOUR, MINUTE, formatDay, formatDayTime, formatDecimal, formatInteger, formatMg, formatTime } from "../app/format.js";
import { showToast } from "../app/notifications.js";
import { describeStatus } from "../app/now.js";
import { currentOutlook, onChange, refresh as refreshStore, store } from "../app/store.js";
import { describeFailure } from "./failures.js";
import { fixedSettings, showFixedSettings } from "./fixed-settings.js";
import { activeWith, curveWith } from "./preview.js";

export const id = "you";
export const title = "You";
export const summary = "Bedtime, half-life and limits";
export const scopes = ["read", "write"];

const PARTS = ["active", "coffees", "curve"];
/** Minutes of a day. */
const DAY_MINUTES = 24 * 60;
/** The slider of the bedtime starts at noon, so that the evening and the night are in one piece. */
const NOON = 12 * 60;
/** Daily limit in pregnancy (EFSA), in mg. */
const PREGNANCY_LIMIT = 200;

const formatHours = (n) => `${formatDecimal(n)} h`;
const source = (name, href) => h("a", { href, target: "_blank", rel: "noopener noreferrer" }, name);
const EFSA = ["EFSA Journal 2015;13(5):4102", "https://doi.org/10.2903/j.efsa.2015.4102"];
/** Half-lives by situation: hours, name, source. */
const PRESETS = [
  [5, "Average", "Institute of Medicine 2001", "https://doi.org/10.17226/10219"],
  [3.5, "Smoker", "Parsons & Neims 1978", "https://doi.org/10.1002/cpt197824140"],
  [8, "Oral contraceptives", "Abernethy & Todd 1985", "https://doi.org/10.1007/BF00544361"],
  [8, "Pregnancy", "doi:10.1007/BF00637512", "https://doi.org/10.1007/BF00637512"],
];

/** The numbers: label, range that the server accepts, range and step of the slider, format, explanation. */
const NUMBERS = {
  half_life_hours: { label: "Half-life of caffeine (hours)", range: [1, 24], slider: [1.5, 12, 0.5], format: formatHours, help: "How long your body takes to break down half of the caffeine. It differs a lot from person to person." },
  sleep_threshold_mg: { label: "Sleep limit (mg)", range: [1, 1000], slider: [5, 200, 5], format: formatMg, help: "The most caffeine in your body at bedtime with which you sleep well. Studies disagree about it." },
  usual_dose_mg: { label: "Usual drink (mg)", range: [1, 1000], slider: [10, 300, 5], format: formatMg, help: "The drink for which the dashboard shows the latest time." },
  daily_limit_mg: { label: "Daily limit (mg)", range: [1, 100_000], slider: [50, 800, 10], format: formatMg, help: ["The most in a day. Up to 400 mg is considered safe for healthy adults (", source(...EFSA), ")."] },
};
const USUAL = ["bedtime", ...Object.keys(NUMBERS)];
/** The bedtimes of single weekdays, named as the server names them in errors. */
const weekdayName = (weekday) => `bedtime_by_weekday.${weekday}`;
const NAMES = [...USUAL, ...WEEKDAYS.map(weekdayName)];
/** Returns the field of the profile that a value belongs to, and its weekday if it is the bedtime of one. */
const partsOf = (name) => name.split(".");
/** Names of the server's settings that are the defaults. */
const SETTINGS = {
  bedtime: "BEDTIME",
  half_life_hours: "CAFFEINE_HALF_LIFE_HOURS",
  sleep_threshold_mg: "SLEEP_THRESHOLD_MG",
  usual_dose_mg: "USUAL_DOSE_MG",
  daily_limit_mg: "RECOMMENDED_DAILY_CAFFEINE_MG",
};

/** The response of `GET /profile`, or null. */
let profile = null;
/** The values in the form: null is the default (of a weekday: the usual bedtime), NaN and "" are invalid. */
let values = {};
/** The situation that was chosen last, or null. */
let chosenPreset = null;
/** The controls by name, as `{input, slider, note, reset}`; those of weekdays have no slider. */
let controls = {};
let chart = null;
/** The chart's elements, which are kept while other sections are shown. */
let figure = null;
let points = [];
/** What "Now" would show with the saved values and with those in the form. */
let outlooks = null;

function savedValue(name) {
  const [field, weekday] = partsOf(name);
  if (weekday) return profile[field].value[weekday] ?? null;
  return profile[field].is_default ? null : profile[field].value;
}
/** Returns the value in the form; an invalid one counts as the saved one. */
const validValue = (name) => (isValid(values[name]) ? values[name] : savedValue(name));
/** Returns the bedtimes of the weekdays that have one. */
const weekdayTimes = (valueOf) => Object.fromEntries(WEEKDAYS.map((weekday) => [weekday, valueOf(weekdayName(weekday))]).filter(([, time]) => time !== null));
/** Returns the change that sets these values; the bedtimes of all weekdays are set together. */
const changeOf = (names, valueOf) => Object.fromEntries(names.map(partsOf).map(([field, weekday]) => [field, weekday ? weekdayTimes(valueOf) : valueOf(field)]));
const isValid = (value) => value !== "" && !Number.isNaN(value);
const changedNames = () => (profile ? NAMES.filter((name) => !Object.is(values[name], savedValue(name))) : []);
/** Returns the value in effect; null is a usual dose that is the median. */
const effective = (name, value = values[name]) => value ?? profile[name].default;
/** Returns the value that a control shows. */
const shownValue = (name) => effective(name) ?? store.active?.usual_dose_mg ?? null;

const capitalize = (word) => word[0].toUpperCase() + word.slice(1);
const formatClock = (time) => formatTime(new Date(`2026-01-01T${time.padStart(5, "0")}`));
const toSlider = (time) => (minutesOf(time) + DAY_MINUTES - NOON) % DAY_MINUTES;
const fromSlider = (minutes) => {
  const ofDay = (minutes + NOON) % DAY_MINUTES;
  return [Math.floor(ofDay / 60), ofDay % 60].map((part) => String(part).padStart(2, "0")).join(":");
};
const format = (name, value) => (name === "bedtime" ? formatClock(value) : NUMBERS[name].format(value));

/** Explains the default of a value, and where it comes from. */
function describeDefault(name) {
  const { default: value } = profile[name];
  const start = values[name] === null ? "Default:" : "The default is";
  if (value === null) return [`${start} the median of your latest 50 drinks.`];
  return [`${start} ${format(name, value)}, as set on this server (`, h("code", {}, SETTINGS[name]), ")."];
}

/** Replaces the content of an element if its text differs. */
function setContent(element, content) {
  const next = h("span", {}, content);
  if (element.textContent !== next.textContent) element.replaceChildren(...next.childNodes);
}

/** Shows the bedtimes of single weekdays, and which ones there are. */
function showWeekdays() {
  for (const name of WEEKDAYS.map(weekdayName)) {
    const { input, note, reset } = controls[name];
    if (document.activeElement !== input && isValid(values[name])) input.value = values[name] ?? "";
    const isUsual = values[name] === null;
    setText(note, isUsual ? "As usual" : "");
    reset.hidden = isUsual;
  }
  const different = Object.entries(weekdayTimes(validValue)).map(([weekday, time]) => `${capitalize(weekday)} ${formatClock(time)}`);
  setText(byId("weekdays-set"), different.length ? `: ${different.join(", ")}` : "");
}

/** Shows the values in the controls; those that are being typed are left alone. */
function showValues() {
  for (const name of USUAL) {
    const { input, slider, note, reset } = controls[name];
    const value = shownValue(name);
    const hasValue = value !== null && isValid(value);
    if (document.activeElement !== input) input.value = hasValue ? value : "";
    if (hasValue) {
      slider.value = name === "bedtime" ? toSlider(value) : value;
      slider.setAttribute("aria-valuetext", format(name, value));
    }
    setContent(note, describeDefault(name));
    reset.hidden = values[name] === null;
  }
  showWeekdays();
  const halfLife = effective("half_life_hours");
  const matching = PRESETS.filter(([hours, name]) => hours === halfLife && (!chosenPreset || chosenPreset === name));
  // Two situations have the same half-life.
  const situation = matching.length === 1 ? matching[0][1] : null;
  for (const preset of byId("presets").querySelectorAll("button")) preset.setAttribute("aria-pressed", preset.dataset.name === situation);
  byId("pregnancy").hidden = chosenPreset !== "Pregnancy" || effective("daily_limit_mg") <= PREGNANCY_LIMIT;
  const isChanged = changedNames().length > 0;
  byId("you-save").setAttribute("aria-disabled", !isChanged);
  byId("you-discard").hidden = !isChanged;
}

/** Sets a value, null for the default. */
function setValue(name, value) {
  values[name] = value;
  if (name === "half_life_hours") chosenPreset = null;
  setFieldError(controls[name].input, "");
  setText(byId("you-error"), "");
  update();
}

const profileWith = (valueOf) => ({ ...Object.fromEntries(USUAL.map((name) => [name, effective(name, valueOf(name))])), bedtime_by_weekday: weekdayTimes(valueOf) });
/** Returns the profile in the form. */
const formProfile = () => profileWith(validValue);
const savedProfile = () => profileWith(savedValue);

/** Describes the effect of the values on tonight in sentences. */
function verdict(saved, changed) {
  const isChanged = changedNames().length > 0;
  const was = (now, before) => (isChanged && now !== before ? `${now} (${before} as saved)` : now);
  const [night, savedNight] = [changed, saved].map((outlook) => formatMg(outlook.night));
  const [last, savedLast] = [changed, saved].map((outlook) => (outlook.lastSafe.at ? formatDayTime(outlook.lastSafe.at) : "not today"));
  return [
    `${isChanged ? "With these changes: " : ""}${describeStatus(changed)}`,
    `Up to ${was(night, savedNight)} from bedtime on.`,
    `Last ${formatMg(changed.dose)} before bed: ${was(last, savedLast)}.`,
  ].join(" ");
}

/** Shows the values, and what they mean for today. */
function update() {
  if (!profile || !byId("you-form")) return;
  showValues();
  if (!store.active || !store.coffees) return;
  const [saved, changed] = [savedProfile(), formProfile()].map((values) => currentOutlook(activeWith(values)));
  setText(byId("you-verdict"), verdict(saved, changed));
  points = curveWith(formProfile().half_life_hours);
  if (!points.length) return;
  const column = (name) => points.map((point) => point[name]);
  outlooks = { saved, changed };
  const isOther = changed.model.response.half_life_hours !== saved.model.response.half_life_hours;
  chart.show([column("at").map((at) => at / 1000), isOther ? column("saved") : column("saved").map(() => null), column("changed")], `Your caffeine level today${changedNames().length ? "; faded: as saved" : ""}. Dashed lines: bedtime and your sleep limit.`);
}

function chartOptions() {
  const line = { stroke: color("chart-caffeine"), width: 2.5, points: { show: false } };
  const dashed = (stroke) => ({ stroke, dash: [5, 4] });
  const draw = (u) => {
    const { saved, changed } = outlooks;
    const [solid, faded] = [color("chart-threshold"), translucent("chart-threshold", 40)];
    if (saved.threshold !== changed.threshold) drawLine(u, { y: saved.threshold, ...dashed(faded) });
    if (saved.bedtime !== changed.bedtime) drawLine(u, { x: saved.bedtime / 1000, ...dashed(faded) });
    drawLine(u, { y: changed.threshold, ...dashed(solid) });
    drawLine(u, { x: changed.bedtime / 1000, ...dashed(solid), label: formatTime(changed.bedtime) });
    drawLine(u, { x: api.now() / 1000, stroke: color("chart-axis"), label: Math.abs(changed.bedtime - api.now()) < 2 * HOUR ? "" : "now" });
  };
  return {
    scales: { y: { range: (_, __, max) => [0, Math.max(100, outlooks.changed.threshold * 1.12, max * 1.12)] } },
    axes: [timeAxis(), axis({ values: (_, levels) => levels.map(formatInteger) })],
    series: [{}, { ...line, stroke: translucent("chart-caffeine", 40) }, line],
    hooks: { draw: [draw] },
  };
}

function chartTable() {
  const rows = points.filter(({ at }) => new Date(at).getMinutes() === 0).map(({ at, saved, changed }) => [`${formatDay(at)} ${formatTime(at)}`, formatMg(saved), formatMg(changed)]);
  return { head: ["Time", "As saved", "With the values above"], rows };
}

function chartReadout(index) {
  const { at, changed, saved } = points[index];
  return `${formatDayTime(at)}: ${formatMg(changed)}${formatMg(saved) === formatMg(changed) ? "" : ` (${formatMg(saved)} as saved)`}`;
}

/** Creates the row of a value: slider, field, explanation and "Reset to default". */
function valueRow(name, label, help, input, slider, extra = null) {
  const note = h("span");
  const reset = button("Reset to default", () => {
    setValue(name, null);
    slider.focus();
  }, { class: "link", "aria-label": `Reset to default: ${label}` });
  slider.setAttribute("aria-label", label);
  controls[name] = { input, slider, note, reset };
  const labeled = field(label, input);
  labeled.firstElementChild.after(h("p", { class: "muted small" }, help));
  labeled.querySelector("input").before(slider);
  labeled.append(h("p", { class: "muted small default" }, note, " ", reset), ...(extra ? [extra] : []));
  return labeled;
}

function bedtimeRow() {
  const onInput = () => setValue("bedtime", input.value);
  const input = h("input", { type: "time", required: true, oninput: onInput });
  const slider = h("input", { type: "range", class: "input", min: 0, max: DAY_MINUTES - 15, step: 15, oninput: () => setValue("bedtime", fromSlider(slider.valueAsNumber)) });
  return valueRow("bedtime", "Bedtime", "When you usually go to bed.", input, slider, weekdayList());
}

/** Creates the row of a weekday: the time, "As usual" without one, and a button that removes it. */
function weekdayRow(weekday) {
  const [name, label] = [weekdayName(weekday), capitalize(weekday)];
  // A time that is typed in part is empty, too.
  const onInput = () => setValue(name, input.value || (input.validity.badInput ? "" : null));
  const input = h("input", { type: "time", oninput: onInput });
  const note = h("span", { class: "muted", id: `${weekday}-as-usual` });
  const reset = button("Reset to usual", () => {
    setValue(name, null);
    input.focus();
  }, { class: "link", "aria-label": `Reset to usual: ${label}` });
  controls[name] = { input, note, reset };
  const labeled = field(label, input);
  input.setAttribute("aria-describedby", `${note.id} ${input.getAttribute("aria-describedby")}`);
  input.after(h("span", {}, note, reset));
  return h("li", {}, labeled);
}

function weekdayList() {
  return h("details", { class: "weekdays", id: "weekdays" },
    h("summary", {}, h("span", {}, "Different on some days", h("span", { class: "muted", id: "weekdays-set" }))),
    h("p", { class: "muted small" }, `Bedtime in the evening of each day. A time after midnight is in the night that follows: ${formatClock("00:30")} on Friday is in the night from Friday to Saturday.`),
    h("ul", { "aria-label": "Bedtimes by weekday" }, WEEKDAYS.map(weekdayRow)));
}

function numberRow(name) {
  const { label, range: [least, most], slider: [min, max, step], help } = NUMBERS[name];
  const input = h("input", { type: "number", min: least, max: most, step: "any", required: true, inputmode: "decimal", oninput: () => setValue(name, input.valueAsNumber) });
  const slider = h("input", { type: "range", class: "input", min, max, step, oninput: () => setValue(name, slider.valueAsNumber) });
  return valueRow(name, label, help, input, slider, name === "half_life_hours" ? presetList() : null);
}

function presetList() {
  const choose = (halfLife, name) => {
    setValue("half_life_hours", halfLife);
    chosenPreset = name;
    update();
    if (!byId("pregnancy").hidden) byId("pregnancy").scrollIntoView({ block: "nearest" });
  };
  const item = ([halfLife, name, sourceName, href]) =>
    h("li", {}, button([name, h("span", { class: "muted" }, ` ${formatHours(halfLife)}`)], () => choose(halfLife, name), { "data-name": name, "aria-pressed": "false" }), h("span", { class: "muted small" }, source(sourceName, href)));
  const setLimit = () => {
    setValue("daily_limit_mg", PREGNANCY_LIMIT);
    chosenPreset = "Pregnancy";
    update();
    byId("presets").querySelector("[data-name=Pregnancy]").focus();
  };
  const pregnancy = h("div", { class: "note", id: "pregnancy", role: "status", hidden: true },
    h("p", {}, `In pregnancy, at most ${formatMg(PREGNANCY_LIMIT)} a day is advised (`, source(...EFSA), ")."),
    button(`Set daily limit to ${formatMg(PREGNANCY_LIMIT)}`, setLimit));
  return h("div", {}, h("ul", { class: "presets", id: "presets", "aria-label": "Typical half-lives" }, PRESETS.map(item)), pregnancy);
}

/** Shows the errors of a refused change at their fields. */
function showErrors(error) {
  const unmatched = error.errors.filter(({ field: name, message }) => {
    if (!controls[name]) return true;
    setFieldError(controls[name].input, message);
    return false;
  });
  const [first] = NAMES.filter((name) => controls[name].input.hasAttribute("aria-invalid"));
  if (first && partsOf(first).length > 1) byId("weekdays").open = true;
  if (first) controls[first].input.focus();
  return setText(byId("you-error"), error.errors.length && !unmatched.length ? "" : describeFailure(error, "Your changes are kept here."));
}

/** Changes the profile on the server and shows it. */
async function patch(change) {
  profile = await api.requestJson("PATCH", "/profile", { body: change });
  for (const name of NAMES) if (Object.hasOwn(change, partsOf(name)[0])) values[name] = savedValue(name);
  await refreshStore(PARTS);
  update();
}

async function save(event) {
  event.preventDefault();
  const names = changedNames();
  if (!names.length) return;
  setText(byId("you-error"), "");
  const former = changeOf(names, savedValue);
  const place = byId("you-notes");
  await api.catchApiError(async () => {
    await patch(changeOf(names, (name) => values[name]));
    const undo = () => api.catchApiError(async () => {
      await patch(former);
      showToast("Restored the former values", { place });
    }, (error) => showToast(`Can't undo. ${describeFailure(error)}`, { place, isWarning: true }));
    showToast("Saved", { place, undo });
  }, showErrors);
}

function discard() {
  for (const name of NAMES) {
    values[name] = savedValue(name);
    setFieldError(controls[name].input, "");
  }
  chosenPreset = null;
  setText(byId("you-error"), "");
  update();
  byId("you-save").focus();
}

function form() {
  return h("form", { id: "you-form", class: "you-form", onsubmit: save, hidden: true },
    h("div", { class: "card you-fields" }, bedtimeRow(), Object.keys(NUMBERS).map(numberRow)),
    h("div", { class: "save-bar" },
      h("p", { class: "field-error", id: "you-error", role: "alert" }),
      h("div", { class: "row" }, h("button", { class: "button primary", id: "you-save" }, "Save"), button("Discard changes", discard, { id: "you-discard", hidden: true }), h("div", { class: "toasts", id: "you-notes", role: "status" }))));
}

function createFigure() {
  return [
    h("div", { class: "card you-today" }, h("div", { class: "card-head" }, h("h3", {}, "Today"), h("p", { class: "readout", id: "you-readout" })), h("div", { class: "chart", id: "you-chart" })),
    h("div", { class: "card you-meaning" },
      h("p", { class: "verdict", id: "you-verdict", "aria-live": "polite" }),
      h("p", { class: "muted small", id: "you-text" }),
      h("details", { class: "data-table", id: "you-table" }, h("summary", {}, "Show as table", h("span", { class: "visually-hidden" }, ": caffeine level")))),
  ];
}

/** Loads the profile. What was changed in the form is kept. */
async function load() {
  const status = byId("you-status");
  await api.catchApiError(async () => {
    const former = profile;
    const changed = changedNames();
    profile = await api.get("/profile");
    for (const name of NAMES) if (!former || !changed.includes(name)) values[name] = savedValue(name);
    setText(status, "");
    byId("you-form").hidden = false;
    update();
  }, (error) => profile || setText(status, error.message));
  await refreshStore(PARTS);
}

/** Shows the section. */
export function show(container) {
  profile = null;
  values = {};
  controls = {};
  chosenPreset = null;
  figure ??= createFigure();
  container.append(h("p", { id: "you-status", role: "status" }), h("div", { class: "you" }, figure, form(), fixedSettings()));
  showFixedSettings();
  if (!chart) {
    chart = new Chart("you", { options: chartOptions, table: chartTable, readout: chartReadout });
    onChange(update);
    onChange(showFixedSettings);
    // The level falls meanwhile.
    setInterval(update, MINUTE);
  }
  load();
  return { hasChanges: () => changedNames().length > 0, refresh: load };
}
