//! JSON Lines: one object per line, a coffee if it has `caffeine_mg`, a reading if it has `bpm`. Unknown members
//! are ignored.

use std::io::BufRead;

use serde::Deserialize;

use crate::domain::calendar::Zone;
use crate::domain::entry::Entry;
use crate::domain::json_scalar::JsonScalar;
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::lines::{LineRead, read_line, strip_bom};
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink};

/// Maximum length of a line, in bytes: a thousand characters of notes, each escaped, take 12 KB.
const MAX_LINE: usize = 256 * 1024;

#[derive(Default, Deserialize)]
#[serde(default)]
struct EntryObject {
    id: JsonScalar,
    timestamp: JsonScalar,
    caffeine_mg: JsonScalar,
    coffee_type: JsonScalar,
    notes: JsonScalar,
    bpm: JsonScalar,
    context: JsonScalar,
    source: JsonScalar,
}

pub fn read(input: &mut dyn BufRead, zone: &Zone, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let mut buffer = Vec::new();
    for line in 1.. {
        let outcome = read_line(input, &mut buffer, MAX_LINE)?;
        let text = if line == 1 { strip_bom(&buffer) } else { &buffer };
        match outcome {
            LineRead::EndOfFile => break,
            LineRead::TooLong => sink.reject(line, format!("is longer than {MAX_LINE} bytes"), text)?,
            LineRead::Complete if text.trim_ascii().is_empty() => {}
            LineRead::Complete => {
                let content = || String::from_utf8_lossy(text).into_owned();
                sink.entry(RowPosition::Line(line), parse_line(text, zone), content)?;
            }
        }
    }
    Ok(())
}

fn parse_line(text: &[u8], zone: &Zone) -> Result<Entry, String> {
    // A struct could be deserialized from a list, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("is not a JSON object".to_owned());
    }
    let object: EntryObject =
        serde_json::from_slice(text).map_err(|e| format!("is not a JSON object: {e}"))?;
    let mut row = ImportRow::default();
    for (column, value) in [
        (Column::Id, &object.id),
        (Column::Timestamp, &object.timestamp),
        (Column::CaffeineMg, &object.caffeine_mg),
        (Column::CoffeeType, &object.coffee_type),
        (Column::Notes, &object.notes),
        (Column::Bpm, &object.bpm),
        (Column::Context, &object.context),
        (Column::Source, &object.source),
    ] {
        row.set(column, raw_value(value));
    }
    row.into_entry(zone)
}

fn raw_value(value: &JsonScalar) -> RawValue<'_> {
    match value {
        JsonScalar::Absent | JsonScalar::Null => RawValue::Null,
        JsonScalar::Text(text) => RawValue::Text(text),
        JsonScalar::Number(number) => match number.as_i64() {
            Some(integer) => RawValue::Integer(integer),
            None => RawValue::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        JsonScalar::Bool(_) => RawValue::Invalid("must not be true or false"),
        JsonScalar::Nested => RawValue::Invalid("must not be a list or an object"),
    }
}
