// Caffeine model: the server's level at an instant, or its curve, continued by the server's own formula with the
// drinks since then and with changes that the server does not have yet. Instants are in ms.

import { HOUR } from "./format.js";

/** Factors on the half-life for the likely range, as the server uses them: fast and slow metabolism. */
const HALF_LIFE_FACTORS = { mg: 1, low_mg: 0.6, high_mg: 1.6 };
/** Rounds of a bisection: enough for any interval and precision of a double. */
const BISECTIONS = 64;

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);

/**
 * Returns a state `{gut, mg}` some hours later: one compartment, first-order absorption (`ka`) and elimination
 * (`ke`). `gut` is consumed and not yet absorbed, `mg` is active.
 */
function advance({ gut, mg }, hours, ka, ke) {
  if (hours <= 0) return { gut, mg };
  // The closed form is symmetric in both rates; it is accurate for ka ≈ ke, too.
  const gap = Math.abs(ka - ke);
  const spread = gap ? -Math.expm1(-gap * hours) / gap : hours;
  return {
    gut: gut * Math.exp(-ka * hours),
    mg: mg * Math.exp(-ke * hours) + gut * ka * Math.exp(-Math.min(ka, ke) * hours) * spread,
  };
}

/** Returns the hours until the level is highest without further doses, 0 if it only falls. */
function hoursToPeak({ gut, mg }, ka, ke) {
  const rise = gut * ka - mg * ke;
  if (rise <= 0) return 0;
  const gap = ka - ke;
  const x = rise / (ke * (mg * gap + gut * ka));
  return gap ? Math.log1p(gap * x) / gap : x;
}

/** Returns the hours, after `from`, at which `holds` becomes false for good. It is true at `from`. */
export function lastHourWhere(from, holds) {
  let [low, high] = [from, from + 1];
  while (holds(high) && high < 1e6) [low, high] = [high, high + (high - from)];
  for (let n = 0; n < BISECTIONS; n += 1) {
    const middle = (low + high) / 2;
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return high;
}

/** Levels of caffeine from the time of a response on. */
export class CaffeineModel {
  /**
   * `response` is that of `GET /coffee/active`. `drinks` are on the server; `changes` are not in the response:
   * drinks that wait, and deleted ones with a negative dose. Both are `{at, mg}`.
   */
  constructor(response, drinks, changes = []) {
    Object.assign(this, { response, drinks, changes });
    this.start = Date.parse(response.timestamp);
    this.absorption = response.absorption_per_hour;
    const all = [...drinks, ...changes];
    this.later = all.filter((dose) => dose.at > this.start).sort((a, b) => a.at - b.at);
    const gut = sum(all.filter((dose) => dose.at <= this.start).map((dose) => this.afterDose(dose, this.start).gut));
    const earlierChanges = changes.filter((dose) => dose.at <= this.start);
    const level = { mg: response.active_caffeine_mg, low_mg: response.low_mg, high_mg: response.high_mg };
    this.initial = Object.fromEntries(Object.keys(HALF_LIFE_FACTORS).map((band) => {
      const changed = sum(earlierChanges.map((dose) => this.afterDose(dose, this.start, band).mg));
      return [band, { gut, mg: level[band] + changed }];
    }));
  }

  /** Returns the model with one more dose. */
  withDose(dose) {
    return new CaffeineModel(this.response, this.drinks, [...this.changes, dose]);
  }

  elimination(band = "mg") {
    return Math.LN2 / (this.response.half_life_hours * HALF_LIFE_FACTORS[band]);
  }

  /** Returns the state at an instant that results from a dose alone. */
  afterDose({ at, mg }, instant, band) {
    return instant < at ? { gut: 0, mg: 0 } : advance({ gut: mg, mg: 0 }, (instant - at) / HOUR, this.absorption, this.elimination(band));
  }

  /** Returns the state at an instant, not before the start. */
  state(instant, band = "mg") {
    const initial = advance(this.initial[band], (instant - this.start) / HOUR, this.absorption, this.elimination(band));
    const states = [initial, ...this.later.filter((dose) => dose.at <= instant).map((dose) => this.afterDose(dose, instant, band))];
    return { gut: sum(states.map((state) => state.gut)), mg: sum(states.map((state) => state.mg)) };
  }

  /** Returns `mg`, `low_mg` and `high_mg` at an instant, or null before the start. */
  at(instant) {
    if (!(instant >= this.start)) return null;
    return Object.fromEntries(Object.keys(HALF_LIFE_FACTORS).map((band) => [band, Math.max(0, this.state(instant, band).mg)]));
  }

  /** Returns the highest level in mg from `hours` after a single dose on. */
  highestAfterDose(mg, hours) {
    return advance({ gut: mg, mg: 0 }, Math.max(hours, this.peakHours), this.absorption, this.elimination()).mg;
  }

  /** Returns the hours from a single dose to its peak. */
  get peakHours() {
    return hoursToPeak({ gut: 1, mg: 0 }, this.absorption, this.elimination());
  }

  /** Returns the periods without doses from `since` on: start, state then, and hours. */
  intervals(since) {
    const starts = [since, ...this.later.filter((dose) => dose.at > since).map((dose) => dose.at)];
    return starts.map((from, n) => ({ from, state: this.state(from), hours: n + 1 < starts.length ? (starts[n + 1] - from) / HOUR : Infinity }));
  }

  peak({ state, hours }) {
    const peakAfter = Math.min(hours, hoursToPeak(state, this.absorption, this.elimination()));
    return [peakAfter, advance(state, peakAfter, this.absorption, this.elimination()).mg];
  }

  /** Returns the highest level in mg from an instant on. */
  highestFrom(instant) {
    return Math.max(0, ...this.intervals(instant).map((interval) => this.peak(interval)[1]));
  }

  /** Returns the instant, not before `since`, from which the level stays at or below `mg`. */
  staysBelowFrom(mg, since) {
    const start = Math.max(since, this.start);
    for (const interval of this.intervals(start).reverse()) {
      const isAbove = (hours) => advance(interval.state, hours, this.absorption, this.elimination()).mg > mg;
      const [peakAfter] = this.peak(interval);
      if (isAbove(peakAfter)) return interval.from + Math.min(interval.hours, lastHourWhere(peakAfter, isAbove)) * HOUR;
    }
    return start;
  }
}

/** Age of a dose from which its level runs almost straight between two points of a curve. */
const SMOOTH_AFTER = 3 * HOUR;

/** Caffeine curve: a response of `GET /coffee/active` with additional doses `{at, mg}`. */
export class CaffeineCurve {
  /** `included` are doses that the response includes: between its points, the level follows them exactly. */
  constructor(response, doses = [], included = []) {
    Object.assign(this, { response, doses, included, times: response.curve.map((point) => Date.parse(point.at)) });
  }

  /** Returns the curve with one more dose. */
  withDose(dose) {
    return new CaffeineCurve(this.response, [...this.doses, dose], this.included);
  }

  /** Returns `mg`, `low_mg` and `high_mg` at an instant, or null outside the curve. */
  at(instant) {
    const { times, doses, included, response } = this;
    if (!(instant >= times[0] && instant <= times.at(-1))) return null;
    const next = Math.max(1, times.findIndex((time) => time >= instant));
    const share = (instant - times[next - 1]) / (times[next] - times[next - 1]);
    const [from, to] = [response.curve[next - 1], response.curve[next]];
    const recent = included.filter((dose) => dose.at < times[next] && times[next - 1] - dose.at < SMOOTH_AFTER);
    return Object.fromEntries(Object.entries(HALF_LIFE_FACTORS).map(([band, factor]) => {
      const elimination = Math.LN2 / (response.half_life_hours * factor);
      const levelOf = (all, time) => sum(all.map((dose) => advance({ gut: dose.mg, mg: 0 }, (time - dose.at) / HOUR, response.absorption_per_hour, elimination).mg));
      // What is left without the recent doses runs almost straight.
      const [smoothFrom, smoothTo] = [from[band] - levelOf(recent, times[next - 1]), to[band] - levelOf(recent, times[next])];
      return [band, Math.max(0, smoothFrom + share * (smoothTo - smoothFrom) + levelOf(recent, instant) + levelOf(doses, instant))];
    }));
  }

  /** Returns the instant, not before `since`, from which the level stays at or below `mg`; null if not within the curve. */
  staysBelowFrom(mg, since) {
    const lastAbove = this.times.findLastIndex((time) => this.at(time).mg > mg);
    return lastAbove === this.times.length - 1 ? null : Math.max(since, this.times[lastAbove + 1]);
  }
}
