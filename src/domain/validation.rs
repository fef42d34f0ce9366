//! How a request's fields become values: JSON scalars of any kind go in, checked values
//! and one complaint for every bad field come out.
//!
//! Phones send `"95"` where they mean 95, so numbers are read from strings too. Nested
//! values are never kept, however large: they can only be complained about.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// One field as it arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field {
    /// Not there at all.
    #[default]
    Absent,
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A list or an object, whose content nobody wants.
    Nested,
}

/// Where a field stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    Body,
    Path,
    Query,
    Header,
}

/// One bad field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldError {
    /// Where it stood: `body`, `path`, `query` or `header`.
    pub location: Location,
    /// Its name.
    pub field: String,
    /// What would be right.
    pub message: String,
    /// What was given, when it is a scalar; long text is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<Value>>,
}

/// Everything that is wrong with a request's fields; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit(pub Vec<FieldError>);

impl FieldError {
    /// A complaint about a field whose value is not worth repeating.
    pub fn new(location: Location, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location, field: field.into(), message: message.into(), value: None }
    }
}

impl From<FieldError> for Unfit {
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

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Field {
    /// Was it given, be it as null?
    pub fn is_given(&self) -> bool {
        *self != Self::Absent
    }

    /// What to repeat in a complaint. Text over 100 characters is cut.
    fn echo(&self) -> Option<Value> {
        match self {
            Self::Absent | Self::Nested => None,
            Self::Null => Some(Value::Null),
            Self::Bool(b) => Some(Value::Bool(*b)),
            Self::Number(n) => Some(Value::Number(n.clone())),
            Self::Text(text) => {
                let cut = text.char_indices().nth(100).map(|(at, _)| format!("{}…", &text[..at]));
                Some(Value::String(cut.unwrap_or_else(|| text.clone())))
            }
        }
    }

    /// A finite number, from a JSON number or a numeric string.
    fn number(&self) -> Result<f64, &'static str> {
        let number = match self {
            Self::Number(n) => n.as_f64(),
            Self::Text(text) if is_numeral(text.trim()) => text.trim().parse().ok(),
            _ => None,
        };
        // Adding zero turns -0.0 into 0.0.
        number.filter(|n: &f64| n.is_finite()).map(|n| n + 0.0).ok_or("must be a number")
    }
}

/// Digits, a sign, a point, an exponent: no `inf`, `nan` or hexadecimal.
fn is_numeral(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
}

/// Reads fields one by one and gathers the complaints.
pub struct Reader {
    location: Location,
    errors: Vec<FieldError>,
}

impl Reader {
    /// A reader for fields that stood at `location`.
    pub fn new(location: Location) -> Self {
        Self { location, errors: Vec::new() }
    }

    /// How many complaints there are so far.
    pub fn complaints(&self) -> usize {
        self.errors.len()
    }

    /// Notes a complaint about `field`.
    pub fn complain(&mut self, name: &str, field: &Field, message: impl Into<String>) {
        self.errors.push(FieldError {
            location: self.location,
            field: name.to_owned(),
            message: message.into(),
            value: field.echo().map(Box::new),
        });
    }

    /// A number from `min` to `max`.
    pub fn number(&mut self, name: &str, field: &Field, min: f64, max: f64) -> Option<f64> {
        match field.number() {
            Ok(n) if (min..=max).contains(&n) => Some(n),
            Ok(_) => self.refuse(name, field, format!("must be between {min} and {max}")),
            Err(what) => self.refuse_or_required(name, field, what),
        }
    }

    /// A whole number from `min` to `max`; 72.0 is whole, 72.4 is not.
    pub fn integer(&mut self, name: &str, field: &Field, min: i64, max: i64) -> Option<i64> {
        match field.number() {
            Ok(n) if n.fract() != 0.0 => self.refuse(name, field, "must be a whole number"),
            // Both ends are far below 2^53, so the conversion is exact.
            Ok(n) if (min as f64..=max as f64).contains(&n) => Some(n as i64),
            Ok(_) => self.refuse(name, field, format!("must be between {min} and {max}")),
            Err(_) => self.refuse_or_required(name, field, "must be a whole number"),
        }
    }

    /// Clean text of at most `max` characters; null, blank and absent are `None`.
    pub fn text(&mut self, name: &str, field: &Field, max: usize) -> Option<String> {
        match field {
            Field::Absent | Field::Null => None,
            Field::Text(raw) => match crate::domain::text::clean(raw, max) {
                Ok(text) => text,
                Err(length) => {
                    self.refuse(name, field, format!("must have at most {max} characters (it has {length})"))
                }
            },
            _ => self.refuse(name, field, "must be text"),
        }
    }

    /// Whatever `parse` makes of text.
    pub fn parsed<T, M: Into<String>>(
        &mut self,
        name: &str,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, M>,
    ) -> Option<T> {
        match field {
            Field::Text(text) => match parse(text) {
                Ok(value) => Some(value),
                Err(message) => self.refuse(name, field, message),
            },
            _ => self.refuse_or_required(name, field, "must be text"),
        }
    }

    /// Everything that was complained about, or nothing.
    ///
    /// # Errors
    /// The complaints, if there are any.
    pub fn finish(self) -> Result<(), Unfit> {
        if self.errors.is_empty() { Ok(()) } else { Err(Unfit(self.errors)) }
    }

    fn refuse_or_required<T>(&mut self, name: &str, field: &Field, message: &str) -> Option<T> {
        let message = if field.is_given() { message } else { "is required" };
        self.refuse(name, field, message)
    }

    fn refuse<T>(&mut self, name: &str, field: &Field, message: impl Into<String>) -> Option<T> {
        self.complain(name, field, message);
        None
    }
}

/// Reads a JSON object into a struct of [`Field`]s. Unknown members are passed over.
///
/// # Errors
/// What is wrong, with line and column.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unfit> {
    let complain = |message: String| Unfit::from(FieldError::new(Location::Body, "body", message));
    let text = std::str::from_utf8(body)
        .map_err(|e| complain(format!("must be UTF-8 (byte {} is not)", e.valid_up_to() + 1)))?;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text.as_bytes().first() {
        None => return Err(complain("must not be empty: a JSON object is expected".into())),
        Some(b'{') => {}
        Some(_) => return Err(complain("must be a JSON object".into())),
    }
    // Line and column are those of what was sent, so the blanks before it count.
    let sent = std::str::from_utf8(body).unwrap_or(text).trim_start_matches('\u{feff}');
    serde_json::from_str(sent).map_err(|e| {
        // What is well-formed and does not fit says so itself, and may repeat what was sent.
        let what = e.to_string();
        let what = match what.char_indices().nth(200) {
            Some((end, _)) => format!("{}… at line {} column {}", &what[..end], e.line(), e.column()),
            None => what,
        };
        complain(if e.is_data() { what } else { format!("malformed JSON: {what}") })
    })
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(Field::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
        Ok(Number::from_f64(value).map_or(Field::Null, Field::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(Field::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Nested)
    }
}
