//! What a request asks beyond its path: query fields and ids, parsed with one complaint
//! for every bad field; and the `Idempotency-Key` header.

use rocket::http::Status;
use rocket::outcome::Outcome as Any;
use rocket::request::{FromParam, FromRequest, Outcome, Request};

use crate::db::coffees::CoffeeFilter;
use crate::db::reading_rows::ReadingFilter;
use crate::domain::caffeine::HALF_LIFE_RANGE;
use crate::domain::coffee::CoffeeId;
use crate::domain::heart_rate::ReadingId;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_CONTEXT};
use crate::domain::time::Timestamp;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::extract::validation::{FieldError, FieldValidator, Location, ValidationErrors};
use crate::http::middleware::guard::app;
use crate::http::middleware::request_context::Exchange;
use crate::transfer::formats::writer::TextFormat;

/// A query, parsed.
pub struct Query<T>(pub T);

/// What a query can be parsed into.
pub trait FromQuery: Sized {
    /// Parses it.
    fn from_query(fields: Fields, app: &App) -> Result<Self, ValidationErrors>;
}

/// A query's fields by name, and the complaints about them so far.
pub struct Fields {
    given: Vec<(String, JsonScalar)>,
    validator: FieldValidator,
}

#[rocket::async_trait]
impl<'r, T: FromQuery> FromRequest<'r> for Query<T> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let parsed = Fields::of(request)
            .map_err(ApiError::from)
            .and_then(|fields| Ok(T::from_query(fields, app(request)?)?));
        match parsed {
            Ok(query) => Any::Success(Self(query)),
            Err(fault) => fail(request, fault),
        }
    }
}

fn fail<T>(request: &Request<'_>, fault: ApiError) -> Outcome<T, ()> {
    Exchange::of(request).set_fault(fault);
    Any::Error((Status::UnprocessableEntity, ()))
}

impl Fields {
    fn of(request: &Request<'_>) -> Result<Self, FieldError> {
        let mut fields = Self { given: Vec::new(), validator: FieldValidator::new(Location::Query) };
        let Some(query) = request.uri().query() else { return Ok(fields) };
        for part in query.raw_segments().filter(|part| !part.is_empty()) {
            let (name, value) = part.split_at_byte(b'=');
            let decode = |raw: &rocket::http::RawStr| {
                let not_utf8 = |_| FieldError::new(Location::Query, "query", "must be percent-encoded UTF-8");
                raw.url_decode().map(std::borrow::Cow::into_owned).map_err(not_utf8)
            };
            let name = decode(name)?;
            if fields.given.iter().any(|(other, _)| *other == name) {
                fields.validator.add_error(&name, &JsonScalar::Absent, "must be given once");
            }
            fields.given.push((name, JsonScalar::Text(decode(value)?)));
        }
        Ok(fields)
    }

    fn get(&self, name: &str) -> JsonScalar {
        self.given
            .iter()
            .find(|(given, _)| given == name)
            .map_or(JsonScalar::Absent, |(_, field)| field.clone())
    }

    fn integer(&mut self, name: &str, default: i64, min: i64, max: i64) -> i64 {
        match self.get(name) {
            JsonScalar::Absent => default,
            field => self.validator.integer(name, &field, min, max).unwrap_or(default),
        }
    }

    fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let field = self.get(name);
        self.validator.text(name, &field, max)
    }

    fn instant(&mut self, name: &str, app: &App) -> Option<Timestamp> {
        match self.get(name) {
            JsonScalar::Absent => None,
            field => self.validator.parse(name, &field, |text| app.settings.place.zone.parse(text)),
        }
    }

    fn required_instant(&mut self, name: &str, app: &App) -> Timestamp {
        let field = self.get(name);
        let parsed = self.validator.parse(name, &field, |text| app.settings.place.zone.parse(text));
        parsed.unwrap_or(Timestamp::MIN)
    }

    fn span(&mut self, app: &App) -> (Timestamp, Timestamp) {
        let since = self.instant("since", app).unwrap_or(Timestamp::MIN);
        let until = self.instant("until", app).unwrap_or(Timestamp::MAX);
        if until < since {
            self.validator.add_error("until", &self.get("until"), "must not lie before since");
        }
        (since, until)
    }

    fn page(&mut self) -> (u32, u32) {
        let limit = self.integer("limit", 50, 1, 1000);
        let offset = self.integer("offset", 0, 0, i64::from(i32::MAX));
        (u32::try_from(limit).unwrap_or(50), u32::try_from(offset).unwrap_or(0))
    }

    fn days(&mut self, default: u16) -> u16 {
        u16::try_from(self.integer("days", default.into(), 1, 3650)).unwrap_or(default)
    }
}

impl FromQuery for CoffeeFilter {
    fn from_query(mut fields: Fields, app: &App) -> Result<Self, ValidationErrors> {
        let (since, until) = fields.span(app);
        let (limit, offset) = fields.page();
        let coffee_type = fields.text("coffee_type", MAX_COFFEE_TYPE);
        fields.validator.finish()?;
        Ok(Self { since, until, coffee_type, limit, offset })
    }
}

impl FromQuery for ReadingFilter {
    fn from_query(mut fields: Fields, app: &App) -> Result<Self, ValidationErrors> {
        let (since, until) = fields.span(app);
        let (limit, offset) = fields.page();
        let context = fields.text("context", MAX_CONTEXT);
        fields.validator.finish()?;
        Ok(Self { since, until, context, limit, offset })
    }
}

/// Which entries to export, and how.
pub struct ExportQuery {
    pub format: TextFormat,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl FromQuery for ExportQuery {
    fn from_query(mut fields: Fields, app: &App) -> Result<Self, ValidationErrors> {
        let format = match fields.get("format") {
            JsonScalar::Absent => Some(TextFormat::Csv),
            field => fields.validator.parse("format", &field, |name| match name {
                "csv" => Ok(TextFormat::Csv),
                "jsonl" => Ok(TextFormat::JsonLines),
                _ => Err("must be csv or jsonl"),
            }),
        };
        let (since, until) = (fields.instant("since", app), fields.instant("until", app));
        if until.is_some() && until < since {
            fields.validator.add_error("until", &fields.get("until"), "must not lie before since");
        }
        fields.validator.finish()?;
        Ok(Self { format: format.unwrap_or(TextFormat::Csv), since, until })
    }
}

/// A rolling window: the last so many times 24 hours.
pub struct Days(pub u16);

impl FromQuery for Days {
    fn from_query(mut fields: Fields, _: &App) -> Result<Self, ValidationErrors> {
        let days = fields.days(30);
        fields.validator.finish()?;
        Ok(Self(days))
    }
}

/// So many calendar days, the last of which is today.
pub struct CalendarDays(pub u16);

impl FromQuery for CalendarDays {
    fn from_query(mut fields: Fields, _: &App) -> Result<Self, ValidationErrors> {
        let days = fields.days(365);
        fields.validator.finish()?;
        Ok(Self(days))
    }
}

/// A span of readings, perhaps cut into equal slices.
pub struct Range {
    pub start: Timestamp,
    pub end: Timestamp,
    pub buckets: Option<u16>,
}

impl FromQuery for Range {
    fn from_query(mut fields: Fields, app: &App) -> Result<Self, ValidationErrors> {
        let start = fields.required_instant("start", app);
        let end = fields.required_instant("end", app);
        let buckets = match fields.integer("buckets", 0, 1, 1000) {
            0 => None,
            n => u16::try_from(n).ok(),
        };
        if end < start && fields.validator.error_count() == 0 {
            fields.validator.add_error("end", &fields.get("end"), "must not lie before start");
        }
        fields.validator.finish()?;
        Ok(Self { start, end, buckets })
    }
}

/// Which instant to look at, how far, and with which half-life.
pub struct ActiveQuery {
    /// `None`: now.
    pub at: Option<Timestamp>,
    pub hours: u32,
    pub step_minutes: u32,
    /// `None`: the setting's.
    pub half_life_hours: Option<f64>,
}

impl FromQuery for ActiveQuery {
    fn from_query(mut fields: Fields, app: &App) -> Result<Self, ValidationErrors> {
        let at = fields.instant("at", app);
        let hours = u32::try_from(fields.integer("hours", 24, 1, 72)).unwrap_or(24);
        let step_minutes = u32::try_from(fields.integer("step_minutes", 15, 5, 60)).unwrap_or(15);
        let (shortest, longest) = (*HALF_LIFE_RANGE.start(), *HALF_LIFE_RANGE.end());
        let half_life_hours = match fields.get("half_life_hours") {
            JsonScalar::Absent => None,
            field => fields.validator.number("half_life_hours", &field, shortest, longest),
        };
        fields.validator.finish()?;
        Ok(Self { at, hours, step_minutes, half_life_hours })
    }
}

/// Options of storing a batch.
pub struct BatchQuery {
    pub on_error: OnError,
}

/// Handling of a batch with bad readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// One bad reading refuses the batch.
    Fail,
    /// The valid readings are stored, the others reported.
    Skip,
}

impl FromQuery for BatchQuery {
    fn from_query(mut fields: Fields, _: &App) -> Result<Self, ValidationErrors> {
        let on_error = match fields.get("on_error") {
            JsonScalar::Absent => Some(OnError::Fail),
            field => fields.validator.parse("on_error", &field, |name| match name {
                "fail" => Ok(OnError::Fail),
                "skip" => Ok(OnError::Skip),
                _ => Err("must be fail or skip"),
            }),
        };
        fields.validator.finish()?;
        Ok(Self { on_error: on_error.unwrap_or(OnError::Fail) })
    }
}

/// Which coffees to relate to which readings.
pub struct CorrelationQuery {
    pub days: u16,
    pub hours_after: u8,
    pub context: Option<String>,
    pub limit: u16,
}

impl FromQuery for CorrelationQuery {
    fn from_query(mut fields: Fields, _: &App) -> Result<Self, ValidationErrors> {
        let days = fields.days(30);
        let hours_after = u8::try_from(fields.integer("hours_after", 2, 1, 24)).unwrap_or(2);
        let context = fields.text("context", MAX_CONTEXT);
        let limit = u16::try_from(fields.integer("limit", 50, 1, 1000)).unwrap_or(50);
        fields.validator.finish()?;
        Ok(Self { days, hours_after, context, limit })
    }
}

/// An id in a path: 1 or more.
fn id(text: &str) -> Result<i64, FieldError> {
    let whole = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| whole && *id >= 1).ok_or_else(|| {
        let value = text.chars().take(100).collect::<String>();
        FieldError {
            value: Some(Box::new(value.into())),
            ..FieldError::new(Location::Path, "id", "must be a whole number from 1 on")
        }
    })
}

impl<'a> FromParam<'a> for CoffeeId {
    type Error = FieldError;

    fn from_param(text: &'a str) -> Result<Self, FieldError> {
        id(text).map(Self)
    }
}

impl<'a> FromParam<'a> for ReadingId {
    type Error = FieldError;

    fn from_param(text: &'a str) -> Result<Self, FieldError> {
        id(text).map(Self)
    }
}

/// The client's own name for a request, so that a repeated one is done once.
pub struct Once(pub Option<String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Once {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let mut keys = request.headers().get("Idempotency-Key");
        let complain =
            |message| fail(request, FieldError::new(Location::Header, "Idempotency-Key", message).into());
        match (keys.next().map(str::trim), keys.next()) {
            (None, _) => Any::Success(Self(None)),
            (Some(_), Some(_)) => complain("must be given once"),
            (Some(key), None) if (1..=255).contains(&key.chars().count()) => {
                Any::Success(Self(Some(key.to_owned())))
            }
            _ => complain("must have 1 to 255 characters"),
        }
    }
}
