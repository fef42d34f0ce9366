//! Time zones, calendar days and local times. A day may have 23 or 25 hours.

use std::fmt;
use std::str::FromStr;

use jiff::civil;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use crate::domain::time::Timestamp;

/// Names of the weekdays in the order of [`Date::weekday`].
pub const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    tz: TimeZone,
}

/// Calendar date, formatted as `2025-07-23`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

/// Local time of day, formatted as `23:00`.
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

    /// Returns the hour, 0 to 23.
    pub fn hour(self) -> usize {
        usize::from(self.0.hour().unsigned_abs())
    }

    pub fn is_before_noon(self) -> bool {
        self.hour() < 12
    }

    /// Returns the quarter of an hour of the day, 0 to 95.
    pub fn quarter(self) -> usize {
        self.hour() * 4 + usize::from(self.0.minute().unsigned_abs() / 15)
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), tz: TimeZone::UTC }
    }

    /// Returns the zone of the operating system, or UTC when it has none.
    pub fn system() -> Self {
        let tz = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let name = tz.iana_name().unwrap_or("UTC").to_owned();
        Self { name, tz }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parses an instant; times without an offset are in this zone.
    pub fn parse(&self, text: &str) -> Result<Timestamp, &'static str> {
        Timestamp::parse(text, &self.tz)
    }

    /// Returns the calendar date at an instant.
    pub fn date(&self, at: Timestamp) -> Date {
        self.local(at).0
    }

    /// Returns the calendar date and the local time of day at an instant.
    pub fn local(&self, at: Timestamp) -> (Date, LocalTime) {
        let local = self.tz.to_datetime(at.to_jiff());
        (Date(local.date()), LocalTime(local.time()))
    }

    /// Returns the start of a date and of the next date.
    pub fn day(&self, date: Date) -> (Timestamp, Timestamp) {
        (self.start_of(date), self.start_of(date.next()))
    }

    /// Returns the instant of a local time on a date. When clocks skip it, this is the instant as long after
    /// midnight; when clocks repeat it, the earlier one.
    pub fn instant(&self, date: Date, time: LocalTime) -> Timestamp {
        let instant = self.tz.to_timestamp(date.0.to_datetime(time.0));
        instant.map_or(Timestamp::MAX, |instant| Timestamp::clamped(instant.as_microsecond()))
    }

    /// Formats the local time of an instant: `16:40`.
    pub fn format_time(&self, at: Timestamp) -> String {
        self.local(at).1.to_string()
    }

    /// Formats the local date and time to the second: `2026-06-01 07:05:59`.
    pub fn format_local(&self, at: Timestamp) -> String {
        self.tz.to_datetime(at.to_jiff()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn start_of(&self, date: Date) -> Timestamp {
        let start = date.0.to_zoned_datetime(self.tz.clone());
        start.map_or(Timestamp::MAX, |zoned| Timestamp::clamped(zoned.timestamp().as_microsecond()))
    }
}

impl Date {
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

impl FromStr for Date {
    type Err = &'static str;

    /// Parses `2025-07-23`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let date = text.parse().ok().filter(|date: &civil::Date| date.to_string() == text);
        date.map(Self).ok_or("must be a date such as 2025-07-23")
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

#[cfg(test)]
#[expect(clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::time::HOUR;

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
    fn a_time_of_day_has_two_digits_of_minutes() {
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
