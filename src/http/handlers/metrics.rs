//! `/metrics`: metrics in Prometheus' text format.

use rocket::http::ContentType;
use rocket::{State, tokio};

use crate::db::health::Overview;
use crate::domain::forecast::Forecast;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::telemetry::metrics::Observation;

/// Metrics
///
/// In Prometheus' text format. Requires a key with the scope `metrics` unless `METRICS_PUBLIC=true`.
#[utoipa::path(get, path = "/metrics", tag = "open", responses((status = 200, description = "All metrics", content_type = "text/plain", body = String, example = "# HELP caffeine_mg_total Milligrams of caffeine logged over HTTP\n# TYPE caffeine_mg_total counter\ncaffeine_mg_total 95\n")))]
#[rocket::get("/metrics")]
pub async fn metrics(app: &State<SharedApp>) -> Result<(ContentType, Vec<u8>), ApiError> {
    let text = app.metrics.encode(&observe(app).await).map_err(|e| {
        tracing::error!("the metrics could not be encoded: {e}");
        ApiError::Internal
    })?;
    Ok((ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]), text))
}

/// Reads the values of the gauges. A value that cannot be read is zero, so that a broken database does not
/// break the metrics that report it (`component_up`).
async fn observe(app: &App) -> Observation {
    let (health, host) = tokio::join!(app.store.health(), app.host_stats.current());
    let entries = if health.can_be_asked() { EntryGauges::read(app).await } else { EntryGauges::default() };
    let reading = entries.overview.last_reading;
    Observation {
        last_coffee: entries.overview.last_coffee.map(|(at, mg)| (at.seconds(), mg.mg())),
        last_reading: reading.map(|reading| (reading.timestamp.seconds(), reading.bpm.get())),
        active_caffeine_mg: entries.active_caffeine_mg,
        caffeine_today_mg: entries.caffeine_today_mg,
        store: app.store.gauges(),
        database_bytes: host.database_bytes,
        wal_bytes: host.wal_bytes,
        is_healthy: health.healthy,
        disk: host.disk.free_bytes.map(|free| (free, host.disk.size_bytes)),
        backup: host.record.last_success.map(|at| (at as f64 / 1e6, host.record.size_bytes.unwrap_or(0))),
        backup_failed: host.record.error.is_some(),
        tracked_callers: app.tracked_callers(),
    }
}

/// Values that are computed from entries.
#[derive(Default)]
struct EntryGauges {
    overview: Overview,
    active_caffeine_mg: f64,
    caffeine_today_mg: f64,
}

impl EntryGauges {
    async fn read(app: &App) -> Self {
        let now = app.clock.now();
        let (start, end) = app.settings.common.zone.day(app.settings.common.zone.date(now));
        let overview = app.store.overview().await.unwrap_or_default();
        let kinetics = app.settings.profile.kinetics;
        let doses = app.store.intake((now.minus(kinetics.lookback_micros()), now.plus(1)), now, 0).await;
        let (doses, _) = doses.unwrap_or_default();
        Self {
            overview,
            active_caffeine_mg: Forecast::new(kinetics, &doses).active(now),
            caffeine_today_mg: app.store.caffeine_between(start, end).await.unwrap_or_default().total_mg,
        }
    }
}
