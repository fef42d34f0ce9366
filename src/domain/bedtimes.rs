//! Bedtimes of a person: the usual one, and those of single weekdays.
//!
//! The bedtime of a day belongs to the evening of that day. A time before noon lies in the night that follows:
//! 00:30 on Friday is in the night from Friday to Saturday.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::calendar::{Date, LocalTime, WEEKDAYS, Zone};
use crate::domain::time::Timestamp;

/// Bedtimes of the weekdays that differ from the usual one, Monday first.
///
/// As JSON, an object: `{"friday": "00:30"}`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeekdayBedtimes(pub [Option<LocalTime>; 7]);

/// Bedtimes in the server's time zone. Each belongs to the evening of its day: a time before noon lies in the night that
/// follows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Bedtimes {
    /// On the days that `by_weekday` does not have.
    #[schema(value_type = String)]
    pub usual: LocalTime,
    pub by_weekday: WeekdayBedtimes,
}

impl Bedtimes {
    /// Creates the same bedtime for every day.
    pub fn every_day(usual: LocalTime) -> Self {
        Self { usual, by_weekday: WeekdayBedtimes::default() }
    }

    /// Returns the bedtime that belongs to the evening of a date.
    pub fn of(&self, zone: &Zone, evening: Date) -> Timestamp {
        let time = self.by_weekday.0[evening.weekday()].unwrap_or(self.usual);
        zone.instant(if time.is_before_noon() { evening.next() } else { evening }, time)
    }

    /// Returns the first bedtime from `at` on.
    pub fn next(&self, zone: &Zone, at: Timestamp) -> Timestamp {
        let today = zone.date(at);
        let evenings = [today.minus_days(1), today, today.next(), today.next().next()];
        let bedtimes = evenings.map(|evening| self.of(zone, evening));
        bedtimes.into_iter().find(|bedtime| *bedtime >= at).unwrap_or(Timestamp::MAX)
    }
}

impl WeekdayBedtimes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns the number of a weekday, 0 for `monday`.
pub fn weekday_named(name: &str) -> Option<usize> {
    WEEKDAYS.iter().position(|weekday| *weekday == name)
}

impl Serialize for WeekdayBedtimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let days = WEEKDAYS.iter().zip(self.0);
        serializer.collect_map(days.filter_map(|(weekday, time)| Some((weekday, time?))))
    }
}

impl<'de> Deserialize<'de> for WeekdayBedtimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut times = Self::default();
        for (name, text) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let weekday = weekday_named(&name).ok_or_else(|| D::Error::custom("not a weekday"))?;
            times.0[weekday] = Some(LocalTime::parse(&text).map_err(D::Error::custom)?);
        }
        Ok(times)
    }
}

impl PartialSchema for WeekdayBedtimes {
    fn schema() -> RefOr<Schema> {
        let time = ObjectBuilder::new().schema_type(Type::String);
        let times = by_weekday_schema(&time.pattern(Some("^([01][0-9]|2[0-3]):[0-5][0-9]$")).build());
        times.description(Some("Bedtimes of the weekdays that differ.")).build().into()
    }
}

impl ToSchema for WeekdayBedtimes {}

/// Returns the schema of an object with a value for each of some weekdays.
pub fn by_weekday_schema(value: &Object) -> ObjectBuilder {
    let object = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    WEEKDAYS.iter().fold(object, |object, weekday| object.property(*weekday, value.clone()))
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn time(text: &str) -> LocalTime {
        LocalTime::parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
    }

    fn berlin(text: &str) -> Timestamp {
        zone("Europe/Berlin").parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
    }

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap_or_else(|e| panic!("{name} {e}"))
    }

    fn by_weekday(json: &str) -> WeekdayBedtimes {
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{json} {e}"))
    }

    #[test]
    fn the_same_bedtime_every_day_is_found_across_clock_changes() {
        for (name, bedtime, from, next) in [
            ("Europe/Berlin", "23:00", "2026-06-01T12:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00Z", "2026-06-01T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-06-01T21:00:00.000001Z", "2026-06-02T21:00:00.000000Z"),
            ("Europe/Berlin", "0:30", "2026-06-01T21:30:00Z", "2026-06-01T22:30:00.000000Z"),
            ("Europe/Berlin", "11:59", "2026-06-01T09:58:00Z", "2026-06-01T09:59:00.000000Z"),
            // 23 and 25 hours until the next.
            ("Europe/Berlin", "23:00", "2026-03-28T22:00:01Z", "2026-03-29T21:00:00.000000Z"),
            ("Europe/Berlin", "23:00", "2026-10-24T21:00:01Z", "2026-10-25T22:00:00.000000Z"),
            // Skipped that night, and repeated.
            ("Europe/Berlin", "2:30", "2026-03-28T22:00:00Z", "2026-03-29T01:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00.000000Z"),
            ("Europe/Berlin", "2:30", "2026-10-25T00:45:00Z", "2026-10-26T01:30:00.000000Z"),
            // Samoa skipped 2011-12-30 altogether.
            ("Pacific/Apia", "23:00", "2011-12-30T09:00:01Z", "2011-12-31T09:00:00.000000Z"),
            ("UTC", "23:00", "9999-12-30T21:59:59Z", "9999-12-30T22:00:00.000000Z"),
        ] {
            let bedtimes = Bedtimes::every_day(time(bedtime));
            assert_eq!(bedtimes.next(&zone(name), berlin(from)).to_string(), next, "{name} {from}");
        }
    }

    #[test]
    fn a_bedtime_belongs_to_the_evening_of_its_weekday() {
        // 2026-06-05 is a Friday.
        let days = by_weekday(r#"{"friday": "00:30", "saturday": "01:15", "sunday": "21:30"}"#);
        let bedtimes = Bedtimes { usual: time("23:00"), by_weekday: days };
        for (from, next) in [
            ("2026-06-04 12:00", "2026-06-04 23:00"),
            ("2026-06-04 23:01", "2026-06-06 00:30"),
            // The night from Thursday to Friday has no bedtime after midnight.
            ("2026-06-05 00:10", "2026-06-06 00:30"),
            ("2026-06-06 00:30", "2026-06-06 00:30"),
            ("2026-06-06 00:31", "2026-06-07 01:15"),
            ("2026-06-07 00:31", "2026-06-07 01:15"),
            ("2026-06-07 01:16", "2026-06-07 21:30"),
            ("2026-06-07 21:31", "2026-06-08 23:00"),
        ] {
            assert_eq!(bedtimes.next(&zone("Europe/Berlin"), berlin(from)), berlin(next), "{from}");
        }
        // Usually after midnight, and on one day before it.
        let bedtimes = Bedtimes { usual: time("00:30"), by_weekday: by_weekday(r#"{"sunday": "22:00"}"#) };
        for (from, next) in [
            ("2026-06-07 00:10", "2026-06-07 00:30"),
            ("2026-06-07 00:31", "2026-06-07 22:00"),
            ("2026-06-07 22:01", "2026-06-09 00:30"),
        ] {
            assert_eq!(bedtimes.next(&zone("Europe/Berlin"), berlin(from)), berlin(next), "{from}");
        }
    }

    #[test]
    fn a_weekday_has_its_bedtime_on_days_of_23_and_25_hours() {
        // The clocks change in the nights from Saturday to Sunday.
        let days = by_weekday(r#"{"saturday": "2:30"}"#);
        let bedtimes = Bedtimes { usual: time("23:00"), by_weekday: days };
        for (from, next) in [
            // Skipped, and the first of two.
            ("2026-03-28 20:00", "2026-03-29T03:30:00+02:00"),
            ("2026-03-29 04:00", "2026-03-29T23:00:00+02:00"),
            ("2026-10-24 20:00", "2026-10-25T02:30:00+02:00"),
            ("2026-10-25T02:10:00+01:00", "2026-10-25T23:00:00+01:00"),
        ] {
            assert_eq!(bedtimes.next(&zone("Europe/Berlin"), berlin(from)), berlin(next), "{from}");
        }
    }

    #[test]
    fn only_weekdays_and_times_of_day_are_read() {
        let text = r#"{"tuesday":"07:05","sunday":"00:00"}"#;
        assert_eq!(serde_json::to_string(&by_weekday(text)).ok().as_deref(), Some(text));
        for text in [r#"{"fryday": "23:00"}"#, r#"{"friday": "24:00"}"#, r#"{"friday": null}"#, "[]", "1"] {
            assert!(serde_json::from_str::<WeekdayBedtimes>(text).is_err(), "{text}");
        }
    }
}
