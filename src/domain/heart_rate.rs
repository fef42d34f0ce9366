//! A heart-rate reading: when, how many beats a minute, in what state the body was.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::coffee::{changed_text, entry_time};
use crate::domain::rules::{Check, MAX_CONTEXT, MAX_NOTES};
use crate::domain::time::Timestamp;
use crate::domain::validation;
use crate::domain::validation::{Field, FieldError, Location, Reader, Unfit};

/// A stored reading's number, 1 or more; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReadingId(pub i64);

/// A pulse in beats per minute, 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Bpm(u16);

impl Bpm {
    /// The fastest pulse that can be written down.
    pub const MAX: u16 = 1000;

    /// A pulse; `None` outside of 1 to 1000.
    pub fn new(bpm: i64) -> Option<Self> {
        u16::try_from(bpm).ok().filter(|b| (1..=Self::MAX).contains(b)).map(Self)
    }

    /// Beats per minute.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The context of a reading whose sender names none.
pub const DEFAULT_CONTEXT: &str = "resting";
/// Most readings in one batch.
pub const MAX_BATCH: usize = 10_000;

/// A stored reading, as every answer shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Reading {
    #[schema(value_type = i64, minimum = 1)]
    pub id: ReadingId,
    /// When it was measured.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Beats per minute.
    #[schema(value_type = u16, minimum = 1, maximum = 1000)]
    pub bpm: Bpm,
    #[schema(required)]
    pub context: Option<String>,
    #[schema(required)]
    pub notes: Option<String>,
}

/// A reading to be logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NewReading {
    /// `None`: now, on the server's clock.
    pub timestamp: Option<Timestamp>,
    pub bpm: Bpm,
    pub context: Option<String>,
    pub notes: Option<String>,
}

/// A change to a reading: what is `None` stays, what is `Some(None)` is cleared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReadingChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpm: Option<Bpm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<Option<String>>,
}

impl From<NewReading> for ReadingChange {
    /// The fields that a new reading was sent with.
    fn from(new: NewReading) -> Self {
        Self {
            timestamp: new.timestamp,
            bpm: Some(new.bpm),
            context: new.context.map(Some),
            notes: new.notes.map(Some),
        }
    }
}

/// Readings that were sent together, 1 to 10,000: the valid ones, and what is wrong with the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingBatch {
    pub readings: Vec<NewReading>,
    /// The first [`SHOWN_REJECTIONS`] bad readings.
    pub rejected: Vec<RejectedReading>,
    pub rejected_count: usize,
    /// Every bad field of the bad readings, up to the first [`SHOWN_COMPLAINTS`].
    complaints: Vec<FieldError>,
}

/// A reading of a batch that is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RejectedReading {
    /// Its place in the batch, from 0 on.
    pub index: usize,
    /// Every bad field and what would be right.
    pub reason: String,
}

/// Bad readings whose reason is shown.
const SHOWN_REJECTIONS: usize = 20;
/// Bad fields that are named when a batch is refused.
const SHOWN_COMPLAINTS: usize = 100;

#[derive(Deserialize)]
struct RawReading {
    #[serde(default)]
    timestamp: Field,
    #[serde(default)]
    bpm: Field,
    #[serde(default)]
    context: Field,
    #[serde(default)]
    notes: Field,
}

#[derive(Deserialize)]
struct RawBatch {
    #[serde(default)]
    readings: RawList,
}

/// The first [`MAX_BATCH`] items and how many were sent: memory does not follow the sender.
#[derive(Default)]
struct RawList {
    kept: Vec<Item>,
    sent: usize,
}

enum Item {
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
                while list.kept.len() < MAX_BATCH
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

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A struct would also be read from a list; only an object is one here.
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reading")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                RawReading::deserialize(MapAccessDeserializer::new(map)).map(Item::Reading)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Item::NotAnObject)
            }

            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }

            fn visit_str<E>(self, _: &str) -> Result<Item, E> {
                Ok(Item::NotAnObject)
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

impl Item {
    fn read(&self, check: &Check<'_>) -> Result<NewReading, Unfit> {
        let mut reader = Reader::new(Location::Body);
        let reading = match self {
            Self::Reading(raw) => read(raw, &mut reader, check),
            Self::NotAnObject => {
                reader.complain("", &Field::Absent, "must be an object");
                None
            }
        };
        reader.finish()?;
        reading.ok_or_else(|| FieldError::new(Location::Body, "bpm", "is required").into())
    }
}

fn read(raw: &RawReading, reader: &mut Reader, check: &Check<'_>) -> Option<NewReading> {
    let bpm = bpm(raw, reader, check);
    let timestamp = match raw.timestamp {
        Field::Absent | Field::Null => None,
        ref given => entry_time(reader, given, check),
    };
    let context = match raw.context {
        Field::Absent => Some(DEFAULT_CONTEXT.to_owned()),
        ref given => reader.text("context", given, MAX_CONTEXT),
    };
    let notes = reader.text("notes", &raw.notes, MAX_NOTES);
    bpm.map(|bpm| NewReading { timestamp, bpm, context, notes })
}

fn bpm(raw: &RawReading, reader: &mut Reader, check: &Check<'_>) -> Option<Bpm> {
    let (min, max) = (i64::from(check.rules.min_bpm), i64::from(check.rules.max_bpm));
    reader.integer("bpm", &raw.bpm, min, max).and_then(Bpm::new)
}

impl NewReading {
    /// Reads a `POST` body.
    ///
    /// # Errors
    /// Every bad field.
    pub fn from_json(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        let raw: RawReading = validation::from_json(body)?;
        let mut reader = Reader::new(Location::Body);
        let reading = read(&raw, &mut reader, check);
        reader.finish()?;
        reading.ok_or_else(|| FieldError::new(Location::Body, "bpm", "is required").into())
    }
}

impl ReadingBatch {
    /// Reads a batch: `{"readings":[…]}`.
    ///
    /// # Errors
    /// A body that is no batch. Bad readings are no error here: see [`Self::all_or_nothing`].
    pub fn from_json(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        let RawBatch { readings: raw } = validation::from_json(body)?;
        if raw.sent == 0 || raw.sent > MAX_BATCH {
            let message = format!("must be a list of 1 to {MAX_BATCH} readings (it has {})", raw.sent);
            return Err(FieldError::new(Location::Body, "readings", message).into());
        }
        let mut batch = Self { readings: Vec::with_capacity(raw.kept.len()), ..Self::default() };
        for (index, item) in raw.kept.iter().enumerate() {
            match item.read(check) {
                Ok(reading) => batch.readings.push(reading),
                Err(unfit) => batch.reject(index, unfit),
            }
        }
        Ok(batch)
    }

    /// Readings in the batch, good and bad.
    pub fn received(&self) -> usize {
        self.readings.len() + self.rejected_count
    }

    /// The batch, if every reading is valid.
    ///
    /// # Errors
    /// Every bad field with its reading's index, up to the first 100.
    pub fn all_or_nothing(self) -> Result<Self, Unfit> {
        if self.complaints.is_empty() { Ok(self) } else { Err(Unfit(self.complaints)) }
    }

    fn reject(&mut self, index: usize, unfit: Unfit) {
        self.rejected_count += 1;
        if self.rejected.len() < SHOWN_REJECTIONS {
            let reason = unfit.to_string().trim_start_matches(": ").to_owned();
            self.rejected.push(RejectedReading { index, reason });
        }
        let left = SHOWN_COMPLAINTS.saturating_sub(self.complaints.len());
        self.complaints.extend(unfit.0.into_iter().take(left).map(|error| {
            let dot = if error.field.is_empty() { "" } else { "." };
            FieldError { field: format!("readings[{index}]{dot}{}", error.field), ..error }
        }));
    }
}

impl ReadingChange {
    /// Reads a `PUT` or `PATCH` body.
    ///
    /// # Errors
    /// Every bad field, or that no known field was given.
    pub fn from_json(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        let raw: RawReading = validation::from_json(body)?;
        let mut reader = Reader::new(Location::Body);
        let mut change = Self::default();
        if raw.bpm.is_given() {
            change.bpm = bpm(&raw, &mut reader, check);
        }
        if raw.timestamp.is_given() {
            change.timestamp = entry_time(&mut reader, &raw.timestamp, check);
        }
        change.context = changed_text(&mut reader, "context", &raw.context, MAX_CONTEXT);
        change.notes = changed_text(&mut reader, "notes", &raw.notes, MAX_NOTES);
        if change == Self::default() && reader.complaints() == 0 {
            reader.complain(
                "body",
                &Field::Absent,
                "must have at least one of bpm, context, notes, timestamp",
            );
        }
        reader.finish()?;
        Ok(change)
    }
}

/// What a single reading says.
pub fn status(bpm: Bpm) -> &'static str {
    match bpm.get() {
        ..50 => "bradycardia (dangerously low)",
        50..60 => "bradycardia (athlete or dead)",
        60..=100 => "normal",
        101..=120 => "elevated",
        121..=150 => "tachycardia",
        151..=180 => "severe tachycardia",
        181.. => "call 911",
    }
}

/// What an average over a period says.
pub fn assessment(average_bpm: f64) -> &'static str {
    match average_bpm {
        a if a < 50.0 => "Consistently low - see a doctor or you're an elite athlete",
        a if a < 60.0 => "Low but possibly normal for athletes",
        a if a <= 80.0 => "Excellent resting heart rate",
        a if a <= 100.0 => "Normal range",
        a if a <= 120.0 => "Elevated - consider lifestyle changes",
        _ => "Consistently high - medical consultation recommended",
    }
}
