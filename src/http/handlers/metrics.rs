//! `/metrics`: metrics in Prometheus' text format.

use std::collections::BTreeMap;

use rocket::futures::future::join_all;
use rocket::http::ContentType;
use rocket::{State, tokio};

use crate::db::error::StoreError;
use crate::db::health::{BackupRecord, Gauges, Overview, StoreHealth};
use crate::db::store::StoreTotals;
use crate::domain::forecast::Forecast;
use crate::domain::person::PersonName;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::middleware::guard::Everyone;
use crate::people::database::PersonDatabase;
use crate::people::registry::People;
use crate::telemetry::metrics::{MetricsError, ObservedMetrics};

/// Metrics
///
/// In Prometheus' text format. Requires a key with the scope `metrics` unless `METRICS_PUBLIC=true`.
#[utoipa::path(get, path = "/metrics", tag = "open", responses((status = 200, description = "All metrics", content_type = "text/plain", body = String, example = "# HELP caffeine_mg_total Milligrams of caffeine logged over HTTP\n# TYPE caffeine_mg_total counter\ncaffeine_mg_total 95\n")))]
#[rocket::get("/metrics")]
pub async fn metrics(app: &State<SharedApp>, everyone: Everyone) -> Result<(ContentType, Vec<u8>), ApiError> {
    let text =
        observe(app, &everyone.0).await.and_then(|observed| app.metrics.encode(&observed)).map_err(|e| {
            tracing::error!("the metrics could not be encoded: {e}");
            ApiError::Internal
        })?;
    Ok((ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]), text))
}

/// Reads the values of the gauges. A value that cannot be read is zero, so that a broken database does not
/// break the metrics that report it (`component_up`).
async fn observe(app: &App, people: &People) -> Result<ObservedMetrics, MetricsError> {
    let databases = people.open_databases();
    let owner = databases.first().map(|(_, database)| database.as_ref());
    let owner_health = async {
        match owner {
            Some(database) => database.store.health().await,
            None => StoreHealth::NOT_OPEN,
        }
    };
    let others_health = join_all(databases.iter().skip(1).map(|(_, database)| database.store.health()));
    let (health, others_health, (host, _)) =
        tokio::join!(owner_health, others_health, app.host_stats.current());
    let are_others_healthy = others_health.iter().all(|health| health.healthy)
        && people.others().iter().all(|person| person.failure().is_none());
    let metrics = ObservedMetrics::default();
    let owner = owner.filter(|_| health.can_be_asked());
    let overview = match owner {
        Some(database) => database.store.overview().await.unwrap_or_default(),
        None => Overview::default(),
    };
    observe_entries(app, &overview, None, &metrics)?;
    observe_caffeine(app, owner, None, &metrics).await?;
    let load = databases.iter().map(|(_, database)| database.store.gauges()).sum();
    observe_store(&load, &people.resources().totals(), &metrics)?;
    observe_others(app, people, health.can_be_asked(), &metrics).await?;
    let files = [("main", host.database_bytes as f64), ("wal", host.wal_bytes as f64)];
    let help = "Size of the database file and its write-ahead log";
    metrics.gauges("database_size_bytes", help, "file", &files)?;
    if let Some(free) = host.disk.free_bytes {
        let space = [("free", free as f64), ("size", host.disk.size_bytes as f64)];
        let help = "Free and total space of the disk that holds the database";
        metrics.gauges("disk_bytes", help, "kind", &space)?;
    }
    observe_backup(&host.record, None, &metrics)?;
    let callers = app.tracked_callers() as f64;
    metrics.gauge("rate_limit_tracked_clients", "Callers that the rate limiter tracks", callers)?;
    let components = [("database", f64::from(health.healthy && are_others_healthy))];
    let help = "1 if the component is healthy, for everyone, otherwise 0";
    metrics.gauges("component_up", help, "component", &components)?;
    Ok(metrics)
}

/// Reads the values of everyone except the owner.
async fn observe_others(
    app: &App,
    people: &People,
    can_be_asked: bool,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let others = people.others();
    metrics.gauge("people", "Number of people, the owner included", others.len() as f64 + 1.0)?;
    let open = people.open_databases();
    metrics.gauge("people_open", "Number of people whose databases are open", open.len() as f64)?;
    let frozen = std::iter::once(people.owner()).chain(&others).filter(|person| person.is_frozen()).count();
    metrics.gauge(
        "people_frozen",
        "Number of people who are being moved to another machine",
        frozen as f64,
    )?;
    for person in others {
        let name = Some(person.name());
        observe_backup(&person.backup(), name, metrics)?;
        if let Some(overview) = person.overview() {
            observe_entries(app, &overview, name, metrics)?;
        }
    }
    // The owner is the first.
    for (person, database) in open.iter().skip(1).filter(|_| can_be_asked) {
        observe_caffeine(app, Some(database), Some(person.name()), metrics).await?;
    }
    Ok(())
}

fn observe_backup(
    backup: &BackupRecord,
    person: Option<&PersonName>,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let backup_at = backup.last_success.unwrap_or_default() as f64 / 1e6;
    let help = "Time of the last successful backup";
    metrics.gauge_of("backup_last_success_timestamp_seconds", help, person, backup_at)?;
    let backup_bytes = backup.last_success.and(backup.size_bytes).unwrap_or(0) as f64;
    metrics.gauge_of("backup_last_size_bytes", "Size of the last successful backup", person, backup_bytes)?;
    let succeeded = f64::from(backup.last_success.is_some() && backup.error.is_none());
    let help = "1 if the last backup succeeded, 0 if it failed or there is none";
    metrics.gauge_of("backup_last_result", help, person, succeeded)
}

fn observe_store(
    store: &Gauges,
    totals: &StoreTotals,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let errors = StoreError::KINDS.into_iter().zip(totals.faults);
    metrics.counters("database_errors_total", "Database errors by kind", "kind", errors)?;
    let queue = store.queue_depth as f64;
    metrics.gauge("store_write_queue_depth", "Writes that are queued or running", queue)?;
    metrics.counter("store_commits_total", "Committed transactions", totals.commits)?;
    let help = "Rows added, changed or deleted by committed transactions";
    metrics.counter("store_rows_committed_total", help, totals.rows_committed)?;
    let readers = [("busy", store.readers_busy.into()), ("total", store.readers_total.into())];
    metrics.gauges("store_readers", "Connections of the read pools by state", "state", &readers)
}

/// Adds the newest entries.
fn observe_entries(
    app: &App,
    overview: &Overview,
    person: Option<&PersonName>,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let (coffee_at, dose) = overview.last_coffee.map_or((0.0, 0.0), |(at, dose)| (at.seconds(), dose.mg()));
    metrics.gauge_of("caffeine_last_mg", "Dose of the newest coffee in milligrams", person, dose)?;
    metrics.gauge_of("coffee_last_timestamp_seconds", "Time of the newest coffee", person, coffee_at)?;
    let reading = overview.last_reading.as_ref();
    let (reading_at, bpm) =
        reading.map_or((0.0, 0), |reading| (reading.timestamp.seconds(), reading.bpm.get()));
    let help = "Newest heart rate in beats per minute";
    metrics.gauge_of("heartrate_bpm_current", help, person, bpm.into())?;
    let help = "Time of the newest heart-rate reading";
    metrics.gauge_of("heartrate_last_timestamp_seconds", help, person, reading_at)?;
    let mut newest: BTreeMap<String, f64> = BTreeMap::new();
    for source in &overview.reading_sources {
        let seconds = newest.entry(app.metrics.source_label(&source.name, person.is_none())).or_default();
        *seconds = seconds.max(source.newest_at.seconds());
    }
    let newest: Vec<(&str, f64)> =
        newest.iter().map(|(source, seconds)| (source.as_str(), *seconds)).collect();
    let help = "Time of the newest reading of each app or device";
    metrics.gauges_of("heartrate_source_last_timestamp_seconds", help, person, "source", &newest)
}

/// Adds the values that are computed from the coffees. They are zero when the database cannot be read.
async fn observe_caffeine(
    app: &App,
    database: Option<&PersonDatabase>,
    person: Option<&PersonName>,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let (mut active_mg, mut today_mg) = (0.0, 0.0);
    if let Some(database) = database {
        let store = &database.store;
        let now = app.clock.now();
        let (start, end) = app.settings.common.zone.day(app.settings.common.zone.date(now));
        let defaults = app.current().profile;
        let kinetics = database.profile(&defaults).await.unwrap_or(defaults).kinetics;
        let doses = store.intake((now.minus(kinetics.lookback_micros()), now.plus(1)), now, 0).await;
        active_mg = Forecast::new(kinetics, &doses.unwrap_or_default().0).active(now);
        today_mg = store.caffeine_between(start, end).await.unwrap_or_default().total_mg;
    }
    let help = "Estimated caffeine in the body in milligrams";
    metrics.gauge_of("caffeine_active_mg", help, person, active_mg)?;
    let help = "Caffeine of the current calendar day in milligrams";
    metrics.gauge_of("caffeine_today_mg", help, person, today_mg)
}
