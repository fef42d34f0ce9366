//! `/metrics`: metrics in Prometheus' text format.

use rocket::http::ContentType;
use rocket::{State, tokio};

use crate::db::error::StoreError;
use crate::db::health::{Gauges, Overview};
use crate::domain::forecast::Forecast;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::telemetry::metrics::{MetricsError, ObservedMetrics};

/// Metrics
///
/// In Prometheus' text format. Requires a key with the scope `metrics` unless `METRICS_PUBLIC=true`.
#[utoipa::path(get, path = "/metrics", tag = "open", responses((status = 200, description = "All metrics", content_type = "text/plain", body = String, example = "# HELP caffeine_mg_total Milligrams of caffeine logged over HTTP\n# TYPE caffeine_mg_total counter\ncaffeine_mg_total 95\n")))]
#[rocket::get("/metrics")]
pub async fn metrics(app: &State<SharedApp>) -> Result<(ContentType, Vec<u8>), ApiError> {
    let text = observe(app).await.and_then(|observed| app.metrics.encode(&observed)).map_err(|e| {
        tracing::error!("the metrics could not be encoded: {e}");
        ApiError::Internal
    })?;
    Ok((ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]), text))
}

/// Reads the values of the gauges. A value that cannot be read is zero, so that a broken database does not
/// break the metrics that report it (`component_up`).
async fn observe(app: &App) -> Result<ObservedMetrics, MetricsError> {
    let (health, (host, _)) = tokio::join!(app.store.health(), app.host_stats.current());
    let metrics = ObservedMetrics::default();
    observe_entries(app, health.can_be_asked(), &metrics).await?;
    observe_store(&app.store.gauges(), &metrics)?;
    let files = [("main", host.database_bytes as f64), ("wal", host.wal_bytes as f64)];
    let help = "Size of the database file and its write-ahead log";
    metrics.gauges("database_size_bytes", help, "file", &files)?;
    if let Some(free) = host.disk.free_bytes {
        let space = [("free", free as f64), ("size", host.disk.size_bytes as f64)];
        let help = "Free and total space of the disk that holds the database";
        metrics.gauges("disk_bytes", help, "kind", &space)?;
    }
    let backup = host.record;
    let backup_at = backup.last_success.unwrap_or_default() as f64 / 1e6;
    let help = "Time of the last successful backup";
    metrics.gauge("backup_last_success_timestamp_seconds", help, backup_at)?;
    let backup_bytes = backup.last_success.and(backup.size_bytes).unwrap_or(0) as f64;
    metrics.gauge("backup_last_size_bytes", "Size of the last successful backup", backup_bytes)?;
    let succeeded = f64::from(backup.last_success.is_some() && backup.error.is_none());
    let help = "1 if the last backup succeeded, 0 if it failed or there is none";
    metrics.gauge("backup_last_result", help, succeeded)?;
    let callers = app.tracked_callers() as f64;
    metrics.gauge("rate_limit_tracked_clients", "Callers that the rate limiter tracks", callers)?;
    let components = [("database", f64::from(health.healthy))];
    let help = "1 if the component is healthy, otherwise 0";
    metrics.gauges("component_up", help, "component", &components)?;
    Ok(metrics)
}

fn observe_store(store: &Gauges, metrics: &ObservedMetrics) -> Result<(), MetricsError> {
    let errors = StoreError::KINDS.into_iter().zip(store.faults);
    metrics.counters("database_errors_total", "Database errors by kind", "kind", errors)?;
    let queue = store.queue_depth as f64;
    metrics.gauge("store_write_queue_depth", "Writes that are queued or running", queue)?;
    metrics.counter("store_commits_total", "Committed transactions", store.commits)?;
    let help = "Rows added, changed or deleted by committed transactions";
    metrics.counter("store_rows_committed_total", help, store.rows_committed)?;
    let readers = [("busy", store.readers_busy.into()), ("total", store.readers_total.into())];
    metrics.gauges("store_readers", "Connections of the read pools by state", "state", &readers)
}

/// Reads the values that are computed from entries. All are zero when the database cannot be read.
async fn observe_entries(
    app: &App,
    can_be_read: bool,
    metrics: &ObservedMetrics,
) -> Result<(), MetricsError> {
    let (mut overview, mut active_mg, mut today_mg) = (Overview::default(), 0.0, 0.0);
    if can_be_read {
        let now = app.clock.now();
        let (start, end) = app.settings.common.zone.day(app.settings.common.zone.date(now));
        overview = app.store.overview().await.unwrap_or_default();
        let kinetics = app.profile().await.unwrap_or(app.settings.profile).kinetics;
        let doses = app.store.intake((now.minus(kinetics.lookback_micros()), now.plus(1)), now, 0).await;
        active_mg = Forecast::new(kinetics, &doses.unwrap_or_default().0).active(now);
        today_mg = app.store.caffeine_between(start, end).await.unwrap_or_default().total_mg;
    }
    let (coffee_at, dose) = overview.last_coffee.map_or((0.0, 0.0), |(at, dose)| (at.seconds(), dose.mg()));
    metrics.gauge("caffeine_last_mg", "Dose of the newest coffee in milligrams", dose)?;
    metrics.gauge("coffee_last_timestamp_seconds", "Time of the newest coffee", coffee_at)?;
    metrics.gauge("caffeine_active_mg", "Estimated caffeine in the body in milligrams", active_mg)?;
    metrics.gauge("caffeine_today_mg", "Caffeine of the current calendar day in milligrams", today_mg)?;
    let (reading_at, bpm) =
        overview.last_reading.map_or((0.0, 0), |reading| (reading.timestamp.seconds(), reading.bpm.get()));
    metrics.gauge("heartrate_bpm_current", "Newest heart rate in beats per minute", bpm.into())?;
    metrics.gauge("heartrate_last_timestamp_seconds", "Time of the newest heart-rate reading", reading_at)
}
