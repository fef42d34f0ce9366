//! `/heartrate/…`: the newest reading, readings of a time range, statistics and correlation.

use std::collections::BTreeMap;

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::correlation::{CorrelationParams, CorrelationResult};
use crate::domain::heart_rate::{Bpm, Reading, assessment, status};
use crate::domain::statistics::{BpmAggregate, BpmSummary, HeartRateBucket, round1};
use crate::domain::time::{MINUTE, Timestamp};
use crate::http::app::SharedApp;
use crate::http::extract::headers::PersonOfRequest;
use crate::http::extract::query::{CorrelationQuery, DaysQuery, Query, RangeQuery};
use crate::http::handlers::entries::{NoData, rolling_window};
use crate::http::response::{JsonResponse, JsonResult};

/// Age in minutes up to which a reading is recent.
const RECENT_MINUTES: i64 = 30;
/// Number of readings that `GET /heartrate/range` lists.
const LISTED_READINGS: u32 = 100;

/// Newest reading.
#[derive(Serialize, ToSchema)]
pub struct CurrentHeartRate {
    /// Beats per minute.
    #[schema(value_type = u16, minimum = 1, maximum = 1000)]
    bpm: Bpm,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    #[schema(required)]
    context: Option<String>,
    /// Below 50 `bradycardia (dangerously low)`, below 60 `bradycardia (athlete or dead)`, to 100 `normal`,
    /// to 120 `elevated`, to 150 `tachycardia`, to 180 `severe tachycardia`, else `call 911`.
    status: &'static str,
    /// Age in whole minutes; 0 for a reading in the future.
    #[schema(minimum = 0)]
    minutes_ago: i64,
    /// The reading is less than 30 minutes old.
    is_recent: bool,
}

/// Response body when there is no reading.
#[derive(Serialize, ToSchema)]
pub struct NoHeartRate {
    message: &'static str,
}

/// Response body of `GET /heartrate/current`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum CurrentHeartRateOrNone {
    Current(CurrentHeartRate),
    None(NoHeartRate),
}

/// Current heart rate
#[utoipa::path(get, path = "/heartrate/current", operation_id = "current_heart_rate", tag = "heart rate", responses((status = 200, description = "The newest reading", body = CurrentHeartRateOrNone)))]
#[rocket::get("/heartrate/current")]
pub async fn current(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let Some(latest) = person.store.latest_reading().await? else {
        return JsonResponse::ok(&NoHeartRate { message: "No heart rate data yet" });
    };
    let minutes_ago = ((app.clock.now().micros() - latest.timestamp.micros()) / MINUTE).max(0);
    JsonResponse::ok(&CurrentHeartRate {
        bpm: latest.bpm,
        timestamp: latest.timestamp,
        context: latest.context,
        status: status(latest.bpm),
        minutes_ago,
        is_recent: minutes_ago < RECENT_MINUTES,
    })
}

/// Time range.
#[derive(Serialize, ToSchema)]
struct Period {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

/// Readings of a time range.
#[derive(Serialize, ToSchema)]
pub struct HeartRateRange {
    period: Period,
    /// Number of readings in the range, listed or not.
    #[schema(minimum = 1)]
    readings_count: u64,
    stats: BpmSummary,
    /// The first 100 readings, oldest first.
    #[schema(max_items = 100)]
    readings: Vec<Reading>,
    /// Equal slices of the range when `buckets` was sent; slices without readings are omitted.
    #[schema(nullable = false, max_items = 1000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<HeartRateBucket>>,
}

/// Response body for a range without readings.
#[derive(Serialize, ToSchema)]
pub struct EmptyRange {
    message: &'static str,
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

/// Response body of `GET /heartrate/range`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum HeartRateRangeOrNone {
    Range(Box<HeartRateRange>),
    None(EmptyRange),
}

/// Heart rates of a time range
///
/// From `start`, inclusive, to `end`, exclusive. `buckets` divides the range into equal slices for a plot.
#[utoipa::path(get, path = "/heartrate/range", operation_id = "heart_rate_range", tag = "heart rate", params(RangeQuery),
    responses((status = 200, description = "Statistics and readings of the range", body = HeartRateRangeOrNone)))]
#[rocket::get("/heartrate/range")]
pub async fn range(person: PersonOfRequest, query: Query<RangeQuery>) -> JsonResult {
    let RangeQuery { start, end, buckets } = query.0;
    match person.store.reading_range(start, end, LISTED_READINGS, buckets).await? {
        Some(stats) => JsonResponse::ok(&HeartRateRange {
            period: Period { start, end },
            readings_count: stats.count,
            stats: stats.summary,
            readings: stats.first,
            buckets: stats.buckets,
        }),
        None => JsonResponse::ok(&EmptyRange { message: "No data in that range", start, end }),
    }
}

/// Statistics of the readings of one context.
#[derive(Serialize, ToSchema)]
struct HeartRatesOfContext {
    #[schema(minimum = 1)]
    count: u64,
    /// To 1 decimal.
    avg_bpm: f64,
    min_bpm: u16,
    max_bpm: u16,
}

/// Response body of `GET /heartrate/stats` for a period with readings.
#[derive(Serialize, ToSchema)]
pub struct HeartRateStats {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    #[schema(minimum = 1)]
    total_readings: u64,
    overall_stats: BpmSummary,
    /// Readings without a context count in `overall_stats` only.
    by_context: BTreeMap<String, HeartRatesOfContext>,
    /// Assessment of the average, from `Consistently low - see a doctor or you're an elite athlete` to
    /// `Consistently high - medical consultation recommended`.
    health_assessment: &'static str,
}

/// Response body of `GET /heartrate/stats`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum HeartRateStatsOrNone {
    Stats(HeartRateStats),
    None(NoData),
}

/// Statistics of heart rates
///
/// Over the last `days` times 24 hours. The median is exact.
#[utoipa::path(get, path = "/heartrate/stats", operation_id = "heart_rate_stats", tag = "heart rate", params(DaysQuery),
    responses((status = 200, description = "Statistics of the period", body = HeartRateStatsOrNone)))]
#[rocket::get("/heartrate/stats")]
pub async fn stats(app: &State<SharedApp>, person: PersonOfRequest, query: Query<DaysQuery>) -> JsonResult {
    let days = query.0.days;
    let (since, until) = rolling_window(app.clock.now(), days);
    let stats = person.store.reading_stats(since, until).await?;
    let (Some(overall_stats), Some(mean)) = (stats.overall.summary(), stats.overall.mean()) else {
        return JsonResponse::ok(&NoData::of("heart rate", days));
    };
    JsonResponse::ok(&HeartRateStats {
        period_days: days,
        total_readings: stats.overall.count(),
        overall_stats,
        by_context: stats
            .by_context
            .into_iter()
            .filter_map(|(name, of)| Some((name, HeartRatesOfContext::new(&of)?)))
            .collect(),
        health_assessment: assessment(mean),
    })
}

impl HeartRatesOfContext {
    fn new(readings: &BpmAggregate) -> Option<Self> {
        Some(Self {
            count: readings.count,
            avg_bpm: round1(readings.mean()?),
            min_bpm: readings.min,
            max_bpm: readings.max,
        })
    }
}

/// Correlation of caffeine and heart rate
///
/// Compares the heart rate after each coffee (15 minutes to `hours_after` hours after) with the heart rate
/// before it (2 hours to 15 minutes before), and relates all readings of the period to the active (absorbed)
/// caffeine. Readings with the contexts `active`, `exercise`, `panic`, `sleeping` and `stressed` are excluded unless `context`
/// selects them.
#[utoipa::path(get, path = "/heartrate/correlation", operation_id = "heart_rate_correlation", tag = "heart rate",
    params(CorrelationQuery),
    responses((status = 200, description = "Pairs of coffees and heart rates, newest first, and statistics over all of them", body = CorrelationResult)))]
#[rocket::get("/heartrate/correlation")]
pub async fn correlation(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    query: Query<CorrelationQuery>,
) -> JsonResult {
    let query = query.0;
    let (since, until) = rolling_window(app.clock.now(), query.days);
    let params = CorrelationParams {
        since,
        until,
        hours_after: query.hours_after,
        context: query.context,
        max_pairs: usize::from(query.limit),
        zone: app.settings.common.zone.clone(),
        kinetics: person.profile(&app.current().profile).await?.kinetics,
    };
    JsonResponse::ok(&person.store.correlation(params).await?)
}
