//! Removal of the entries of a period in short transactions, so that a running server keeps writing. The file does not
//! shrink; the free space is reused.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::db::error::{AtPath, OpenError, StoreError, require_database};
use crate::db::lock_file::MaintenanceLock;
use crate::db::open::open_to_write;
use crate::db::tombstones;
use crate::domain::entry::EntryKind;
use crate::domain::time::Timestamp;

/// Duration of the deletions in one transaction. With the commit it takes some 30 ms.
const TURN: Duration = Duration::from_millis(20);
/// Pause between two transactions for the server's writer, which retries every millisecond.
const PAUSE: Duration = Duration::from_millis(3);
/// Rows deleted between two checks of the elapsed time.
const STEP: u32 = 50;

/// Period whose entries are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrunedPeriod {
    /// Start, inclusive; `None` for the beginning.
    pub since: Option<Timestamp>,
    /// End, exclusive.
    pub before: Timestamp,
}

impl PrunedPeriod {
    /// Returns start and end in microseconds.
    fn micros(self) -> (i64, i64) {
        (self.since.map_or(i64::MIN, Timestamp::micros), self.before.micros())
    }
}

/// Number of entries of one kind inside and outside of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrunedEntries {
    pub count: u64,
    /// Timestamps of the oldest and the newest entry of the period; `None` without any.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Number of entries outside of the period.
    pub others: u64,
}

/// Error of a prune.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for PruneError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Database opened for removing entries.
#[derive(Debug)]
pub struct Pruner {
    connection: Connection,
    /// Last ids at opening: later entries may be in no backup.
    last_ids: [i64; 2],
    /// `None` when nothing is to be removed.
    _maintenance: Option<MaintenanceLock>,
}

impl Pruner {
    /// Opens an existing database, in use or not, for counting or (`is_to_remove`) removing.
    pub fn open(database: &Path, is_to_remove: bool) -> Result<Self, OpenError> {
        require_database(database)?;
        let maintenance = is_to_remove.then(|| MaintenanceLock::acquire(database)).transpose()?;
        let (connection, _) = open_to_write(database)?;
        let last_ids = connection
            .query_row(
                "select coalesce((select max(id) from coffee_logs not indexed), 0),
                 coalesce((select max(id) from heart_rate_logs not indexed), 0)",
                [],
                |row| Ok([row.get(0)?, row.get(1)?]),
            )
            .at(database)?;
        Ok(Self { connection, last_ids, _maintenance: maintenance })
    }

    /// Counts the entries of the period.
    pub fn look(&self, kind: EntryKind, period: PrunedPeriod) -> Result<PrunedEntries, PruneError> {
        let query = match kind {
            EntryKind::Coffee => {
                "select count(*), min(timestamp), max(timestamp), (select count(*) from coffee_logs)
                 from coffee_logs indexed by coffee_logs_by_time where timestamp >= ? and timestamp < ?"
            }
            EntryKind::HeartRate => {
                "select count(*), min(timestamp), max(timestamp), (select count(*) from heart_rate_logs)
                 from heart_rate_logs indexed by heart_rate_logs_by_time where timestamp >= ? and timestamp < ?"
            }
        };
        Ok(self.connection.query_row(query, period.micros(), |row| {
            let count = row.get::<_, i64>(0)?.unsigned_abs();
            let ends = row.get::<_, Option<i64>>(1)?.zip(row.get(2)?);
            Ok(PrunedEntries {
                count,
                span: ends.map(|(oldest, newest)| (Timestamp::clamped(oldest), Timestamp::clamped(newest))),
                others: row.get::<_, i64>(3)?.unsigned_abs() - count,
            })
        })?)
    }

    /// Removes the entries of the period that existed at opening, oldest first, and returns their number. An
    /// interrupted run has removed the oldest. Apps send what they have recorded since `pushed_since` again, so that
    /// these samples get tombstones.
    pub fn remove(
        &mut self,
        kind: EntryKind,
        period: PrunedPeriod,
        pushed_since: Timestamp,
    ) -> Result<u64, PruneError> {
        // One by one: for a list of ids the planner may scan the table.
        let (oldest, delete, tombstone, last_id) = match kind {
            EntryKind::Coffee => (
                "select id from coffee_logs indexed by coffee_logs_by_time
                 where timestamp >= ? and timestamp < ? and id <= ? order by timestamp, id limit ?",
                "delete from coffee_logs where id = ?",
                tombstones::ADD_COFFEE,
                self.last_ids[0],
            ),
            EntryKind::HeartRate => (
                "select id from heart_rate_logs indexed by heart_rate_logs_by_time
                 where timestamp >= ? and timestamp < ? and id <= ? order by timestamp, id limit ?",
                "delete from heart_rate_logs where id = ?",
                tombstones::ADD_READING,
                self.last_ids[1],
            ),
        };
        let (start, end) = period.micros();
        let mut removed = 0;
        loop {
            let transaction =
                self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let began = Instant::now();
            let mut in_turn = 0;
            let is_done = loop {
                let these = params![start, end, last_id, STEP];
                let ids = transaction
                    .prepare_cached(oldest)?
                    .query_map(these, |row| row.get(0))?
                    .collect::<Result<Vec<i64>, _>>()?;
                let mut delete = transaction.prepare_cached(delete)?;
                let mut tombstone = transaction.prepare_cached(tombstone)?;
                for id in &ids {
                    tombstone.execute([*id, pushed_since.micros()])?;
                    in_turn += delete.execute([id])? as u64;
                }
                if ids.len() < STEP as usize {
                    break true;
                }
                if began.elapsed() >= TURN {
                    break false;
                }
            };
            transaction.commit()?;
            removed += in_turn;
            if is_done {
                return Ok(removed);
            }
            std::thread::sleep(PAUSE);
        }
    }
}
