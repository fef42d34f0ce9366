//! OpenAPI schemas of bodies and parameters that are parsed by hand.

#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::openapi::schema::{
    KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{IntoParams, ToSchema};

/// Returns the schema of a number that may be sent as a numeric string.
fn number(kind: Type, min: f64, max: f64, pattern: &str, description: &str) -> Schema {
    let number =
        ObjectBuilder::new().schema_type(SchemaType::new(kind)).minimum(Some(min)).maximum(Some(max));
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some(pattern));
    OneOfBuilder::new().item(number).item(text).description(Some(description)).build().into()
}

fn caffeine_mg() -> Schema {
    let pattern = r"^(1000|[0-9]{1,3}(\.[0-9]{1,6})?)$";
    number(Type::Number, 0.0, 1000.0, pattern, "Milligrams. `/info` has the maximum, which is a setting.")
}

fn bpm() -> Schema {
    let pattern = "^([3-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|250)$";
    let description = "Whole beats per minute. `/info` has minimum and maximum, which are settings.";
    number(Type::Integer, 30.0, 250.0, pattern, description)
}

fn timestamp_or_null() -> Schema {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    let timestamp = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).format(Some(format));
    let null = ObjectBuilder::new().schema_type(SchemaType::new(Type::Null));
    let description = "Time of the entry; default: now. At most 5 minutes in the future.";
    OneOfBuilder::new().item(timestamp).item(null).description(Some(description)).build().into()
}

/// Request body for a new coffee. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct CoffeeInput {
    #[schema(schema_with = caffeine_mg)]
    caffeine_mg: f64,
    /// Any text, such as `espresso`.
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    #[schema(schema_with = timestamp_or_null, required = false)]
    timestamp: Option<String>,
}

/// Stored coffee. Callers without the scope `read` get the id and the fields that they sent.
#[derive(ToSchema)]
pub struct CoffeeWritten {
    #[schema(minimum = 1)]
    id: i64,
    #[schema(format = DateTime, required = false)]
    timestamp: String,
    /// Milligrams.
    #[schema(minimum = 0, required = false)]
    caffeine_mg: f64,
    coffee_type: Option<String>,
    notes: Option<String>,
}

/// Stored reading. Callers without the scope `read` get the id and the fields that they sent.
#[derive(ToSchema)]
pub struct ReadingWritten {
    #[schema(minimum = 1)]
    id: i64,
    #[schema(format = DateTime, required = false)]
    timestamp: String,
    /// Beats per minute.
    #[schema(minimum = 1, maximum = 1000, required = false)]
    bpm: u16,
    context: Option<String>,
    notes: Option<String>,
}

/// Request body that changes a coffee: at least one of these fields. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct CoffeePatch {
    #[schema(schema_with = caffeine_mg, required = false)]
    caffeine_mg: f64,
    /// Null clears it.
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    /// Null clears it.
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// At most 5 minutes in the future.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// Request body for a new heart-rate reading. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct ReadingInput {
    #[schema(schema_with = bpm)]
    bpm: u16,
    /// Situation of the reading; default: `resting`. Any text; usual ones are `resting`, `active`,
    /// `post-coffee`, `exercise`, `sleeping`, `panic`, `stressed`.
    #[schema(max_length = 50)]
    context: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    #[schema(schema_with = timestamp_or_null, required = false)]
    timestamp: Option<String>,
}

/// Request body that changes a reading: at least one of these fields. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct ReadingPatch {
    #[schema(schema_with = bpm, required = false)]
    bpm: u16,
    /// Null clears it.
    #[schema(max_length = 50)]
    context: Option<String>,
    /// Null clears it.
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// At most 5 minutes in the future.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// Request body with many readings.
#[derive(ToSchema)]
#[schema(as = ReadingBatch)]
pub struct ReadingBatchInput {
    #[schema(min_items = 1, max_items = 10_000)]
    readings: Vec<ReadingInput>,
}

/// Parameter of a path that ends in an id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EntryId {
    /// Id of the entry; ids are never reused.
    #[param(minimum = 1, example = 1)]
    id: i64,
}

/// Header that makes a request safe to retry.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKeyHeader {
    /// Unique key of this request, for example a UUID. A repeated request with the same key and body gets the
    /// first response again and adds nothing; with another body it is rejected. Keys are kept for 30 days of
    /// the server's running time.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = r"\S", nullable = false)]
    idempotency_key: Option<String>,
}
