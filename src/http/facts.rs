//! What monitors want to know of the machine: disk, sizes, the last backup. Looked up at
//! most once a second, however often it is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use crate::model::rules::CLOCK_DRIFT;
use crate::model::time::{SECOND, Timestamp};
use crate::store::{BackupRecord, Disk};

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(1);

/// The disk that holds the database.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DiskFacts {
    /// `ok`, `low` (over 80% in use) or `unknown`.
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
    /// `ok`, `stale` (over 26 hours old), `failed` (the last attempt), `none`, or `unknown` (made after
    /// the present time of the server's clock, which must be wrong).
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
    pub tracked_clients: usize,
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub struct FactBook(Mutex<Option<(Duration, Arc<Facts>)>>);

impl FactBook {
    /// The facts, at most a second old.
    pub fn now(&self, app: &App) -> Arc<Facts> {
        let elapsed = app.clock.elapsed();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, facts)) = &*last
            && elapsed < *seen + FRESH
        {
            return Arc::clone(facts);
        }
        let facts = Arc::new(Facts::look(app));
        *last = Some((elapsed, Arc::clone(&facts)));
        facts
    }
}

impl Facts {
    fn look(app: &App) -> Self {
        let path = app.store.path();
        let record = BackupRecord::read(path);
        Self {
            disk: DiskFacts::look(path),
            backup: BackupFacts::of(&record, app.clock.now()),
            record,
            database_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
            tracked_clients: app.limiter.as_ref().map_or(0, super::limits::Limiter::tracked),
        }
    }
}

impl DiskFacts {
    fn look(path: &std::path::Path) -> Self {
        let Ok(disk) = Disk::of(path) else {
            return Self { status: "unknown", free_bytes: None, used_percent: None, size_bytes: 0 };
        };
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
