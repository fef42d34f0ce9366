//! What anyone may ask: what this is, how it is, what its rules are.

use std::collections::BTreeMap;

use rocket::http::Status;
use rocket::{State, tokio};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::LimitClass;
use crate::domain::limits::{CLOCK_DRIFT, MAX_COFFEE_TYPE, MAX_CONTEXT, MAX_NOTES};
use crate::domain::time::{MINUTE, Timestamp};
use crate::http::app::Shared;
use crate::http::response::{Answer, Answered};
use crate::http::routes;
use crate::telemetry::host_stats::{BackupFacts, DiskFacts};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How everything is.
#[derive(Serialize, ToSchema)]
pub struct Health<'a> {
    /// `alive`, or `degraded` when the database is unhealthy.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    probably: &'static str,
    database: DatabaseHealth,
    rate_limiter: LimiterHealth,
    /// Kept for monitors of the Docker stack: it speaks for the limiter.
    redis: RedisHealth,
    #[schema(value_type = DiskFacts)]
    disk: &'a DiskFacts,
    #[schema(value_type = BackupFacts)]
    backup: &'a BackupFacts,
    clock: ClockHealth,
    connections: ConnectionHealth,
}

#[derive(Serialize, ToSchema)]
struct DatabaseHealth {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// `ok`, `busy`, `full`, `unwritable`, `held` (a restore or an import runs), `damaged`, `failed` (also
    /// when the file or its log was deleted, moved or replaced while the server runs) or `hangs` (the disk).
    state: &'static str,
    sqlite_version: &'static str,
    size_bytes: u64,
    /// What is wrong, when something is.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

#[derive(Serialize, ToSchema)]
struct LimiterHealth {
    status: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    tracked_clients: usize,
}

#[derive(Serialize, ToSchema)]
struct RedisHealth {
    status: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ClockHealth {
    /// `ok`, or `suspect`: older than this program or than the newest entry.
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ConnectionHealth {
    /// `full`, or `reduced` when the descriptor limit allows fewer connections than `MAX_CONNECTIONS`.
    protection: &'static str,
    /// Connections open now.
    open: usize,
    /// Connections held at most.
    limit: usize,
    /// Cause of a reduced protection, and the remedy.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Health
///
/// 503 when the database is unhealthy. Busy, full or being restored is not unhealthy: see
/// `database.state`.
#[utoipa::path(get, path = "/health", tag = "open", responses(
    (status = 200, description = "Alive", body = Health), (status = 503, description = "Degraded: the same shape, with `database.error`", body = Health)))]
#[rocket::get("/health")]
pub async fn health(app: &State<Shared>) -> Answered {
    // Both at once: a disk that hangs is waited for once.
    let (health, facts) = tokio::join!(app.store.health(), app.facts.now(app));
    let (status, code) =
        if health.healthy { ("alive", Status::Ok) } else { ("degraded", Status::ServiceUnavailable) };
    let capacity = app.connections.capacity();
    let answer = Answer::ok(&Health {
        status,
        timestamp: app.clock.now(),
        version: VERSION,
        uptime_seconds: app.uptime().as_secs(),
        probably: "overcaffeinated",
        database: DatabaseHealth {
            status: if health.healthy { "healthy" } else { "unhealthy" },
            kind: "sqlite",
            state: health.state,
            sqlite_version: crate::db::store::sqlite_version(),
            size_bytes: facts.database_bytes,
            error: health.error,
        },
        rate_limiter: LimiterHealth {
            status: "healthy",
            kind: "in-process",
            tracked_clients: facts.tracked_clients,
        },
        redis: RedisHealth { status: "healthy", kind: "in-process" },
        disk: &facts.disk,
        backup: &facts.backup,
        clock: ClockHealth { status: if app.clock_is_suspect() { "suspect" } else { "ok" } },
        connections: ConnectionHealth {
            protection: if capacity.reduced_by.is_some() { "reduced" } else { "full" },
            open: app.connections.open(),
            limit: capacity.connections,
            reason: capacity.reason(),
        },
    })?;
    Ok(answer.with_status(code))
}

/// What holds here.
#[derive(Serialize, ToSchema)]
pub struct Info {
    name: &'static str,
    version: &'static str,
    /// The time zone whose calendar days count.
    timezone: String,
    /// By class; null when limits are off.
    #[schema(value_type = Option<BTreeMap<String, String>>, required)]
    rate_limits: Option<BTreeMap<&'static str, String>>,
    validation: Validation,
    /// Every route: method and path.
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, ToSchema)]
struct Validation {
    max_caffeine_mg: f64,
    recommended_daily_caffeine_mg: f64,
    min_heart_rate_bpm: u16,
    max_heart_rate_bpm: u16,
    max_coffee_type_length: usize,
    max_context_length: usize,
    max_notes_length: usize,
    max_request_body_bytes: u64,
    max_clock_drift_minutes: i64,
}

#[derive(Serialize, ToSchema)]
struct Endpoint {
    method: String,
    path: &'static str,
    needs_key: bool,
}

/// What holds here
#[utoipa::path(get, path = "/info", tag = "open", responses((status = 200, description = "Rules, limits, endpoints", body = Info)))]
#[rocket::get("/info")]
pub fn info(app: &State<Shared>) -> Answered {
    let settings = &app.settings;
    let rules = &settings.rules;
    Answer::ok(&Info {
        name: "Coffee Tracker",
        version: VERSION,
        timezone: settings.place.zone.name().to_owned(),
        rate_limits: settings.rates.map(|rates| {
            LimitClass::ALL.iter().zip(rates).map(|(class, rate)| (class.name(), rate.text())).collect()
        }),
        validation: Validation {
            max_caffeine_mg: rules.max_caffeine_mg,
            recommended_daily_caffeine_mg: rules.recommended_daily_caffeine_mg,
            min_heart_rate_bpm: rules.min_bpm,
            max_heart_rate_bpm: rules.max_bpm,
            max_coffee_type_length: MAX_COFFEE_TYPE,
            max_context_length: MAX_CONTEXT,
            max_notes_length: MAX_NOTES,
            max_request_body_bytes: settings.max_body,
            max_clock_drift_minutes: CLOCK_DRIFT / MINUTE,
        },
        endpoints: routes::table()
            .iter()
            .map(|entry| Endpoint {
                method: entry.route.method.to_string(),
                path: entry.template,
                needs_key: app.needs_key(entry.access),
            })
            .collect(),
    })
}
