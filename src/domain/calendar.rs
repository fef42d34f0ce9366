//! Time zones, calendar days and local times. A day may have 23 or 25 hours.

use std::fmt;

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use serde::{Serialize, Serializer};

use crate::domain::time::{HOUR, SECOND, Timestamp};

/// Time zone.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    tz: TimeZone,
}

/// Calendar date, formatted as `2025-07-23`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

/// Local time of day in minutes, formatted as `23:00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime(civil::Time);

impl LocalTime {
    /// Parses `23:00` or `7:30`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let number = |digits: &str, max_length| {
            let is_valid =
                (1..=max_length).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            is_valid.then(|| digits.parse::<i8>().ok()).flatten()
        };
        text.trim()
            .split_once(':')
            .filter(|(_, minute)| minute.len() == 2)
            .and_then(|(hour, minute)| civil::Time::new(number(hour, 2)?, number(minute, 2)?, 0, 0).ok())
            .map(Self)
            .ok_or("must be a time of day such as 23:00")
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl Zone {
    /// Returns the zone with an IANA name (`Europe/Berlin`) or a POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`).
    pub fn named(name: &str) -> Result<Self, &'static str> {
        let name = name.trim().trim_start_matches(':');
        TimeZone::get(name)
            .or_else(|_| TimeZone::posix(name))
            .map(|tz| Self { name: name.to_owned(), tz })
            .map_err(|_| "must be a time zone such as Europe/Berlin")
    }

    /// Returns UTC.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), tz: TimeZone::UTC }
    }

    /// Returns the zone of the operating system, or UTC when it has none.
    pub fn system() -> Self {
        let tz = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let name = tz.iana_name().unwrap_or("UTC").to_owned();
        Self { name, tz }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parses an instant; times without an offset are in this zone.
    pub fn parse(&self, text: &str) -> Result<Timestamp, &'static str> {
        Timestamp::parse(text, &self.tz)
    }

    /// Returns the calendar date at an instant.
    pub fn date(&self, at: Timestamp) -> Date {
        Date(self.tz.to_datetime(at.to_jiff()).date())
    }

    /// Returns the start of a date and of the next date.
    pub fn day(&self, date: Date) -> (Timestamp, Timestamp) {
        (self.start_of(date), self.start_of(date.next()))
    }

    /// Returns the first instant from `at` on with the local time `time`. When clocks skip it, this is the
    /// instant as long after midnight; when clocks repeat it, the earlier one.
    pub fn next_occurrence(&self, time: LocalTime, at: Timestamp) -> Timestamp {
        let on = |date: Date| {
            let instant = self.tz.to_timestamp(date.0.to_datetime(time.0));
            instant.map_or(Timestamp::MAX, |instant| Timestamp::clamped(instant.as_microsecond()))
        };
        let today = self.date(at);
        let dates = [today, today.next(), today.next().next()];
        dates.into_iter().map(on).find(|instant| *instant >= at).unwrap_or(Timestamp::MAX)
    }

    /// Formats the local time of an instant: `16:40`.
    pub fn format_time(&self, at: Timestamp) -> String {
        LocalTime(self.tz.to_datetime(at.to_jiff()).time()).to_string()
    }

    fn start_of(&self, date: Date) -> Timestamp {
        let start = date.0.to_zoned_datetime(self.tz.clone());
        start.map_or(Timestamp::MAX, |zoned| Timestamp::clamped(zoned.timestamp().as_microsecond()))
    }

    /// Returns a cursor that converts instants to local dates and times, fastest in time order.
    pub fn local_clock(&self) -> LocalClock<'_> {
        LocalClock { tz: &self.tz, from: 1, until: 0, offset: Offset::UTC, day: (1, 0), date: None }
    }
}

impl Date {
    /// Returns the next day.
    pub fn next(self) -> Self {
        Self(self.0.tomorrow().unwrap_or(self.0))
    }

    /// Returns the day `days` before.
    pub fn minus_days(self, days: u32) -> Self {
        let span = jiff::Span::new().days(i64::from(days));
        Self(self.0.checked_sub(span).unwrap_or(civil::Date::MIN))
    }

    /// Returns the weekday, 0 for Monday to 6 for Sunday.
    pub fn weekday(self) -> usize {
        usize::try_from(self.0.weekday().to_monday_zero_offset()).unwrap_or(0)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Converter of instants to local dates and times. It caches the offset between two transitions, so the
/// rules of the zone are rarely evaluated for rows in time order.
pub struct LocalClock<'z> {
    tz: &'z TimeZone,
    /// Validity of `offset`: [from, until) in microseconds.
    from: i64,
    until: i64,
    offset: Offset,
    /// Validity of `date`: [start, end) in local microseconds.
    day: (i64, i64),
    date: Option<Date>,
}

impl LocalClock<'_> {
    /// Returns the local hour, 0 to 23.
    pub fn hour(&mut self, at: Timestamp) -> usize {
        usize::try_from(self.time_of_day(at) / HOUR).unwrap_or(0)
    }

    /// Returns the local time of day in microseconds.
    pub fn time_of_day(&mut self, at: Timestamp) -> i64 {
        self.local_micros(at).rem_euclid(24 * HOUR)
    }

    /// Returns the local date.
    pub fn date(&mut self, at: Timestamp) -> Date {
        let local = self.local_micros(at);
        if let Some(date) = self.date
            && (self.day.0..self.day.1).contains(&local)
        {
            return date;
        }
        let start = local - local.rem_euclid(24 * HOUR);
        let date = Date(self.offset.to_datetime(at.to_jiff()).date());
        self.day = (start, start + 24 * HOUR);
        self.date = Some(date);
        date
    }

    fn local_micros(&mut self, at: Timestamp) -> i64 {
        let micros = at.micros();
        if !(self.from..self.until).contains(&micros) {
            let instant = at.to_jiff();
            self.offset = self.tz.to_offset(instant);
            let before = self
                .tz
                .preceding(instant.checked_add(jiff::SignedDuration::from_micros(1)).unwrap_or(instant))
                .next();
            self.from = before.map_or(i64::MIN, |t| t.timestamp().as_microsecond());
            let after = self.tz.following(instant).next();
            self.until = after.map_or(i64::MAX, |t| t.timestamp().as_microsecond());
        }
        micros + i64::from(self.offset.seconds()) * SECOND
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap_or_else(|e| panic!("{name} {e}"))
    }

    fn at(text: &str) -> Timestamp {
        Zone::utc().parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
    }

    #[test]
    fn a_day_has_the_length_that_its_zone_defines() {
        for (name, noon, start, hours) in [
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00.000000Z", 23),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00.000000Z", 25),
            ("Europe/Berlin", "2026-06-01T12:00:00Z", "2026-05-31T22:00:00.000000Z", 24),
            ("America/Bogota", "2026-06-01T12:00:00Z", "2026-06-01T05:00:00.000000Z", 24),
            ("Pacific/Kiritimati", "2026-06-01T12:00:00Z", "2026-06-01T10:00:00.000000Z", 24),
            // Samoa skipped 2011-12-30 altogether.
            ("Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T10:00:00.000000Z", 24),
            // Midnight does not exist on this day: it begins at 01:00.
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00.000000Z", 23),
        ] {
            let zone = zone(name);
            let (from, until) = zone.day(zone.date(at(noon)));
            assert_eq!(from.to_string(), start, "{name}");
            assert_eq!((until.micros() - from.micros()) / HOUR, hours, "{name} {noon}");
        }
    }

    #[test]
    fn the_cursor_agrees_with_the_zone_for_every_hour_of_two_years() {
        for name in ["Europe/Berlin", "America/Bogota", "Pacific/Kiritimati", "Australia/Lord_Howe"] {
            let zone = zone(name);
            let mut clock = zone.local_clock();
            let start = at("2025-01-01T00:30:00Z");
            // Forwards, with occasional steps back.
            for step in 0..17_520_i64 {
                let instant = start.plus((step - (step % 7 == 0) as i64 * 30) * HOUR);
                let zoned = instant.to_jiff().to_zoned_datetime(zone.tz.clone());
                assert_eq!(
                    clock.hour(instant),
                    usize::try_from(zoned.hour()).unwrap_or(99),
                    "{name} {instant}"
                );
                assert_eq!(clock.date(instant), zone.date(instant), "{name} {instant}");
            }
        }
    }

    #[test]
    fn the_next_occurrence_is_found_across_clock_changes() {
        for (name, time, from, next) in [
            ("Europe/Berlin", "23:00", "2026-06-01T12:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00.000001Z", "2026-06-02T21:00:00.000000Z"),
            ("Europe/Berlin", "0:30", "2026-06-01T21:30:00Z", "2026-06-01T22:30:00.000000Z"),
            // 23 and 25 hours until the next.
            ("Europe/Berlin", "23:00", "2026-03-28T22:00:01Z", "2026-03-29T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-10-24T21:00:01Z", "2026-10-25T22:00:00.000000Z"),
            // Skipped that night, and repeated.
            ("Europe/Berlin", "2:30", "2026-03-28T22:00:00Z", "2026-03-29T01:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-25T00:45:00Z", "2026-10-26T01:30:00.000000Z"),
            ("UTC", "23:00", "9999-12-30T21:59:59Z", "9999-12-30T22:00:00.000000Z"),
        ] {
            let time = LocalTime::parse(time).unwrap_or_else(|e| panic!("{time} {e}"));
            assert_eq!(zone(name).next_occurrence(time, at(from)).to_string(), next, "{name} {from}");
        }
        for text in ["", "24:00", "23", "23:5", "23:60", "+1:00", "011:00", "11 pm", "-1:00"] {
            assert!(LocalTime::parse(text).is_err(), "{text}");
        }
        assert_eq!(zone("Europe/Berlin").format_time(at("2026-06-01T05:05:59Z")), "07:05");
    }

    #[test]
    fn posix_rules_and_a_leading_colon_are_accepted() {
        assert_eq!(zone(":Europe/Berlin").name(), "Europe/Berlin");
        let posix = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let (from, until) = posix.day(posix.date(at("2026-03-29T12:00:00Z")));
        assert_eq!((until.micros() - from.micros()) / HOUR, 23);
        assert!(Zone::named("Europe/Atlantis").is_err());
    }
}
