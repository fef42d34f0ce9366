//! Query parameters and ids in paths. Every invalid field is reported at once.
//!
//! The structs describe their parameters for the API document, too.

use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::{FromParam, FromRequest, Outcome, Request};
use utoipa::IntoParams;

use crate::auth::key::KeyName;
use crate::domain::caffeine::HALF_LIFE_RANGE;
use crate::domain::coffee::CoffeeId;
use crate::domain::heart_rate::ReadingId;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_CONTEXT};
use crate::domain::time::Timestamp;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::request_context::RequestContext;
use crate::http::validation::{FieldError, FieldValidator, Location, ValidationErrors};
use crate::transfer::formats::writer::TextFormat;

const DEFAULT_DAYS: u16 = 30;
const DEFAULT_CALENDAR_DAYS: u16 = 365;

/// Parsed query.
pub struct Query<T>(pub T);

/// Type that a query can be parsed into.
pub trait FromQuery: Sized {
    /// Parses the fields. Errors are collected in `fields`, so that the result counts only without any.
    fn from_query(fields: &mut QueryFields<'_>) -> Self;
}

#[rocket::async_trait]
impl<'r, T: FromQuery> FromRequest<'r> for Query<T> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match parse_query(request) {
            Ok(query) => RocketOutcome::Success(Self(query)),
            Err(error) => extractor_error(request, error),
        }
    }
}

fn parse_query<T: FromQuery>(request: &Request<'_>) -> Result<T, ApiError> {
    let mut fields = QueryFields::of(request, App::of(request)?)?;
    let query = T::from_query(&mut fields);
    Ok(fields.validator.finish(Some(query))?)
}

/// Fails an extractor with `error`.
pub fn extractor_error<T>(request: &Request<'_>, error: ApiError) -> Outcome<T, ()> {
    RequestContext::of(request).set_error(error);
    // Any error status: the guard responds with the error that was stored.
    RocketOutcome::Error((Status::UnprocessableEntity, ()))
}

/// Fields of a query by name, and the validation errors so far.
pub struct QueryFields<'a> {
    fields: Vec<(String, JsonScalar)>,
    validator: FieldValidator,
    app: &'a App,
}

impl<'a> QueryFields<'a> {
    fn of(request: &Request<'_>, app: &'a App) -> Result<Self, ValidationErrors> {
        let mut query = Self { fields: Vec::new(), validator: FieldValidator::new(Location::Query), app };
        let Some(raw) = request.uri().query() else { return Ok(query) };
        for field in raw.raw_segments().filter(|field| !field.is_empty()) {
            let (name, value) = field.split_at_byte(b'=');
            let (Ok(name), Ok(value)) = (name.url_decode(), value.url_decode()) else {
                return Err(FieldError::new(Location::Query, "query", "must be percent-encoded UTF-8").into());
            };
            if query.fields.iter().any(|(other, _)| *other == name) {
                query.validator.add_error(&name, &JsonScalar::Absent, "must be given once");
            }
            query.fields.push((name.into_owned(), JsonScalar::Text(value.into_owned())));
        }
        Ok(query)
    }

    fn get(&self, name: &str) -> JsonScalar {
        let field = self.fields.iter().find(|(other, _)| other == name);
        field.map_or(JsonScalar::Absent, |(_, value)| value.clone())
    }

    fn integer<T: TryFrom<i64> + Into<i64> + Copy>(&mut self, name: &str, default: T, min: T, max: T) -> T {
        self.optional_integer(name, min, max).unwrap_or(default)
    }

    fn optional_integer<T: TryFrom<i64> + Into<i64>>(&mut self, name: &str, min: T, max: T) -> Option<T> {
        match self.get(name) {
            JsonScalar::Absent => None,
            field => self.validator.integer(name, &field, min.into(), max.into())?.try_into().ok(),
        }
    }

    fn text(&mut self, name: &str, max_length: usize) -> Option<String> {
        let field = self.get(name);
        self.validator.text(name, &field, max_length)
    }

    fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, &'static str>) -> Option<T> {
        match self.get(name) {
            JsonScalar::Absent => None,
            field => self.validator.parse(name, &field, parse),
        }
    }

    fn timestamp(&mut self, name: &str) -> Option<Timestamp> {
        let zone = &self.app.settings.common.zone;
        self.parse(name, |text| zone.parse(text))
    }

    fn required_timestamp(&mut self, name: &str) -> Option<Timestamp> {
        let field = self.get(name);
        self.validator.parse(name, &field, |text| self.app.settings.common.zone.parse(text))
    }

    fn days(&mut self, default: u16) -> u16 {
        self.integer("days", default, 1, 3650)
    }
}

impl<A: FromQuery, B: FromQuery> FromQuery for (A, B) {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        (A::from_query(fields), B::from_query(fields))
    }
}

impl<A: FromQuery, B: FromQuery, C: FromQuery> FromQuery for (A, B, C) {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        (A::from_query(fields), B::from_query(fields), C::from_query(fields))
    }
}

/// Time range of a list or an export.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TimeRange {
    /// Start of the range, inclusive.
    #[param(value_type = Option<String>, format = DateTime, example = "2025-07-01T00:00:00Z")]
    pub since: Option<Timestamp>,
    /// End of the range, exclusive. Must not be before `since`.
    #[param(value_type = Option<String>, format = DateTime, example = "2025-08-01T00:00:00Z")]
    pub until: Option<Timestamp>,
}

impl FromQuery for TimeRange {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        let (since, until) = (fields.timestamp("since"), fields.timestamp("until"));
        if until.is_some() && until < since {
            fields.validator.add_error("until", &fields.get("until"), "must not be before since");
        }
        Self { since, until }
    }
}

/// Page of a list.
#[derive(Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Maximum number of entries.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 50)]
    pub limit: u32,
    /// Number of entries to skip.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 2_147_483_647, default = 0)]
    pub offset: u32,
}

impl FromQuery for Page {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self {
            limit: fields.integer("limit", 50, 1, 1000),
            offset: fields.integer("offset", 0, 0, i32::MAX.unsigned_abs()),
        }
    }
}

/// Filter of coffees.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CoffeeTypeFilter {
    /// Type of coffee; case is ignored.
    #[param(max_length = 100, example = "espresso")]
    pub coffee_type: Option<String>,
}

impl FromQuery for CoffeeTypeFilter {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self { coffee_type: fields.text("coffee_type", MAX_COFFEE_TYPE) }
    }
}

/// Filter of readings.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ContextFilter {
    /// Context of the readings; case is ignored.
    #[param(max_length = 50, example = "resting")]
    pub context: Option<String>,
}

impl FromQuery for ContextFilter {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self { context: fields.text("context", MAX_CONTEXT) }
    }
}

/// Format of an export.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportFormat {
    /// `csv` (RFC 4180 with a header; null is empty), `jsonl` (one JSON object per line) or `spreadsheet` (CSV
    /// with a byte order mark and local times, in which text that starts with `=`, `+`, `-` or `@` gets an apostrophe before it,
    /// so that no spreadsheet evaluates it; not for `import`).
    #[param(value_type = Option<String>, pattern = "^(csv|jsonl|spreadsheet)$", default = "csv", example = "csv")]
    pub format: TextFormat,
}

impl FromQuery for ExportFormat {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        let format = fields.parse("format", |name| match name {
            "csv" => Ok(TextFormat::Csv),
            "jsonl" => Ok(TextFormat::JsonLines),
            "spreadsheet" => Ok(TextFormat::SpreadsheetCsv),
            _ => Err("must be csv, jsonl or spreadsheet"),
        });
        Self { format: format.unwrap_or(TextFormat::Csv) }
    }
}

/// Query with a rolling time window.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DaysQuery {
    /// Length of the window that ends now, in units of 24 hours.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 3650, default = 30)]
    pub days: u16,
}

impl FromQuery for DaysQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self { days: fields.days(DEFAULT_DAYS) }
    }
}

/// Query of `GET /coffee/days`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CalendarDaysQuery {
    /// Number of calendar days, today included.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 3650, default = 365)]
    pub days: u16,
}

impl FromQuery for CalendarDaysQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self { days: fields.days(DEFAULT_CALENDAR_DAYS) }
    }
}

/// Query of `GET /heartrate/range`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeQuery {
    /// Start of the range, inclusive.
    #[param(value_type = String, format = DateTime, example = "2025-07-23T00:00:00Z")]
    pub start: Timestamp,
    /// End of the range, exclusive. Must not be before `start`.
    #[param(value_type = String, format = DateTime, example = "2025-07-24T00:00:00Z")]
    pub end: Timestamp,
    /// Number of equal slices to divide the range into.
    #[param(minimum = 1, maximum = 1000, example = 24)]
    pub buckets: Option<u16>,
}

impl FromQuery for RangeQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        let (start, end) = (fields.required_timestamp("start"), fields.required_timestamp("end"));
        let buckets = fields.optional_integer("buckets", 1, 1000);
        if end < start && fields.validator.error_count() == 0 {
            fields.validator.add_error("end", &fields.get("end"), "must not be before start");
        }
        Self { start: start.unwrap_or(Timestamp::MIN), end: end.unwrap_or(Timestamp::MIN), buckets }
    }
}

/// Query of `GET /coffee/active`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActiveCaffeineQuery {
    /// Time of the estimate; default: now. May be in the past or the future. Every logged coffee counts from
    /// its own time on, including those after `at`.
    #[param(value_type = Option<String>, format = DateTime, example = "2025-07-23T14:30:00Z")]
    pub at: Option<Timestamp>,
    /// Length of the curve in hours.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 72, default = 24)]
    pub hours: u32,
    /// Minutes between two points of the curve.
    #[param(value_type = Option<u32>, minimum = 5, maximum = 60, default = 15)]
    pub step_minutes: u32,
    /// Half-life of caffeine in hours; default: the server's setting.
    #[param(minimum = 1, maximum = 24, example = 5)]
    pub half_life_hours: Option<f64>,
}

impl FromQuery for ActiveCaffeineQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self {
            at: fields.timestamp("at"),
            hours: fields.integer("hours", 24, 1, 72),
            step_minutes: fields.integer("step_minutes", 15, 5, 60),
            half_life_hours: match fields.get("half_life_hours") {
                JsonScalar::Absent => None,
                field => fields.validator.number(
                    "half_life_hours",
                    &field,
                    *HALF_LIFE_RANGE.start(),
                    *HALF_LIFE_RANGE.end(),
                ),
            },
        }
    }
}

/// Handling of a batch with invalid readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// One invalid reading rejects the batch.
    Fail,
    /// The valid readings are stored, the others reported.
    Skip,
}

/// Query of `POST /heartrate/batch`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BatchQuery {
    /// `fail`: one invalid reading rejects the batch. `skip`: valid readings are stored, the others reported.
    #[param(value_type = Option<String>, pattern = "^(fail|skip)$", default = "fail", example = "skip")]
    pub on_error: OnError,
}

impl FromQuery for BatchQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        let on_error = fields.parse("on_error", |name| match name {
            "fail" => Ok(OnError::Fail),
            "skip" => Ok(OnError::Skip),
            _ => Err("must be fail or skip"),
        });
        Self { on_error: on_error.unwrap_or(OnError::Fail) }
    }
}

/// Query of `GET /heartrate/correlation`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CorrelationQuery {
    /// Length of the window that ends now, in units of 24 hours.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 3650, default = 30)]
    pub days: u16,
    /// End of the window after a coffee in hours; it begins after 15 minutes.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 24, default = 2)]
    pub hours_after: u8,
    /// Context of the readings, in its exact spelling: case matters. Default: all but `active`, `exercise`, `panic`, `sleeping` and `stressed`.
    #[param(max_length = 50, example = "resting")]
    pub context: Option<String>,
    /// Maximum number of pairs to list, newest first; the statistics cover all of them.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    pub limit: u16,
}

impl FromQuery for CorrelationQuery {
    fn from_query(fields: &mut QueryFields<'_>) -> Self {
        Self {
            days: fields.days(DEFAULT_DAYS),
            hours_after: fields.integer("hours_after", 2, 1, 24),
            context: fields.text("context", MAX_CONTEXT),
            limit: fields.integer("limit", 50, 1, 1000),
        }
    }
}

/// Parameter of a path that ends in an id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct EntryId {
    /// Id of the entry; ids are never reused.
    #[param(minimum = 1, example = 1)]
    id: i64,
}

/// Parameter of a path that contains the name of a key.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct KeyOfPath {
    /// Name of the key.
    #[param(pattern = "^[A-Za-z0-9._-]{1,50}$", example = "phone")]
    name: String,
}

/// Parameter of a path that ends in the id of a pairing.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct PairingOfPath {
    /// Id of the pairing.
    #[param(example = "4d1f0c9ab27e6358")]
    id: String,
}

impl<'a> FromParam<'a> for KeyName {
    type Error = FieldError;

    fn from_param(text: &'a str) -> Result<Self, FieldError> {
        parse_key_name("name", text)
    }
}

/// Parses the name of a key in the parameter `param` of a path.
pub fn parse_key_name(param: &str, text: &str) -> Result<KeyName, FieldError> {
    KeyName::parse(text).map_err(|message| invalid_param(param, text, message))
}

/// Parses an id in a path.
fn parse_id(text: &str) -> Result<i64, FieldError> {
    let is_whole = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|id| is_whole && *id >= 1);
    id.ok_or_else(|| invalid_param("id", text, "must be a whole number of at least 1"))
}

fn invalid_param(name: &str, text: &str, message: &str) -> FieldError {
    let value = text.chars().take(100).collect::<String>();
    FieldError { value: Some(Box::new(value.into())), ..FieldError::new(Location::Path, name, message) }
}

impl<'a> FromParam<'a> for CoffeeId {
    type Error = FieldError;

    fn from_param(text: &'a str) -> Result<Self, FieldError> {
        parse_id(text).map(Self)
    }
}

impl<'a> FromParam<'a> for ReadingId {
    type Error = FieldError;

    fn from_param(text: &'a str) -> Result<Self, FieldError> {
        parse_id(text).map(Self)
    }
}
