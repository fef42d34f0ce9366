//! What monitors ask for: is the store well, how large is it, what came in last, when
//! was the last backup.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fs, io};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::db::error::Error;
use crate::db::heart_rates::latest;
use crate::db::store::{Cost, ProbeOutcome, Store};
use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Reading;
use crate::domain::time::{HOUR, Timestamp};
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// The newest entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    pub last_coffee: Option<(Timestamp, Milligrams)>,
    pub last_reading: Option<Reading>,
}

impl Overview {
    /// The time of the newest entry.
    pub fn newest(&self) -> Option<Timestamp> {
        let coffee = self.last_coffee.map(|(at, _)| at);
        coffee.max(self.last_reading.as_ref().map(|reading| reading.timestamp))
    }
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// False when it cannot be relied on: damaged, unreadable, or nobody writes.
    pub healthy: bool,
    /// `ok`, or what keeps it: `busy`, `full`, `unwritable`, `held` (a restore or an import runs), `damaged`, `failed`,
    /// `hangs` (the disk).
    pub state: &'static str,
    /// In a sentence, when it is not healthy.
    pub error: Option<&'static str>,
}

impl StoreHealth {
    /// The state of a disk that does not answer.
    const HANGS: &str = "hangs";

    /// Reports whether the disk answers: when it does not, a query would wait for it.
    pub fn can_be_asked(&self) -> bool {
        self.state != Self::HANGS
    }
}

/// How long a good probe speaks for the file.
const FRESH: Duration = Duration::from_millis(100);
/// How long a reader may take before the disk is taken for one that hangs.
const HANGS: Duration = Duration::from_secs(3);

/// What the last attempt at a backup came to. Kept in a file beside the database, not in
/// it: a restore must not bring an old one back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Microseconds since 1970.
    pub last_success: Option<i64>,
    /// Size of the last good backup, bytes.
    pub size_bytes: Option<u64>,
    /// Why the last attempt failed, when it did.
    pub error: Option<String>,
    /// Folders in which backups that cannot be attributed have been reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unattributed_in: Vec<PathBuf>,
}

/// Records a backup that failed before it began. What cannot be recorded is logged.
pub fn record_failed_backup(database: &Path, why: &str) {
    let record = BackupRecord { error: Some(why.to_owned()), ..BackupRecord::read(database) };
    if let Err(e) = record.write(database) {
        tracing::warn!("the outcome of the backup could not be noted: {e}");
    }
}

/// Numbers for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub queue_depth: usize,
    pub commits: u64,
    pub rows_committed: u64,
    pub readers_busy: u32,
    pub readers_total: u32,
    /// Faults so far by [`Error::KINDS`].
    pub faults: [u64; Error::KINDS.len()],
}

impl BackupRecord {
    /// A nightly backup that is older was missed, microseconds.
    pub const STALE: i64 = 26 * HOUR;

    /// Reads the record that lies beside `database`; none is an empty one.
    pub fn read(database: &Path) -> Self {
        fs::read(with_suffix(database, ".backup.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Writes the record beside `database`, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        write_atomically(&with_suffix(database, ".backup.json"), &serde_json::to_vec(self)?)
    }
}

impl Store {
    /// The newest coffee and the newest reading.
    ///
    /// # Errors
    /// The store's faults.
    pub async fn overview(&self) -> Result<Overview, Error> {
        self.read("overview", Cost::Quick, |c| {
            // One state of the file for both queries.
            let c = c.unchecked_transaction()?;
            Ok(Overview { last_coffee: last_coffee(&c)?, last_reading: latest(&c)? })
        })
        .await
    }

    /// Asks a reader (at most ten times a second, however many ask: the page is open to
    /// everyone) and looks whether the writer moves. Takes a few seconds at most, also while the
    /// disk hangs.
    pub async fn health(&self) -> StoreHealth {
        let read = self.probe(HANGS).await;
        let unhealthy = |state, error| StoreHealth { healthy: false, state, error: Some(error) };
        let passing = |state| StoreHealth { healthy: true, state, error: None };
        let writer = self.writer.state();
        if self.damaged.load(Ordering::Relaxed) {
            return unhealthy("damaged", "the database file is damaged: restore a backup");
        }
        if let Some(displacement) = self.files.displacement() {
            return unhealthy("failed", displacement.sentence());
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

    /// Has the writer moved within that time, and does a reader answer, whatever it says? How well
    /// the file is, is another question: no restart mends a full disk, a damaged file, or the
    /// patience of whoever holds it. Takes a third of that time at most.
    pub async fn answers(&self, silence: Duration) -> bool {
        // A fault has been counted, and `/health` tells it.
        drop(tokio::time::timeout(silence / 3, self.probe(silence)).await);
        let is_reading = self.last_probe.running_for().is_none_or(|time| time < silence);
        is_reading && self.writer.was_active_within(silence)
    }

    /// Reads from the file, unless that went well just now; `None` when it takes longer than
    /// `patience`.
    async fn probe(&self, patience: Duration) -> Option<Result<(), Error>> {
        let is_fresh = |(at, read): &ProbeOutcome| read.is_ok() && at.elapsed() < FRESH;
        let pool = self.quick.clone();
        let read = move || {
            let read = match pool.get_timeout(patience) {
                Ok(reader) => look(&reader).map_err(Error::from),
                Err(_) => Err(Error::Busy),
            };
            (Instant::now(), read)
        };
        let began = Instant::now();
        let (at, read) = self.last_probe.get(is_fresh, patience, read).await.ok()?;
        // Noted by whoever waited for it: a fault of an earlier look has been noted already.
        Some(if at >= began { self.note("probe", at - began, read) } else { read })
    }

    /// The numbers that need no query.
    pub fn gauges(&self) -> Gauges {
        let writer = self.writer.state();
        let pools = [self.quick.state(), self.slow.state()];
        Gauges {
            queue_depth: writer.depth.load(Ordering::Relaxed),
            commits: writer.commits.load(Ordering::Relaxed),
            rows_committed: writer.rows.load(Ordering::Relaxed),
            readers_busy: pools.iter().map(|p| p.connections - p.idle_connections).sum(),
            readers_total: pools.iter().map(|p| p.connections).sum(),
            faults: std::array::from_fn(|n| self.faults[n].load(Ordering::Relaxed)),
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
