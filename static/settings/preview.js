// Effect of another profile on the caffeine level and on the advice, computed without the server.

import { CaffeineModel } from "../app/caffeine-model.js";
import { medianOf } from "../app/outlook.js";
import { currentCurve, currentDrinks, store } from "../app/store.js";

/** Returns by how many mg the level at an instant changes with another half-life, as far as these drinks are concerned. */
function levelChange(drinks, halfLife, instant, band) {
  const { active } = store;
  if (halfLife === active.half_life_hours) return 0;
  const [before, after] = [active.half_life_hours, halfLife].map((hours) => new CaffeineModel({ ...active, half_life_hours: hours }, []));
  return drinks.reduce((sum, drink) => sum + after.afterDose(drink, instant, band).mg - before.afterDose(drink, instant, band).mg, 0);
}

/** Returns the response `active` as it would be with the values of a profile; a usual dose of null is the median. */
export function activeWith({ bedtime, bedtime_by_weekday, half_life_hours: halfLife, sleep_threshold_mg, usual_dose_mg, daily_limit_mg }) {
  const { active, coffees } = store;
  const at = Date.parse(active.timestamp);
  const drinks = coffees.map((coffee) => ({ at: Date.parse(coffee.timestamp), mg: coffee.caffeine_mg }));
  const level = (mg, band) => Math.max(0, mg + levelChange(drinks, halfLife, at, band));
  return {
    ...active,
    bedtimes: { usual: bedtime, by_weekday: bedtime_by_weekday },
    half_life_hours: halfLife,
    sleep_threshold_mg,
    usual_dose_mg: usual_dose_mg ?? medianOf(active, coffees),
    daily_limit_mg,
    active_caffeine_mg: level(active.active_caffeine_mg, "mg"),
    low_mg: level(active.low_mg, "low_mg"),
    high_mg: level(active.high_mg, "high_mg"),
  };
}

/** Returns the points of today's curve as `{at, saved, changed}`, in mg, with the saved and with another half-life. */
export function curveWith(halfLife) {
  const curve = currentCurve();
  if (!curve) return [];
  const midnight = new Date().setHours(0, 0, 0, 0);
  const drinks = currentDrinks();
  const instants = [...new Set([...curve.times, ...drinks.map((drink) => drink.at)])].filter((instant) => instant >= midnight && curve.at(instant));
  return instants.sort((a, b) => a - b).map((at) => {
    const saved = curve.at(at).mg;
    return { at, saved, changed: Math.max(0, saved + levelChange(drinks, halfLife, at, "mg")) };
  });
}
