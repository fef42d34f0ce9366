//! Tombstones: samples of apps and devices that the user has deleted or changed. Pushes and imports of files do not
//! store them again.

use rusqlite::{Connection, params};

use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::heart_rate::ReadingId;
use crate::domain::time::Timestamp;

/// Statement that adds a tombstone with the present values of a coffee, by its id, if it has a source and is not before a
/// time. Entries that were logged on this server have no source.
pub const ADD_COFFEE: &str = "insert or ignore into tombstones (kind, timestamp, source, amount, context)
     select 'coffee', timestamp, source, caffeine_mg, null from coffee_logs
     where id = ?1 and source is not null and timestamp >= ?2";
/// Like [`ADD_COFFEE`], for a reading.
pub const ADD_READING: &str = "insert or ignore into tombstones (kind, timestamp, source, amount, context)
     select 'heartrate', timestamp, source, bpm, context from heart_rate_logs
     where id = ?1 and source is not null and timestamp >= ?2";

/// Adds a tombstone with the present values of a coffee that has a source.
pub fn add_coffee(c: &Connection, id: CoffeeId) -> rusqlite::Result<()> {
    c.prepare_cached(ADD_COFFEE)?.execute([id.0, Timestamp::MIN.micros()]).map(drop)
}

/// Adds a tombstone with the present values of a reading that has a source.
pub fn add_reading(c: &Connection, id: ReadingId) -> rusqlite::Result<()> {
    c.prepare_cached(ADD_READING)?.execute([id.0, Timestamp::MIN.micros()]).map(drop)
}

/// Reports whether there are tombstones. Usually there are none, and the lookups can be omitted.
pub fn exist(c: &Connection) -> rusqlite::Result<bool> {
    c.prepare_cached("select exists (select 1 from tombstones)")?.query_row([], |row| row.get(0))
}

/// Reports whether a coffee of a source has a tombstone. Without a dose, any coffee of that time counts.
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
