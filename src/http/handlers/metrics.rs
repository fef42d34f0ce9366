//! `/metrics`: what was counted, and what is, in Prometheus' text format.

use rocket::http::ContentType;
use rocket::{State, tokio};

use crate::db::health::Overview;
use crate::domain::forecast::Forecast;
use crate::http::app::{App, Shared};
use crate::http::error::ApiError;
use crate::telemetry::metrics::Observed;

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
    let (health, facts) = tokio::join!(app.store.health(), app.facts.now(app));
    let person = if health.can_be_asked() { PersonFigures::ask(app).await } else { PersonFigures::default() };
    Ok(Observed {
        last_coffee: person.newest.last_coffee.map(|(at, mg)| (at.seconds(), mg.mg())),
        last_reading: person
            .newest
            .last_reading
            .map(|reading| (reading.timestamp.seconds(), reading.bpm.get())),
        active_caffeine_mg: person.active_caffeine_mg,
        caffeine_today_mg: person.caffeine_today_mg,
        store: app.store.gauges(),
        database_bytes: facts.database_bytes,
        wal_bytes: facts.wal_bytes,
        healthy: health.healthy,
        disk: facts.disk.free_bytes.map(|free| (free, facts.disk.size_bytes)),
        backup: facts.record.last_success.map(|at| (at as f64 / 1e6, facts.record.size_bytes.unwrap_or(0))),
        backup_failed: facts.record.error.is_some(),
        tracked_clients: facts.tracked_clients,
    })
}

/// Figures about the person, by queries.
#[derive(Default)]
struct PersonFigures {
    newest: Overview,
    active_caffeine_mg: f64,
    caffeine_today_mg: f64,
}

impl PersonFigures {
    async fn ask(app: &App) -> Self {
        let now = app.clock.now();
        let (start, end) = app.settings.place.zone.day(app.settings.place.zone.date(now));
        let newest = app.store.overview().await.unwrap_or_default();
        let kinetics = app.settings.profile.kinetics;
        let doses = app.store.intake((now.minus(kinetics.lookback_micros()), now.plus(1)), now, 0).await;
        let (doses, _) = doses.unwrap_or_default();
        Self {
            newest,
            active_caffeine_mg: Forecast::new(kinetics, &doses).active(now),
            caffeine_today_mg: app.store.caffeine_between(start, end).await.unwrap_or_default().total_mg,
        }
    }
}
