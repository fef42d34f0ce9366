//! Statistics of the host for monitoring: disk space, file sizes, the last backup.
//!
//! They are read at most once a second and on a blocking thread, so that no request waits for a disk that hangs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::db::health::BackupRecord;
use crate::domain::limits::MAX_CLOCK_LEAD;
use crate::domain::person::PersonName;
use crate::domain::time::{SECOND, Timestamp};
use crate::fs::disk_space::Disk;
use crate::fs::paths::with_suffix;
use crate::fs::refresher::Refresher;

/// Maximum age of cached statistics.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum wait for new statistics before the last ones are used.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Status of what cannot be read.
const UNKNOWN: &str = "unknown";

/// Space on the disk that holds the database.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DiskFacts)]
pub struct DiskStatus {
    /// `ok`, `low` (over 80% used) or `unknown` (the disk cannot be read or hangs; the figures are the last
    /// known ones).
    pub status: &'static str,
    #[schema(required)]
    pub free_bytes: Option<u64>,
    #[schema(required, minimum = 0, maximum = 100)]
    used_percent: Option<f64>,
    #[serde(skip)]
    pub size_bytes: u64,
}

/// Result of the last backup.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = BackupFacts)]
pub struct BackupStatus {
    /// `ok`, `stale` (over 26 hours old), `failed` (the last attempt), `none`, or `unknown` (the disk hangs,
    /// or the server's clock is wrong: it shows a time before the backup).
    status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_success: Option<Timestamp>,
    #[schema(required)]
    age_seconds: Option<i64>,
    /// Error of the last attempt.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Person whose backup this is, when the one of somebody else than the owner is in the worst state.
    #[schema(value_type = Option<String>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<PersonName>,
}

/// Statistics that are read from the file system.
#[derive(Clone, Debug, Default)]
pub struct HostSnapshot {
    pub disk: DiskStatus,
    pub record: BackupRecord,
    pub database_bytes: u64,
    pub wal_bytes: u64,
}

/// Cached statistics of the host.
#[derive(Debug)]
pub struct HostStats {
    database: PathBuf,
    clock: Clock,
    cache: Refresher<(Duration, HostSnapshot)>,
}

impl HostStats {
    /// Creates an empty cache for the host of `database`.
    pub fn new(database: &Path, clock: &Clock) -> Self {
        Self { database: database.to_owned(), clock: clock.clone(), cache: Refresher::default() }
    }

    /// Returns statistics that are at most [`MAX_AGE`] old. While the disk hangs, returns the last known
    /// ones with the status `unknown`.
    pub async fn current(&self) -> (HostSnapshot, BackupStatus) {
        let (elapsed, database) = (self.clock.elapsed(), self.database.clone());
        let is_fresh = |(read_at, _): &(Duration, _)| elapsed < *read_at + MAX_AGE;
        let read = move || (elapsed, HostSnapshot::read(&database));
        let (latest, is_late) = match self.cache.get(is_fresh, READ_TIMEOUT, read).await {
            Ok(latest) => (Some(latest), false),
            Err(late) => (late.latest, true),
        };
        let mut host = latest.map(|(_, host)| host).unwrap_or_default();
        let mut backup = BackupStatus::of(&host.record, self.clock.now());
        if is_late {
            (host.disk.status, backup.status) = (UNKNOWN, UNKNOWN);
        }
        (host, backup)
    }
}

impl HostSnapshot {
    fn read(database: &Path) -> Self {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        Self {
            disk: Disk::of(database).map(DiskStatus::from).unwrap_or_default(),
            record: BackupRecord::read(database),
            database_bytes: size(database),
            wal_bytes: size(&with_suffix(database, "-wal")),
        }
    }
}

impl Default for DiskStatus {
    fn default() -> Self {
        Self { status: UNKNOWN, free_bytes: None, used_percent: None, size_bytes: 0 }
    }
}

impl From<Disk> for DiskStatus {
    fn from(disk: Disk) -> Self {
        Self {
            status: if disk.is_low() { "low" } else { "ok" },
            free_bytes: Some(disk.free_bytes),
            used_percent: Some((disk.used_percent * 10.0).round() / 10.0),
            size_bytes: disk.size_bytes,
        }
    }
}

impl BackupStatus {
    /// Returns the status of the person, if it is worse than this one, otherwise this one.
    pub fn or_worse(self, person: &PersonName, record: &BackupRecord, now: Timestamp) -> Self {
        let other = Self { person: Some(person.clone()), ..Self::of(record, now) };
        let rank =
            |status: &Self| ["failed", "stale", "none"].iter().position(|worse| *worse == status.status);
        match (rank(&other), rank(&self)) {
            (Some(other_rank), own_rank) if own_rank.is_none_or(|own| other_rank < own) => other,
            _ => self,
        }
    }

    fn of(record: &BackupRecord, now: Timestamp) -> Self {
        let last_success = record.last_success.map(Timestamp::clamped);
        let age = last_success.map(|at| now.micros() - at.micros());
        let is_known = age.is_some_and(|age| age >= -MAX_CLOCK_LEAD);
        let status = match age {
            _ if record.error.is_some() => "failed",
            None => "none",
            Some(_) if !is_known => UNKNOWN,
            Some(age) if age > BackupRecord::STALE => "stale",
            Some(_) => "ok",
        };
        Self {
            status,
            last_success,
            age_seconds: age.filter(|_| is_known).map(|age| age.max(0) / SECOND),
            error: record.error.clone(),
            person: None,
        }
    }
}
