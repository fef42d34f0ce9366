//! A row of a file before validation: raw values by column, converted to an entry or rejected with a reason.
//!
//! Accepts more than requests may contain, because files come from other programs and from times with other
//! limits. Rejects only what the tables cannot store.

use crate::domain::calendar::Zone;
use crate::domain::coffee::Milligrams;
use crate::domain::entry::{Amount, Entry, EntryKind, IdInFile};
use crate::domain::heart_rate::Bpm;
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_CONTEXT, MAX_NOTES};
use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::transfer::formats::columns::Column;

/// Maximum length of a source, in characters; longer ones are cut.
pub const MAX_SOURCE: usize = 200;
/// Largest dose that can be stored, mg.
const MAX_STORED_MG: f64 = 1e6;
/// Largest id that is kept. A larger one would soon push new ids beyond what JSON can represent.
const MAX_ID: i64 = 1 << 40;
/// Maximum length of a quoted value in a reason, in characters.
const MAX_QUOTED: usize = 60;

/// Value as it was in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RawValue<'a> {
    /// Missing or null.
    #[default]
    Null,
    Text(&'a str),
    Integer(i64),
    Real(f64),
    /// Cannot be read; holds the reason.
    Invalid(&'static str),
}

impl<'a> RawValue<'a> {
    /// Creates a text value from bytes, which may be invalid UTF-8.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or(Self::Invalid("is not UTF-8"), Self::Text)
    }
}

/// Raw values of one row, by column.
#[derive(Clone, Debug, Default)]
pub struct ImportRow<'a> {
    values: [RawValue<'a>; Column::ALL.len()],
}

impl<'a> ImportRow<'a> {
    /// Sets the value of a column, replacing an earlier one.
    pub fn set(&mut self, column: Column, value: RawValue<'a>) {
        self.values[column as usize] = value;
    }

    fn get(&self, column: Column) -> RawValue<'a> {
        match self.values[column as usize] {
            RawValue::Text(text) if text.trim().is_empty() => RawValue::Null,
            value => value,
        }
    }

    /// Converts the row to an entry of the kind whose amount it has.
    ///
    /// # Errors
    /// The first reason why it cannot be stored.
    pub fn into_entry(self, zone: &Zone) -> Result<Entry, String> {
        let kind = match (self.get(Column::CaffeineMg), self.get(Column::Bpm)) {
            (RawValue::Null, RawValue::Null) => return Err("has neither caffeine_mg nor bpm".to_owned()),
            (_, RawValue::Null) => EntryKind::Coffee,
            (RawValue::Null, _) => EntryKind::HeartRate,
            _ => return Err("has both caffeine_mg and bpm".to_owned()),
        };
        self.into_entry_of(kind, zone)
    }

    /// Converts the row to an entry of this kind. A time without an offset is local to `zone`.
    ///
    /// # Errors
    /// The first reason why it cannot be stored.
    pub fn into_entry_of(self, kind: EntryKind, zone: &Zone) -> Result<Entry, String> {
        let timestamp = self.timestamp(zone)?;
        let (amount, label) = match kind {
            EntryKind::Coffee => (
                Amount::Caffeine(parse_dose(self.number(Column::CaffeineMg)?)?),
                self.text(Column::CoffeeType, MAX_COFFEE_TYPE)?,
            ),
            EntryKind::HeartRate => (
                Amount::HeartRate(parse_bpm(self.number(Column::Bpm)?)?),
                self.text(Column::Context, MAX_CONTEXT)?,
            ),
        };
        let (notes, source) = (self.text(Column::Notes, MAX_NOTES)?, self.source()?);
        Ok(Entry { id: self.id(), timestamp, amount, label, notes, source })
    }

    /// Returns the id; `None` for ids of another form, such as UUIDs of other programs.
    fn id(&self) -> Option<IdInFile> {
        let id = match self.get(Column::Id) {
            RawValue::Integer(id) => Some(id),
            RawValue::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        id.filter(|id| (1..=MAX_ID).contains(id)).map(IdInFile)
    }

    fn timestamp(&self, zone: &Zone) -> Result<Timestamp, String> {
        let column = Column::Timestamp;
        match self.get(column) {
            RawValue::Text(text) => zone.parse(text).or_else(|reason| {
                Timestamp::parse_lenient(text, zone).ok_or_else(|| invalid(column, reason, text))
            }),
            RawValue::Null => Err(missing(column)),
            RawValue::Integer(n) => Err(invalid(column, "must be a date and time", &n)),
            RawValue::Real(n) => Err(invalid(column, "must be a date and time", &n)),
            RawValue::Invalid(reason) => Err(format!("{}: {reason}", column.name())),
        }
    }

    fn number(&self, column: Column) -> Result<f64, String> {
        let reason = "must be a number";
        match self.get(column) {
            RawValue::Null => Err(missing(column)),
            RawValue::Integer(n) => Ok(n as f64),
            RawValue::Real(n) if n.is_finite() => Ok(n),
            RawValue::Real(n) => Err(invalid(column, reason, &n)),
            RawValue::Text(text) => parse_decimal(text).ok_or_else(|| invalid(column, reason, text)),
            RawValue::Invalid(reason) => Err(format!("{}: {reason}", column.name())),
        }
    }

    fn text(&self, column: Column, max: usize) -> Result<Option<String>, String> {
        match self.get(column) {
            RawValue::Null => Ok(None),
            RawValue::Text(raw) => text::clean(raw, max).map_err(|length| {
                format!("{}: must have at most {max} characters (it has {length})", column.name())
            }),
            RawValue::Integer(n) => Ok(Some(n.to_string())),
            RawValue::Real(n) => Ok(Some(n.to_string())),
            RawValue::Invalid(reason) => Err(format!("{}: {reason}", column.name())),
        }
    }

    fn source(&self) -> Result<Option<String>, String> {
        match self.get(Column::Source) {
            RawValue::Text(raw) => Ok(parse_source(raw)),
            _ => self.text(Column::Source, MAX_SOURCE),
        }
    }
}

/// Cleans a source and cuts it to its maximum length.
pub fn parse_source(raw: &str) -> Option<String> {
    text::clean(raw, MAX_SOURCE).unwrap_or_else(|_| {
        let whole = text::clean(raw, usize::MAX).ok().flatten()?;
        let cut: String = whole.chars().take(MAX_SOURCE).collect();
        Some(cut.trim_end().to_owned())
    })
}

/// Converts milligrams to a dose that can be stored.
pub fn parse_dose(mg: f64) -> Result<Milligrams, String> {
    // Adding zero turns -0.0 into 0.0.
    Milligrams::new(mg + 0.0)
        .filter(|dose| dose.mg() <= MAX_STORED_MG)
        .ok_or_else(|| invalid(Column::CaffeineMg, "must be between 0 and 1000000", &mg))
}

/// Converts an amount to milligrams.
///
/// # Errors
/// A message when the unit is unknown.
pub fn to_milligrams(amount: f64, unit: &str) -> Result<f64, String> {
    // Removes the rounding error of a conversion: 0.0621 g are 62.1 mg.
    let rounded = |mg: f64| (mg * 1000.0).round() / 1000.0;
    match unit {
        "mg" => Ok(amount),
        "g" => Ok(rounded(amount * 1000.0)),
        "mcg" | "\u{b5}g" | "\u{3bc}g" => Ok(rounded(amount / 1000.0)),
        other => Err(format!("unit: must be mg, g or mcg (got {:?})", text::shorten(other, MAX_QUOTED))),
    }
}

/// Rounds beats per minute to a heart rate that can be stored.
pub fn parse_bpm(beats: f64) -> Result<Bpm, String> {
    let rounded = beats.round();
    (1.0..=f64::from(Bpm::MAX))
        .contains(&rounded)
        .then(|| Bpm::new(rounded as i64))
        .flatten()
        .ok_or_else(|| invalid(Column::Bpm, "must be between 1 and 1000", &beats))
}

/// Parses a decimal number with a point or a comma, without `inf`, `nan`, hexadecimal or thousands separators.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.matches(',').count() == 1 && !text.contains('.') {
        return text::parse_decimal(&text.replace(',', "."));
    }
    text::parse_decimal(text)
}

fn missing(column: Column) -> String {
    format!("{} is missing", column.name())
}

fn invalid(column: Column, reason: &str, value: &(impl ToString + ?Sized)) -> String {
    format!("{}: {reason} (got {:?})", column.name(), text::shorten(&value.to_string(), MAX_QUOTED))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn coffee(values: &[(Column, RawValue<'_>)]) -> Result<Entry, String> {
        let mut row = ImportRow::default();
        row.set(Column::Timestamp, RawValue::Text("2025-07-23T14:30:00Z"));
        row.set(Column::CaffeineMg, RawValue::Text("95"));
        values.iter().for_each(|(column, value)| row.set(*column, *value));
        row.into_entry(&Zone::utc())
    }

    #[test]
    fn decimals_have_a_point_or_a_comma() {
        for (text, expected) in [("95", 95.0), (" 62,5 ", 62.5), ("1e2", 100.0), ("+0.5", 0.5)] {
            assert_eq!(parse_decimal(text), Some(expected), "{text}");
        }
        for text in ["", "1.234,5", "1,2,3", "nan", "inf", "0x10", "95 mg", "١"] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn rows_that_cannot_be_stored_are_rejected_with_a_reason() {
        let long = "x".repeat(1001);
        for (column, value, reason) in [
            (
                Column::CaffeineMg,
                RawValue::Text("-1"),
                "caffeine_mg: must be between 0 and 1000000 (got \"-1\")",
            ),
            (Column::CaffeineMg, RawValue::Real(f64::NAN), "caffeine_mg: must be a number (got \"NaN\")"),
            (Column::CaffeineMg, RawValue::Null, "has neither caffeine_mg nor bpm"),
            (Column::Bpm, RawValue::Integer(60), "has both caffeine_mg and bpm"),
            (Column::Timestamp, RawValue::Null, "timestamp is missing"),
            (Column::Notes, RawValue::Text(&long), "notes: must have at most 1000 characters (it has 1001)"),
            (Column::CoffeeType, RawValue::from_bytes(b"\xe4"), "coffee_type: is not UTF-8"),
        ] {
            assert_eq!(coffee(&[(column, value)]), Err(reason.to_owned()));
        }
        assert_eq!(parse_bpm(0.4), Err("bpm: must be between 1 and 1000 (got \"0.4\")".to_owned()));
        assert_eq!(parse_bpm(72.5).map(Bpm::get), Ok(73));
    }

    #[test]
    fn long_sources_are_cut_and_foreign_ids_are_dropped() {
        let long = "é".repeat(300);
        let entry =
            coffee(&[(Column::Source, RawValue::Text(&long)), (Column::Id, RawValue::Text("a-uuid"))]);
        let entry = entry.unwrap();
        assert_eq!(entry.source.map(|source| source.chars().count()), Some(200));
        assert_eq!(entry.id, None);
        for (id, expected) in
            [("7", Some(IdInFile(7))), ("0", None), ("-3", None), ("9223372036854775807", None)]
        {
            assert_eq!(coffee(&[(Column::Id, RawValue::Text(id))]).map(|coffee| coffee.id), Ok(expected));
        }
    }
}
