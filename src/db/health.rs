//! Health of the store, newest entries, record of the last backup, and counters for `/metrics`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fs, io};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::db::error::StoreError;
use crate::db::heart_rates::latest;
use crate::db::sources::{EntrySource, read_sources};
use crate::db::store::{Cost, ProbeOutcome, Store};
use crate::domain::coffee::Milligrams;
use crate::domain::entry::EntryKind;
use crate::domain::heart_rate::Reading;
use crate::domain::time::{HOUR, Timestamp};
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// Newest entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    pub last_coffee: Option<(Timestamp, Milligrams)>,
    pub last_reading: Option<Reading>,
    /// Sources of readings, the one with the newest reading first, at most [`MAX_SOURCES`].
    pub reading_sources: Vec<EntrySource>,
}

/// Maximum number of sources in an overview.
const MAX_SOURCES: u32 = 20;

impl Overview {
    pub fn newest(&self) -> Option<Timestamp> {
        let coffee = self.last_coffee.map(|(at, _)| at);
        coffee.max(self.last_reading.as_ref().map(|reading| reading.timestamp))
    }
}

/// Health of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// False when the database is damaged or unreadable, or the writer is dead.
    pub healthy: bool,
    /// `ok`, or the current limitation: `busy`, `full`, `unwritable`, `held` (a restore or an import runs),
    /// `damaged`, `failed`, `hangs` (the disk).
    pub state: &'static str,
    /// Description of an unhealthy state.
    pub error: Option<&'static str>,
}

impl StoreHealth {
    /// State of a disk that does not respond.
    const HANGS: &str = "hangs";

    /// Health of a database that is not open.
    pub const NOT_OPEN: Self = Self { healthy: false, state: "failed", error: None };

    /// Health of a database that cannot be opened. The cause is only in the log, as it contains paths.
    pub const UNAVAILABLE: Self =
        Self { healthy: false, state: "failed", error: Some("damaged or missing: see the log") };

    /// Reports whether the disk responds; otherwise a query would hang.
    pub fn can_be_asked(&self) -> bool {
        self.state != Self::HANGS
    }
}

/// Validity of a successful probe.
const FRESH: Duration = Duration::from_millis(100);
/// Duration from which a read counts as hanging.
const HANGS: Duration = Duration::from_secs(3);

/// Outcome of the last attempt at a backup. Stored in a file beside the database, not in it: a restore must not
/// bring back an old one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Microseconds since 1970.
    pub last_success: Option<i64>,
    /// Size of the last good backup, bytes.
    pub size_bytes: Option<u64>,
    /// Reason of the last failure; `None` after a success.
    pub error: Option<String>,
    /// Folders for which backups of unknown origin have been reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unattributed_in: Vec<PathBuf>,
}

/// Records a backup that failed before it started.
pub fn record_failed_backup(database: &Path, why: &str) {
    let record = BackupRecord { error: Some(why.to_owned()), ..BackupRecord::read(database) };
    if let Err(e) = record.write(database) {
        tracing::warn!("the outcome of the backup could not be recorded: {e}");
    }
}

/// Load of a store, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub queue_depth: usize,
    pub readers_busy: u32,
    pub readers_total: u32,
}

impl std::iter::Sum for Gauges {
    fn sum<I: Iterator<Item = Self>>(stores: I) -> Self {
        stores.fold(Self::default(), |sum, store| Self {
            queue_depth: sum.queue_depth + store.queue_depth,
            readers_busy: sum.readers_busy + store.readers_busy,
            readers_total: sum.readers_total + store.readers_total,
        })
    }
}

impl BackupRecord {
    /// Age from which a nightly backup counts as missed, microseconds.
    pub const STALE: i64 = 26 * HOUR;

    /// Reads the record beside `database`; an empty one if it is missing.
    pub fn read(database: &Path) -> Self {
        fs::read(with_suffix(database, ".backup.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Writes the record beside `database` atomically.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        write_atomically(&with_suffix(database, ".backup.json"), &serde_json::to_vec(self)?)
    }
}

impl Store {
    pub async fn overview(&self) -> Result<Overview, StoreError> {
        self.read("overview", Cost::Quick, |c| {
            // One snapshot for all queries.
            let c = c.unchecked_transaction()?;
            Ok(Overview {
                last_coffee: last_coffee(&c)?,
                last_reading: latest(&c)?,
                reading_sources: read_sources(&c, EntryKind::HeartRate, MAX_SOURCES)?,
            })
        })
        .await
    }

    /// Probes a reader, at most ten times a second, and the writer's heartbeat. Takes a few seconds at most,
    /// also while the disk hangs.
    pub async fn health(&self) -> StoreHealth {
        let read = self.probe(HANGS).await;
        let unhealthy = |state, error| StoreHealth { healthy: false, state, error: Some(error) };
        let passing = |state| StoreHealth { healthy: true, state, error: None };
        let writer = self.writer.state();
        if let Some((state, error)) = self.fault() {
            return unhealthy(state, error);
        }
        match read {
            None => unhealthy(StoreHealth::HANGS, "the disk does not answer"),
            Some(Err(e)) if !e.is_transient() => unhealthy("failed", "the database cannot be read"),
            Some(_) if !self.writer.is_alive() => unhealthy("failed", "the writer does not answer"),
            Some(Err(_)) => passing("busy"),
            Some(Ok(())) if writer.held.load(Ordering::Relaxed) => passing("held"),
            Some(Ok(())) => match writer.fault() {
                None | Some("busy" | "internal") => passing("ok"),
                Some("full") => passing("full"),
                Some("unwritable") => passing("unwritable"),
                Some(_) => unhealthy("failed", "the database cannot be written"),
            },
        }
    }

    /// Reports whether the writer was active within `silence` and a reader responds, whatever its result: a
    /// restart repairs neither a full disk nor a damaged file. Takes at most a third of `silence`.
    pub async fn answers(&self, silence: Duration) -> bool {
        // Errors are counted, and `/health` reports them.
        drop(tokio::time::timeout(silence / 3, self.probe(silence)).await);
        let is_reading = self.last_probe.running_for().is_none_or(|time| time < silence);
        is_reading && self.writer.was_active_within(silence)
    }

    /// Reads from the file, unless a recent read succeeded. Returns `None` after `patience`.
    async fn probe(&self, patience: Duration) -> Option<Result<(), StoreError>> {
        let is_fresh = |(at, read): &ProbeOutcome| read.is_ok() && at.elapsed() < FRESH;
        let pool = self.quick.clone();
        let read = move || {
            let read = match pool.get_timeout(patience) {
                Ok(reader) => look(&reader).map_err(StoreError::from),
                Err(_) => Err(StoreError::Busy),
            };
            (Instant::now(), read)
        };
        let began = Instant::now();
        let (at, read) = self.last_probe.get(is_fresh, patience, read).await.ok()?;
        // Recorded by the caller that waited for it; earlier errors have been recorded.
        Some(if at >= began { self.record_outcome("probe", at - began, read) } else { read })
    }

    /// Returns the load, without a query.
    pub fn gauges(&self) -> Gauges {
        let pools = [self.quick.state(), self.slow.state()];
        Gauges {
            queue_depth: self.writer.state().depth.load(Ordering::Relaxed),
            readers_busy: pools.iter().map(|p| p.connections - p.idle_connections).sum(),
            readers_total: pools.iter().map(|p| p.connections).sum(),
        }
    }
}

fn look(c: &Connection) -> rusqlite::Result<()> {
    c.prepare_cached("select id from coffee_logs not indexed limit 1")?.query([])?.next().map(drop)
}

fn last_coffee(c: &Connection) -> rusqlite::Result<Option<(Timestamp, Milligrams)>> {
    let last = c
        .prepare_cached(
            "select timestamp, caffeine_mg from coffee_logs indexed by coffee_logs_by_time
             order by timestamp desc, id desc limit 1",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(last.and_then(|(at, mg)| Some((Timestamp::clamped(at), Milligrams::new(mg)?))))
}
