//! What monitors want to know of the machine: disk, sizes, the last backup. Looked up at
//! most once a second, however often it is asked, and never on a thread that answers requests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::health::BackupRecord;
use crate::domain::limits::CLOCK_DRIFT;
use crate::domain::time::{SECOND, Timestamp};
use crate::fs::disk_space::Disk;
use crate::fs::paths::with_suffix;
use crate::fs::refresher::Refresher;
use crate::http::app::App;

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(1);
/// Longest wait for fresh figures before the last ones are used.
const PATIENCE: Duration = Duration::from_secs(3);

/// The disk that holds the database.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DiskFacts {
    /// `ok`, `low` (over 80% in use) or `unknown` (it cannot be looked at, or hangs: then the figures are
    /// the last that were known).
    status: &'static str,
    #[schema(required)]
    pub free_bytes: Option<u64>,
    #[schema(required, minimum = 0, maximum = 100)]
    used_percent: Option<f64>,
    #[serde(skip)]
    pub size_bytes: u64,
}

/// The last backup.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BackupFacts {
    /// `ok`, `stale` (over 26 hours old), `failed` (the last attempt), `none`, or `unknown` (the disk
    /// hangs, or the backup was made after the present time of the server's clock, which must be wrong).
    status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_success: Option<Timestamp>,
    #[schema(required)]
    age_seconds: Option<i64>,
    /// Why the last attempt failed.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Facts {
    pub disk: DiskFacts,
    pub backup: BackupFacts,
    pub record: BackupRecord,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub tracked_clients: usize,
}

/// Figures that need file-system calls.
#[derive(Debug)]
struct OnDisk {
    disk: DiskFacts,
    record: BackupRecord,
    database_bytes: u64,
    wal_bytes: u64,
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub struct FactBook(Refresher<(Duration, Arc<OnDisk>)>);

impl FactBook {
    /// The facts, at most a second old. While the disk hangs, the last that were known, and
    /// `unknown` as the status of the disk and of the backup.
    pub async fn now(&self, app: &App) -> Facts {
        let (elapsed, path) = (app.clock.elapsed(), app.store.path().to_owned());
        let is_fresh = |(seen, _): &(Duration, _)| elapsed < *seen + FRESH;
        let look = move || (elapsed, Arc::new(OnDisk::look(&path)));
        let (found, is_late) = match self.0.get(is_fresh, PATIENCE, look).await {
            Ok((_, found)) => (Some(found), false),
            Err(late) => (late.latest.map(|(_, found)| found), true),
        };
        let (mut disk, record) = match &found {
            Some(found) => (found.disk.clone(), found.record.clone()),
            None => (DiskFacts::unknown(), BackupRecord::default()),
        };
        let mut backup = BackupFacts::of(&record, app.clock.now());
        if is_late {
            (disk.status, backup.status) = ("unknown", "unknown");
        }
        Facts {
            disk,
            backup,
            record,
            database_bytes: found.as_ref().map_or(0, |found| found.database_bytes),
            wal_bytes: found.as_ref().map_or(0, |found| found.wal_bytes),
            tracked_clients: app
                .limiter
                .as_ref()
                .map_or(0, crate::http::middleware::rate_limit::Limiter::tracked),
        }
    }
}

impl OnDisk {
    fn look(path: &Path) -> Self {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        Self {
            disk: DiskFacts::look(path),
            record: BackupRecord::read(path),
            database_bytes: size(path),
            wal_bytes: size(&with_suffix(path, "-wal")),
        }
    }
}

impl DiskFacts {
    fn unknown() -> Self {
        Self { status: "unknown", free_bytes: None, used_percent: None, size_bytes: 0 }
    }

    fn look(path: &Path) -> Self {
        let Ok(disk) = Disk::of(path) else { return Self::unknown() };
        Self {
            status: if disk.is_low() { "low" } else { "ok" },
            free_bytes: Some(disk.free_bytes),
            used_percent: Some((disk.used_percent * 10.0).round() / 10.0),
            size_bytes: disk.size_bytes,
        }
    }
}

impl BackupFacts {
    fn of(record: &BackupRecord, now: Timestamp) -> Self {
        let last_success = record.last_success.map(Timestamp::clamped);
        let age = last_success.map(|at| now.micros() - at.micros());
        let is_known = age.is_some_and(|age| age >= -CLOCK_DRIFT);
        let status = match age {
            _ if record.error.is_some() => "failed",
            None => "none",
            Some(_) if !is_known => "unknown",
            Some(age) if age > BackupRecord::STALE => "stale",
            Some(_) => "ok",
        };
        Self {
            status,
            last_success,
            age_seconds: age.filter(|_| is_known).map(|age| age.max(0) / SECOND),
            error: record.error.clone(),
        }
    }
}
