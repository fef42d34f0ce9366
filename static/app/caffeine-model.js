// Caffeine model: the server's curve, and the level after additional doses by the server's own formula.

import { HOUR } from "./format.js";

/** Factors on the half-life for the likely range, as the server uses them: fast and slow metabolism. */
const HALF_LIFE_FACTORS = { mg: 1, low_mg: 0.6, high_mg: 1.6 };

/** Returns the mg of a dose in the body after some hours: one compartment, first-order absorption and elimination. */
function remainingMg(dose, hours, halfLife, absorption) {
  if (hours <= 0) return 0;
  const elimination = Math.LN2 / halfLife;
  if (Math.abs(absorption - elimination) < 1e-6) return dose * elimination * hours * Math.exp(-elimination * hours);
  const share = absorption / (absorption - elimination);
  return dose * share * (Math.exp(-elimination * hours) - Math.exp(-absorption * hours));
}

/** Adds doses `{at, mg}` to a level `{mg, low_mg, high_mg}`. */
export function addDoses(level, doses, instant, { half_life_hours: halfLife, absorption_per_hour: absorption }) {
  const total = ([name, factor]) => [name, doses.reduce((sum, dose) => sum + remainingMg(dose.mg, (instant - dose.at) / HOUR, halfLife * factor, absorption), level[name])];
  return Object.fromEntries(Object.entries(HALF_LIFE_FACTORS).map(total));
}

/** Caffeine curve: a response of `GET /coffee/active` with additional doses. Instants are in ms. */
export class CaffeineCurve {
  constructor(response, doses = []) {
    Object.assign(this, { response, doses, times: response.curve.map((point) => Date.parse(point.at)) });
  }

  /** Returns the curve with one more dose. */
  withDose(dose) {
    return new CaffeineCurve(this.response, [...this.doses, dose]);
  }

  /** Returns `mg`, `low_mg` and `high_mg` at an instant, or null outside the curve. */
  at(instant) {
    const { times, doses, response } = this;
    if (!(instant >= times[0] && instant <= times.at(-1))) return null;
    const next = Math.max(1, times.findIndex((time) => time >= instant));
    const share = (instant - times[next - 1]) / (times[next] - times[next - 1]);
    const [from, to] = [response.curve[next - 1], response.curve[next]];
    const level = Object.fromEntries(Object.keys(HALF_LIFE_FACTORS).map((name) => [name, from[name] + share * (to[name] - from[name])]));
    return addDoses(level, doses, instant, response);
  }

  /** Returns the instant, not before `since`, from which the level stays at or below `mg`; null if not within the curve. */
  staysBelowFrom(mg, since) {
    const lastAbove = this.times.findLastIndex((time) => this.at(time).mg > mg);
    return lastAbove === this.times.length - 1 ? null : Math.max(since, this.times[lastAbove + 1]);
  }
}
