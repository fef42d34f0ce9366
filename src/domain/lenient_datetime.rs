//! Lenient parser for dates with times as phones and spreadsheets write them: `2025-07-23 14:30:00 +0200`,
//! and the 12-hour clock of several languages.

use crate::domain::calendar::Zone;
use crate::domain::time::Timestamp;

/// Markers of the 12-hour clock in several languages, without dots.
const AM_MARKERS: [&str; 5] = ["am", "vorm", "上午", "오전", "ص"];
const PM_MARKERS: [&str; 5] = ["pm", "nachm", "下午", "오후", "م"];

impl Timestamp {
    /// Parses `2025-07-23 14:30:00 +0200` and `2025-07-23 2:30:00 PM +0200`, with any kind of blank and an
    /// offset with or without a colon. Times without an offset are in `zone`.
    pub fn parse_lenient(text: &str, zone: &Zone) -> Option<Self> {
        // The form of an Apple Health export, which has millions, is that of RFC 3339 but for a blank.
        if let Some((time, offset)) = text.split_at_checked("2025-07-23 14:30:00".len())
            && let Some(offset) = offset.strip_prefix(' ').filter(|offset| offset.starts_with(['+', '-']))
            && let Ok(at) = zone.parse(&[time, offset].concat())
        {
            return Some(at);
        }
        let mut parts = text.split_whitespace();
        let date = parts.next()?;
        let clock = parts.next()?;
        let mut marker = String::new();
        let mut offset = None;
        for part in parts {
            match part.as_bytes().first() {
                _ if offset.is_some() => return None,
                Some(b'+' | b'-') => offset = Some(part),
                _ => marker.extend(part.chars().filter(|c| *c != '.').flat_map(char::to_lowercase)),
            }
        }
        // Some languages write the marker first: 下午2:30:00.
        let (prefix, clock) = clock.split_at(clock.find(|c: char| c.is_ascii_digit())?);
        marker.push_str(prefix);
        let clock = to_24_hours(clock, &marker)?;
        zone.parse(&format!("{date}T{clock}{}", offset.unwrap_or_default())).ok()
    }

    /// Parses `02/06/24 14:30:05`: month, day, and a year that may have two digits, 2000 to 2099. Other forms are parsed like
    /// those of [`Self::parse_lenient`] and [`Zone::parse`]. Times without an offset are in `zone`.
    pub fn parse_month_first(text: &str, zone: &Zone) -> Option<Self> {
        let text = text.trim();
        let Some((date, clock)) = text.split_once(char::is_whitespace).filter(|(date, _)| date.contains('/'))
        else {
            return zone.parse(text).ok().or_else(|| Self::parse_lenient(text, zone));
        };
        let mut numbers = date.split('/');
        let (month, day, year) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let century = if year.len() == 2 { "20" } else { "" };
        let text = format!("{century}{year}-{month:0>2}-{day:0>2} {}", clock.trim_start());
        match numbers.next() {
            Some(_) => None,
            None => zone.parse(&text).ok().or_else(|| Self::parse_lenient(&text, zone)),
        }
    }
}

/// Converts a time of day with an AM or PM marker, which may be empty, to the 24-hour clock.
fn to_24_hours(clock: &str, marker: &str) -> Option<String> {
    let (hour, rest) = clock.split_once(':')?;
    let hour: u8 = hour.parse().ok()?;
    let hour = match marker {
        "" => hour,
        marker if AM_MARKERS.contains(&marker) && (1..=12).contains(&hour) => hour % 12,
        marker if PM_MARKERS.contains(&marker) && (1..=12).contains(&hour) => hour % 12 + 12,
        _ => return None,
    };
    Some(format!("{hour:02}:{rest}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::time::SECOND;

    #[test]
    fn every_form_of_the_same_instant_is_parsed() {
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
    fn dates_that_begin_with_the_month_are_parsed() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for text in [
            "07/23/25 14:30:05",
            "7/23/25 14:30:05",
            "07/23/2025 14:30:05",
            " 07/23/25  02:30:05 PM ",
            "07/23/25 12:30:05 +0000",
            "2025-07-23T12:30:05Z",
            "2025-07-23 14:30:05",
            "2025-07-23T14:30:05.000",
        ] {
            let at = Timestamp::parse_month_first(text, &berlin).map(|at| at.to_string());
            assert_eq!(at.as_deref(), Some("2025-07-23T12:30:05.000000Z"), "{text}");
        }
        for text in [
            "",
            "/",
            "23/07/25 14:30:05",
            "07/23/25",
            "07/23 14:30:05",
            "07/23/25/1 14:30:05",
            "//  14:30:05",
        ] {
            assert_eq!(Timestamp::parse_month_first(text, &berlin), None, "{text}");
        }
    }

    #[test]
    fn invalid_times_are_rejected() {
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
    fn the_fixed_form_is_parsed_like_the_iso_form() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let at = Timestamp::clamped(random.i64(-62_000_000_000..253_000_000_000) * SECOND);
            let iso = at.to_string();
            let text = format!("{} {} +0000", &iso[..10], &iso[11..19]);
            assert_eq!(Timestamp::parse_lenient(&text, &Zone::utc()), Some(at), "{text}");
        }
    }
}
