//! Request bodies that create or change coffees and heart-rate readings.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::coffee::{CoffeeChange, Milligrams, NewCoffee};
use crate::domain::heart_rate::{Bpm, NewReading, ReadingChange};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_CONTEXT, MAX_NOTES, ValidationContext};
use crate::domain::time::Timestamp;
use crate::http::app::App;
use crate::http::extract::json_body::FromBody;
use crate::http::validation::{FieldError, FieldValidator, Location, ValidationErrors, parse_object};

/// Context of a reading that is sent without one.
pub const DEFAULT_CONTEXT: &str = "resting";
/// Maximum number of readings in a batch.
pub const MAX_BATCH_READINGS: usize = 10_000;
/// Maximum size of a batch in bytes, where the setting for other bodies is lower.
const MAX_BATCH_BYTES: u64 = 8 << 20;
/// Maximum number of rejected readings in the response to a batch.
const MAX_LISTED_REJECTIONS: usize = 20;
/// Maximum number of field errors in the response to a rejected batch.
const MAX_LISTED_ERRORS: usize = 100;

#[derive(Deserialize)]
struct RawCoffee {
    #[serde(default)]
    timestamp: JsonScalar,
    #[serde(default)]
    caffeine_mg: JsonScalar,
    #[serde(default)]
    coffee_type: JsonScalar,
    #[serde(default)]
    notes: JsonScalar,
}

#[derive(Deserialize)]
struct RawReading {
    #[serde(default)]
    timestamp: JsonScalar,
    #[serde(default)]
    bpm: JsonScalar,
    #[serde(default)]
    context: JsonScalar,
    #[serde(default)]
    notes: JsonScalar,
}

fn entry_time(
    v: &mut FieldValidator,
    field: &JsonScalar,
    check: &ValidationContext<'_>,
) -> Option<Timestamp> {
    v.parse("timestamp", field, |text| {
        let at = check.zone.parse(text)?;
        if at > check.latest {
            return Err("must not lie more than 5 minutes ahead of the server's clock");
        }
        Ok(at)
    })
}

/// Parses the time of a new entry; null and absent mean the time of the request.
fn new_entry_time(
    v: &mut FieldValidator,
    field: &JsonScalar,
    check: &ValidationContext<'_>,
) -> Option<Timestamp> {
    match field {
        JsonScalar::Absent | JsonScalar::Null => None,
        given => entry_time(v, given, check),
    }
}

fn changed_time(
    v: &mut FieldValidator,
    field: &JsonScalar,
    check: &ValidationContext<'_>,
) -> Option<Timestamp> {
    if field.is_present() { entry_time(v, field, check) } else { None }
}

/// Parses a text field of a change: absent keeps the stored text, null and blank clear it.
fn changed_text(
    v: &mut FieldValidator,
    name: &str,
    field: &JsonScalar,
    max: usize,
) -> Option<Option<String>> {
    field.is_present().then(|| v.text(name, field, max))
}

/// Rejects a change without any known field.
fn finish_change<T: Default + PartialEq>(
    mut v: FieldValidator,
    change: T,
    fields: &str,
) -> Result<T, ValidationErrors> {
    if change == T::default() && v.error_count() == 0 {
        v.add_error("body", &JsonScalar::Absent, format!("must have at least one of {fields}"));
    }
    v.finish()?;
    Ok(change)
}

fn dose(v: &mut FieldValidator, raw: &RawCoffee, check: &ValidationContext<'_>) -> Option<Milligrams> {
    v.number("caffeine_mg", &raw.caffeine_mg, 0.0, check.limits.max_caffeine_mg).and_then(Milligrams::new)
}

fn bpm(v: &mut FieldValidator, raw: &RawReading, check: &ValidationContext<'_>) -> Option<Bpm> {
    let (min, max) = (i64::from(check.limits.min_bpm), i64::from(check.limits.max_bpm));
    v.integer("bpm", &raw.bpm, min, max).and_then(Bpm::new)
}

impl FromBody for NewCoffee {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let raw: RawCoffee = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let caffeine_mg = dose(&mut v, &raw, check);
        let timestamp = new_entry_time(&mut v, &raw.timestamp, check);
        let coffee_type = v.text("coffee_type", &raw.coffee_type, MAX_COFFEE_TYPE);
        let notes = v.text("notes", &raw.notes, MAX_NOTES);
        v.finish()?;
        let caffeine_mg = caffeine_mg.ok_or_else(|| required("caffeine_mg"))?;
        Ok(Self { timestamp, caffeine_mg, coffee_type, notes })
    }
}

impl FromBody for CoffeeChange {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let raw: RawCoffee = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let change = Self {
            caffeine_mg: if raw.caffeine_mg.is_present() { dose(&mut v, &raw, check) } else { None },
            timestamp: changed_time(&mut v, &raw.timestamp, check),
            coffee_type: changed_text(&mut v, "coffee_type", &raw.coffee_type, MAX_COFFEE_TYPE),
            notes: changed_text(&mut v, "notes", &raw.notes, MAX_NOTES),
        };
        finish_change(v, change, "caffeine_mg, coffee_type, notes, timestamp")
    }
}

impl FromBody for NewReading {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        new_reading(&parse_object(body)?, check)
    }
}

fn new_reading(raw: &RawReading, check: &ValidationContext<'_>) -> Result<NewReading, ValidationErrors> {
    let mut v = FieldValidator::new(Location::Body);
    let bpm = bpm(&mut v, raw, check);
    let timestamp = new_entry_time(&mut v, &raw.timestamp, check);
    let context = match &raw.context {
        JsonScalar::Absent => Some(DEFAULT_CONTEXT.to_owned()),
        given => v.text("context", given, MAX_CONTEXT),
    };
    let notes = v.text("notes", &raw.notes, MAX_NOTES);
    v.finish()?;
    let bpm = bpm.ok_or_else(|| required("bpm"))?;
    Ok(NewReading { timestamp, bpm, context, notes })
}

fn required(field: &str) -> FieldError {
    FieldError::new(Location::Body, field, "is required")
}

impl FromBody for ReadingChange {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let raw: RawReading = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let change = Self {
            bpm: if raw.bpm.is_present() { bpm(&mut v, &raw, check) } else { None },
            timestamp: changed_time(&mut v, &raw.timestamp, check),
            context: changed_text(&mut v, "context", &raw.context, MAX_CONTEXT),
            notes: changed_text(&mut v, "notes", &raw.notes, MAX_NOTES),
        };
        finish_change(v, change, "bpm, context, notes, timestamp")
    }
}

/// Batch of 1 to [`MAX_BATCH_READINGS`] readings, separated into valid and rejected ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingBatch {
    /// The valid readings.
    pub readings: Vec<NewReading>,
    /// The first [`MAX_LISTED_REJECTIONS`] rejected readings.
    pub rejected: Vec<RejectedReading>,
    pub rejected_count: usize,
    /// The first [`MAX_LISTED_ERRORS`] field errors of rejected readings.
    errors: Vec<FieldError>,
}

/// Reading of a batch that is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RejectedReading {
    /// Zero-based position in the batch.
    pub index: usize,
    /// Every invalid field and its requirement.
    pub reason: String,
}

impl FromBody for ReadingBatch {
    fn max_bytes(app: &App) -> u64 {
        app.settings.max_body_bytes.max(MAX_BATCH_BYTES)
    }

    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let RawBatch { readings: raw } = parse_object(body)?;
        if raw.sent == 0 || raw.sent > MAX_BATCH_READINGS {
            let message =
                format!("must be a list of 1 to {MAX_BATCH_READINGS} readings (it has {})", raw.sent);
            return Err(FieldError::new(Location::Body, "readings", message).into());
        }
        let mut batch = Self { readings: Vec::with_capacity(raw.kept.len()), ..Self::default() };
        for (index, item) in raw.kept.iter().enumerate() {
            let parsed = match item {
                RawItem::Reading(raw) => new_reading(raw, check),
                RawItem::NotAnObject => Err(FieldError::new(Location::Body, "", "must be an object").into()),
            };
            match parsed {
                Ok(reading) => batch.readings.push(reading),
                Err(errors) => batch.reject(index, errors),
            }
        }
        Ok(batch)
    }
}

impl ReadingBatch {
    /// Returns the number of readings in the batch, rejected ones included.
    pub fn received(&self) -> usize {
        self.readings.len() + self.rejected_count
    }

    /// Returns the batch when every reading is valid.
    ///
    /// # Errors
    /// The first [`MAX_LISTED_ERRORS`] field errors, with the index of the reading.
    pub fn all_or_nothing(self) -> Result<Self, ValidationErrors> {
        if self.errors.is_empty() { Ok(self) } else { Err(ValidationErrors(self.errors)) }
    }

    fn reject(&mut self, index: usize, errors: ValidationErrors) {
        self.rejected_count += 1;
        if self.rejected.len() < MAX_LISTED_REJECTIONS {
            let reason = errors.to_string().trim_start_matches(": ").to_owned();
            self.rejected.push(RejectedReading { index, reason });
        }
        let left = MAX_LISTED_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(errors.0.into_iter().take(left).map(|error| {
            let dot = if error.field.is_empty() { "" } else { "." };
            FieldError { field: format!("readings[{index}]{dot}{}", error.field), ..error }
        }));
    }
}

#[derive(Deserialize)]
struct RawBatch {
    #[serde(default)]
    readings: RawList,
}

/// The first [`MAX_BATCH_READINGS`] items of a list and the length of the list.
#[derive(Default)]
struct RawList {
    kept: Vec<RawItem>,
    sent: usize,
}

enum RawItem {
    Reading(RawReading),
    NotAnObject,
}

impl<'de> Deserialize<'de> for RawList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = RawList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of readings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawList, A::Error> {
                let mut list = RawList::default();
                while list.kept.len() < MAX_BATCH_READINGS
                    && let Some(item) = items.next_element()?
                {
                    list.kept.push(item);
                }
                list.sent = list.kept.len();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    list.sent += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

/// Accepts objects only; a derived implementation would also read the fields from a list.
impl<'de> Deserialize<'de> for RawItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = RawItem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reading")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawItem, A::Error> {
                RawReading::deserialize(MapAccessDeserializer::new(map)).map(RawItem::Reading)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawItem, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(RawItem::NotAnObject)
            }

            fn visit_unit<E>(self) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }

            fn visit_bool<E>(self, _: bool) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }

            fn visit_i64<E>(self, _: i64) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }

            fn visit_u64<E>(self, _: u64) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }

            fn visit_f64<E>(self, _: f64) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }

            fn visit_str<E>(self, _: &str) -> Result<RawItem, E> {
                Ok(RawItem::NotAnObject)
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}
