//! Entries of import and export files, with their ids and sources.

use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Source of every entry that comes from the Docker stack, from its database as well as from a dump of
/// it, so that importing both adds each entry once.
pub const DOCKER_STACK: &str = "docker-stack";

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    Coffee,
    HeartRate,
}

impl EntryKind {
    /// Returns the name of the kind in tables and responses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coffee => "coffee",
            Self::HeartRate => "heartrate",
        }
    }
}

/// Dose of a coffee, or heart rate of a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Caffeine(Milligrams),
    HeartRate(Bpm),
}

/// Coffee or heart-rate reading in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Id in the file, if it has one.
    pub id: Option<IdInFile>,
    pub timestamp: Timestamp,
    pub amount: Amount,
    /// Type of a coffee (1 to 100 characters) or context of a reading (1 to 50).
    pub label: Option<String>,
    /// 1 to 1000 characters.
    pub notes: Option<String>,
    /// Origin, 1 to 200 characters; `None` for entries logged on this server.
    pub source: Option<String>,
}

/// Id of an entry in its file or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdInFile(pub i64);

impl Amount {
    /// Returns the milligrams or beats per minute.
    pub fn number(self) -> f64 {
        match self {
            Self::Caffeine(dose) => dose.mg(),
            Self::HeartRate(bpm) => bpm.get().into(),
        }
    }
}

impl Entry {
    pub fn kind(&self) -> EntryKind {
        match self.amount {
            Amount::Caffeine(_) => EntryKind::Coffee,
            Amount::HeartRate(_) => EntryKind::HeartRate,
        }
    }
}
