//! Coffees: ids, doses, stored and new entries, drink presets.

use std::collections::HashSet;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::time::Timestamp;

/// Id of a stored coffee, at least 1; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CoffeeId(pub i64);

/// Dose of caffeine in milligrams: finite, not negative.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Milligrams(f64);

impl Milligrams {
    /// Creates a dose; `None` when `mg` is negative or not finite.
    pub fn new(mg: f64) -> Option<Self> {
        (mg.is_finite() && mg >= 0.0).then_some(Self(mg))
    }

    pub const fn mg(self) -> f64 {
        self.0
    }
}

/// Stored coffee.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Coffee {
    #[schema(value_type = i64, minimum = 1)]
    pub id: CoffeeId,
    /// Time of consumption.
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

/// Coffee to store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewCoffee {
    /// `None` means the time of the request.
    pub timestamp: Option<Timestamp>,
    pub caffeine_mg: Milligrams,
    pub coffee_type: Option<String>,
    pub notes: Option<String>,
}

/// Change to a coffee: `None` keeps a value, `Some(None)` clears it.
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

/// Change of the type of many coffees.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeRename {
    /// Type whose coffees are changed; the case of letters does not matter.
    pub from: String,
    pub to: String,
    /// Only these coffees; `None` for all of the type.
    pub only: Option<HashSet<CoffeeId>>,
}

impl From<NewCoffee> for CoffeeChange {
    fn from(new: NewCoffee) -> Self {
        Self {
            timestamp: new.timestamp,
            caffeine_mg: Some(new.caffeine_mg),
            coffee_type: new.coffee_type.map(Some),
            notes: new.notes.map(Some),
        }
    }
}

/// Returns the label of a day with `total_mg` milligrams of caffeine.
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

/// Drink with a typical dose, offered to every user.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Preset {
    pub coffee_type: &'static str,
    /// Milligrams per serving.
    #[schema(minimum = 0)]
    pub caffeine_mg: f64,
    /// Size of a serving in millilitres.
    pub serving_ml: u16,
}

/// Source of the doses in [`PRESETS`].
pub const PRESETS_SOURCE: &str =
    "EFSA explains risk assessment: Caffeine (2015), European Food Safety Authority, doi:10.2805/618813";

/// Common drinks with their doses. Source: [`PRESETS_SOURCE`].
pub const PRESETS: [Preset; 6] = [
    Preset { coffee_type: "espresso", caffeine_mg: 80.0, serving_ml: 60 },
    Preset { coffee_type: "filter coffee", caffeine_mg: 90.0, serving_ml: 200 },
    Preset { coffee_type: "black tea", caffeine_mg: 50.0, serving_ml: 220 },
    Preset { coffee_type: "cola", caffeine_mg: 40.0, serving_ml: 355 },
    Preset { coffee_type: "energy drink", caffeine_mg: 80.0, serving_ml: 250 },
    Preset { coffee_type: "dark chocolate", caffeine_mg: 25.0, serving_ml: 50 },
];
