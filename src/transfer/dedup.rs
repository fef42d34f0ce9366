//! Deduplication of imported entries against the rows that were stored before.
//!
//! Each stored row matches one equal entry of the file, so that a file with three equal rows adds one to a database
//! with two of them. Memory stays small: one bit for each matched row, and the positions in runs of equal rows.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::entry::{Entry, EntryKind};
use crate::domain::time::Timestamp;

/// Origin of the entries of a file, which decides what makes two of them equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    /// Rows of a table or a copy of one, compared by all values.
    #[default]
    Rows,
    /// Samples of apps and devices. The user may have added a type or notes to the stored ones, or deleted them.
    Samples,
}

/// Rows of one table that were stored when the import began.
#[derive(Debug)]
pub struct StoredRows {
    pub kind: EntryKind,
    /// The highest id; 0 for an empty table.
    last_id: i64,
    /// The highest id that was ever assigned.
    pub sequence: i64,
    matched: MatchedRows,
}

impl StoredRows {
    pub fn empty(kind: EntryKind) -> Self {
        Self { kind, last_id: 0, sequence: 0, matched: MatchedRows::default() }
    }

    /// Reads the extent of the table.
    pub fn load(connection: &Connection, kind: EntryKind) -> rusqlite::Result<Self> {
        let query = match kind {
            EntryKind::Coffee => {
                "select coalesce(max(id), 0),
                        (select seq from sqlite_sequence where name = 'coffee_logs')
                 from coffee_logs not indexed"
            }
            EntryKind::HeartRate => {
                "select coalesce(max(id), 0),
                        (select seq from sqlite_sequence where name = 'heart_rate_logs')
                 from heart_rate_logs not indexed"
            }
        };
        let extent = connection.query_row(query, [], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)));
        let (last_id, sequence) = extent?;
        let sequence = sequence.unwrap_or(0).max(last_id);
        Ok(Self { kind, last_id, sequence, matched: MatchedRows::default() })
    }

    pub fn is_empty(&self) -> bool {
        self.last_id == 0
    }

    /// Claims the next unmatched stored duplicate of an entry. Returns `false` when there is none left.
    pub fn claim_duplicate(
        &mut self,
        connection: &Connection,
        entry: &Entry,
        provenance: Provenance,
    ) -> rusqlite::Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        // The pluses rule out a skip scan, which statistics may make look cheaper.
        let mut statement = connection.prepare_cached(match (self.kind, provenance) {
            (EntryKind::Coffee, Provenance::Rows) => {
                "select id from coffee_logs indexed by coffee_logs_by_time
                 where timestamp = ?1 and id > ?2 and id <= ?3 and +caffeine_mg = ?4
                 and +coffee_type is ?5 and notes is ?6 and source is ?7 order by id limit 1"
            }
            (EntryKind::Coffee, Provenance::Samples) => {
                "select id from coffee_logs indexed by coffee_logs_by_time
                 where timestamp = ?1 and id > ?2 and id <= ?3 and +caffeine_mg = ?4
                 and source is ?5 order by id limit 1"
            }
            (EntryKind::HeartRate, _) => {
                "select id from heart_rate_logs indexed by heart_rate_logs_by_time
                 where timestamp = ?1 and id > ?2 and id <= ?3 and +bpm = ?4
                 and +context is ?5 and notes is ?6 and source is ?7 order by id limit 1"
            }
        })?;
        let has_texts = self.kind == EntryKind::HeartRate || provenance == Provenance::Rows;
        let Entry { timestamp, amount, label, notes, source, .. } = entry;
        let (at, amount) = (timestamp.micros(), amount.number());
        self.matched.claim_next(*timestamp, |last| {
            let found = if has_texts {
                let values = params![at, last, self.last_id, amount, label, notes, source];
                statement.query_row(values, |row| row.get(0))
            } else {
                statement.query_row(params![at, last, self.last_id, amount, source], |row| row.get(0))
            };
            found.optional()
        })
    }
}

/// Maximum number of runs of equal rows whose position is remembered: 3 MB.
const MAX_RUNS: usize = 100_000;

/// Stored rows that have been matched by entries of the file.
#[derive(Debug, Default)]
struct MatchedRows {
    /// A bit for each id, 64 ids to a word: small where ids are consecutive, acceptable where none is.
    bits: HashMap<i64, u64>,
    /// For the first row of a run of equal rows, the row up to which all are matched. Without it, each lookup would walk
    /// past all matched rows.
    runs: HashMap<i64, i64>,
    /// The row that was matched last, and its time.
    newest: Option<(Timestamp, i64)>,
}

impl MatchedRows {
    /// Claims the next unmatched row of a run of equal rows, all of one time. `find_after` returns the first of them with
    /// a higher id. Returns `false` when all are matched.
    fn claim_next(
        &mut self,
        time: Timestamp,
        mut find_after: impl FnMut(i64) -> rusqlite::Result<Option<i64>>,
    ) -> rusqlite::Result<bool> {
        // Different rows of one time mostly come in the order in which they are stored. Without this, each would be
        // searched for among all before it.
        if let Some((_, newest)) = self.newest.filter(|(newest, _)| *newest == time)
            && let Some(next) = find_after(newest)?
            && self.mark(next)
        {
            self.newest = Some((time, next));
            return Ok(true);
        }
        let Some(first) = find_after(i64::MIN)? else { return Ok(false) };
        if self.mark(first) {
            self.newest = Some((time, first));
            return Ok(true);
        }
        let known = self.runs.get(&first).copied();
        let mut last = known.unwrap_or(first);
        let is_found = loop {
            let Some(id) = find_after(last)? else { break false };
            last = id;
            if self.mark(id) {
                break true;
            }
        };
        if known.is_none() && self.runs.len() >= MAX_RUNS {
            // A forgotten run is walked once more when it comes again.
            self.runs.clear();
        }
        self.runs.insert(first, last);
        Ok(is_found)
    }

    /// Marks a row as matched. Returns `false` when it already was.
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
    fn every_row_is_marked_once() {
        let mut matched = MatchedRows::default();
        for id in [1, 63, 64, 4095, 4096, -1, i64::MIN, i64::MAX] {
            assert!(matched.mark(id), "{id}");
            assert!(!matched.mark(id), "{id}");
        }
        assert!(matched.mark(2));
    }

    #[test]
    fn equal_rows_are_claimed_one_by_one_even_when_there_are_more_runs_than_are_remembered() {
        let run_count = i64::try_from(MAX_RUNS).unwrap() + 1;
        let mut matched = MatchedRows::default();
        let time = Timestamp::clamped(0);
        for round in 1..=5 {
            for run in 1..=run_count {
                // Each run has three rows: `run`, and two at distances of `run_count`.
                let find_after = |last: i64| Ok((0..3).map(|n| run + n * run_count).find(|id| *id > last));
                assert_eq!(
                    matched.claim_next(time, find_after).unwrap(),
                    round <= 3,
                    "{run} in round {round}"
                );
                assert!(matched.runs.len() <= MAX_RUNS);
            }
        }
    }
}
