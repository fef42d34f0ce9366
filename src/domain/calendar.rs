//! Calendar days in the server's time zone: where they begin and end, and what
//! local hour an instant has. A day may have 23 or 25 hours.

use std::fmt;

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use serde::{Serialize, Serializer};

use crate::domain::time::{HOUR, SECOND, Timestamp};

/// The time zone whose calendar days count.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    tz: TimeZone,
}

/// A calendar date, written `2025-07-23`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

/// A local time of day to the minute, written `23:00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime(civil::Time);

impl LocalTime {
    /// Reads `23:00` or `7:30`.
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let number = |digits: &str, longest| {
            let fits = (1..=longest).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| digits.parse::<i8>().ok()).flatten()
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
    /// The zone with this IANA name (`Europe/Berlin`) or POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`).
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn named(name: &str) -> Result<Self, &'static str> {
        let name = name.trim().trim_start_matches(':');
        TimeZone::get(name)
            .or_else(|_| TimeZone::posix(name))
            .map(|tz| Self { name: name.to_owned(), tz })
            .map_err(|_| "must be a time zone such as Europe/Berlin")
    }

    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), tz: TimeZone::UTC }
    }

    /// The zone this machine is set to; UTC when it does not say.
    pub fn system() -> Self {
        let tz = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let name = tz.iana_name().unwrap_or("UTC").to_owned();
        Self { name, tz }
    }

    /// The name it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads an instant; one without an offset is local to this zone.
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn parse(&self, text: &str) -> Result<Timestamp, &'static str> {
        Timestamp::parse(text, &self.tz)
    }

    /// The calendar date at an instant.
    pub fn date(&self, at: Timestamp) -> Date {
        Date(self.tz.to_datetime(at.to_jiff()).date())
    }

    /// The first instant of a date and the first instant of the next.
    pub fn day(&self, date: Date) -> (Timestamp, Timestamp) {
        (self.start_of(date), self.start_of(date.next()))
    }

    /// The first instant from `at` on at which clocks show `time`. Where they jump over it, the one as
    /// long after midnight; where they show it twice, the earlier.
    pub fn next_occurrence(&self, time: LocalTime, at: Timestamp) -> Timestamp {
        let on = |date: Date| {
            let instant = self.tz.to_timestamp(date.0.to_datetime(time.0));
            instant.map_or(Timestamp::MAX, |instant| Timestamp::clamped(instant.as_microsecond()))
        };
        let today = self.date(at);
        let dates = [today, today.next(), today.next().next()];
        dates.into_iter().map(on).find(|instant| *instant >= at).unwrap_or(Timestamp::MAX)
    }

    /// What clocks show at an instant: `16:40`.
    pub fn format_time(&self, at: Timestamp) -> String {
        LocalTime(self.tz.to_datetime(at.to_jiff()).time()).to_string()
    }

    fn start_of(&self, date: Date) -> Timestamp {
        let start = date.0.to_zoned_datetime(self.tz.clone());
        start.map_or(Timestamp::MAX, |zoned| Timestamp::clamped(zoned.timestamp().as_microsecond()))
    }

    /// A cursor that turns instants into local dates and hours, fastest in time order.
    pub fn local_clock(&self) -> LocalClock<'_> {
        LocalClock { tz: &self.tz, from: 1, until: 0, offset: Offset::UTC, day: (1, 0), date: None }
    }
}

impl Date {
    /// The day after.
    pub fn next(self) -> Self {
        Self(self.0.tomorrow().unwrap_or(self.0))
    }

    /// The day `days` before.
    pub fn minus_days(self, days: u32) -> Self {
        let span = jiff::Span::new().days(i64::from(days));
        Self(self.0.checked_sub(span).unwrap_or(civil::Date::MIN))
    }

    /// Monday 0 to Sunday 6.
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

/// Remembers the offset in force between two transitions, so that a million rows in
/// time order ask the zone a few times only.
pub struct LocalClock<'z> {
    tz: &'z TimeZone,
    from: i64,
    until: i64,
    offset: Offset,
    day: (i64, i64),
    date: Option<Date>,
}

impl LocalClock<'_> {
    /// The local hour, 0 to 23.
    pub fn hour(&mut self, at: Timestamp) -> usize {
        usize::try_from(self.time_of_day(at) / HOUR).unwrap_or(0)
    }

    /// Microseconds since midnight by the clock on the wall, which may jump.
    pub fn time_of_day(&mut self, at: Timestamp) -> i64 {
        self.local_micros(at).rem_euclid(24 * HOUR)
    }

    /// The local calendar date.
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
        Zone::named(name).unwrap_or_else(|why| panic!("{name} {why}"))
    }

    fn at(text: &str) -> Timestamp {
        Zone::utc().parse(text).unwrap_or_else(|why| panic!("{text} {why}"))
    }

    #[test]
    fn a_day_has_as_many_hours_as_its_zone_gives_it() {
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
    fn the_cursor_agrees_with_the_zone_hour_by_hour_over_two_years() {
        for name in ["Europe/Berlin", "America/Bogota", "Pacific/Kiritimati", "Australia/Lord_Howe"] {
            let zone = zone(name);
            let mut clock = zone.local_clock();
            let start = at("2025-01-01T00:30:00Z");
            // Forwards, and now and then a step back.
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
    fn the_next_bedtime_is_found_through_changes_of_clocks() {
        for (name, time, from, next) in [
            ("Europe/Berlin", "23:00", "2026-06-01T12:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00.000001Z", "2026-06-02T21:00:00.000000Z"),
            ("Europe/Berlin", "0:30", "2026-06-01T21:30:00Z", "2026-06-01T22:30:00.000000Z"),
            // 23 and 25 hours until the next.
            ("Europe/Berlin", "23:00", "2026-03-28T22:00:01Z", "2026-03-29T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-10-24T21:00:01Z", "2026-10-25T22:00:00.000000Z"),
            // Not shown that night, and shown twice.
            ("Europe/Berlin", "2:30", "2026-03-28T22:00:00Z", "2026-03-29T01:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-25T00:45:00Z", "2026-10-26T01:30:00.000000Z"),
            ("UTC", "23:00", "9999-12-30T21:59:59Z", "9999-12-30T22:00:00.000000Z"),
        ] {
            let time = LocalTime::parse(time).unwrap_or_else(|why| panic!("{time} {why}"));
            assert_eq!(zone(name).next_occurrence(time, at(from)).to_string(), next, "{name} {from}");
        }
        for text in ["", "24:00", "23", "23:5", "23:60", "+1:00", "011:00", "11 pm", "-1:00"] {
            assert!(LocalTime::parse(text).is_err(), "{text}");
        }
        assert_eq!(zone("Europe/Berlin").format_time(at("2026-06-01T05:05:59Z")), "07:05");
    }

    #[test]
    fn posix_rules_and_colons_are_names_too() {
        assert_eq!(zone(":Europe/Berlin").name(), "Europe/Berlin");
        let posix = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let (from, until) = posix.day(posix.date(at("2026-03-29T12:00:00Z")));
        assert_eq!((until.micros() - from.micros()) / HOUR, 23);
        assert!(Zone::named("Europe/Atlantis").is_err());
    }
}
