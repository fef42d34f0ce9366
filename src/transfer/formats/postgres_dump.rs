//! Plain SQL dumps of the Docker stack's PostgreSQL database, as `pg_dump` writes them: the `COPY` blocks of the two
//! tables. Dumps with `INSERT` statements are refused, everything else in a dump is skipped.

use std::borrow::Cow;
use std::io::BufRead;

use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, Entry, EntryKind};
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::lines::{LineRead, read_line};
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink, one_line};

/// Maximum length of a line, in bytes.
const MAX_LINE: usize = 256 * 1024;
/// Maximum length of a quoted encoding name, in characters.
const MAX_ENCODING: usize = 40;

/// Reads every row of the two tables. Times without an offset are UTC.
pub fn read(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let mut dump = DumpReader { input, text: Vec::new(), line: 0 };
    let mut has_tables = false;
    // A line that continues a statement may be part of a text that contains an INSERT.
    let mut is_statement_start = true;
    loop {
        match dump.next_line()? {
            LineRead::EndOfFile if has_tables => return Ok(()),
            LineRead::EndOfFile => {
                return Err(ReadError::unusable("not a dump: no statement creates or fills a table"));
            }
            LineRead::TooLong => is_statement_start = true,
            LineRead::Complete => {
                let statement = String::from_utf8_lossy(&dump.text).trim_end().to_ascii_lowercase();
                if is_statement_start {
                    refuse_inserts(dump.line, &statement)?;
                }
                check_encoding(&statement)?;
                has_tables |= statement.starts_with("create table ");
                if let Some(block) = CopyBlock::from_statement(&statement) {
                    has_tables = true;
                    dump.read_block(&block, sink)?;
                }
                is_statement_start = statement.ends_with(';')
                    || statement.starts_with("--")
                    || statement.starts_with('\\')
                    || statement.is_empty();
            }
        }
    }
}

struct DumpReader<'a> {
    input: &'a mut dyn BufRead,
    /// The current line and its number.
    text: Vec<u8>,
    line: u64,
}

impl DumpReader<'_> {
    fn next_line(&mut self) -> Result<LineRead, ReadError> {
        self.line += 1;
        Ok(read_line(self.input, &mut self.text, MAX_LINE)?)
    }

    /// Reads the rows below a `COPY` statement.
    fn read_block(&mut self, block: &CopyBlock, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let zone = Zone::utc();
        loop {
            match (self.next_line()?, block.kind) {
                (LineRead::EndOfFile, _) => {
                    let reason = "the COPY block is not terminated".to_owned();
                    return Err(ReadError::Broken { line: self.line, reason });
                }
                (LineRead::Complete, _) if self.text == br"\." => return Ok(()),
                (_, None) => sink.skip_unsupported()?,
                (LineRead::TooLong, Some(_)) => {
                    sink.reject(self.line, format!("is longer than {MAX_LINE} bytes"), &self.text)?;
                }
                (LineRead::Complete, Some(kind)) => {
                    let entry = parse_row(kind, &block.columns, &self.text, &zone);
                    let content = || String::from_utf8_lossy(&self.text).into_owned();
                    sink.entry(RowPosition::Line(self.line), entry, content)?;
                }
            }
        }
    }
}

/// Table and columns of a `COPY` statement.
#[derive(Debug, PartialEq)]
struct CopyBlock {
    /// `None`: another table.
    kind: Option<EntryKind>,
    columns: Vec<Option<Column>>,
}

impl CopyBlock {
    /// Parses `copy public.coffee_logs (id, "timestamp") from stdin;`, in lower case.
    fn from_statement(statement: &str) -> Option<Self> {
        let (target, _) = statement.strip_prefix("copy ")?.split_once(" from stdin")?;
        let (table, columns) = target.split_once('(').map_or((target, None), |(t, c)| (t, Some(c)));
        let unquoted = |name: &str| name.trim().trim_matches('"').to_owned();
        let kind = match unquoted(table.rsplit('.').next().unwrap_or_default()).as_str() {
            "coffee_logs" => Some(EntryKind::Coffee),
            "heart_rate_logs" => Some(EntryKind::HeartRate),
            _ => None,
        };
        let columns = match (columns, kind) {
            (Some(names), _) => {
                let names = names.trim_end().trim_end_matches(')').split(',');
                names.map(|name| Column::from_name(&unquoted(name))).collect()
            }
            // The old tables have the columns of an export, except for the source.
            (None, Some(kind)) => Column::exported(kind).into_iter().take(5).map(Some).collect(),
            (None, None) => Vec::new(),
        };
        Some(Self { kind, columns })
    }
}

/// Fails on an `INSERT` into one of the two tables: its rows would be missing.
fn refuse_inserts(line: u64, statement: &str) -> Result<(), ReadError> {
    let is_insert = ["insert ", "replace "].iter().any(|verb| statement.starts_with(verb))
        && ["coffee_logs", "heart_rate_logs"].iter().any(|table| statement.contains(table));
    if !is_insert {
        return Ok(());
    }
    Err(ReadError::Unusable(format!(
        "line {line} is an INSERT statement, but only COPY blocks can be imported: make the dump with \
         `pg_dump -U coffee coffee_db`, without --inserts; of an SQLite database, import the file itself"
    )))
}

/// Fails on `set client_encoding` to an encoding other than UTF-8.
fn check_encoding(statement: &str) -> Result<(), ReadError> {
    let Some(value) = statement.strip_prefix("set client_encoding") else { return Ok(()) };
    let value = value.trim_start().trim_start_matches("to ");
    let name = value.trim_matches(|c: char| c.is_whitespace() || "='\";".contains(c));
    if ["utf8", "utf-8", "unicode", "sql_ascii", "default"].contains(&name) {
        return Ok(());
    }
    let name = one_line(&name.to_uppercase(), MAX_ENCODING);
    Err(ReadError::Unusable(format!(
        "the encoding of the dump is {name}: make it again with `pg_dump --encoding=UTF8`"
    )))
}

fn parse_row(kind: EntryKind, columns: &[Option<Column>], text: &[u8], zone: &Zone) -> Result<Entry, String> {
    let fields = || text.split(|byte| *byte == b'\t');
    let count = fields().count();
    if count != columns.len() {
        return Err(format!("has {count} values where the table has {} columns", columns.len()));
    }
    let values: Vec<Option<Cow<'_, [u8]>>> = fields().map(unescape).collect();
    let mut row = ImportRow::default();
    for (column, value) in columns.iter().zip(&values) {
        if let Some(column) = column {
            row.set(*column, value.as_deref().map_or(RawValue::Null, RawValue::from_bytes));
        }
    }
    row.set(Column::Source, RawValue::Text(DOCKER_STACK));
    row.into_entry_of(kind, zone)
}

/// Unescapes a value in the text format of `COPY`. `None`: null.
fn unescape(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if value == br"\N" {
        return None;
    }
    if !value.contains(&b'\\') {
        return Some(Cow::Borrowed(value));
    }
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let Some((letter, behind)) = rest.split_first().filter(|_| *byte == b'\\') else {
            text.push(*byte);
            continue;
        };
        // `\101` and `\x41` are bytes by number.
        let (digits, base, max_digits) = match letter {
            b'0'..=b'7' => (rest, 8, 3),
            b'x' => (behind, 16, 2),
            _ => (&[][..], 10, 0),
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(base);
        let count = digits.iter().take(max_digits).take_while(|byte| digit(byte).is_some()).count();
        let (number, after_number) = digits.split_at(count);
        if count > 0 {
            text.push(number.iter().filter_map(digit).fold(0, |code, digit| code * base + digit) as u8);
            rest = after_number;
            continue;
        }
        rest = behind;
        text.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => *other,
        });
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_statements_are_parsed_in_every_form() {
        let columns = vec![Some(Column::Notes), Some(Column::Timestamp), None];
        let expected = Some(CopyBlock { kind: Some(EntryKind::Coffee), columns });
        for statement in [
            r#"copy public.coffee_logs (notes, "timestamp", weight) from stdin;"#,
            r#"copy "public"."coffee_logs"(notes,timestamp,weight) from stdin;"#,
            r#"copy coffee_logs ("notes", "timestamp", "weight") from stdin with (format text);"#,
        ] {
            assert_eq!(CopyBlock::from_statement(statement), expected, "{statement}");
        }
        let unnamed = CopyBlock::from_statement("copy heart_rate_logs from stdin;");
        let columns = [Column::Id, Column::Timestamp, Column::Bpm, Column::Context, Column::Notes];
        let columns = columns.map(Some).to_vec();
        assert_eq!(unnamed, Some(CopyBlock { kind: Some(EntryKind::HeartRate), columns }));
        assert_eq!(CopyBlock::from_statement("copy coffee_logs to stdout;"), None);
    }

    #[test]
    fn values_are_unescaped_as_postgresql_does() {
        for (value, expected) in [
            (&br"plain"[..], Some(&b"plain"[..])),
            (br"\N", None),
            (br"a\tb\nc\\d\r\b\f\v\q", Some(b"a\tb\nc\\d\r\x08\x0c\x0bq")),
            (br"\x4c\115T\xg\7", Some(b"LMTxg\x07")),
            (br"end\", Some(br"end\")),
        ] {
            assert_eq!(unescape(value).as_deref(), expected);
        }
    }
}
