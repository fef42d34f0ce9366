//! Tombstones: samples of apps and devices that were deleted or changed here. Pushes and imports of files do not store
//! them again.

use rusqlite::{Connection, params};

use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::entry::EntryKind;
use crate::domain::heart_rate::ReadingId;
use crate::domain::time::Timestamp;

/// Returns the name of a kind in the tables of sources and tombstones.
pub const fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Coffee => "coffee",
        EntryKind::HeartRate => "heartrate",
    }
}

/// Records a coffee before it is deleted or its time or dose is changed. Without a source, nothing sends it again.
pub fn bury_coffee(c: &Connection, id: CoffeeId) -> rusqlite::Result<()> {
    c.prepare_cached(
        "insert or ignore into tombstones (kind, timestamp, source, amount, context)
         select 'coffee', timestamp, source, caffeine_mg, null from coffee_logs where id = ? and source is not null",
    )?
    .execute([id.0])
    .map(drop)
}

/// Records a reading before it is deleted or its time or heart rate is changed.
pub fn bury_reading(c: &Connection, id: ReadingId) -> rusqlite::Result<()> {
    c.prepare_cached(
        "insert or ignore into tombstones (kind, timestamp, source, amount, context)
         select 'heartrate', timestamp, source, bpm, context from heart_rate_logs where id = ? and source is not null",
    )?
    .execute([id.0])
    .map(drop)
}

/// Reports whether anything was buried: usually nothing was, and the lookups can be omitted.
pub fn exist(c: &Connection) -> rusqlite::Result<bool> {
    c.prepare_cached("select exists (select 1 from tombstones)")?.query_row([], |row| row.get(0))
}

/// Reports whether a coffee of a source was deleted or changed here. Without a dose, any coffee of that time is meant.
pub fn has_coffee(
    c: &Connection,
    timestamp: Timestamp,
    source: &str,
    dose: Option<Milligrams>,
) -> rusqlite::Result<bool> {
    c.prepare_cached(
        "select exists (select 1 from tombstones
                        where kind = 'coffee' and timestamp = ?1 and source = ?2 and (?3 is null or +amount = ?3))",
    )?
    .query_row(params![timestamp.micros(), source, dose.map(Milligrams::mg)], |row| row.get(0))
}
