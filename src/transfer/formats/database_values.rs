//! Values of the databases of health apps: numbers, instants and names.

use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::transfer::formats::import_row::{RawValue, parse_decimal, parse_source};
use crate::transfer::formats::sink::MAX_CONTENT;

/// Unit of a number that stands for an instant since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochUnit {
    Seconds,
    Milliseconds,
}

/// Returns a number. SQLite stores text in a column of numbers, too.
pub fn number(column: &str, value: RawValue<'_>) -> Result<f64, String> {
    match value {
        RawValue::Null => Err(format!("{column} is missing")),
        RawValue::Integer(number) => Ok(number as f64),
        RawValue::Real(number) => Ok(number),
        RawValue::Text(text) => parse_decimal(text)
            .ok_or_else(|| format!("{column}: must be a number (got {:?})", text::shorten(text, 60))),
        RawValue::Invalid(_) => Err(format!("{column}: must be a number")),
    }
}

/// Returns the instant that a number stands for.
pub fn instant(column: &str, value: RawValue<'_>, unit: EpochUnit) -> Result<Timestamp, String> {
    let number = number(column, value)?;
    let micros = match unit {
        EpochUnit::Seconds => number * 1e6,
        EpochUnit::Milliseconds => number * 1e3,
    };
    // The limits are far below the numbers that a float cannot represent exactly, up to 2255.
    let is_possible = micros.is_finite() && micros.abs() < i64::MAX as f64;
    is_possible
        .then(|| Timestamp::from_micros(micros.round() as i64))
        .flatten()
        .ok_or_else(|| format!("{column}: must lie in the years 1 to 9999 (got \"{number}\")"))
}

/// Returns a name as a source; `None` when it is missing or blank.
pub fn source_name(value: RawValue<'_>) -> Option<String> {
    match value {
        RawValue::Text(name) => parse_source(name),
        _ => None,
    }
}

/// Returns the values of a row, separated by `|`.
pub fn content(values: &[RawValue<'_>]) -> String {
    let texts = values.iter().map(|value| match value {
        RawValue::Null => String::new(),
        RawValue::Text(text) => text.chars().take(MAX_CONTENT).collect(),
        RawValue::Integer(number) => number.to_string(),
        RawValue::Real(number) => number.to_string(),
        RawValue::Invalid(_) => "(blob)".to_owned(),
    });
    texts.collect::<Vec<_>>().join("|")
}
