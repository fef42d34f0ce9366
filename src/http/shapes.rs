//! The OpenAPI document's pictures of what `query`, `body` and `error` read and write by
//! hand. They carry no values: the schemas are all there is to them.

#![expect(dead_code, reason = "only their schemas are used")]

use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};

/// What went wrong (RFC 9457).
#[derive(ToSchema)]
pub struct Problem {
    #[schema(rename = "type", example = "about:blank")]
    kind: String,
    #[schema(example = "Unprocessable Content")]
    title: String,
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    #[schema(example = "caffeine_mg: must be between 0 and 1000 (got 1500)")]
    detail: String,
    /// On 422 only: one entry for every bad field.
    #[schema(required = false)]
    errors: Vec<BadField>,
    request_id: String,
}

/// One bad field.
#[derive(ToSchema)]
pub struct BadField {
    /// `body`, `path`, `query` or `header`.
    #[schema(example = "body")]
    location: String,
    #[schema(example = "caffeine_mg")]
    field: String,
    #[schema(example = "must be between 0 and 1000")]
    message: String,
    /// What was given, when it is a scalar.
    #[schema(required = false, example = 1500)]
    value: Value,
}

/// A number, or a numeric string of the same range.
fn number(kind: Type, min: f64, max: f64, pattern: &str) -> Schema {
    let number =
        ObjectBuilder::new().schema_type(SchemaType::new(kind)).minimum(Some(min)).maximum(Some(max));
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some(pattern));
    OneOfBuilder::new().item(number).item(text).build().into()
}

fn caffeine() -> Schema {
    number(Type::Number, 0.0, 1000.0, r"^[0-9]{1,3}(\.[0-9]{1,6})?$")
}

fn bpm() -> Schema {
    number(Type::Integer, 30.0, 250.0, "^(3[0-9]|[4-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|250)$")
}

/// A coffee to log.
#[derive(ToSchema)]
pub struct CoffeeInput {
    /// Milligrams; the upper end is a setting.
    #[schema(schema_with = caffeine)]
    caffeine_mg: f64,
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was drunk; now, when it is left out. At most 5 minutes ahead.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
}

/// A change to a coffee: at least one field.
#[derive(ToSchema)]
pub struct CoffeePatch {
    /// Milligrams; the upper end is a setting.
    #[schema(schema_with = caffeine, required = false)]
    caffeine_mg: f64,
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was drunk. At most 5 minutes ahead.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// A reading to log.
#[derive(ToSchema)]
pub struct ReadingInput {
    /// Beats per minute, whole; the ends are settings.
    #[schema(schema_with = bpm)]
    bpm: u16,
    /// Any word; usual are resting (the default), active, post-coffee, exercise, sleeping, panic, stressed.
    #[schema(max_length = 50)]
    context: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was measured; now, when it is left out. At most 5 minutes ahead.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
}

/// A change to a reading: at least one field.
#[derive(ToSchema)]
pub struct ReadingPatch {
    /// Beats per minute, whole; the ends are settings.
    #[schema(schema_with = bpm, required = false)]
    bpm: u16,
    #[schema(max_length = 50)]
    context: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was measured. At most 5 minutes ahead.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// Many readings.
#[derive(ToSchema)]
pub struct Batch {
    #[schema(min_items = 1, max_items = 10_000)]
    readings: Vec<ReadingInput>,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Most entries to list.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Entries to pass over.
    #[param(minimum = 0, maximum = 2_147_483_647, default = 0)]
    offset: Option<u32>,
}

/// Which span of time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Span {
    /// From this instant on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Up to, but without, this instant.
    #[param(format = DateTime)]
    until: Option<String>,
}

/// How far back.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DaysParam {
    /// The last so many times 24 hours.
    #[param(minimum = 1, maximum = 3650, default = 30)]
    days: Option<u16>,
}

/// The client's own name for a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// The same key with the same body gets the first answer and adds nothing. Kept 30 days.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}
