//! Date and time as phones and spreadsheets write them: `2025-07-23 14:30:00 +0200`, and the
//! twelve-hour forms of their locales.

use crate::domain::calendar::Zone;
use crate::domain::time::{DAY, HOUR, MINUTE, SECOND, Timestamp};

/// A clock of twelve hours, as locales write its halves, letters only.
const MORNING: [&str; 5] = ["am", "vorm", "上午", "오전", "ص"];
const AFTERNOON: [&str; 5] = ["pm", "nachm", "下午", "오후", "م"];

impl Timestamp {
    /// Reads `2025-07-23 14:30:00 +0200` and `2025-07-23 2:30:00 PM +0200`, the blanks of
    /// any kind, the offset with a colon or without; where it is missing, `zone` counts.
    pub fn parse_lenient(text: &str, zone: &Zone) -> Option<Self> {
        if let Some(instant) = parse_fixed(text.as_bytes()) {
            return Some(instant);
        }
        let mut parts = text.split_whitespace().peekable();
        let date = parts.next()?;
        let clock = parts.next()?;
        let mut half = String::new();
        let mut offset = None;
        for part in parts {
            match part.as_bytes().first() {
                _ if offset.is_some() => return None,
                Some(b'+' | b'-') => offset = Some(part),
                _ => half.extend(part.chars().filter(|c| *c != '.').flat_map(char::to_lowercase)),
            }
        }
        // Some write the half first: 下午2:30:00.
        let first_digit = clock.find(|c: char| c.is_ascii_digit())?;
        let (before, clock) = clock.split_at(first_digit);
        half.push_str(before);
        let clock = twelve_hours(clock, &half)?;
        match offset {
            Some(offset) => zone.parse(&format!("{date}T{clock}{offset}")),
            None => zone.parse(&format!("{date}T{clock}")),
        }
        .ok()
    }
}

/// A time of day in 24 hours, from one that may belong to a half of the day.
fn twelve_hours(clock: &str, half: &str) -> Option<String> {
    let (hour, rest) = clock.split_once(':')?;
    let hour: u8 = hour.parse().ok()?;
    let hour = match half {
        "" => hour,
        half if MORNING.contains(&half) && (1..=12).contains(&hour) => hour % 12,
        half if AFTERNOON.contains(&half) && (1..=12).contains(&hour) => hour % 12 + 12,
        _ => return None,
    };
    Some(format!("{hour:02}:{rest}"))
}

/// `2025-07-23 14:30:00 +0200` and nothing else, by hand: an export has millions of them.
/// The calendar is Howard Hinnant's `days_from_civil`.
fn parse_fixed(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; 25] = text.try_into().ok()?;
    for (at, mark) in [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':'), (19, b' ')] {
        if text[at] != mark {
            return None;
        }
    }
    let digits = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    let (offset_hours, offset_minutes) = (digits(21, 23)?, digits(23, 25)?);
    let sign = match text[20] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let in_range = (1..=12).contains(&month)
        && (1..=month_length(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && offset_hours < 24
        && offset_minutes < 60;
    if !in_range {
        return None;
    }
    let local = days_from_civil(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second * SECOND;
    Timestamp::from_micros(local - sign * (offset_hours * HOUR + offset_minutes * MINUTE))
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_same_instant_is_read() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for text in [
            "2025-07-23 14:30:00 +0200",
            "2025-07-23 14:30:00 +02:00",
            "2025-07-23 12:30:00 +0000",
            "2025-07-23 02:30:00 -1000",
            "2025-07-23 2:30:00 PM +0200",
            "2025-07-23 2:30:00\u{202f}PM +0200",
            "2025-07-23 2:30:00\u{a0}p.m. +0200",
            "2025-07-23 2:30:00 p. m. +0200",
            "2025-07-23 下午2:30:00 +0200",
            "2025-07-23 14:30:00",
        ] {
            let at = Timestamp::parse_lenient(text, &berlin).map(|at| at.to_string());
            assert_eq!(at.as_deref(), Some("2025-07-23T12:30:00.000000Z"), "{text}");
        }
        for (text, hour) in [("12:05:00 AM", "00:05"), ("12:05:00 PM", "12:05"), ("1:05:00 a.m.", "01:05")] {
            let at = Timestamp::parse_lenient(&format!("2025-01-01 {text} +0000"), &berlin).unwrap();
            assert!(at.to_string().contains(&format!("T{hour}:00")), "{text}: {at}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2025-02-29 14:30:00 +0200",
            "2025-13-01 14:30:00 +0200",
            "2025-07-23 24:30:00 +0200",
            "2025-07-23 14:30:60 +0200",
            "2025-07-23 14:30:00 PM +0200",
            "2025-07-23 0:30:00 PM +0200",
            "2025-07-23 2:30:00 XM +0200",
            "2025-07-23 14:30:00 +0200 +0200",
            "0001-01-01 00:00:00 +0200",
        ] {
            assert_eq!(Timestamp::parse_lenient(text, &Zone::utc()), None, "{text}");
        }
    }

    #[test]
    fn by_hand_and_by_the_calendar_library_are_the_same() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let at = Timestamp::clamped(random.i64(-62_000_000_000..253_000_000_000) * SECOND);
            let text = at.to_string();
            let spoken = format!("{} {} +0000", &text[..10], &text[11..19]);
            assert_eq!(parse_fixed(spoken.as_bytes()), Some(at), "{spoken}");
        }
    }
}
