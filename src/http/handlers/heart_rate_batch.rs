//! `POST /heartrate/batch`: log many readings at once.

use std::fmt;

use rocket::State;
use rocket::http::Status;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::heart_rate::NewReading;
use crate::domain::json_object::JsonObject;
use crate::domain::limits::ValidationContext;
use crate::http::app::{App, SharedApp};
use crate::http::extract::headers::PersonOfRequest;
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::{BatchQuery, OnError, Query};
use crate::http::handlers::heart_rate::ReadingInput;
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldError, Location, ValidationErrors, parse_object};

/// Maximum number of readings in a batch.
pub const MAX_BATCH_READINGS: usize = 10_000;
/// Maximum size of a batch in bytes, where the setting for other bodies is lower.
const MAX_BATCH_BYTES: u64 = 8 << 20;
/// Maximum number of rejected readings in the response to a batch.
const MAX_LISTED_REJECTIONS: usize = 20;
/// Maximum number of field errors in the response to a rejected batch.
const MAX_LISTED_ERRORS: usize = 100;

/// Response body of `POST /heartrate/batch`.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchAnswer)]
pub struct BatchResponse {
    /// Readings in the batch. This and the rejected ones only with `on_error=skip`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<usize>,
    inserted: usize,
    /// Readings that had been stored before.
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
/// All or nothing: one invalid reading rejects the batch, and the error states its index. With
/// `on_error=skip`, valid readings are stored and the others reported. Readings that are stored already add
/// nothing, so a batch can be sent again.
#[utoipa::path(post, path = "/heartrate/batch", operation_id = "add_heart_rates", tag = "heart rate", params(BatchQuery), request_body(content = ReadingBatchInput, example = json!({"readings": [{"bpm": 61, "timestamp": "2025-07-23T06:00:00Z", "context": "sleeping"}, {"bpm": 74, "timestamp": "2025-07-23T07:00:00Z"}]})),
    responses((status = 201, description = "Number of added readings", body = BatchResponse)))]
#[rocket::post("/heartrate/batch", data = "<batch>")]
pub async fn add_batch(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    query: Query<BatchQuery>,
    batch: JsonBody<ReadingBatch>,
) -> JsonResult {
    let now = app.clock.now();
    let skips = query.0.on_error == OnError::Skip;
    let mut batch = if skips { batch.0 } else { batch.0.all_or_nothing()? };
    let received = skips.then(|| batch.received());
    let rejected = skips.then(|| std::mem::take(&mut batch.rejected));
    let rejected_count = skips.then_some(batch.rejected_count);
    let newest = batch.readings.iter().map(|reading| reading.timestamp.unwrap_or(now)).max();
    let result = person.store.add_readings(batch.readings, now).await?;
    for (context, readings) in &result.contexts {
        app.metrics.count_readings(context.as_deref(), *readings, person.is_owner);
    }
    if let Some(newest) = newest {
        person.raise_newest_entry(newest);
    }
    let (inserted, duplicates) = (result.inserted, result.duplicates);
    let body = BatchResponse { received, inserted, duplicates, rejected, rejected_count };
    Ok(JsonResponse::ok(&body)?.with_status(Status::Created))
}

/// Batch of 1 to [`MAX_BATCH_READINGS`] readings, separated into valid and rejected ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadingBatch {
    /// The valid readings.
    pub readings: Vec<NewReading>,
    /// The first [`MAX_LISTED_REJECTIONS`] rejected readings.
    pub rejected: Vec<RejectedReading>,
    pub rejected_count: usize,
    /// The first [`MAX_LISTED_ERRORS`] field errors of rejected readings.
    errors: Vec<FieldError>,
}

/// Reading of a batch that is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RejectedReading {
    /// Zero-based position in the batch.
    pub index: usize,
    /// Every invalid field and its requirement.
    pub reason: String,
}

impl FromBody for ReadingBatch {
    fn max_bytes(app: &App) -> u64 {
        app.settings.max_body_bytes.max(MAX_BATCH_BYTES)
    }

    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let ReadingBatchInput { readings: raw } = parse_object(body)?;
        if raw.sent == 0 || raw.sent > MAX_BATCH_READINGS {
            let message =
                format!("must be a list of 1 to {MAX_BATCH_READINGS} readings (it has {})", raw.sent);
            return Err(FieldError::new(Location::Body, "readings", message).into());
        }
        let mut batch = Self { readings: Vec::with_capacity(raw.kept.len()), ..Self::default() };
        for (index, item) in raw.kept.iter().enumerate() {
            let parsed = match item {
                JsonObject::Object(input) => input.parse(context),
                _ => Err(FieldError::new(Location::Body, "", "must be an object").into()),
            };
            match parsed {
                Ok(reading) => batch.readings.push(reading),
                Err(errors) => batch.reject(index, errors),
            }
        }
        Ok(batch)
    }
}

impl ReadingBatch {
    /// Returns the number of readings in the batch, rejected ones included.
    pub fn received(&self) -> usize {
        self.readings.len() + self.rejected_count
    }

    /// Returns the batch when every reading is valid.
    ///
    /// # Errors
    /// The first [`MAX_LISTED_ERRORS`] field errors, with the index of the reading.
    pub fn all_or_nothing(self) -> Result<Self, ValidationErrors> {
        if self.errors.is_empty() { Ok(self) } else { Err(ValidationErrors(self.errors)) }
    }

    fn reject(&mut self, index: usize, errors: ValidationErrors) {
        self.rejected_count += 1;
        if self.rejected.len() < MAX_LISTED_REJECTIONS {
            let reason = errors.to_string().trim_start_matches(": ").to_owned();
            self.rejected.push(RejectedReading { index, reason });
        }
        let left = MAX_LISTED_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(errors.0.into_iter().take(left).map(|error| {
            let dot = if error.field.is_empty() { "" } else { "." };
            FieldError { field: format!("readings[{index}]{dot}{}", error.field), ..error }
        }));
    }
}

/// Request body with many readings.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReadingBatch)]
pub struct ReadingBatchInput {
    #[schema(value_type = Vec<ReadingInput>, min_items = 1, max_items = 10_000, required)]
    #[serde(default)]
    readings: ReadingList,
}

/// The first [`MAX_BATCH_READINGS`] items of a list and the length of the list.
#[derive(Default)]
struct ReadingList {
    kept: Vec<JsonObject<ReadingInput>>,
    sent: usize,
}

impl<'de> Deserialize<'de> for ReadingList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = ReadingList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of readings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ReadingList, A::Error> {
                let mut list = ReadingList::default();
                while list.kept.len() < MAX_BATCH_READINGS
                    && let Some(item) = items.next_element()?
                {
                    list.kept.push(item);
                }
                list.sent = list.kept.len();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    list.sent += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}
