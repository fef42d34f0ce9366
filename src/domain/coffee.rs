//! A coffee: when it was drunk, how much caffeine, what kind.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::rules::{Check, MAX_COFFEE_TYPE, MAX_NOTES};
use crate::domain::time::Timestamp;
use crate::domain::validation;
use crate::domain::validation::{Field, Location, Reader, Unfit};

/// A stored coffee's number, 1 or more; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CoffeeId(pub i64);

/// A dose of caffeine in milligrams: finite, not negative.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Milligrams(f64);

impl Milligrams {
    /// A dose; `None` when it is negative or not finite.
    pub fn new(mg: f64) -> Option<Self> {
        (mg.is_finite() && mg >= 0.0).then_some(Self(mg))
    }

    /// The number of milligrams.
    pub const fn mg(self) -> f64 {
        self.0
    }
}

/// A stored coffee, as every answer shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Coffee {
    #[schema(value_type = i64, minimum = 1)]
    pub id: CoffeeId,
    /// When it was drunk.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Milligrams.
    #[schema(value_type = f64, minimum = 0)]
    pub caffeine_mg: Milligrams,
    #[schema(required)]
    pub coffee_type: Option<String>,
    #[schema(required)]
    pub notes: Option<String>,
}

/// A coffee to be logged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewCoffee {
    /// `None`: now, on the server's clock.
    pub timestamp: Option<Timestamp>,
    pub caffeine_mg: Milligrams,
    pub coffee_type: Option<String>,
    pub notes: Option<String>,
}

/// A change to a coffee: what is `None` stays, what is `Some(None)` is cleared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CoffeeChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caffeine_mg: Option<Milligrams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coffee_type: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<Option<String>>,
}

impl From<NewCoffee> for CoffeeChange {
    /// The fields that a new coffee was sent with.
    fn from(new: NewCoffee) -> Self {
        Self {
            timestamp: new.timestamp,
            caffeine_mg: Some(new.caffeine_mg),
            coffee_type: new.coffee_type.map(Some),
            notes: new.notes.map(Some),
        }
    }
}

#[derive(Deserialize)]
struct RawCoffee {
    #[serde(default)]
    timestamp: Field,
    #[serde(default)]
    caffeine_mg: Field,
    #[serde(default)]
    coffee_type: Field,
    #[serde(default)]
    notes: Field,
}

/// An entry's instant: in the past, or as far ahead as clocks drift.
pub(super) fn entry_time(reader: &mut Reader, field: &Field, check: &Check<'_>) -> Option<Timestamp> {
    reader.parsed("timestamp", field, |text| {
        let at = check.zone.parse(text)?;
        if at > check.latest {
            return Err("must not lie more than 5 minutes ahead of the server's clock");
        }
        Ok(at)
    })
}

/// A field of a change: absent leaves, anything else sets (null and blank clear).
pub(super) fn changed_text(
    reader: &mut Reader,
    name: &str,
    field: &Field,
    max: usize,
) -> Option<Option<String>> {
    field.is_given().then(|| reader.text(name, field, max))
}

impl NewCoffee {
    /// Reads a `POST` body.
    ///
    /// # Errors
    /// Every bad field.
    pub fn from_json(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        let raw: RawCoffee = validation::from_json(body)?;
        let mut reader = Reader::new(Location::Body);
        let caffeine = reader.number("caffeine_mg", &raw.caffeine_mg, 0.0, check.rules.max_caffeine_mg);
        let timestamp = match raw.timestamp {
            Field::Absent | Field::Null => None,
            ref given => entry_time(&mut reader, given, check),
        };
        let coffee_type = reader.text("coffee_type", &raw.coffee_type, MAX_COFFEE_TYPE);
        let notes = reader.text("notes", &raw.notes, MAX_NOTES);
        reader.finish()?;
        // A number that passed is finite and not negative; a missing one was complained about.
        let caffeine_mg = caffeine.and_then(Milligrams::new).unwrap_or(Milligrams(0.0));
        Ok(Self { timestamp, caffeine_mg, coffee_type, notes })
    }
}

impl CoffeeChange {
    /// Reads a `PUT` or `PATCH` body.
    ///
    /// # Errors
    /// Every bad field, or that no known field was given.
    pub fn from_json(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        let raw: RawCoffee = validation::from_json(body)?;
        let mut reader = Reader::new(Location::Body);
        let mut change = Self::default();
        if raw.caffeine_mg.is_given() {
            let mg = reader.number("caffeine_mg", &raw.caffeine_mg, 0.0, check.rules.max_caffeine_mg);
            change.caffeine_mg = mg.and_then(Milligrams::new);
        }
        if raw.timestamp.is_given() {
            change.timestamp = entry_time(&mut reader, &raw.timestamp, check);
        }
        change.coffee_type = changed_text(&mut reader, "coffee_type", &raw.coffee_type, MAX_COFFEE_TYPE);
        change.notes = changed_text(&mut reader, "notes", &raw.notes, MAX_NOTES);
        if change == Self::default() && reader.complaints() == 0 {
            reader.complain(
                "body",
                &Field::Absent,
                "must have at least one of caffeine_mg, coffee_type, notes, timestamp",
            );
        }
        reader.finish()?;
        Ok(change)
    }
}

/// How bad today is, by its total in milligrams.
pub fn addiction_level(total_mg: f64) -> &'static str {
    match total_mg {
        t if t <= 0.0 => "caffeine-free saint",
        t if t < 100.0 => "amateur",
        t if t < 200.0 => "casual user",
        t if t < 300.0 => "moderate addict",
        t if t < 400.0 => "serious problem",
        t if t < 600.0 => "severe addiction",
        _ => "call emergency services",
    }
}

/// A drink that a phone's menu offers to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Preset {
    pub coffee_type: &'static str,
    /// Milligrams in a serving.
    #[schema(minimum = 0)]
    pub caffeine_mg: f64,
    /// The serving the dose stands for, in millilitres.
    pub serving_ml: u16,
}

/// Where the presets' doses come from.
pub const PRESETS_SOURCE: &str =
    "EFSA explains risk assessment: Caffeine (2015), European Food Safety Authority, doi:10.2805/618813";

/// Doses per serving as EFSA lists them.
pub const PRESETS: [Preset; 6] = [
    Preset { coffee_type: "espresso", caffeine_mg: 80.0, serving_ml: 60 },
    Preset { coffee_type: "filter coffee", caffeine_mg: 90.0, serving_ml: 200 },
    Preset { coffee_type: "black tea", caffeine_mg: 50.0, serving_ml: 220 },
    Preset { coffee_type: "cola", caffeine_mg: 40.0, serving_ml: 355 },
    Preset { coffee_type: "energy drink", caffeine_mg: 80.0, serving_ml: 250 },
    Preset { coffee_type: "dark chocolate", caffeine_mg: 25.0, serving_ml: 50 },
];
