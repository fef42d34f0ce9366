//! Filter of lists of coffees and of readings.

use crate::domain::time::Timestamp;

/// Filter of a list of entries, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryFilter {
    /// Start of the period, inclusive; `until` is exclusive.
    pub since: Timestamp,
    pub until: Timestamp,
    /// Coffee type, or context of readings.
    pub label: Option<String>,
    pub limit: u32,
    pub offset: u32,
}
