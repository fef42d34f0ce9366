// Calendar days in the server's time zone. Instants are in ms, days are written as 2026-03-01.

import { DAY } from "./format.js";

const FIELDS = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

export class ServerZone {
  /**
   * Uses this device's zone if no zone is named, or one that the browser does not support. `shift`, in ms, is added to
   * every local time.
   */
  constructor(name, shift = 0) {
    this.shift = shift;
    try {
      this.format = new Intl.DateTimeFormat("en", { ...FIELDS, timeZone: name });
      this.isExact = Boolean(name);
    } catch {
      this.format = new Intl.DateTimeFormat("en", FIELDS);
      this.isExact = false;
    }
  }

  /** Returns the local time of an instant, as an instant in UTC. */
  local(instant) {
    const { year, month, day, hour, minute, second } = Object.fromEntries(this.format.formatToParts(instant).map(({ type, value }) => [type, value]));
    return Date.UTC(year, month - 1, day, hour, minute, second) + this.shift;
  }

  /** Returns the calendar day of an instant. */
  date(instant) {
    return new Date(this.local(instant)).toISOString().slice(0, 10);
  }

  /** Returns the instant with a local time near `instant`; the earlier one of two, as the day starts with it. */
  at(local, instant) {
    const candidates = [instant, instant + DAY, instant - DAY].map((near) => local - (this.local(near) - Math.floor(near / 1000) * 1000));
    return candidates.filter((candidate) => this.local(candidate) >= local).sort((a, b) => a - b)[0] ?? candidates[0];
  }

  /** Returns the first instant of the next calendar day. */
  endOfDay(instant) {
    return this.at(Math.floor(this.local(instant) / DAY + 1) * DAY, instant);
  }
}
