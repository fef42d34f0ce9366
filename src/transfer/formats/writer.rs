//! Entries as our own CSV and JSON Lines: what `import` reads back is what was there.
//!
//! Text is written as it is, also when a spreadsheet would take it for a formula: a file
//! that changes what somebody wrote is no copy of it.

use std::io;
use std::io::Write;

use crate::domain::entry::{Entry, EntryKind};
use crate::transfer::formats::{COFFEE_COLUMNS, HEART_RATE_COLUMNS};

/// How entries are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// RFC 4180 with a header, lines ending in `\n`; null is empty (stored text never is).
    Csv,
    /// One JSON object a line with every column; null is null.
    JsonLines,
}

impl TextFormat {
    /// The usual end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
        }
    }
}

/// Writes entries of one kind.
pub struct EntryWriter<W: Write> {
    columns: &'static [&'static str; 6],
    lines: Lines<W>,
    /// The line at hand.
    line: Vec<u8>,
}

enum Lines<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Json(W),
}

/// One value of a line.
enum Value<'a> {
    Number(String),
    Text(Option<&'a str>),
}

impl<W: Write> EntryWriter<W> {
    /// Begins: CSV has a header. Writes in small pieces, so `to` should gather them.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(to: W, format: TextFormat, kind: EntryKind) -> io::Result<Self> {
        let columns = match kind {
            EntryKind::Coffee => &COFFEE_COLUMNS,
            EntryKind::HeartRate => &HEART_RATE_COLUMNS,
        };
        let lines = match format {
            TextFormat::Csv => {
                let mut csv = csv::WriterBuilder::new().from_writer(to);
                csv.write_record(columns).map_err(io_error)?;
                Lines::Csv(Box::new(csv))
            }
            TextFormat::JsonLines => Lines::Json(to),
        };
        Ok(Self { columns, lines, line: Vec::new() })
    }

    /// Writes one entry, which must be of this writer's kind.
    ///
    /// # Errors
    /// Those of the place written to.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let id = |id: Option<i64>| id.map_or(Value::Text(None), |id| Value::Number(id.to_string()));
        let (id, timestamp, value, word, notes, source) = match entry {
            Entry::Coffee(c) => {
                let mg = Value::Number(c.caffeine_mg.mg().to_string());
                (id(c.id.map(|id| id.0)), c.timestamp, mg, &c.coffee_type, &c.notes, &c.source)
            }
            Entry::Reading(r) => {
                let bpm = Value::Number(r.bpm.get().to_string());
                (id(r.id.map(|id| id.0)), r.timestamp, bpm, &r.context, &r.notes, &r.source)
            }
        };
        let timestamp = timestamp.text();
        let [word, notes, source] = [word, notes, source].map(|text| Value::Text(text.as_deref()));
        self.write_line(&[id, Value::Text(Some(timestamp.as_str())), value, word, notes, source])
    }

    fn write_line(&mut self, values: &[Value<'_>; 6]) -> io::Result<()> {
        match &mut self.lines {
            Lines::Csv(csv) => csv.write_record(values.iter().map(Value::plain)).map_err(io_error),
            Lines::Json(to) => {
                self.line.clear();
                let mut before = "{\"";
                for (column, value) in self.columns.iter().zip(values) {
                    self.line.extend_from_slice(before.as_bytes());
                    self.line.extend_from_slice(column.as_bytes());
                    self.line.extend_from_slice(b"\":");
                    match value {
                        Value::Number(number) => self.line.extend_from_slice(number.as_bytes()),
                        Value::Text(text) => serde_json::to_writer(&mut self.line, text)?,
                    }
                    before = ",\"";
                }
                self.line.extend_from_slice(b"}\n");
                to.write_all(&self.line)
            }
        }
    }

    /// Hands on what was gathered, and gives back the place written to.
    ///
    /// # Errors
    /// Those of that place.
    pub fn finish(self) -> io::Result<W> {
        let mut to = match self.lines {
            Lines::Csv(csv) => csv.into_inner().map_err(|e| io::Error::from(e.error().kind()))?,
            Lines::Json(to) => to,
        };
        to.flush()?;
        Ok(to)
    }
}

impl Value<'_> {
    fn plain(&self) -> &str {
        match self {
            Self::Number(number) => number,
            Self::Text(text) => text.unwrap_or_default(),
        }
    }
}

fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::coffee::{CoffeeId, Milligrams};
    use crate::domain::entry::{CoffeeEntry, ReadingEntry};
    use crate::domain::heart_rate::Bpm;
    use crate::domain::time::Timestamp;

    fn written(format: TextFormat, kind: EntryKind, entries: &[Entry]) -> String {
        let mut writer = EntryWriter::new(Vec::new(), format, kind).unwrap();
        entries.iter().for_each(|entry| writer.write(entry).unwrap());
        String::from_utf8(writer.finish().unwrap()).unwrap()
    }

    fn coffee(mg: f64, notes: Option<&str>) -> Entry {
        Entry::Coffee(CoffeeEntry {
            id: Some(CoffeeId(7)),
            timestamp: Timestamp::clamped(1),
            caffeine_mg: Milligrams::new(mg).unwrap(),
            coffee_type: None,
            notes: notes.map(str::to_owned),
            source: Some("Watch".to_owned()),
        })
    }

    #[test]
    fn text_is_quoted_only_where_it_must_be_and_never_changed() {
        for (notes, in_csv, in_json) in [
            (None, "", "null"),
            (Some("plain"), "plain", r#""plain""#),
            (Some("=1+1"), "=1+1", r#""=1+1""#),
            (Some("a,b"), r#""a,b""#, r#""a,b""#),
            (Some("say \"no\""), r#""say ""no""""#, r#""say \"no\"""#),
            (Some("two\nlines\r\n"), "\"two\nlines\r\n\"", r#""two\nlines\r\n""#),
            (Some("tab\tünï 🫖"), "tab\tünï 🫖", r#""tab\tünï 🫖""#),
        ] {
            let entry = [coffee(95.0, notes)];
            let start =
                "id,timestamp,caffeine_mg,coffee_type,notes,source\n7,1970-01-01T00:00:00.000001Z,95,,";
            assert_eq!(
                written(TextFormat::Csv, EntryKind::Coffee, &entry),
                format!("{start}{in_csv},Watch\n"),
                "{notes:?}"
            );
            let expected = format!(
                r#"{{"id":7,"timestamp":"1970-01-01T00:00:00.000001Z","caffeine_mg":95,"coffee_type":null,"notes":{in_json},"source":"Watch"}}"#
            );
            assert_eq!(
                written(TextFormat::JsonLines, EntryKind::Coffee, &entry),
                expected + "\n",
                "{notes:?}"
            );
        }
    }

    #[test]
    fn a_dose_is_as_short_as_reads_back_exactly() {
        for (mg, text) in [
            (0.0, "0"),
            (95.0, "95"),
            (0.1, "0.1"),
            (63.333_333_333_333_336, "63.333333333333336"),
            (1e6, "1000000"),
            (1e-7, "0.0000001"),
        ] {
            let line = written(TextFormat::Csv, EntryKind::Coffee, &[coffee(mg, None)]);
            let shown = line.lines().nth(1).and_then(|line| line.split(',').nth(2)).unwrap().to_owned();
            assert_eq!(shown, text);
            assert_eq!(shown.parse::<f64>().unwrap().to_bits(), mg.to_bits());
            let line = written(TextFormat::JsonLines, EntryKind::Coffee, &[coffee(mg, None)]);
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object["caffeine_mg"].as_f64(), Some(mg));
        }
    }

    #[test]
    fn a_reading_without_an_id_and_with_nothing_to_say_has_empty_columns() {
        let reading = Entry::Reading(ReadingEntry {
            id: None,
            timestamp: Timestamp::MAX,
            bpm: Bpm::new(61).unwrap(),
            context: None,
            notes: None,
            source: None,
        });
        let csv = written(TextFormat::Csv, EntryKind::HeartRate, std::slice::from_ref(&reading));
        assert_eq!(csv, "id,timestamp,bpm,context,notes,source\n,9999-12-30T22:00:00.000000Z,61,,,\n");
        let json = written(TextFormat::JsonLines, EntryKind::HeartRate, &[reading]);
        assert_eq!(
            json,
            "{\"id\":null,\"timestamp\":\"9999-12-30T22:00:00.000000Z\",\"bpm\":61,\"context\":null,\"notes\":null,\"source\":null}\n"
        );
    }

    #[test]
    fn without_entries_csv_is_a_header_and_json_lines_nothing() {
        let header = "id,timestamp,bpm,context,notes,source\n";
        assert_eq!(written(TextFormat::Csv, EntryKind::HeartRate, &[]), header);
        assert_eq!(written(TextFormat::JsonLines, EntryKind::HeartRate, &[]), "");
    }
}
