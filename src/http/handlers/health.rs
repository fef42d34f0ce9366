//! `/health`: state of the server and of what it depends on.

use rocket::futures::future::join_all;
use rocket::http::Status;
use rocket::{State, tokio};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::health::StoreHealth;
use crate::db::store::sqlite_version;
use crate::domain::person::PersonName;
use crate::domain::time::Timestamp;
use crate::http::app::{SharedApp, VERSION};
use crate::http::middleware::guard::Everyone;
use crate::http::response::{JsonResponse, JsonResult};
use crate::people::registry::People;
use crate::telemetry::host_stats::{BackupStatus, DiskStatus};

/// Response body of `GET /health`.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthBody<'a> {
    /// `alive`, or `degraded` when the database is unhealthy.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    probably: &'static str,
    /// Number of people, the owner included.
    #[schema(minimum = 1)]
    people: usize,
    /// Number of people whose databases are open.
    people_open: usize,
    /// The owner's database, or the first one that is unhealthy.
    database: DatabaseHealth,
    rate_limiter: LimiterHealth,
    /// Reports the rate limiter, for monitors that were written for the Docker stack.
    redis: RedisHealth,
    #[schema(value_type = DiskStatus)]
    disk: &'a DiskStatus,
    #[schema(value_type = BackupStatus)]
    backup: &'a BackupStatus,
    clock: ClockHealth,
    connections: ConnectionHealth,
}

#[derive(Serialize, ToSchema)]
struct DatabaseHealth {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// `ok`, `busy`, `full`, `unwritable`, `held` (a write waits for a restore or an import), `damaged`, `failed`
    /// (also when the file or its log was deleted, moved or replaced under the running server) or `hangs` (the
    /// disk).
    state: &'static str,
    sqlite_version: &'static str,
    size_bytes: u64,
    /// Error message when the database is unhealthy.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// Person whose database this is, unless it is the owner's.
    #[schema(value_type = Option<String>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<PersonName>,
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
    /// `ok`, or `suspect`: the clock shows a time before this program's build or before the newest entry.
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ConnectionHealth {
    /// `full`, or `reduced` when the descriptor limit allows fewer connections than `MAX_CONNECTIONS`.
    protection: &'static str,
    /// Number of open connections.
    open: usize,
    /// Maximum number of open connections.
    limit: usize,
    /// Cause of the reduced limit, and the remedy.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Health check
///
/// 503 when a database is unhealthy. A database that is busy, full or being restored is healthy; see
/// `database.state`.
#[utoipa::path(get, path = "/health", tag = "open", responses(
    (status = 200, description = "Alive", body = HealthBody), (status = 503, description = "Degraded: same body, with `database.error`", body = HealthBody)))]
#[rocket::get("/health")]
pub async fn health(app: &State<SharedApp>, everyone: Everyone) -> JsonResult {
    let people = &everyone.0;
    // Concurrently, so that a disk that hangs delays the response only once.
    let (summary, (host, owner_backup)) = tokio::join!(PeopleHealth::of(people), app.host_stats.current());
    let PeopleHealth { health, person, .. } = &summary;
    let (status, code) =
        if health.healthy { ("alive", Status::Ok) } else { ("degraded", Status::ServiceUnavailable) };
    let capacity = app.connections.capacity();
    let now = app.clock.now();
    let others = people.others();
    let backup = others
        .iter()
        .fold(owner_backup, |worst, person| worst.or_worse(person.name(), &person.backup(), now));
    let response = JsonResponse::ok(&HealthBody {
        status,
        timestamp: now,
        version: VERSION,
        uptime_seconds: app.uptime().as_secs(),
        probably: "overcaffeinated",
        people: others.len() + 1,
        people_open: summary.open,
        database: DatabaseHealth {
            status: if health.healthy { "healthy" } else { "unhealthy" },
            kind: "sqlite",
            state: health.state,
            sqlite_version: sqlite_version(),
            size_bytes: host.database_bytes,
            error: health.error,
            person: person.clone(),
        },
        rate_limiter: LimiterHealth {
            status: "healthy",
            kind: "in-process",
            tracked_clients: app.tracked_callers(),
        },
        redis: RedisHealth { status: "healthy", kind: "in-process" },
        disk: &host.disk,
        backup: &backup,
        clock: ClockHealth {
            status: if app.clock_is_suspect(summary.newest_entry) { "suspect" } else { "ok" },
        },
        connections: ConnectionHealth {
            protection: if capacity.reduced_by.is_some() { "reduced" } else { "full" },
            open: app.connections.open(),
            limit: capacity.connections,
            reason: capacity.reason(),
        },
    })?;
    Ok(response.with_status(code))
}

/// Health of all databases.
struct PeopleHealth {
    /// The owner's, or the first that is unhealthy.
    health: StoreHealth,
    person: Option<PersonName>,
    open: usize,
    /// Time of the owner's newest entry.
    newest_entry: Timestamp,
}

impl PeopleHealth {
    async fn of(people: &People) -> Self {
        let databases = people.open_databases();
        let checks =
            databases.iter().map(|(person, database)| async move { (person, database.store.health().await) });
        let mut states = join_all(checks).await;
        let mut worst = match states.iter().position(|(_, state)| !state.healthy) {
            Some(unhealthy) => Some(states.swap_remove(unhealthy)),
            // The owner's is always open, and the first.
            None => (!states.is_empty()).then(|| states.swap_remove(0)),
        };
        let others = people.others();
        let failed = others.iter().find(|person| person.failure().is_some());
        if let (true, Some(person)) = (worst.as_ref().is_none_or(|(_, health)| health.healthy), failed) {
            worst = Some((person, StoreHealth::UNAVAILABLE));
        }
        let newest_entry = databases.first().map_or(Timestamp::MIN, |(_, owner)| owner.newest_entry());
        let person = worst.as_ref().map(|(person, _)| person.name().clone()).filter(|name| !name.is_owner());
        Self {
            person,
            health: worst.map_or(StoreHealth::NOT_OPEN, |(_, health)| health),
            open: databases.len(),
            newest_entry,
        }
    }
}
