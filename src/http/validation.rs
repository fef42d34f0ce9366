//! Checks the fields of a request one by one and collects an error for every invalid field.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};

use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_CLOCK_LEAD, ValidationContext};
use crate::domain::text;
use crate::domain::time::{MINUTE, Timestamp};

/// Part of a request that a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    Body,
    Path,
    Query,
    Header,
}

/// Validation error of one field.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = BadField)]
pub struct FieldError {
    /// `body`, `path`, `query` or `header`.
    #[schema(value_type = String, pattern = "^(body|path|query|header)$")]
    pub location: Location,
    /// Name of the field; `body` for the body as a whole, `readings[3].bpm` inside a batch.
    pub field: String,
    /// Requirement that the value does not meet.
    pub message: String,
    /// Rejected value when it is a scalar; long text is cut.
    #[schema(value_type = Value, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<Value>>,
}

/// Validation errors of a request; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationErrors(pub Vec<FieldError>);

impl FieldError {
    /// Creates an error that does not quote the rejected value.
    pub fn new(location: Location, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location, field: field.into(), message: message.into(), value: None }
    }
}

impl From<FieldError> for ValidationErrors {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        match &self.value {
            Some(value) => write!(f, " (got {value})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Validator for the fields of one part of a request.
pub struct FieldValidator {
    location: Location,
    errors: Vec<FieldError>,
}

impl FieldValidator {
    /// Creates a validator for fields at `location`.
    pub fn new(location: Location) -> Self {
        Self { location, errors: Vec::new() }
    }

    /// Returns the number of errors so far.
    pub fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// Adds an error for the field `name`.
    pub fn add_error(&mut self, name: &str, field: &JsonScalar, message: impl Into<String>) {
        self.errors.push(FieldError {
            location: self.location,
            field: name.to_owned(),
            message: message.into(),
            value: field.excerpt().map(Box::new),
        });
    }

    /// Returns a number from `min` to `max`.
    pub fn number(&mut self, name: &str, field: &JsonScalar, min: f64, max: f64) -> Option<f64> {
        match field.as_number() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(_) => self.reject(name, field, format!("must be between {min} and {max}")),
            None => self.reject_or_required(name, field, "must be a number"),
        }
    }

    /// Returns a whole number from `min` to `max`; 72.0 is whole, 72.4 is not.
    pub fn integer(&mut self, name: &str, field: &JsonScalar, min: i64, max: i64) -> Option<i64> {
        match field.as_number() {
            Some(number) if number.fract() != 0.0 => self.reject(name, field, "must be a whole number"),
            // Both ends are far below 2^53, so the conversion is exact.
            Some(number) if (min as f64..=max as f64).contains(&number) => Some(number as i64),
            Some(_) => self.reject(name, field, format!("must be between {min} and {max}")),
            None => self.reject_or_required(name, field, "must be a whole number"),
        }
    }

    /// Returns cleaned text of at most `max` characters; `None` for null, blank and absent text.
    pub fn text(&mut self, name: &str, field: &JsonScalar, max: usize) -> Option<String> {
        match field {
            JsonScalar::Absent | JsonScalar::Null => None,
            JsonScalar::Text(raw) => match text::clean(raw, max) {
                Ok(text) => text,
                Err(length) => {
                    self.reject(name, field, format!("must have at most {max} characters (it has {length})"))
                }
            },
            _ => self.reject(name, field, "must be text"),
        }
    }

    /// Returns cleaned text of at most `max` characters, which must not be blank.
    pub fn required_text(&mut self, name: &str, field: &JsonScalar, max: usize) -> Option<String> {
        let errors = self.errors.len();
        let text = self.text(name, field, max);
        if text.is_none() && self.errors.len() == errors {
            self.add_error(name, field, "is required");
        }
        text
    }

    /// Parses required text with `parse`.
    pub fn parse<T, M: Into<String>>(
        &mut self,
        name: &str,
        field: &JsonScalar,
        parse: impl FnOnce(&str) -> Result<T, M>,
    ) -> Option<T> {
        match field {
            JsonScalar::Text(text) => match parse(text) {
                Ok(value) => Some(value),
                Err(message) => self.reject(name, field, message),
            },
            _ => self.reject_or_required(name, field, "must be text"),
        }
    }

    /// Parses the time of a new entry; null and absent mean the time of the request.
    pub fn new_time(&mut self, field: &JsonScalar, context: &ValidationContext<'_>) -> Option<Timestamp> {
        if *field == JsonScalar::Null { None } else { self.changed_time(field, context) }
    }

    /// Parses the time of an entry that is changed; absent keeps it.
    pub fn changed_time(&mut self, field: &JsonScalar, context: &ValidationContext<'_>) -> Option<Timestamp> {
        if !field.is_present() {
            return None;
        }
        self.parse("timestamp", field, |text| {
            let at = context.zone.parse(text)?;
            if at > context.latest {
                return Err(format!(
                    "must not lie more than {} minutes ahead of the server's clock",
                    MAX_CLOCK_LEAD / MINUTE
                ));
            }
            Ok(at)
        })
    }

    /// Parses a text field of a change: absent keeps the stored text, null and blank clear it.
    pub fn changed_text(&mut self, name: &str, field: &JsonScalar, max: usize) -> Option<Option<String>> {
        field.is_present().then(|| self.text(name, field, max))
    }

    /// Parses a field of a change with `parse`: absent keeps the stored value, null resets it.
    pub fn changed<T>(
        &mut self,
        name: &str,
        field: &JsonScalar,
        parse: impl FnOnce(&mut Self, &str, &JsonScalar) -> Option<T>,
    ) -> Option<Option<T>> {
        match field {
            JsonScalar::Absent => None,
            JsonScalar::Null => Some(None),
            field => Some(parse(self, name, field)),
        }
    }

    /// Returns an optional `true` or `false`; false by default.
    pub fn flag(&mut self, name: &str, field: &JsonScalar) -> bool {
        match field {
            JsonScalar::Bool(value) => *value,
            JsonScalar::Absent | JsonScalar::Null => false,
            _ => self.reject(name, field, "must be true or false").unwrap_or_default(),
        }
    }

    /// Returns a number of a change: absent keeps the stored one, null resets it.
    pub fn changed_number(
        &mut self,
        name: &str,
        field: &JsonScalar,
        range: &RangeInclusive<f64>,
    ) -> Option<Option<f64>> {
        self.changed(name, field, |v, name, field| v.number(name, field, *range.start(), *range.end()))
    }

    /// Returns the validated `value`, or the collected errors. Without any errors, there must be a value.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ValidationErrors> {
        value.filter(|_| self.errors.is_empty()).ok_or(ValidationErrors(self.errors))
    }

    /// Returns the validated `change`, which must have at least one of its `fields`, or the errors.
    pub fn finish_change<T: Default + PartialEq>(
        mut self,
        change: T,
        fields: &str,
    ) -> Result<T, ValidationErrors> {
        if change == T::default() && self.errors.is_empty() {
            self.add_error("body", &JsonScalar::Absent, format!("must have at least one of {fields}"));
        }
        self.finish(Some(change))
    }

    fn reject_or_required<T>(&mut self, name: &str, field: &JsonScalar, message: &str) -> Option<T> {
        let message = if field.is_present() { message } else { "is required" };
        self.reject(name, field, message)
    }

    fn reject<T>(&mut self, name: &str, field: &JsonScalar, message: impl Into<String>) -> Option<T> {
        self.add_error(name, field, message);
        None
    }
}

/// Parses a JSON object into a struct of [`JsonScalar`]s. Unknown members are ignored.
///
/// # Errors
/// A message with line and column when the body is not a JSON object.
pub fn parse_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ValidationErrors> {
    let error = |message: String| ValidationErrors::from(FieldError::new(Location::Body, "body", message));
    let text = std::str::from_utf8(body)
        .map_err(|e| error(format!("must be UTF-8 (byte {} is not)", e.valid_up_to() + 1)))?;
    let text = text.trim_start_matches('\u{feff}');
    match text.trim_start().as_bytes().first() {
        None => return Err(error("must not be empty: a JSON object is expected".into())),
        Some(b'{') => {}
        Some(_) => return Err(error("must be a JSON object".into())),
    }
    serde_json::from_str(text).map_err(|e| {
        // The message may quote a part of the body.
        let message = e.to_string();
        let message = match message.char_indices().nth(200) {
            Some((end, _)) => format!("{}… at line {} column {}", &message[..end], e.line(), e.column()),
            None => message,
        };
        error(if e.is_data() { message } else { format!("malformed JSON: {message}") })
    })
}

/// Returns the schema of a number that may be sent as a numeric string.
pub fn number_schema(kind: Type, min: f64, max: f64, pattern: &str, description: &str) -> Schema {
    number_or_text(kind, min, max, pattern).description(Some(description)).build().into()
}

/// Returns the schema of a number, a numeric string or null.
pub fn nullable_number_schema(range: &RangeInclusive<f64>, pattern: &str, description: &str) -> Schema {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let number = number_or_text(Type::Number, *range.start(), *range.end(), pattern);
    number.item(null).description(Some(description)).build().into()
}

fn number_or_text(kind: Type, min: f64, max: f64, pattern: &str) -> OneOfBuilder {
    let number = ObjectBuilder::new().schema_type(kind).minimum(Some(min)).maximum(Some(max));
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    OneOfBuilder::new().item(number).item(text)
}

/// Returns the schema of the time of a new entry.
pub fn timestamp_schema() -> Schema {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    let timestamp = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let description = format!(
        "Time of the entry; default: now. At most {} minutes in the future.",
        MAX_CLOCK_LEAD / MINUTE
    );
    OneOfBuilder::new().item(timestamp).item(null).description(Some(description)).build().into()
}
