//! The OpenAPI document's pictures of what `query`, `body` and `error` read and write by
//! hand. They carry no values: the schemas are all there is to them.

#![expect(dead_code, reason = "only their schemas are used")]

use serde_json::Value;
use utoipa::openapi::schema::{
    KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{IntoParams, ToSchema};

/// What went wrong, as RFC 9457 has it.
#[derive(ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[schema(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this very request, for people.
    detail: String,
    /// On 422 only: one entry for every bad field.
    #[schema(required = false, min_items = 1)]
    errors: Vec<BadField>,
    /// The answer's `X-Request-ID`, under which the log has the rest.
    request_id: String,
}

/// One bad field.
#[derive(ToSchema)]
pub struct BadField {
    /// Where it stood: `body`, `path`, `query` or `header`.
    #[schema(pattern = "^(body|path|query|header)$")]
    location: String,
    /// Its name; `body` when the body as a whole does not fit, `readings[3].bpm` inside of a batch.
    field: String,
    /// What would be right.
    message: String,
    /// What was given, when it is a scalar; long text is cut.
    #[schema(required = false)]
    value: Value,
}

/// A number, or a numeric string of the same range.
fn number(kind: Type, min: f64, max: f64, pattern: &str, what: &str) -> Schema {
    let number =
        ObjectBuilder::new().schema_type(SchemaType::new(kind)).minimum(Some(min)).maximum(Some(max));
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some(pattern));
    OneOfBuilder::new().item(number).item(text).description(Some(what)).build().into()
}

fn caffeine() -> Schema {
    let pattern = r"^(1000|[0-9]{1,3}(\.[0-9]{1,6})?)$";
    number(Type::Number, 0.0, 1000.0, pattern, "Milligrams. The upper end is a setting: see `/info`.")
}

fn bpm() -> Schema {
    let pattern = "^([3-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|250)$";
    let what = "Beats per minute, whole. Both ends are settings: see `/info`.";
    number(Type::Integer, 30.0, 250.0, pattern, what)
}

fn instant() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).format(Some(format))
}

fn instant_or_now() -> Schema {
    let null = ObjectBuilder::new().schema_type(SchemaType::new(Type::Null));
    let what = "When it was; now, when it is left out or null. At most 5 minutes ahead.";
    OneOfBuilder::new().item(instant()).item(null).description(Some(what)).build().into()
}

/// A coffee to log. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct CoffeeInput {
    #[schema(schema_with = caffeine)]
    caffeine_mg: f64,
    /// What was drunk: any words.
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    #[schema(schema_with = instant_or_now, required = false)]
    timestamp: Option<String>,
}

/// A coffee as it is now. Keys without the scope `read` get its id and the fields that they sent.
#[derive(ToSchema)]
pub struct CoffeeWritten {
    #[schema(minimum = 1)]
    id: i64,
    /// When it was drunk.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
    /// Milligrams.
    #[schema(minimum = 0, required = false)]
    caffeine_mg: f64,
    coffee_type: Option<String>,
    notes: Option<String>,
}

/// A reading as it is now. Keys without the scope `read` get its id and the fields that they sent.
#[derive(ToSchema)]
pub struct ReadingWritten {
    #[schema(minimum = 1)]
    id: i64,
    /// When it was measured.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
    /// Beats per minute.
    #[schema(minimum = 1, maximum = 1000, required = false)]
    bpm: u16,
    context: Option<String>,
    notes: Option<String>,
}

/// A change to a coffee: at least one of these fields. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct CoffeePatch {
    #[schema(schema_with = caffeine, required = false)]
    caffeine_mg: f64,
    /// Null clears it.
    #[schema(max_length = 100)]
    coffee_type: Option<String>,
    /// Null clears them.
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was drunk. At most 5 minutes ahead.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// A reading to log. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct ReadingInput {
    #[schema(schema_with = bpm)]
    bpm: u16,
    /// What the body was doing: `resting`, when it is left out. Any word; usual are `resting`, `active`,
    /// `post-coffee`, `exercise`, `sleeping`, `panic`, `stressed`.
    #[schema(max_length = 50)]
    context: Option<String>,
    #[schema(max_length = 1000)]
    notes: Option<String>,
    #[schema(schema_with = instant_or_now, required = false)]
    timestamp: Option<String>,
}

/// A change to a reading: at least one of these fields. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct ReadingPatch {
    #[schema(schema_with = bpm, required = false)]
    bpm: u16,
    /// Null clears it.
    #[schema(max_length = 50)]
    context: Option<String>,
    /// Null clears them.
    #[schema(max_length = 1000)]
    notes: Option<String>,
    /// When it was measured. At most 5 minutes ahead.
    #[schema(format = DateTime, required = false)]
    timestamp: String,
}

/// Many readings.
#[derive(ToSchema)]
#[schema(as = ReadingBatch)]
pub struct Batch {
    #[schema(min_items = 1, max_items = 10_000)]
    readings: Vec<ReadingInput>,
}

/// An OpenAPI document.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub struct OpenApiDocument(Value);

/// Which entry.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EntryId {
    /// The entry's id: given once, never again.
    #[param(minimum = 1, example = 1)]
    id: i64,
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
    /// Only entries from this instant on.
    #[param(format = DateTime, example = "2025-07-01T00:00:00Z")]
    since: Option<String>,
    /// Only entries before this instant, which must not lie before `since`.
    #[param(format = DateTime, example = "2025-08-01T00:00:00Z")]
    until: Option<String>,
}

/// What kind of file.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportFormat {
    /// `csv` (RFC 4180 with a header; null is empty) or `jsonl` (one JSON object a line).
    #[param(pattern = "^(csv|jsonl)$", default = "csv", example = "csv")]
    format: Option<String>,
}

/// Which type of coffee.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfType {
    /// Only coffees of this type, whatever the case of its letters.
    #[param(max_length = 100, example = "espresso")]
    coffee_type: Option<String>,
}

/// Which context.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfContext {
    /// Only readings of this context.
    #[param(max_length = 50, example = "resting")]
    context: Option<String>,
}

/// Handling of invalid readings.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OnErrorParam {
    /// `fail`: one bad reading refuses the batch. `skip`: the valid ones are stored, the others reported.
    #[param(pattern = "^(fail|skip)$", default = "fail", example = "skip")]
    on_error: Option<String>,
}

/// How far back.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DaysParam {
    /// The last so many times 24 hours.
    #[param(minimum = 1, maximum = 3650, default = 30)]
    days: Option<u16>,
}

/// How many calendar days.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CalendarDaysParam {
    /// So many calendar days, with today.
    #[param(minimum = 1, maximum = 3650, default = 365)]
    days: Option<u16>,
}

/// Which instant to look at, how far, and with which half-life.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActiveParams {
    /// The instant to look at: now, when it is left out. It may lie in the past or ahead; everything that
    /// is logged counts from its own time on, also what was drunk after `at`.
    #[param(format = DateTime, example = "2025-07-23T14:30:00Z")]
    at: Option<String>,
    /// How many hours the curve has.
    #[param(minimum = 1, maximum = 72, default = 24)]
    hours: Option<u32>,
    /// Minutes between two points of the curve.
    #[param(minimum = 5, maximum = 60, default = 15)]
    step_minutes: Option<u32>,
    /// Hours until half of the caffeine is gone, instead of the setting's.
    #[param(minimum = 1, maximum = 24, example = 5)]
    half_life_hours: Option<f64>,
}

/// How far after a coffee.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HoursAfter {
    /// How many hours after a coffee readings count.
    #[param(minimum = 1, maximum = 24, default = 2)]
    hours_after: Option<u8>,
}

/// How many pairs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Shown {
    /// Most pairs to show, the newest; the figures are over all of them.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u16>,
}

/// A span of readings.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// From this instant on.
    #[param(format = DateTime, example = "2025-07-23T00:00:00Z")]
    start: String,
    /// Before this instant, which must not lie before `start`.
    #[param(format = DateTime, example = "2025-07-24T00:00:00Z")]
    end: String,
    /// Cut the span into so many equal slices.
    #[param(minimum = 1, maximum = 1000, example = 24)]
    buckets: Option<u16>,
}

/// The client's own name for a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// The client's own name for this request, best a UUID. The same key with the same body gets the first
    /// answer again and adds nothing; with another body it is refused. Kept for 30 days in which the server
    /// runs, whatever its clock shows.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = r"\S", nullable = false)]
    idempotency_key: Option<String>,
}
