//! JSON Lines: an object a line, a coffee if it has `caffeine_mg`, a reading if it has `bpm`.
//! Unknown members are passed over.

use std::io::BufRead;

use serde::Deserialize;

use crate::domain::calendar::Zone;
use crate::domain::entry::Entry;
use crate::domain::json_scalar::JsonScalar;
use crate::transfer::formats::import_row::{Column, Draft, Raw};
use crate::transfer::formats::lines::{Line, read_line};
use crate::transfer::formats::rows::{ReadError, Rejection, Sink};

/// Longest line, in bytes: a thousand characters of notes, each escaped, are 12 KB.
const MAX_LINE: usize = 256 * 1024;

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    id: JsonScalar,
    #[serde(default)]
    timestamp: JsonScalar,
    #[serde(default)]
    caffeine_mg: JsonScalar,
    #[serde(default)]
    coffee_type: JsonScalar,
    #[serde(default)]
    notes: JsonScalar,
    #[serde(default)]
    bpm: JsonScalar,
    #[serde(default)]
    context: JsonScalar,
    #[serde(default)]
    source: JsonScalar,
}

/// Reads every line.
///
/// # Errors
/// Why it was not read to its end.
pub fn read(input: &mut dyn BufRead, zone: &Zone, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let mut text = Vec::new();
    for line in 1.. {
        match read_line(input, &mut text, MAX_LINE)? {
            Line::End => break,
            Line::TooLong => {
                let reason = format!("is longer than {MAX_LINE} bytes");
                sink.reject(Rejection::new(line, reason, String::from_utf8_lossy(&text).into_owned()))?;
            }
            Line::Whole => {
                let text = if line == 1 { without_mark(&text) } else { &text };
                if text.trim_ascii().is_empty() {
                    continue;
                }
                sink.entry(line, entry(text, zone), || String::from_utf8_lossy(text).into_owned())?;
            }
        }
    }
    Ok(())
}

/// Without the byte-order mark that some editors put at the beginning.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn entry(text: &[u8], zone: &Zone) -> Result<Entry, String> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("is not a JSON object".to_owned());
    }
    let object: Object = serde_json::from_slice(text).map_err(|e| format!("is not a JSON object: {e}"))?;
    let mut draft = Draft::default();
    for (column, field) in [
        (Column::Id, &object.id),
        (Column::Timestamp, &object.timestamp),
        (Column::CaffeineMg, &object.caffeine_mg),
        (Column::CoffeeType, &object.coffee_type),
        (Column::Notes, &object.notes),
        (Column::Bpm, &object.bpm),
        (Column::Context, &object.context),
        (Column::Source, &object.source),
    ] {
        draft.set(column, raw(field));
    }
    draft.entry(draft.kind()?, zone)
}

fn raw(field: &JsonScalar) -> Raw<'_> {
    match field {
        JsonScalar::Absent | JsonScalar::Null => Raw::Nothing,
        JsonScalar::Text(text) => Raw::Text(text),
        JsonScalar::Number(number) => match number.as_i64() {
            Some(whole) => Raw::Whole(whole),
            None => Raw::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        JsonScalar::Bool(_) => Raw::Unfit("must not be true or false"),
        JsonScalar::Nested => Raw::Unfit("must not be a list or an object"),
    }
}
