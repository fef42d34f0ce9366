//! What a file says of an entry, before anybody knows whether it can be stored. A draft
//! becomes an [`Entry`], or a sentence that says why it does not.
//!
//! Wider than what a request may say: files come from other programs, and from years
//! whose limits were different. What the tables cannot hold is refused.

use crate::domain::calendar::Zone;
use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::entry::{CoffeeEntry, Entry, EntryKind, ReadingEntry};
use crate::domain::heart_rate::{Bpm, ReadingId};
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_CONTEXT, MAX_NOTES};
use crate::domain::text;
use crate::domain::time::Timestamp;

/// Longest source, in characters: what is longer is cut.
pub const MAX_SOURCE: usize = 200;
/// Largest dose that can be stored, mg.
const MAX_STORED_MG: f64 = 1e6;
/// Larger numbers are nobody's: the next entry's would soon be too large for JSON.
const MAX_ID: i64 = 1 << 40;
/// Longest quotation of a bad value, in characters.
const QUOTED: usize = 60;

/// A field of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    Id,
    Timestamp,
    CaffeineMg,
    CoffeeType,
    Notes,
    Bpm,
    Context,
    Source,
}

impl Column {
    /// Every one, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::Id,
        Self::Timestamp,
        Self::CaffeineMg,
        Self::CoffeeType,
        Self::Notes,
        Self::Bpm,
        Self::Context,
        Self::Source,
    ];

    /// As files and requests call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Timestamp => "timestamp",
            Self::CaffeineMg => "caffeine_mg",
            Self::CoffeeType => "coffee_type",
            Self::Notes => "notes",
            Self::Bpm => "bpm",
            Self::Context => "context",
            Self::Source => "source",
        }
    }

    /// The column of that name; case does not matter, a blank or a dash is an underscore.
    pub fn named(name: &str) -> Option<Self> {
        let same = |column: &Self| {
            let (own, other) = (column.name().bytes(), name.trim().bytes());
            own.map(Some).eq(other.map(|b| match b {
                b' ' | b'-' => Some(b'_'),
                other => Some(other.to_ascii_lowercase()),
            }))
        };
        Self::ALL.into_iter().find(same)
    }
}

/// A value as it stood in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Raw<'a> {
    /// Not there, or null.
    #[default]
    Nothing,
    Text(&'a str),
    Whole(i64),
    Real(f64),
    /// There, but no value that could be read; why.
    Unfit(&'static str),
}

/// An entry's values as they stood in a file.
#[derive(Clone, Debug, Default)]
pub struct Draft<'a> {
    values: [Raw<'a>; Column::ALL.len()],
}

impl<'a> Draft<'a> {
    /// Sets a value; a second one for the same column replaces the first.
    pub fn set(&mut self, column: Column, value: Raw<'a>) {
        self.values[column as usize] = value;
    }

    fn get(&self, column: Column) -> Raw<'a> {
        match self.values[column as usize] {
            Raw::Text(text) if text.trim().is_empty() => Raw::Nothing,
            value => value,
        }
    }

    /// Which kind of entry it is: that whose value it has.
    ///
    /// # Errors
    /// A sentence, when it is neither or both.
    pub fn kind(&self) -> Result<EntryKind, String> {
        match (self.get(Column::CaffeineMg), self.get(Column::Bpm)) {
            (Raw::Nothing, Raw::Nothing) => Err("has neither caffeine_mg nor bpm".to_owned()),
            (_, Raw::Nothing) => Ok(EntryKind::Coffee),
            (Raw::Nothing, _) => Ok(EntryKind::HeartRate),
            _ => Err("has both caffeine_mg and bpm".to_owned()),
        }
    }

    /// The entry of that kind; a time without an offset is local to `zone`.
    ///
    /// # Errors
    /// A sentence on what does not fit first.
    pub fn entry(&self, kind: EntryKind, zone: &Zone) -> Result<Entry, String> {
        let timestamp = self.timestamp(zone)?;
        let notes = || self.text(Column::Notes, MAX_NOTES);
        let id = self.id();
        Ok(match kind {
            EntryKind::Coffee => Entry::Coffee(CoffeeEntry {
                id: id.map(CoffeeId),
                timestamp,
                caffeine_mg: self.dose()?,
                coffee_type: self.text(Column::CoffeeType, MAX_COFFEE_TYPE)?,
                notes: notes()?,
                source: self.source()?,
            }),
            EntryKind::HeartRate => Entry::Reading(ReadingEntry {
                id: id.map(ReadingId),
                timestamp,
                bpm: self.pulse()?,
                context: self.text(Column::Context, MAX_CONTEXT)?,
                notes: notes()?,
                source: self.source()?,
            }),
        })
    }

    /// Files of others number their rows as they like: what is no number of ours is none.
    fn id(&self) -> Option<i64> {
        let id = match self.get(Column::Id) {
            Raw::Whole(id) => Some(id),
            Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        id.filter(|id| (1..=MAX_ID).contains(id))
    }

    fn timestamp(&self, zone: &Zone) -> Result<Timestamp, String> {
        let column = Column::Timestamp;
        match self.get(column) {
            Raw::Text(text) => match zone.parse(text) {
                Ok(at) => Ok(at),
                Err(why) => Timestamp::parse_lenient(text, zone).ok_or_else(|| refuse(column, why, text)),
            },
            Raw::Nothing => Err(missing(column)),
            Raw::Whole(n) => Err(refuse(column, "must be a date and time", &n)),
            Raw::Real(n) => Err(refuse(column, "must be a date and time", &n)),
            Raw::Unfit(why) => Err(format!("timestamp: {why}")),
        }
    }

    fn number(&self, column: Column) -> Result<f64, String> {
        match self.get(column) {
            Raw::Nothing => Err(missing(column)),
            Raw::Whole(n) => Ok(n as f64),
            Raw::Real(n) if n.is_finite() => Ok(n),
            Raw::Real(n) => Err(refuse(column, "must be a number", &n)),
            Raw::Text(text) => number(text).ok_or_else(|| refuse(column, "must be a number", text)),
            Raw::Unfit(why) => Err(format!("{}: {why}", column.name())),
        }
    }

    fn dose(&self) -> Result<Milligrams, String> {
        dose(self.number(Column::CaffeineMg)?)
    }

    fn pulse(&self) -> Result<Bpm, String> {
        pulse(self.number(Column::Bpm)?)
    }

    fn text(&self, column: Column, max: usize) -> Result<Option<String>, String> {
        match self.get(column) {
            Raw::Nothing => Ok(None),
            Raw::Text(raw) => text::clean(raw, max).map_err(|length| {
                format!("{}: must have at most {max} characters (it has {length})", column.name())
            }),
            Raw::Whole(n) => Ok(Some(n.to_string())),
            Raw::Real(n) => Ok(Some(n.to_string())),
            Raw::Unfit(why) => Err(format!("{}: {why}", column.name())),
        }
    }

    fn source(&self) -> Result<Option<String>, String> {
        match self.get(Column::Source) {
            Raw::Text(raw) => Ok(source(raw)),
            _ => self.text(Column::Source, MAX_SOURCE),
        }
    }
}

/// Where an entry came from: cleaned, and cut where it is too long.
pub fn source(raw: &str) -> Option<String> {
    match text::clean(raw, MAX_SOURCE) {
        Ok(source) => source,
        Err(_) => {
            let whole = text::clean(raw, usize::MAX).ok().flatten()?;
            let cut: String = whole.chars().take(MAX_SOURCE).collect();
            Some(cut.trim_end().to_owned())
        }
    }
}

/// A dose that can be stored, from milligrams.
///
/// # Errors
/// A sentence.
pub fn dose(mg: f64) -> Result<Milligrams, String> {
    // Adding zero turns -0.0 into 0.0.
    Milligrams::new(mg + 0.0)
        .filter(|dose| dose.mg() <= MAX_STORED_MG)
        .ok_or_else(|| refuse(Column::CaffeineMg, "must be between 0 and 1000000", &mg))
}

/// The nearest whole pulse that can be stored, from beats per minute.
///
/// # Errors
/// A sentence.
pub fn pulse(beats: f64) -> Result<Bpm, String> {
    let whole = beats.round();
    (1.0..=f64::from(Bpm::MAX))
        .contains(&whole)
        .then(|| Bpm::new(whole as i64))
        .flatten()
        .ok_or_else(|| refuse(Column::Bpm, "must be between 1 and 1000", &beats))
}

/// A decimal number with a point or a comma: no `inf`, `nan`, hexadecimal or thousands.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_numeral =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if is_numeral {
        return text.parse().ok().filter(|n: &f64| n.is_finite());
    }
    if text.matches(',').count() == 1 && !text.contains('.') {
        return number(&text.replace(',', "."));
    }
    None
}

fn missing(column: Column) -> String {
    format!("{} is missing", column.name())
}

fn refuse(column: Column, why: &str, got: &(impl ToString + ?Sized)) -> String {
    let got = got.to_string();
    let cut = got.char_indices().nth(QUOTED).map(|(at, _)| format!("{}…", &got[..at]));
    format!("{}: {why} (got {:?})", column.name(), cut.unwrap_or(got))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn coffee<'a>(values: &[(Column, Raw<'a>)]) -> Result<CoffeeEntry, String> {
        let mut draft = Draft::default();
        draft.set(Column::Timestamp, Raw::Text("2025-07-23T14:30:00Z"));
        draft.set(Column::CaffeineMg, Raw::Text("95"));
        values.iter().for_each(|(column, value)| draft.set(*column, *value));
        match draft.entry(draft.kind()?, &Zone::utc())? {
            Entry::Coffee(coffee) => Ok(coffee),
            Entry::Reading(_) => Err("a reading".to_owned()),
        }
    }

    #[test]
    fn numbers_are_read_with_point_or_comma_and_nothing_else_is_a_number() {
        for (text, expected) in [("95", 95.0), (" 62,5 ", 62.5), ("1e2", 100.0), ("+0.5", 0.5)] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["", "1.234,5", "1,2,3", "nan", "inf", "0x10", "95 mg", "١"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_table_cannot_hold_is_refused_with_a_sentence() {
        let long = "x".repeat(1001);
        for (column, value, why) in [
            (Column::CaffeineMg, Raw::Text("-1"), "caffeine_mg: must be between 0 and 1000000 (got \"-1\")"),
            (Column::CaffeineMg, Raw::Real(f64::NAN), "caffeine_mg: must be a number (got \"NaN\")"),
            (Column::CaffeineMg, Raw::Nothing, "has neither caffeine_mg nor bpm"),
            (Column::Bpm, Raw::Whole(60), "has both caffeine_mg and bpm"),
            (Column::Timestamp, Raw::Nothing, "timestamp is missing"),
            (Column::Notes, Raw::Text(&long), "notes: must have at most 1000 characters (it has 1001)"),
            (Column::CoffeeType, Raw::Unfit("is not UTF-8"), "coffee_type: is not UTF-8"),
        ] {
            assert_eq!(coffee(&[(column, value)]), Err(why.to_owned()));
        }
        assert_eq!(pulse(0.4), Err("bpm: must be between 1 and 1000 (got \"0.4\")".to_owned()));
        assert_eq!(pulse(72.5).map(Bpm::get), Ok(73));
    }

    #[test]
    fn a_source_is_cut_and_an_odd_id_is_none() {
        let long = "é".repeat(300);
        let stored = coffee(&[(Column::Source, Raw::Text(&long)), (Column::Id, Raw::Text("a-uuid"))]);
        let stored = stored.unwrap();
        assert_eq!(stored.source.map(|s| s.chars().count()), Some(200));
        assert_eq!(stored.id, None);
        for (id, kept) in [("7", Some(CoffeeId(7))), ("0", None), ("-3", None), ("9223372036854775807", None)]
        {
            assert_eq!(coffee(&[(Column::Id, Raw::Text(id))]).map(|c| c.id), Ok(kept));
        }
    }

    #[test]
    fn a_column_is_found_however_it_is_written() {
        for name in ["caffeine_mg", " Caffeine MG", "CAFFEINE-MG"] {
            assert_eq!(Column::named(name), Some(Column::CaffeineMg), "{name}");
        }
        assert_eq!(Column::named("caffeine"), None);
        for column in Column::ALL {
            assert_eq!(Column::named(column.name()), Some(column));
        }
    }
}
