// Bedtimes of a person in the server's time zone, computed as the server does: the bedtime of a day belongs to its
// evening, and a time before noon lies in the night that follows. Instants are in ms.

import { DAY, MINUTE } from "./format.js";

/** The weekdays as in the profile. */
export const WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

const NOON = 12 * 60;

/** Returns the minutes since midnight of a time of day (22:30). */
export function minutesOf(time) {
  const [hours, minutes] = time.split(":").map(Number);
  return hours * 60 + minutes;
}

/** Returns the name of the weekday of a local day, given as its first instant in UTC. */
const weekdayOf = (day) => WEEKDAYS[(new Date(day).getUTCDay() + 6) % 7];

export class Bedtimes {
  /** Reads them from the response `active`. One that an older version has cached has the next bedtime only. */
  constructor(active, zone) {
    this.zone = zone;
    this.times = active.bedtimes ?? { usual: new Date(zone.local(Date.parse(active.bedtime))).toISOString().slice(11, 16), by_weekday: {} };
  }

  /** Returns the bedtimes around an instant, from before it to after it. */
  around(instant) {
    const local = this.zone.local(instant);
    const today = Math.floor(local / DAY) * DAY;
    return [-2, -1, 0, 1, 2].map((days) => {
      const evening = today + days * DAY;
      const minutes = minutesOf(this.times.by_weekday[weekdayOf(evening)] ?? this.times.usual);
      const bedtime = evening + (minutes < NOON ? DAY : 0) + minutes * MINUTE;
      return this.zone.at(bedtime, instant + bedtime - local);
    });
  }

  /** Returns the first bedtime from an instant on. */
  next(instant) {
    return this.around(instant).find((bedtime) => bedtime >= instant);
  }

  /** Returns the last bedtime before an instant. */
  last(instant) {
    return this.around(instant).findLast((bedtime) => bedtime < instant);
  }
}
