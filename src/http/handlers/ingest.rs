//! `/ingest`: samples that health apps push.

use std::collections::BTreeMap;
use std::io::Read;

use rocket::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::db::samples::MergeResult;
use crate::domain::limits::ValidationContext;
use crate::domain::sample::{RejectedSample, SampleContext};
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::extract::headers::PersonOfRequest;
use crate::http::extract::streamed_body::{FromStream, StreamedBody};
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldError, Location, ValidationErrors};
use crate::people::database::PersonDatabase;
use crate::transfer::push::parsed_push::{ParsedPush, PushError};
use crate::transfer::push::{hc_webhook, health_auto_export};

/// Request body of Health Auto Export. Other members are counted as ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct HealthAutoExportInput {
    /// Object with the list `metrics`. A metric has `name`, `units` and the list `data` of its samples, and a sample has
    /// `date`, `Avg` or `qty`, and `source`.
    #[schema(value_type = Object)]
    data: Value,
}

/// Request body of HC Webhook.
///
/// The samples in the lists `heart_rate` and `resting_heart_rate` have `time`, and `bpm` or `avg`. If `test` is true, nothing is
/// stored. Other members are counted as ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct HcWebhookInput {
    /// Time of the push.
    timestamp: Value,
}

/// Response body of a push. `received` is the sum of the other numbers.
#[derive(Serialize, ToSchema)]
pub struct PushResponse {
    /// Samples in the push.
    received: u64,
    inserted: u64,
    /// Samples whose stored entry got another value.
    updated: u64,
    /// Samples that are stored already, that you have deleted or changed, or that a later one of the push replaces.
    duplicates: u64,
    /// Number of samples of each metric that is not stored.
    #[schema(example = json!({"step_count": 12}))]
    ignored: BTreeMap<String, u64>,
    /// The first 20 samples that cannot be stored.
    #[schema(max_items = 20)]
    rejected: Vec<RejectedSample>,
    rejected_count: u64,
}

/// Receive data from Health Auto Export
///
/// For the automation "REST API" of this app for iOS, with JSON in version 2. Heart rates, resting heart rates and
/// caffeine are stored, other metrics are counted. A sample is identified by its source and its time: the same one
/// again adds nothing, and a changed value replaces the stored one. What you delete or change stays deleted or
/// changed. A sample that cannot be stored is reported; the others are stored.
#[utoipa::path(post, path = "/ingest/health-auto-export", operation_id = "push_health_auto_export", tag = "apps",
    request_body(content = HealthAutoExportInput, example = json!({"data": {"metrics": [{"name": "heart_rate", "units": "bpm", "data": [{"date": "2025-07-23 06:30:00 +0200", "Min": 58, "Avg": 61.4, "Max": 66, "source": "Apple Watch"}]}]}})),
    responses((status = 200, description = "Number of samples", body = PushResponse)))]
#[rocket::post("/ingest/health-auto-export", data = "<push>")]
pub async fn push_health_auto_export(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    push: StreamedBody<HealthAutoExportPush>,
) -> JsonResult {
    store(app, &person, push.parsed.0).await
}

/// Receive data from HC Webhook
///
/// For this app for Android, which sends what Health Connect has. Heart rates and resting heart rates are stored; see
/// `/ingest/health-auto-export` for what happens with samples that are sent again.
#[utoipa::path(post, path = "/ingest/hc-webhook", operation_id = "push_hc_webhook", tag = "apps",
    request_body(content = HcWebhookInput, example = json!({"timestamp": "2025-07-23T06:30:00Z", "app_version": "1.9.0", "heart_rate": [{"bpm": 61, "time": "2025-07-23T06:28:11Z"}]})),
    responses((status = 200, description = "Number of samples", body = PushResponse)))]
#[rocket::post("/ingest/hc-webhook", data = "<push>")]
pub async fn push_hc_webhook(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    push: StreamedBody<HcWebhookPush>,
) -> JsonResult {
    store(app, &person, push.parsed.0).await
}

/// Push of Health Auto Export.
pub struct HealthAutoExportPush(ParsedPush);

/// Push of HC Webhook.
pub struct HcWebhookPush(ParsedPush);

impl FromStream for HealthAutoExportPush {
    fn max_bytes(app: &App) -> u64 {
        app.settings.max_ingest_body_bytes
    }

    fn from_stream(body: &mut dyn Read, context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        health_auto_export::read(body, context).map(Self).map_err(ValidationErrors::from)
    }
}

impl FromStream for HcWebhookPush {
    fn max_bytes(app: &App) -> u64 {
        app.settings.max_ingest_body_bytes
    }

    fn from_stream(body: &mut dyn Read, context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        hc_webhook::read(body, context).map(Self).map_err(ValidationErrors::from)
    }
}

impl From<PushError> for ValidationErrors {
    fn from(error: PushError) -> Self {
        FieldError::new(Location::Body, "body", error.to_string()).into()
    }
}

/// Stores the samples of a push.
async fn store(app: &App, person: &PersonDatabase, push: ParsedPush) -> JsonResult {
    let received = push.received();
    let times = push.samples.readings.iter().map(|sample| sample.timestamp);
    let newest = times.chain(push.samples.coffees.iter().map(|sample| sample.timestamp)).max();
    let mut result = MergeResult::default();
    let merged = person.store.merge_samples(push.samples, &mut result).await;
    let MergeResult { counts, contexts, doses } = result;
    for (context, readings) in contexts {
        app.metrics.count_readings(context.map(SampleContext::name), readings, person.is_owner);
    }
    for dose in doses {
        app.metrics.count_coffee(None, dose, person.is_owner);
    }
    if let Some(newest) = newest.filter(|_| counts.inserted > 0) {
        person.raise_newest_entry(newest);
    }
    merged.map_err(|error| match counts.inserted + counts.updated {
        0 => ApiError::from(error),
        _ => ApiError::PartlyStored(error),
    })?;
    JsonResponse::ok(&PushResponse {
        received,
        inserted: counts.inserted,
        updated: counts.updated,
        duplicates: counts.duplicates,
        ignored: push.ignored,
        rejected: push.rejected,
        rejected_count: push.rejected_count,
    })
}
