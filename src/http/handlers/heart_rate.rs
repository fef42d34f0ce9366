//! `/heartrate`: log one or many, list, change, delete, and what the heart says.

use std::collections::BTreeMap;

use rocket::State;
use rocket::http::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::idempotency::{IdempotencyKey, IdempotentOutcome};
use crate::db::reading_rows::ReadingFilter;
use crate::domain::correlation;
use crate::domain::correlation::CorrelationParams;
use crate::domain::heart_rate::{Bpm, NewReading, Reading, ReadingChange, ReadingId, assessment, status};
use crate::domain::statistics::{BpmAggregate, BpmSummary, HeartRateBucket, round1};
use crate::domain::time::{DAY, MINUTE, Timestamp};
use crate::http::app::{Shared, next_page};
use crate::http::extract::entry_body::{ReadingBatch, RejectedReading};
use crate::http::extract::json_body::Body;
use crate::http::extract::query::{BatchQuery, CorrelationQuery, Days, OnError, Once, Query, Range};
use crate::http::extract::validation::FieldError;
use crate::http::handlers::coffee::{Deleted, NoData, just_after, stored};
use crate::http::middleware::guard::MayRead;
use crate::http::response::{Acknowledged, Answer, Answered};

const MISSING: &str = "Heart rate log not found";
/// A reading is recent for this many minutes.
const RECENT: i64 = 30;
/// Readings that a range shows.
const SHOWN: u32 = 100;

/// Log a heart rate
///
/// `timestamp` is when it was measured: now, when it is left out. With an `Idempotency-Key` the same
/// request may be sent again without adding anything.
#[utoipa::path(post, path = "/heartrate/", operation_id = "add_heart_rate", tag = "heart rate", request_body(content = crate::http::schemas::ReadingInput, example = json!({"bpm": 72, "context": "resting"})), params(crate::http::schemas::IdempotencyHeader),
    responses((status = 201, description = "The reading as it was stored. When a request is sent again by a key without the scope `read`: the id and the fields that were sent", body = crate::http::schemas::ReadingWritten, headers(("Location" = String, description = "The path of the new reading, such as `/heartrate/1`")))))]
#[rocket::post("/heartrate", data = "<new>")]
pub async fn add(app: &State<Shared>, once: Once, may_read: MayRead, new: Body<NewReading>) -> Answered {
    let key = once.0.map(|key| IdempotencyKey { route: "/heartrate/", key, uptime: app.clock.elapsed() });
    let sent = may_read.instead(|| ReadingChange::from(new.0.clone()));
    let context = new.0.context.clone();
    let made = app.store.add_reading(new.0, key, app.clock.now()).await?;
    if let IdempotentOutcome::New(reading) = &made {
        app.metrics.heart_rates_logged(context.as_deref(), 1);
        app.note_entry(reading.timestamp);
    }
    stored(made, |reading| reading.id.0, "/heartrate/", sent)
}

/// Response body of a batch.
#[derive(Serialize, ToSchema)]
pub struct BatchAnswer {
    /// Readings in the batch. This and the rejected ones only with `on_error=skip`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<usize>,
    inserted: usize,
    /// Readings that were stored before.
    duplicates: usize,
    /// The first 20 readings that were not stored.
    #[schema(nullable = false, max_items = 20)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Vec<RejectedReading>>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_count: Option<usize>,
}

/// Log many heart rates
///
/// All or nothing: one bad reading refuses the batch and is named by its index. With `on_error=skip` the
/// valid readings are stored and the others are reported. What is stored already adds nothing, so a batch
/// may be sent again.
#[utoipa::path(post, path = "/heartrate/batch", operation_id = "add_heart_rates", tag = "heart rate", params(crate::http::schemas::OnErrorParam), request_body(content = crate::http::schemas::Batch, example = json!({"readings": [{"bpm": 61, "timestamp": "2025-07-23T06:00:00Z", "context": "sleeping"}, {"bpm": 74, "timestamp": "2025-07-23T07:00:00Z"}]})),
    responses((status = 201, description = "How many were added", body = BatchAnswer)))]
#[rocket::post("/heartrate/batch", data = "<batch>")]
pub async fn add_batch(app: &State<Shared>, query: Query<BatchQuery>, batch: Body<ReadingBatch>) -> Answered {
    let now = app.clock.now();
    let skips = query.0.on_error == OnError::Skip;
    let mut batch = if skips { batch.0 } else { batch.0.all_or_nothing()? };
    let received = skips.then(|| batch.received());
    let rejected = skips.then(|| std::mem::take(&mut batch.rejected));
    let rejected_count = skips.then_some(batch.rejected_count);
    let newest = batch.readings.iter().map(|reading| reading.timestamp.unwrap_or(now)).max();
    let result = app.store.add_readings(batch.readings, now).await?;
    for (context, readings) in &result.contexts {
        app.metrics.heart_rates_logged(context.as_deref(), *readings);
    }
    if let Some(newest) = newest {
        app.note_entry(newest);
    }
    let (inserted, duplicates) = (result.inserted, result.duplicates);
    let answer = BatchAnswer { received, inserted, duplicates, rejected, rejected_count };
    Ok(Answer::ok(&answer)?.with_status(Status::Created))
}

/// List heart rates
///
/// Newest first. `Link: rel="next"` leads to the next page, when there is one.
#[utoipa::path(get, path = "/heartrate/", operation_id = "list_heart_rates", tag = "heart rate",
    params(crate::http::schemas::Span, crate::http::schemas::OfContext, crate::http::schemas::Page),
    responses((status = 200, description = "At most `limit` readings, newest first", body = [Reading], headers(("Link" = String, description = "The next page, when there is one: `</heartrate/?offset=50>; rel=\"next\"`")))))]
#[rocket::get("/heartrate")]
pub async fn list(
    app: &State<Shared>,
    filter: Query<ReadingFilter>,
    uri: crate::http::app::RequestUri<'_>,
) -> Answered {
    let filter = filter.0;
    let (limit, offset) = (filter.limit, filter.offset);
    let mut readings = app.store.readings(ReadingFilter { limit: limit + 1, ..filter }).await?;
    let next = next_page(uri, "/heartrate/", &mut readings, limit, offset);
    Ok(Answer::ok(&readings)?.linked(next))
}

/// Get a heart rate
#[utoipa::path(get, path = "/heartrate/{id}", operation_id = "get_heart_rate", tag = "heart rate", params(crate::http::schemas::EntryId),
    responses((status = 200, description = "The reading", body = Reading)))]
#[rocket::get("/heartrate/<id>")]
pub async fn show(app: &State<Shared>, id: Result<ReadingId, FieldError>) -> Answered {
    Answer::found(app.store.reading(id?).await?, MISSING)
}

/// Change a heart rate
///
/// Only the fields that are given change; null clears `context` and `notes`. A key without the scope
/// `read` gets the id and the fields that it sent.
#[utoipa::path(put, path = "/heartrate/{id}", operation_id = "put_heart_rate", tag = "heart rate", params(crate::http::schemas::EntryId),
    request_body(content = crate::http::schemas::ReadingPatch, example = json!({"bpm": 70})), responses((status = 200, description = "The reading as it is now", body = crate::http::schemas::ReadingWritten)))]
#[rocket::put("/heartrate/<id>", data = "<change>")]
pub async fn replace(
    app: &State<Shared>,
    id: Result<ReadingId, FieldError>,
    may_read: MayRead,
    change: Body<ReadingChange>,
) -> Answered {
    apply(app, id?, &may_read, change.0).await
}

async fn apply(app: &Shared, id: ReadingId, may_read: &MayRead, change: ReadingChange) -> Answered {
    let sent = may_read.instead(|| change.clone());
    let changed = app.store.change_reading(id, change).await?;
    match sent {
        Some(sent) => Answer::found(changed.map(|_| Acknowledged { id: id.0, sent }), MISSING),
        None => Answer::found(changed, MISSING),
    }
}

/// Change a heart rate
///
/// As `PUT` does.
#[utoipa::path(patch, path = "/heartrate/{id}", operation_id = "patch_heart_rate", tag = "heart rate", params(crate::http::schemas::EntryId),
    request_body(content = crate::http::schemas::ReadingPatch, example = json!({"context": "post-coffee"})), responses((status = 200, description = "The reading as it is now", body = crate::http::schemas::ReadingWritten)))]
#[rocket::patch("/heartrate/<id>", data = "<change>")]
pub async fn change(
    app: &State<Shared>,
    id: Result<ReadingId, FieldError>,
    may_read: MayRead,
    change: Body<ReadingChange>,
) -> Answered {
    apply(app, id?, &may_read, change.0).await
}

/// Delete a heart rate
#[utoipa::path(delete, path = "/heartrate/{id}", operation_id = "delete_heart_rate", tag = "heart rate", params(crate::http::schemas::EntryId),
    responses((status = 200, description = "It is gone", body = Deleted)))]
#[rocket::delete("/heartrate/<id>")]
pub async fn delete(app: &State<Shared>, id: Result<ReadingId, FieldError>) -> Answered {
    let id = id?;
    let gone = app
        .store
        .delete_reading(id)
        .await?
        .then_some(Deleted { message: "Heart rate log deleted", id: id.0 });
    Answer::found(gone, MISSING)
}

/// The newest reading and what it says.
#[derive(Serialize, ToSchema)]
#[schema(as = CurrentHeartRate)]
pub struct Current {
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
    /// Whole minutes since; 0 for one that lies ahead.
    #[schema(minimum = 0)]
    minutes_ago: i64,
    /// Less than 30 minutes old.
    is_recent: bool,
}

/// That there is nothing.
#[derive(Serialize, ToSchema)]
#[schema(as = NoHeartRate)]
pub struct Nothing {
    message: &'static str,
}

/// The newest reading, or that there is none.
#[derive(Serialize, ToSchema)]
#[schema(as = CurrentHeartRateOrNone)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only tells the OpenAPI document that there are two shapes")]
pub enum CurrentOrNone {
    Current(Current),
    None(Nothing),
}

/// The newest reading
#[utoipa::path(get, path = "/heartrate/current", operation_id = "current_heart_rate", tag = "heart rate", responses((status = 200, description = "The newest reading", body = CurrentOrNone)))]
#[rocket::get("/heartrate/current")]
pub async fn current(app: &State<Shared>) -> Answered {
    let Some(latest) = app.store.latest_reading().await? else {
        return Answer::ok(&Nothing { message: "No heart rate data yet" });
    };
    let minutes_ago = ((app.clock.now().micros() - latest.timestamp.micros()) / MINUTE).max(0);
    Answer::ok(&Current {
        bpm: latest.bpm,
        timestamp: latest.timestamp,
        context: latest.context,
        status: status(latest.bpm),
        minutes_ago,
        is_recent: minutes_ago < RECENT,
    })
}

/// From and to.
#[derive(Serialize, ToSchema)]
struct Period {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

/// The readings of a span of time.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartRateRange)]
pub struct RangeAnswer {
    period: Period,
    /// All of the span, shown or not.
    #[schema(minimum = 1)]
    readings_count: u64,
    stats: BpmSummary,
    /// The first 100, in time order.
    #[schema(max_items = 100)]
    readings: Vec<Reading>,
    /// Equal slices of the span, when `buckets` asks for them; those without readings are left out.
    #[schema(nullable = false, max_items = 1000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<HeartRateBucket>>,
}

/// That there is nothing in the span.
#[derive(Serialize, ToSchema)]
pub struct EmptyRange {
    message: &'static str,
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

/// A span's figures, or that nothing was measured in it.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartRateRangeOrNone)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only tells the OpenAPI document that there are two shapes")]
pub enum RangeOrNone {
    Range(Box<RangeAnswer>),
    None(EmptyRange),
}

/// A span of time
///
/// From `start` up to, but without, `end`. `buckets` cuts it into equal slices for a plot.
#[utoipa::path(get, path = "/heartrate/range", operation_id = "heart_rate_range", tag = "heart rate", params(crate::http::schemas::RangeParams),
    responses((status = 200, description = "The span's figures", body = RangeOrNone)))]
#[rocket::get("/heartrate/range")]
pub async fn range(app: &State<Shared>, range: Query<Range>) -> Answered {
    let Range { start, end, buckets } = range.0;
    match app.store.reading_range(start, end, SHOWN, buckets).await? {
        Some(stats) => Answer::ok(&RangeAnswer {
            period: Period { start, end },
            readings_count: stats.count,
            stats: stats.summary,
            readings: stats.first,
            buckets: stats.buckets,
        }),
        None => Answer::ok(&EmptyRange { message: "No data in that range", start, end }),
    }
}

/// One context's figures.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartRatesOfContext)]
struct OfContext {
    #[schema(minimum = 1)]
    count: u64,
    /// To 1 decimal.
    avg_bpm: f64,
    min_bpm: u16,
    max_bpm: u16,
}

/// A period's figures.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartRateStats)]
pub struct Stats {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    #[schema(minimum = 1)]
    total_readings: u64,
    overall_stats: BpmSummary,
    /// By context; readings without one count in `overall_stats` only.
    by_context: BTreeMap<String, OfContext>,
    /// What the average says, from `Consistently low - see a doctor or you're an elite athlete` to
    /// `Consistently high - medical consultation recommended`.
    health_assessment: &'static str,
}

/// A period's figures, or that nothing was measured in it.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartRateStatsOrNone)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only tells the OpenAPI document that there are two shapes")]
pub enum StatsOrNone {
    Stats(Stats),
    None(NoData),
}

/// Statistics
///
/// Over the last `days` times 24 hours. The median is exact.
#[utoipa::path(get, path = "/heartrate/stats", operation_id = "heart_rate_stats", tag = "heart rate", params(crate::http::schemas::DaysParam),
    responses((status = 200, description = "The period's figures", body = StatsOrNone)))]
#[rocket::get("/heartrate/stats")]
pub async fn stats(app: &State<Shared>, days: Query<Days>) -> Answered {
    let (days, now) = (days.0.0, app.clock.now());
    let stats = app.store.reading_stats(now.minus(i64::from(days) * DAY), just_after(now)).await?;
    let (Some(overall_stats), Some(mean)) = (stats.overall.summary(), stats.overall.mean()) else {
        return Answer::ok(&NoData { message: format!("No heart rate data in last {days} days"), days });
    };
    Answer::ok(&Stats {
        period_days: days,
        total_readings: stats.overall.count(),
        overall_stats,
        by_context: stats
            .by_context
            .into_iter()
            .filter_map(|(name, of)| Some((name, OfContext::of(&of)?)))
            .collect(),
        health_assessment: assessment(mean),
    })
}

impl OfContext {
    fn of(readings: &BpmAggregate) -> Option<Self> {
        Some(Self {
            count: readings.count,
            avg_bpm: round1(readings.mean()?),
            min_bpm: readings.min,
            max_bpm: readings.max,
        })
    }
}

/// What coffee does to the heart
///
/// The pulse after each coffee (from 15 minutes to `hours_after` hours after) against the pulse before
/// (from 2 hours to 15 minutes before); and over all readings, what the pulse does when there is caffeine
/// in the body. Readings marked `active`, `exercise`, `panic`, `sleeping` or `stressed` are left out, unless
/// `context` asks for them.
#[utoipa::path(get, path = "/heartrate/correlation", operation_id = "heart_rate_correlation", tag = "heart rate",
    params(crate::http::schemas::DaysParam, crate::http::schemas::HoursAfter, crate::http::schemas::OfContext, crate::http::schemas::Shown),
    responses((status = 200, description = "Coffee by coffee, newest first, and what all of them say", body = correlation::CorrelationResult)))]
#[rocket::get("/heartrate/correlation")]
pub async fn correlate(app: &State<Shared>, query: Query<CorrelationQuery>) -> Answered {
    let (query, now) = (query.0, app.clock.now());
    let params = CorrelationParams {
        since: now.minus(i64::from(query.days) * DAY),
        until: just_after(now),
        hours_after: query.hours_after,
        context: query.context,
        max_pairs: usize::from(query.limit),
        zone: app.settings.place.zone.clone(),
        kinetics: app.settings.profile.kinetics,
    };
    Answer::ok(&app.store.correlation(params).await?)
}
