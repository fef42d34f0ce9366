//! Instants in whole microseconds since the Unix epoch, in the years 1 to 9999: parsing and formatting.
//!
//! Calendar days and time zones are in `calendar`.

use std::fmt;

use jiff::civil;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in 24 hours; a calendar day may have 23 to 25.
pub const DAY: i64 = 24 * HOUR;

/// Instant in whole microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800 * SECOND);
    /// 9999-12-30T22:00:00Z, the last hour in which the local year has four digits in every zone.
    pub const MAX: Self = Self(253_402_207_200 * SECOND);

    /// Creates an instant; `None` outside of the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&micros).then_some(Self(micros))
    }

    /// Creates an instant, clamped to the years 1 to 9999.
    pub fn clamped(micros: i64) -> Self {
        Self(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the seconds since the Unix epoch, with fraction.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }

    /// Returns the hours since `earlier`; negative when this instant lies before it.
    pub fn hours_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / HOUR as f64
    }

    /// Adds microseconds, clamped to the years 1 to 9999.
    pub fn plus(self, micros: i64) -> Self {
        Self::clamped(self.0.saturating_add(micros))
    }

    /// Subtracts microseconds, clamped to the years 1 to 9999.
    pub fn minus(self, micros: i64) -> Self {
        Self::clamped(self.0.saturating_sub(micros))
    }

    /// Parses RFC 3339, common variations of it, and local times. A local time is in the zone that it names
    /// (`2025-07-23T14:30:00[Europe/Berlin]`), otherwise in `zone`. A space in place of `+`, from a query
    /// that was not percent-encoded, is accepted.
    ///
    /// # Errors
    /// A message that states the requirement.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, &'static str> {
        const FORM: &str = "must be a date and time such as 2025-07-23T14:30:00Z";
        const YEARS: &str = "must lie in the years 1 to 9999";
        const ZONE: &str = "must name a known time zone such as [Europe/Berlin]";
        let text = restore_plus(text);
        if has_leap_second(&text) {
            return Err("must have seconds from 0 to 59 (leap seconds cannot be stored)");
        }
        let instant = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => {
                let local: civil::DateTime = text.parse().map_err(|_| FORM)?;
                // An offset or `Z` is present but invalid.
                if has_offset(&text) {
                    return Err(FORM);
                }
                let named = Pieces::parse(&text).map_err(|_| FORM)?.to_time_zone().map_err(|_| ZONE)?;
                named.as_ref().unwrap_or(zone).to_timestamp(local).map_err(|_| YEARS)?
            }
        };
        Self::from_nanos(instant.as_nanosecond()).ok_or(YEARS)
    }

    /// Rounds nanoseconds since the Unix epoch down, before 1970 too.
    fn from_nanos(nanos: i128) -> Option<Self> {
        i64::try_from(nanos.div_euclid(1000)).ok().and_then(Self::from_micros)
    }

    pub(super) fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

fn restore_plus(text: &str) -> String {
    let text = text.trim();
    let spaces = text.matches(' ').count();
    let has_t = text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    match text.rfind(' ') {
        Some(at) if spaces == if has_t { 1 } else { 2 } => {
            format!("{}+{}", &text[..at], &text[at + 1..])
        }
        _ => text.to_owned(),
    }
}

fn has_leap_second(text: &str) -> bool {
    let Some(clock) = text.get(11..19) else { return false };
    let colons = clock.as_bytes();
    colons[2] == b':' && colons[5] == b':' && &clock[6..8] == "60"
}

fn has_offset(text: &str) -> bool {
    // The name of a zone in brackets may contain the same characters.
    let clock = text.get(10..).and_then(|clock| clock.split('[').next());
    clock.is_some_and(|clock| clock.contains(['Z', 'z', '+', '-']))
}

/// Formatted instant: `2025-07-23T14:30:00.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampText([u8; 27]);

impl TimestampText {
    pub fn as_str(&self) -> &str {
        // The text is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Timestamp {
    /// Formats the instant as in every response: RFC 3339 in UTC with six decimals. It does not allocate,
    /// because a list has a thousand instants.
    pub fn text(self) -> TimestampText {
        let utc = Offset::UTC.to_datetime(self.to_jiff());
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (position, digits, number) in [
            (0, 4, i32::from(utc.year())),
            (5, 2, i32::from(utc.month())),
            (8, 2, i32::from(utc.day())),
            (11, 2, i32::from(utc.hour())),
            (14, 2, i32::from(utc.minute())),
            (17, 2, i32::from(utc.second())),
            (20, 6, utc.subsec_nanosecond() / 1000),
        ] {
            let mut rest = number.unsigned_abs();
            for digit in text[position..position + digits].iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
        }
        TimestampText(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

/// Used for this program's own files, where times without an offset are in UTC.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, &TimeZone::UTC).map_err(serde::de::Error::custom)
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let at = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
        Self::from_nanos(at.as_nanosecond()).unwrap_or(Self::MAX)
    }
}

/// Formats an instant for a file name: `YYYYMMDD_HHMMSS`, UTC.
pub fn file_name_time(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y%m%d_%H%M%S").to_string()
}

/// Parses a time in a file name, as [`file_name_time`] formats it.
pub fn parse_file_name_time(text: &str) -> Option<Timestamp> {
    let utc = civil::DateTime::strptime("%Y%m%d_%H%M%S", text).ok()?;
    let at = Timestamp::from_nanos(TimeZone::UTC.to_timestamp(utc).ok()?.as_nanosecond())?;
    // Other forms of the same time are not names that this program has given.
    (file_name_time(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, &'static str> {
        let berlin = TimeZone::get("Europe/Berlin").map_err(|_| "no such zone")?;
        Timestamp::parse(text, &berlin).map(|t| t.to_string())
    }

    #[test]
    fn every_accepted_form_is_parsed_to_the_same_instant() {
        for text in [
            "2025-07-23T14:30:00.123456Z",
            "2025-07-23t14:30:00.123456z",
            "2025-07-23T16:30:00.123456+02:00",
            "2025-07-23T16:30:00.123456 02:00",
            "2025-07-23 16:30:00.123456 02:00",
            "2025-07-23 16:30:00.123456+02:00",
            "2025-07-23T16:30:00.123456+0200",
            "2025-07-23T16:30:00.123456+02",
            "2025-07-23T16:30:00.123456",
            " 2025-07-23 16:30:00.123456 ",
            "2025-07-23T16:30:00.123456999",
            "2025-07-23T14:30:00.123456[UTC]",
            "2025-07-23T10:30:00.123456[America/New_York]",
            "2025-07-23 16:30:00.123456[Europe/Zurich]",
            "2025-07-23T09:30:00.123456[Etc/GMT+5]",
            "2025-07-23T15:30:00.123456[+01:00]",
            "2025-07-23T16:30:00.123456[u-ca=gregory]",
            "2025-07-23T14:30:00.123456Z[America/New_York]",
        ] {
            assert_eq!(parse(text).as_deref(), Ok("2025-07-23T14:30:00.123456Z"), "{text}");
        }
        assert_eq!(parse("2025-07-23").as_deref(), Ok("2025-07-22T22:00:00.000000Z"));
    }

    #[test]
    fn fractions_of_a_microsecond_are_rounded_down_before_1970_too() {
        for (text, expected) in [
            ("2025-07-23T14:30:00.123456999Z", "2025-07-23T14:30:00.123456Z"),
            ("1970-01-01T00:00:00.000000999Z", "1970-01-01T00:00:00.000000Z"),
            ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999Z"),
            ("1969-12-31T23:59:59.999999001Z", "1969-12-31T23:59:59.999999Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("1950-06-01T12:00:00.000000001+02:00", "1950-06-01T10:00:00.000000Z"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
        let epoch = std::time::UNIX_EPOCH;
        for (nanos, expected) in [(0, 0), (1, -1), (999, -1), (1000, -1), (1001, -2)] {
            let time = epoch - std::time::Duration::from_nanos(nanos);
            assert_eq!(Timestamp::from(time).micros(), expected, "{nanos} ns before 1970");
        }
    }

    #[test]
    fn invalid_instants_are_rejected() {
        for text in [
            "",
            "now",
            "0000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2025-07-23T14:30:00+99:00",
            "2016-12-31T23:59:60Z",
            "2025-02-29T00:00:00Z",
            "2025-07-23T24:00:00Z",
            "14:30",
            "1753281000",
            "2025-07-23T14:30:00Zulu",
            "2025-07-23T14:30:00+",
            "2025-07-23T14:30:00[Nowhere/Land]",
            "2025-07-23T14:30:00[UTC",
            "2025-07-23T14:30:00[]",
            "\u{661}025-07-23T14:30:00Z",
        ] {
            assert!(parse(text).is_err(), "{text} was parsed as {:?}", parse(text));
        }
    }

    #[test]
    fn instants_are_formatted_like_jiff_formats_them() {
        let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
        let mut random = fastrand::Rng::with_seed(1);
        for n in 0..20_000 {
            let micros = match n {
                0..10_000 => random.i64(Timestamp::MIN.0..=Timestamp::MAX.0),
                // Every midnight from 1970 on.
                _ => (n - 10_000) * DAY - i64::from(n % 2 == 0),
            };
            let instant = Timestamp(micros);
            assert_eq!(instant.to_string(), printer.timestamp_to_string(&instant.to_jiff()));
        }
    }

    #[test]
    fn the_first_and_last_instant_have_four_digit_years() {
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000000Z");
        assert_eq!(Timestamp::clamped(i64::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_time_in_a_file_name_is_parsed_only_in_the_form_in_which_it_is_written() {
        let parsed = |text| parse_file_name_time(text).map(|at| at.to_string());
        assert_eq!(parsed("20250723_143000").as_deref(), Some("2025-07-23T14:30:00.000000Z"));
        for wrong in [
            "20250723_143060",
            "20250230_120000",
            "2025723_143000",
            "20250723-143000",
            "20250723_143000 ",
            "",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
