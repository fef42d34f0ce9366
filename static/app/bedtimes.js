// Bedtimes of a person in the server's time zone, computed as the server does: the bedtime of a day belongs to its
// evening, and a time before noon lies in the night that follows. Instants are in ms.

import { DAY, HOUR, MINUTE } from "./format.js";
import { ServerZone } from "./server-zone.js";

/** The weekdays as in the profile. */
export const WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

const NOON = 12 * 60;
/** Largest difference between two time zones, in ms. */
const MAX_SHIFT = 26 * HOUR;

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

  /** Returns the local bedtimes around a local time, from before it to after it. */
  localAround(local) {
    const today = Math.floor(local / DAY) * DAY;
    return [-2, -1, 0, 1, 2].map((days) => {
      const evening = today + days * DAY;
      const minutes = minutesOf(this.times.by_weekday[weekdayOf(evening)] ?? this.times.usual);
      return evening + (minutes < NOON ? DAY : 0) + minutes * MINUTE;
    });
  }

  /** Returns the bedtimes around an instant, from before it to after it. */
  around(instant) {
    const local = this.zone.local(instant);
    return this.localAround(local).map((bedtime) => this.zone.at(bedtime, instant + bedtime - local));
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

/** Returns this device's zone, shifted as little as possible so that the next bedtime is that of the response `active`. */
function estimatedZone(active) {
  const device = zoneNamed();
  const bedtime = Date.parse(active.bedtime);
  const local = device.local(bedtime);
  const shifts = new Bedtimes(active, device).localAround(local).map((own) => own - local);
  const zones = shifts.filter((shift) => Math.abs(shift) <= MAX_SHIFT).sort((a, b) => Math.abs(a) - Math.abs(b)).map((shift) => new ServerZone(undefined, shift));
  return zones.find((zone) => new Bedtimes(active, zone).next(Date.parse(active.timestamp)) === bedtime) ?? device;
}

const zones = new Map();
/** Returns the zone with a name; creating one is slow. */
function zoneNamed(name) {
  if (!zones.has(name)) zones.set(name, new ServerZone(name));
  return zones.get(name);
}

const estimates = new WeakMap();
/** Returns the server's zone by its name; if that is not known or not supported, estimates it from the response `active`. */
export function zoneOf(name, active) {
  const zone = zoneNamed(name);
  if (zone.isExact || !active) return zone;
  if (!estimates.has(active)) estimates.set(active, estimatedZone(active));
  return estimates.get(active);
}
