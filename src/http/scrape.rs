//! `/metrics`: what was counted, and what is, in Prometheus' text format.

use rocket::State;
use rocket::http::ContentType;

use super::error::ApiError;
use super::{App, Shared};
use crate::metrics::Observed;
use crate::model::forecast::Forecast;

/// Metrics
///
/// In Prometheus' text format. Needs a key with the scope `metrics`, unless `METRICS_PUBLIC=true`.
#[utoipa::path(get, path = "/metrics", tag = "open", responses((status = 200, description = "Every series", content_type = "text/plain", body = String, example = "# HELP caffeine_mg_total Caffeine logged, mg\n# TYPE caffeine_mg_total counter\ncaffeine_mg_total 95\n")))]
#[rocket::get("/metrics")]
pub async fn metrics(app: &State<Shared>) -> Result<(ContentType, Vec<u8>), ApiError> {
    let text = app.metrics.text(&observe(app).await?).map_err(|e| {
        tracing::error!("the metrics could not be written: {e}");
        ApiError::Internal
    })?;
    Ok((ContentType::new("text", "plain").with_params([("version", "0.0.4"), ("charset", "utf-8")]), text))
}

/// A broken database must not blind the monitor that would report it: what cannot be asked
/// shows as zero, and `component_up` says so.
async fn observe(app: &App) -> Result<Observed, ApiError> {
    let now = app.clock.now();
    let (start, end) = app.settings.place.zone.day(app.settings.place.zone.date(now));
    let newest = app.store.overview().await.unwrap_or_default();
    let kinetics = app.settings.drinker.kinetics;
    let doses = app.store.intake((now.minus(kinetics.look_back()), now.plus(1)), now, 0).await;
    let (doses, _) = doses.unwrap_or_default();
    let facts = app.facts.now(app);
    Ok(Observed {
        last_coffee: newest.last_coffee.map(|(at, mg)| (at.seconds(), mg.mg())),
        last_reading: newest.last_reading.map(|reading| (reading.timestamp.seconds(), reading.bpm.get())),
        active_caffeine_mg: Forecast::new(kinetics, &doses).active(now),
        caffeine_today_mg: app.store.caffeine_between(start, end).await.unwrap_or_default().total_mg,
        store: app.store.gauges(),
        healthy: app.store.wellness().await.healthy,
        disk: facts.disk.free_bytes.map(|free| (free, facts.disk.size_bytes)),
        backup: facts.record.last_success.map(|at| (at as f64 / 1e6, facts.record.size_bytes.unwrap_or(0))),
        backup_failed: facts.record.error.is_some(),
        tracked_clients: facts.tracked_clients,
    })
}
