// The caffeine of one dose, by the server's own formula and constants, so that what is not logged yet can be
// added to the server's curve: doses add up.

import { HOUR } from "./format.js";

/** By these the server makes its band: a body that is quicker, and one that is slower. */
const QUICKER = 0.6;
const SLOWER = 1.6;

/** mg of a dose in the body after so many hours: one compartment, first-order absorption and elimination. */
function remaining(dose, hours, halfLife, absorption) {
  if (hours <= 0) return 0;
  const elimination = Math.LN2 / halfLife;
  if (Math.abs(absorption - elimination) < 1e-6) return dose * elimination * hours * Math.exp(-elimination * hours);
  const share = absorption / (absorption - elimination);
  return dose * share * (Math.exp(-elimination * hours) - Math.exp(-absorption * hours));
}

/** The server's curve, and what comes on top of it. Instants are in ms. */
export class Curve {
  /** Of an answer of /coffee/active; `extra` doses are {at, mg}. */
  constructor(answer, extra = []) {
    this.answer = answer;
    this.extra = extra;
    this.times = answer.curve.map((point) => Date.parse(point.at));
  }

  /** The same curve with one dose more. */
  with(dose) {
    return new Curve(this.answer, [...this.extra, dose]);
  }

  /** `mg`, `low_mg` and `high_mg` at an instant within the curve; null beyond it. */
  at(instant) {
    const { times } = this;
    if (instant < times[0] || instant > times.at(-1)) return null;
    const next = Math.max(1, times.findIndex((time) => time >= instant));
    const [before, after] = [this.answer.curve[next - 1], this.answer.curve[next]];
    const share = (instant - times[next - 1]) / (times[next] - times[next - 1]);
    const { half_life_hours, absorption_per_hour } = this.answer;
    const level = (field, factor) => {
      const drunk = this.extra.map(({ at, mg }) => remaining(mg, (instant - at) / HOUR, half_life_hours * factor, absorption_per_hour));
      return before[field] + share * (after[field] - before[field]) + drunk.reduce((sum, mg) => sum + mg, 0);
    };
    return { mg: level("mg", 1), low_mg: level("low_mg", QUICKER), high_mg: level("high_mg", SLOWER) };
  }

  /** Every point, as columns for a plot. */
  columns() {
    const points = this.times.map((time) => this.at(time));
    const column = (field) => points.map((point) => point[field]);
    return { times: this.times, mg: column("mg"), low: column("low_mg"), high: column("high_mg") };
  }

  /** From when on it stays at or below `mg`, looking from `since` on; null when not within the curve. */
  staysBelow(mg, since) {
    const above = this.times.findLastIndex((time) => this.at(time).mg > mg);
    if (above === this.times.length - 1) return null;
    return above < 0 || this.times[above + 1] <= since ? since : this.times[above + 1];
  }
}
