//! Entries as our own CSV and JSON Lines, from which `import` restores the same entries.
//!
//! Text is exported unaltered, even if a spreadsheet would take it for a formula: an export is a copy. The
//! variant for spreadsheets is for reading only.

use std::borrow::Cow;
use std::io;
use std::io::Write;

use clap::ValueEnum;

use crate::domain::calendar::Zone;
use crate::domain::entry::{Entry, EntryKind};
use crate::transfer::formats::columns::Column;

/// Format of an export, and its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    // RFC 4180 with a header, lines ending in `\n`; null is empty (stored text never is).
    Csv,
    // CSV to open in a spreadsheet: starts with a byte order mark, without which Excel does not read UTF-8, and
    // text that would be evaluated as a formula starts with an apostrophe. Timestamps are local times such as
    // 2025-07-23 14:30:00, which spreadsheets recognize.
    #[value(skip)]
    SpreadsheetCsv,
    // One JSON object per line with every column, null included.
    #[value(name = "jsonl")]
    JsonLines,
}

impl TextFormat {
    /// Returns the usual extension of file names.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv | Self::SpreadsheetCsv => "csv",
            Self::JsonLines => "jsonl",
        }
    }
}

/// Writer of entries of one kind.
pub struct EntryWriter<W: Write> {
    columns: [&'static str; 6],
    /// Time zone of the timestamps of a CSV for spreadsheets; `None` in other formats.
    spreadsheet_zone: Option<Zone>,
    output: Output<W>,
}

enum Output<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

impl<W: Write> EntryWriter<W> {
    /// Creates a writer, and writes the header of a CSV. It writes in small pieces, so `to` should be buffered.
    pub fn new(mut to: W, format: TextFormat, kind: EntryKind) -> io::Result<Self> {
        let columns = Column::exported(kind).map(Column::name);
        let output = match format {
            TextFormat::Csv | TextFormat::SpreadsheetCsv => {
                if format == TextFormat::SpreadsheetCsv {
                    to.write_all(b"\xef\xbb\xbf")?;
                }
                let mut csv = csv::Writer::from_writer(to);
                csv.write_record(columns).map_err(io_error)?;
                Output::Csv(Box::new(csv))
            }
            TextFormat::JsonLines => Output::JsonLines(to),
        };
        let spreadsheet_zone = (format == TextFormat::SpreadsheetCsv).then(Zone::utc);
        Ok(Self { columns, spreadsheet_zone, output })
    }

    /// Sets the time zone of the local times in a CSV for spreadsheets; otherwise it is UTC.
    pub fn in_zone(self, zone: &Zone) -> Self {
        Self { spreadsheet_zone: self.spreadsheet_zone.map(|_| zone.clone()), ..self }
    }

    /// Writes one entry, which must be of this writer's kind.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let id = entry.id.map(|id| id.0.to_string());
        let (timestamp, amount) = (entry.timestamp.text(), entry.amount.number());
        let [label, notes, source] = [&entry.label, &entry.notes, &entry.source].map(Option::as_deref);
        match &mut self.output {
            Output::Csv(csv) => {
                let amount = amount.to_string();
                let id = id.as_deref().unwrap_or_default();
                let texts = [label, notes, source].map(Option::unwrap_or_default);
                let record = match &self.spreadsheet_zone {
                    Some(zone) => {
                        let local = zone.format_local(entry.timestamp);
                        let [label, notes, source] = texts.map(neutralized);
                        csv.write_record([id, &local, &amount, &label, &notes, &source])
                    }
                    None => {
                        let [label, notes, source] = texts;
                        csv.write_record([id, timestamp.as_str(), &amount, label, notes, source])
                    }
                };
                record.map_err(io_error)
            }
            Output::JsonLines(to) => {
                let id = id.as_deref().unwrap_or("null");
                let [c0, c1, c2, c3, c4, c5] = self.columns;
                write!(to, r#"{{"{c0}":{id},"{c1}":"{}","{c2}":{amount}"#, timestamp.as_str())?;
                for (column, text) in [(c3, label), (c4, notes), (c5, source)] {
                    write!(to, r#","{column}":"#)?;
                    serde_json::to_writer(&mut *to, &text)?;
                }
                to.write_all(b"}\n")
            }
        }
    }

    pub fn finish(self) -> io::Result<W> {
        let mut to = match self.output {
            Output::Csv(csv) => csv.into_inner().map_err(|e| io::Error::from(e.error().kind()))?,
            Output::JsonLines(to) => to,
        };
        to.flush()?;
        Ok(to)
    }
}

/// Returns `text` so that no spreadsheet evaluates it: with an apostrophe before the characters that start a formula.
fn neutralized(text: &str) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{text}")),
        false => Cow::Borrowed(text),
    }
}

/// Returns the I/O error inside a CSV error, whose kind callers distinguish.
pub fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::coffee::Milligrams;
    use crate::domain::entry::{Amount, IdInFile};
    use crate::domain::heart_rate::Bpm;
    use crate::domain::time::Timestamp;

    fn written(format: TextFormat, kind: EntryKind, entries: &[Entry]) -> String {
        let mut writer = EntryWriter::new(Vec::new(), format, kind).unwrap();
        entries.iter().for_each(|entry| writer.write(entry).unwrap());
        String::from_utf8(writer.finish().unwrap()).unwrap()
    }

    fn coffee(mg: f64, notes: Option<&str>) -> Entry {
        Entry {
            id: Some(IdInFile(7)),
            timestamp: Timestamp::clamped(1),
            amount: Amount::Caffeine(Milligrams::new(mg).unwrap()),
            label: None,
            notes: notes.map(str::to_owned),
            source: Some("Watch".to_owned()),
        }
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
    fn a_spreadsheet_evaluates_no_text_of_its_variant() {
        for (notes, cell) in [
            ("=HYPERLINK(\"http://evil.example\")", r#""'=HYPERLINK(""http://evil.example"")""#),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum", "'@sum"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("1+1=2", "1+1=2"),
            ("'quoted", "'quoted"),
            ("früh", "früh"),
        ] {
            let csv = written(TextFormat::SpreadsheetCsv, EntryKind::Coffee, &[coffee(95.0, Some(notes))]);
            let expected = format!(
                "\u{feff}id,timestamp,caffeine_mg,coffee_type,notes,source\n7,1970-01-01 00:00:00,95,,{cell},Watch\n"
            );
            assert_eq!(csv, expected, "{notes}");
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
        let reading = Entry {
            id: None,
            timestamp: Timestamp::MAX,
            amount: Amount::HeartRate(Bpm::new(61).unwrap()),
            label: None,
            notes: None,
            source: None,
        };
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
