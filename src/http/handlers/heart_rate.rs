//! `/heartrate`: log, list, change and delete heart-rate readings.

use rocket::State;
use rocket::http::uri::Origin;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Schema, Type};

use crate::db::entry_filter::EntryFilter;
use crate::db::idempotency::IdempotentOutcome;
use crate::domain::heart_rate::{Bpm, NewReading, Reading, ReadingChange, ReadingId};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_CONTEXT, MAX_NOTES, ValidationContext};
use crate::domain::time::Timestamp;
use crate::http::app::SharedApp;
use crate::http::extract::headers::{Caller, IdempotencyHeader, IdempotencyKeyHeader, PersonOfRequest};
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::{ContextFilter, EntryId, Page, Query, TimeRange};
use crate::http::handlers::entries::{Collection, Deleted};
use crate::http::response::JsonResult;
use crate::http::validation::{
    FieldError, FieldValidator, Location, ValidationErrors, number_schema, parse_object, timestamp_schema,
};

/// Context of a reading that is sent without one.
const DEFAULT_CONTEXT: &str = "resting";
const READINGS: Collection = Collection {
    path: "/heartrate/",
    not_found: "Heart rate log not found",
    deleted: "Heart rate log deleted",
};

/// Request body for a new heart-rate reading. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct ReadingInput {
    #[schema(schema_with = bpm_schema, required)]
    #[serde(default)]
    bpm: JsonScalar,
    /// Situation of the reading; default: `resting`. Any text; usual ones are `resting`, `active`,
    /// `post-coffee`, `exercise`, `sleeping`, `panic`, `stressed`.
    #[schema(value_type = Option<String>, max_length = 50)]
    #[serde(default)]
    context: JsonScalar,
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    notes: JsonScalar,
    #[schema(schema_with = timestamp_schema)]
    #[serde(default)]
    timestamp: JsonScalar,
}

fn bpm_schema() -> Schema {
    let pattern = "^([3-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|250)$";
    let description = "Whole beats per minute. `/info` has minimum and maximum, which are settings.";
    number_schema(Type::Integer, 30.0, 250.0, pattern, description)
}

impl ReadingInput {
    fn bpm(&self, v: &mut FieldValidator, context: &ValidationContext<'_>) -> Option<Bpm> {
        let (min, max) = (i64::from(context.limits.min_bpm), i64::from(context.limits.max_bpm));
        v.integer("bpm", &self.bpm, min, max).and_then(Bpm::new)
    }

    /// Validates a new reading.
    pub fn parse(&self, context: &ValidationContext<'_>) -> Result<NewReading, ValidationErrors> {
        let mut v = FieldValidator::new(Location::Body);
        let bpm = self.bpm(&mut v, context);
        let timestamp = v.new_time(&self.timestamp, context);
        let reading_context = match &self.context {
            JsonScalar::Absent => Some(DEFAULT_CONTEXT.to_owned()),
            given => v.text("context", given, MAX_CONTEXT),
        };
        let notes = v.text("notes", &self.notes, MAX_NOTES);
        v.finish(bpm.map(|bpm| NewReading { timestamp, bpm, context: reading_context, notes }))
    }
}

impl FromBody for NewReading {
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        parse_object::<ReadingInput>(body)?.parse(context)
    }
}

impl FromBody for ReadingChange {
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: ReadingInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let change = Self {
            bpm: if input.bpm.is_present() { input.bpm(&mut v, context) } else { None },
            timestamp: v.changed_time(&input.timestamp, context),
            context: v.changed_text("context", &input.context, MAX_CONTEXT),
            notes: v.changed_text("notes", &input.notes, MAX_NOTES),
        };
        v.finish_change(change, "bpm, context, notes, timestamp")
    }
}

/// Log a heart rate
///
/// `timestamp` is the time of the reading; default: now. With an `Idempotency-Key`, the same request can be
/// sent again without adding another reading.
#[utoipa::path(post, path = "/heartrate/", operation_id = "add_heart_rate", tag = "heart rate", request_body(content = ReadingInput, example = json!({"bpm": 72, "context": "resting"})), params(IdempotencyKeyHeader),
    responses((status = 201, description = "The stored reading. A repeated request by a caller without the scope `read` gets the id and the fields that it sent", body = ref("#/components/schemas/ReadingWritten"), headers(("Location" = String, description = "Path of the new reading, such as `/heartrate/1`")))))]
#[rocket::post("/heartrate", data = "<new>")]
pub async fn add(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    idempotency: IdempotencyHeader,
    caller: Caller,
    new: JsonBody<NewReading>,
) -> JsonResult {
    let sent = (!caller.may_read).then(|| ReadingChange::from(new.0.clone()));
    let outcome = person.store.add_reading(new.0, idempotency.0, app.clock.now()).await?;
    if let IdempotentOutcome::New(reading) = &outcome {
        app.metrics.count_readings(reading.context.as_deref(), 1, person.is_owner);
        person.raise_newest_entry(reading.timestamp);
    }
    READINGS.created(outcome, |reading| reading.id.0, sent)
}

/// List heart rates
///
/// Newest first. `Link: rel="next"` leads to the next page, if there is one.
#[utoipa::path(get, path = "/heartrate/", operation_id = "list_heart_rates", tag = "heart rate", params(TimeRange, ContextFilter, Page),
    responses((status = 200, description = "At most `limit` readings, newest first", body = [Reading], headers(("Link" = String, description = "Next page, if there is one: `</heartrate/?offset=50>; rel=\"next\"`")))))]
#[rocket::get("/heartrate")]
pub async fn list(
    person: PersonOfRequest,
    query: Query<(TimeRange, Page, ContextFilter)>,
    uri: &Origin<'_>,
) -> JsonResult {
    let (range, page, ContextFilter { context }) = query.0;
    let filter = EntryFilter {
        since: range.since.unwrap_or(Timestamp::MIN),
        until: range.until.unwrap_or(Timestamp::MAX),
        label: context,
        limit: page.limit + 1,
        offset: page.offset,
    };
    READINGS.page(uri, person.store.readings(filter).await?, page)
}

/// Get a heart rate
#[utoipa::path(get, path = "/heartrate/{id}", operation_id = "get_heart_rate", tag = "heart rate", params(EntryId),
    responses((status = 200, description = "The reading", body = Reading)))]
#[rocket::get("/heartrate/<id>")]
pub async fn get(person: PersonOfRequest, id: Result<ReadingId, FieldError>) -> JsonResult {
    READINGS.found(person.store.reading(id?).await?)
}

/// Change a heart rate
///
/// Changes only the fields that are sent; null clears `context` and `notes`. A caller without the scope
/// `read` gets the id and the fields that it sent.
#[utoipa::path(put, path = "/heartrate/{id}", operation_id = "put_heart_rate", tag = "heart rate", params(EntryId),
    request_body(content = ref("#/components/schemas/ReadingPatch"), example = json!({"bpm": 70})), responses((status = 200, description = "The changed reading", body = ref("#/components/schemas/ReadingWritten"))))]
#[rocket::put("/heartrate/<id>", data = "<change>")]
pub async fn put(
    person: PersonOfRequest,
    id: Result<ReadingId, FieldError>,
    caller: Caller,
    change: JsonBody<ReadingChange>,
) -> JsonResult {
    let id = id?;
    let sent = (!caller.may_read).then(|| change.0.clone());
    READINGS.changed(person.store.change_reading(id, change.0).await?, id.0, sent)
}

/// Delete a heart rate
#[utoipa::path(delete, path = "/heartrate/{id}", operation_id = "delete_heart_rate", tag = "heart rate", params(EntryId),
    responses((status = 200, description = "The reading was deleted", body = Deleted)))]
#[rocket::delete("/heartrate/<id>")]
pub async fn delete(person: PersonOfRequest, id: Result<ReadingId, FieldError>) -> JsonResult {
    let id = id?;
    READINGS.deleted(person.store.delete_reading(id).await?, id.0)
}
