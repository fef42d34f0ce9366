//! Entries as files carry them: with the number they had and where they came from.
//!
//! Only what can be stored can be built; what a request may say is stricter, and checked
//! where requests are read.

use serde::Serialize;

use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::heart_rate::{Bpm, ReadingId};
use crate::domain::time::Timestamp;

/// The source of every row that comes from the Docker stack, from its database or its dump:
/// whoever imports both has each row once.
pub const DOCKER_STACK: &str = "docker-stack";

/// The two kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Coffee,
    HeartRate,
}

/// A coffee in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoffeeEntry {
    /// `None`: the file gives none.
    pub id: Option<CoffeeId>,
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    /// 1 to 100 characters.
    pub coffee_type: Option<String>,
    /// 1 to 1000 characters.
    pub notes: Option<String>,
    /// Where it came from, 1 to 200 characters; `None`: it was logged here.
    pub source: Option<String>,
}

/// A heart-rate reading in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadingEntry {
    /// `None`: the file gives none.
    pub id: Option<ReadingId>,
    pub timestamp: Timestamp,
    pub bpm: Bpm,
    /// 1 to 50 characters.
    pub context: Option<String>,
    /// 1 to 1000 characters.
    pub notes: Option<String>,
    /// Where it came from, 1 to 200 characters; `None`: it was logged here.
    pub source: Option<String>,
}

/// An entry of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Coffee(CoffeeEntry),
    Reading(ReadingEntry),
}
