//! What was stored when an import began, and which of it the file has shown already.
//!
//! Stored rows are used up one by one: a file with three equal rows adds one to a database
//! that holds two of them. What is remembered for that is a bit for each row that was used,
//! and how far the rows that have equals were, for so many of them that memory stays small.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::entry::{CoffeeEntry, ReadingEntry};
use crate::domain::time::Timestamp;

/// A table as it was when the import began.
#[derive(Debug, Default)]
pub struct Stored {
    /// The newest row; 0: there is none.
    pub last_id: i64,
    /// The newest number that was ever given.
    pub sequence: i64,
    used: Used,
}

impl Stored {
    /// The table of that name; `last_id` asks for its newest row.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn of(connection: &Connection, table: &str, last_id: &str) -> rusqlite::Result<Self> {
        let last_id: Option<i64> = connection.query_row(last_id, [], |row| row.get(0))?;
        let sequence = connection
            .query_row("select seq from sqlite_sequence where name = ?", [table], |row| row.get(0))
            .optional()?;
        Ok(Self {
            last_id: last_id.unwrap_or(0),
            sequence: sequence.unwrap_or(0).max(last_id.unwrap_or(0)),
            used: Used::default(),
        })
    }

    /// Uses up a stored coffee like this one; false when there is none left.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn use_coffee(&mut self, connection: &Connection, coffee: &CoffeeEntry) -> rusqlite::Result<bool> {
        if self.last_id == 0 {
            return Ok(false);
        }
        // The pluses rule out a skip scan, which statistics may make look cheaper.
        let mut statement = connection.prepare_cached(
            "select id from coffee_logs indexed by coffee_logs_by_time
             where timestamp = ?1 and id > ?2 and id <= ?3 and +caffeine_mg = ?4
             and +coffee_type is ?5 and notes is ?6 and source is ?7 order by id limit 1",
        )?;
        self.used.use_one(coffee.timestamp, |last| {
            let equal = params![
                coffee.timestamp.micros(),
                last,
                self.last_id,
                coffee.caffeine_mg.mg(),
                coffee.coffee_type,
                coffee.notes,
                coffee.source
            ];
            statement.query_row(equal, |row| row.get(0)).optional()
        })
    }

    /// Uses up a stored reading like this one; false when there is none left.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn use_reading(&mut self, connection: &Connection, reading: &ReadingEntry) -> rusqlite::Result<bool> {
        if self.last_id == 0 {
            return Ok(false);
        }
        let mut statement = connection.prepare_cached(
            "select id from heart_rate_logs indexed by heart_rate_logs_by_time
             where timestamp = ?1 and id > ?2 and id <= ?3 and +bpm = ?4
             and +context is ?5 and notes is ?6 and source is ?7 order by id limit 1",
        )?;
        self.used.use_one(reading.timestamp, |last| {
            let equal = params![
                reading.timestamp.micros(),
                last,
                self.last_id,
                reading.bpm.get(),
                reading.context,
                reading.notes,
                reading.source
            ];
            statement.query_row(equal, |row| row.get(0)).optional()
        })
    }
}

/// Rows with equals of which is remembered how far they are used: 3 MB at most.
const SERIES: usize = 100_000;

/// Which stored rows have been met in the file.
#[derive(Debug, Default)]
struct Used {
    /// A bit each, 64 ids together: small where ids follow one another, bearable where none does.
    bits: HashMap<i64, u64>,
    /// The first of equal rows, and one of them up to which all are used: else each would be
    /// walked past all before it.
    series: HashMap<i64, i64>,
    /// The row that was used last, and its time.
    newest: Option<(Timestamp, i64)>,
}

impl Used {
    /// Uses a row not yet used of those that are equal, all of one time, of which `after` gives
    /// the first beyond an id; false when all were.
    fn use_one(
        &mut self,
        time: Timestamp,
        mut after: impl FnMut(i64) -> rusqlite::Result<Option<i64>>,
    ) -> rusqlite::Result<bool> {
        // Different rows of one time mostly come in the order in which they are stored: else each
        // would be searched for among all before it.
        if let Some((_, newest)) = self.newest.filter(|(newest, _)| *newest == time)
            && let Some(next) = after(newest)?
            && self.mark(next)
        {
            self.newest = Some((time, next));
            return Ok(true);
        }
        let Some(first) = after(i64::MIN)? else { return Ok(false) };
        if self.mark(first) {
            self.newest = Some((time, first));
            return Ok(true);
        }
        let begun = self.series.get(&first).copied();
        let mut last = begun.unwrap_or(first);
        let is_found = loop {
            let Some(id) = after(last)? else { break false };
            last = id;
            if self.mark(id) {
                break true;
            }
        };
        if begun.is_none() && self.series.len() >= SERIES {
            // Those that come again are walked once more, and remembered again.
            self.series.clear();
        }
        self.series.insert(first, last);
        Ok(is_found)
    }

    /// Marks a row; false when it was marked.
    fn mark(&mut self, id: i64) -> bool {
        let word = self.bits.entry(id.div_euclid(64)).or_default();
        let bit = 1 << id.rem_euclid(64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_used_once() {
        let mut used = Used::default();
        for id in [1, 63, 64, 4095, 4096, -1, i64::MIN, i64::MAX] {
            assert!(used.mark(id), "{id}");
            assert!(!used.mark(id), "{id}");
        }
        assert!(used.mark(2));
    }

    #[test]
    fn equal_rows_are_used_one_by_one_even_when_there_are_more_series_than_are_remembered() {
        let kinds = i64::try_from(SERIES).unwrap() + 1;
        let mut used = Used::default();
        let time = Timestamp::clamped(0);
        for round in 1..=5 {
            for kind in 1..=kinds {
                // Of each kind there are three rows: `kind`, and as often `kinds` further on.
                let after = |last: i64| Ok((0..3).map(|n| kind + n * kinds).find(|id| *id > last));
                assert_eq!(used.use_one(time, after).unwrap(), round <= 3, "{kind} in round {round}");
                assert!(used.series.len() <= SERIES);
            }
        }
    }
}
