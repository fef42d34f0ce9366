//! Heart-rate readings: ids, beats per minute, stored and new entries, labels.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::time::Timestamp;

/// Id of a stored reading, at least 1; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReadingId(pub i64);

/// Heart rate in beats per minute, 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Bpm(u16);

impl Bpm {
    /// Highest heart rate that can be stored.
    pub const MAX: u16 = 1000;

    /// Creates a heart rate; `None` outside of 1 to 1000.
    pub fn new(bpm: i64) -> Option<Self> {
        u16::try_from(bpm).ok().filter(|b| (1..=Self::MAX).contains(b)).map(Self)
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Stored heart-rate reading.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Reading {
    #[schema(value_type = i64, minimum = 1)]
    pub id: ReadingId,
    /// Time of measurement.
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

/// Heart-rate reading to store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NewReading {
    /// `None` means the time of the request.
    pub timestamp: Option<Timestamp>,
    pub bpm: Bpm,
    pub context: Option<String>,
    pub notes: Option<String>,
}

/// Change to a reading: `None` keeps a value, `Some(None)` clears it.
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
    fn from(new: NewReading) -> Self {
        Self {
            timestamp: new.timestamp,
            bpm: Some(new.bpm),
            context: new.context.map(Some),
            notes: new.notes.map(Some),
        }
    }
}

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

/// Returns the label of an average over a period.
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
