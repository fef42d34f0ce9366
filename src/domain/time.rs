//! Instants: whole microseconds since 1970-01-01T00:00:00Z, in the years 1 to 9999.
//!
//! Reads every form the API accepts and writes the one it gives. Days and zones are
//! in `calendar`.

use std::fmt;

use jiff::civil;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in 24 hours (not a calendar day: those have 23 to 25 hours).
pub const DAY: i64 = 24 * HOUR;

/// An instant in UTC, in whole microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800 * SECOND);
    /// 9999-12-30T22:00:00Z: every zone's local time still has a four-digit year.
    pub const MAX: Self = Self(253_402_207_200 * SECOND);

    /// The instant `micros` microseconds after 1970; `None` outside of the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&micros).then_some(Self(micros))
    }

    /// The nearest instant within the years 1 to 9999.
    pub fn clamped(micros: i64) -> Self {
        Self(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, with fraction.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }

    /// Hours from `earlier` to this instant; negative when it lies before.
    pub fn hours_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / HOUR as f64
    }

    /// This instant moved by `micros`, held within the years 1 to 9999.
    pub fn plus(self, micros: i64) -> Self {
        Self::clamped(self.0.saturating_add(micros))
    }

    /// This instant moved back by `micros`, held within the years 1 to 9999.
    pub fn minus(self, micros: i64) -> Self {
        Self::clamped(self.0.saturating_sub(micros))
    }

    /// Reads RFC 3339, its common variations, and local times, which are taken in the zone
    /// that they name (`2025-07-23T14:30:00[Europe/Berlin]`), else in `zone`.
    ///
    /// A space where a `+` belongs (a query that was not percent-encoded) is read as one.
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, &'static str> {
        const FORM: &str = "must be a date and time such as 2025-07-23T14:30:00Z";
        const YEARS: &str = "must lie in the years 1 to 9999";
        const ZONE: &str = "must name a time zone that is known, such as [Europe/Berlin]";
        let text = restore_plus(text);
        if has_leap_second(&text) {
            return Err("must have seconds from 0 to 59 (leap seconds cannot be stored)");
        }
        let instant = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => {
                let local: civil::DateTime = text.parse().map_err(|_| FORM)?;
                // A trailing offset or `Z` was given but did not parse as an instant.
                if has_offset(&text) {
                    return Err(FORM);
                }
                let named = Pieces::parse(&text).map_err(|_| FORM)?.to_time_zone().map_err(|_| ZONE)?;
                named.as_ref().unwrap_or(zone).to_timestamp(local).map_err(|_| YEARS)?
            }
        };
        // Rounded down, also before 1970, where `as_microsecond` would round up.
        let micros = instant.as_nanosecond().div_euclid(1000);
        i64::try_from(micros).ok().and_then(Self::from_micros).ok_or(YEARS)
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
    // The name of a zone may have all of them.
    let clock = text.get(10..).and_then(|clock| clock.split('[').next());
    clock.is_some_and(|clock| clock.contains(['Z', 'z', '+', '-']))
}

/// An instant as text: `2025-07-23T14:30:00.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampText([u8; 27]);

impl TimestampText {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever written.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Timestamp {
    /// As every answer writes it: RFC 3339 in UTC with six decimals. A list has a thousand of
    /// them, so it is done by hand; the calendar is Howard Hinnant's `civil_from_days`
    /// (chrono-Compatible Low-Level Date Algorithms).
    pub fn text(self) -> TimestampText {
        let (days, within) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (place, digits, number) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, within / HOUR),
            (14, 2, within % HOUR / MINUTE),
            (17, 2, within % MINUTE / SECOND),
            (20, 6, within % SECOND),
        ] {
            let mut rest = number.unsigned_abs();
            for digit in text[place..place + digits].iter_mut().rev() {
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

/// For files of ours: in them a time without an offset is UTC.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, &TimeZone::UTC).map_err(serde::de::Error::custom)
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let micros = |nanos: u128| i64::try_from(nanos / 1000).unwrap_or(i64::MAX);
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self::clamped(micros(after.as_nanos())),
            Err(before) => Self::clamped(-micros(before.duration().as_nanos().saturating_add(999))),
        }
    }
}

/// Formats an instant for a file name: `YYYYMMDD_HHMMSS`, UTC.
pub fn file_name_time(at: Timestamp) -> String {
    let text = at.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}_{}", &digits[..8], &digits[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, &'static str> {
        let berlin = TimeZone::get("Europe/Berlin").map_err(|_| "no such zone")?;
        Timestamp::parse(text, &berlin).map(|t| t.to_string())
    }

    #[test]
    fn every_accepted_form_is_read_as_the_same_instant() {
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
    fn parts_of_a_microsecond_are_rounded_down_before_1970_too() {
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
    fn what_is_no_instant_is_refused() {
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
            assert!(parse(text).is_err(), "{text} was read as {:?}", parse(text));
        }
    }

    #[test]
    fn every_instant_prints_as_the_calendar_library_prints_it() {
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
    fn the_ends_of_time_print_with_four_digit_years() {
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000000Z");
        assert_eq!(Timestamp::clamped(i64::MAX), Timestamp::MAX);
    }
}
