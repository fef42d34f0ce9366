//! Entries of import and export files, with their ids and sources.

use serde::Serialize;

use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::heart_rate::{Bpm, ReadingId};
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

/// Coffee in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoffeeEntry {
    /// Id in the file, if it has one.
    pub id: Option<CoffeeId>,
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    /// 1 to 100 characters.
    pub coffee_type: Option<String>,
    /// 1 to 1000 characters.
    pub notes: Option<String>,
    /// Origin, 1 to 200 characters; `None` for entries logged on this server.
    pub source: Option<String>,
}

/// Heart-rate reading in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadingEntry {
    /// Id in the file, if it has one.
    pub id: Option<ReadingId>,
    pub timestamp: Timestamp,
    pub bpm: Bpm,
    /// 1 to 50 characters.
    pub context: Option<String>,
    /// 1 to 1000 characters.
    pub notes: Option<String>,
    /// Origin, 1 to 200 characters; `None` for entries logged on this server.
    pub source: Option<String>,
}

/// Entry of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Coffee(CoffeeEntry),
    Reading(ReadingEntry),
}
