//! CSV, from our own export or another program, with any delimiter and any order of columns.
//!
//! A quote that is never closed costs the line it is in, not the rest of the file, and memory is bounded: that is why
//! records are parsed with `csv_core` and not with `csv`.

use std::io;
use std::io::{BufRead, Read};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::domain::calendar::Zone;
use crate::domain::entry::Entry;
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::lines::strip_bom;
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink, one_line};

/// Maximum length of a record, in bytes: two thousand characters of text, each quoted, take 16 KB.
const MAX_RECORD: usize = 64 * 1024;
/// Kept content of a line with an unclosed quote, in bytes. There may be many of them in a row.
const MAX_UNCLOSED: usize = 256;
/// Maximum length of the header in an error message, in characters.
const MAX_HEADER: usize = 300;

/// Name of a column in the file and the column it is imported as, from `--map`.
pub type Mapping = (String, Column);

/// Reads every record below the header.
///
/// # Errors
/// The header lacks a required column, or the input cannot be read to its end.
pub fn read(
    input: &mut dyn BufRead,
    mappings: &[Mapping],
    zone: &Zone,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut records = RecordReader::new(input);
    let header = records.read_header(sink)?;
    let columns = map_columns(&header, mappings)?;
    while records.next_record(sink)? {
        let entry = parse_record(&records, &columns, zone);
        let content = || String::from_utf8_lossy(records.content()).into_owned();
        sink.entry(RowPosition::Line(records.line), entry, content)?;
    }
    Ok(())
}

fn parse_record(
    records: &RecordReader<'_>,
    columns: &[Option<Column>],
    zone: &Zone,
) -> Result<Entry, String> {
    let has_extra_values = records.fields().skip(columns.len()).any(|value| !value.is_empty());
    if has_extra_values || records.field_count < columns.len() {
        return Err(format!("has {} columns where the header has {}", records.field_count, columns.len()));
    }
    let mut row = ImportRow::default();
    for (value, column) in records.fields().zip(columns) {
        let Some(column) = *column else { continue };
        let is_number = matches!(column, Column::CaffeineMg | Column::Bpm);
        let value = match RawValue::from_bytes(value) {
            RawValue::Text(text) if is_number && records.delimiter == b',' && is_ambiguous(text) => {
                RawValue::Invalid("may be thousands or a fraction: write it without a comma")
            }
            value => value,
        };
        row.set(column, value);
    }
    row.into_entry(zone)
}

/// Returns whether a number like `1,200` may be meant either way, which only the delimiter could tell.
fn is_ambiguous(number: &str) -> bool {
    let number = number.trim();
    let Some((whole, rest)) = number.strip_prefix('+').unwrap_or(number).split_once(',') else {
        return false;
    };
    let are_digits = whole.bytes().chain(rest.bytes()).all(|byte| byte.is_ascii_digit());
    are_digits && (1..=3).contains(&whole.len()) && rest.len() == 3 && !whole.starts_with('0')
}

/// Maps each column of the header to the column it is imported as.
fn map_columns(header: &[String], mappings: &[Mapping]) -> Result<Vec<Option<Column>>, ReadError> {
    let unusable = |reason: String| {
        let header = one_line(&header.join(", "), MAX_HEADER);
        ReadError::Unusable(format!(
            "{reason}; the columns are: {header}; use --map COLUMN=FIELD, such as --map Time=timestamp"
        ))
    };
    let mut columns: Vec<Option<Column>> = vec![None; header.len()];
    for (name, column) in mappings {
        let index = header.iter().position(|found| found.eq_ignore_ascii_case(name.trim()));
        match index.and_then(|index| columns.get_mut(index)) {
            Some(slot) => *slot = Some(*column),
            None => return Err(unusable(format!("there is no column {name:?}"))),
        }
    }
    for (slot, name) in columns.iter_mut().zip(header) {
        let column = Column::from_name(name);
        if slot.is_none() && !mappings.iter().any(|(_, mapped)| Some(*mapped) == column) {
            *slot = column;
        }
    }
    for column in Column::ALL {
        if columns.iter().filter(|found| **found == Some(column)).count() > 1 {
            return Err(unusable(format!("there are two columns {}", column.name())));
        }
    }
    if !columns.contains(&Some(Column::Timestamp)) {
        return Err(unusable("there is no column timestamp".to_owned()));
    }
    if !columns.contains(&Some(Column::CaffeineMg)) && !columns.contains(&Some(Column::Bpm)) {
        return Err(unusable("there is neither a column caffeine_mg nor bpm".to_owned()));
    }
    Ok(columns)
}

/// Outcome of parsing one record.
enum ParsedRecord {
    Complete,
    /// The row is empty.
    Blank,
    /// The row has an unclosed quote, or is too long.
    Unclosed,
    EndOfFile,
}

/// Reader of one record at a time, with its line and its text.
struct RecordReader<'a> {
    input: &'a mut dyn BufRead,
    parser: Reader,
    delimiter: u8,
    /// Text that was read; the current record begins at `start`, the unread text at `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Line of the current record, and of the unread text.
    line: u64,
    next_line: u64,
    /// The byte before the unread text is a carriage return.
    is_after_return: bool,
    is_end_of_file: bool,
    /// Values of the current record, one after the other, and where each ends.
    values: Vec<u8>,
    value_ends: Vec<usize>,
    field_count: usize,
}

impl<'a> RecordReader<'a> {
    fn new(input: &'a mut dyn BufRead) -> Self {
        Self {
            input,
            parser: Reader::new(),
            delimiter: b',',
            buffer: Vec::new(),
            start: 0,
            end: 0,
            line: 1,
            next_line: 1,
            is_after_return: false,
            is_end_of_file: false,
            values: vec![0; MAX_RECORD + 1],
            value_ends: vec![0; MAX_RECORD + 1],
            field_count: 0,
        }
    }

    /// Returns the values of the current record.
    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.value_ends.iter().take(self.field_count).scan(0, |start, end| {
            let value = self.values.get(*start..*end);
            *start = *end;
            value
        })
    }

    /// Returns the text of the current record without the end of its line.
    fn content(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default().trim_ascii_end()
    }

    /// Reads the names of the columns and detects the delimiter.
    fn read_header(&mut self, sink: &mut Sink<'_>) -> Result<Vec<String>, ReadError> {
        self.fill()?;
        self.advance(self.buffer.len() - strip_bom(&self.buffer).len());
        let declared = declared_delimiter(self.peek_line()?);
        if declared.is_some() {
            self.skip_line()?;
        }
        loop {
            self.delimiter = match declared {
                Some(delimiter) => delimiter,
                None => guess_delimiter(self.peek_line()?),
            };
            self.parser = ReaderBuilder::new().delimiter(self.delimiter).build();
            match self.parse_record()? {
                ParsedRecord::Unclosed => self.reject_line(sink)?,
                ParsedRecord::Blank => {}
                ParsedRecord::Complete | ParsedRecord::EndOfFile => break,
            }
        }
        Ok(self.fields().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect())
    }

    /// Reads the next record and rejects lines that cannot be parsed. Returns `false` at the end of the file.
    fn next_record(&mut self, sink: &mut Sink<'_>) -> Result<bool, ReadError> {
        loop {
            match self.parse_record()? {
                ParsedRecord::Complete => return Ok(true),
                ParsedRecord::Blank => {}
                ParsedRecord::Unclosed => self.reject_line(sink)?,
                ParsedRecord::EndOfFile => return Ok(false),
            }
        }
    }

    /// Parses the record at `end`. An unclosed one is not consumed.
    fn parse_record(&mut self) -> io::Result<ParsedRecord> {
        self.skip_line_ends()?;
        if self.end > MAX_RECORD {
            self.buffer.drain(..self.end);
            self.end = 0;
        }
        (self.start, self.line, self.field_count) = (self.end, self.next_line, 0);
        let (mut length, mut values_length) = (0, 0);
        loop {
            if self.start + length == self.buffer.len() && self.fill()? == 0 {
                if length == 0 {
                    return Ok(ParsedRecord::EndOfFile);
                } else if self.is_end_of_file {
                    break;
                }
                // Ends the last record unless its quote is open.
                self.buffer.push(b'\n');
                self.is_end_of_file = true;
            }
            let (result, read, written, ended) = self.parser.read_record(
                self.buffer.get(self.start + length..).unwrap_or_default(),
                self.values.get_mut(values_length..).unwrap_or_default(),
                self.value_ends.get_mut(self.field_count..).unwrap_or_default(),
            );
            length += read;
            values_length += written;
            self.field_count += ended;
            match result {
                _ if length > MAX_RECORD => break,
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => break,
                ReadRecordResult::Record | ReadRecordResult::End => {
                    self.advance(length);
                    // Spreadsheets end with rows of nothing but delimiters.
                    let is_blank = self.fields().all(|value| value.trim_ascii().is_empty());
                    return Ok(if is_blank { ParsedRecord::Blank } else { ParsedRecord::Complete });
                }
            }
        }
        self.parser.reset();
        Ok(ParsedRecord::Unclosed)
    }

    /// Rejects the line at `end` and continues behind it.
    fn reject_line(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let line = self.peek_line()?;
        let content = line.get(..MAX_UNCLOSED).unwrap_or(line).trim_ascii_end().to_vec();
        let reason = "opens a quote that is not closed, or is longer than 64 KiB".to_owned();
        sink.reject(self.line, reason, &content)?;
        Ok(self.skip_line()?)
    }

    /// Returns the beginning of the next line that is not empty, at most about as long as a record.
    fn peek_line(&mut self) -> io::Result<&[u8]> {
        self.skip_line_ends()?;
        let is_whole = |text: &[u8]| text.len() > MAX_RECORD || text.iter().any(is_line_end);
        while !is_whole(self.buffer.get(self.end..).unwrap_or_default()) && self.fill()? > 0 {}
        let text = self.buffer.get(self.end..).unwrap_or_default();
        Ok(text.split(is_line_end).next().unwrap_or_default())
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let rest = self.buffer.get(self.end..).unwrap_or_default();
            match rest.iter().position(is_line_end) {
                Some(length) => {
                    self.advance(length + 1);
                    return Ok(());
                }
                None => {
                    self.buffer.clear();
                    self.end = 0;
                    if self.fill()? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn skip_line_ends(&mut self) -> io::Result<()> {
        while self.end < self.buffer.len() || self.fill()? > 0 {
            if !self.buffer.get(self.end).is_some_and(is_line_end) {
                break;
            }
            self.advance(1);
        }
        Ok(())
    }

    /// Consumes bytes of the buffer and counts the lines that end in them, in `\n`, `\r\n` or `\r`.
    fn advance(&mut self, count: usize) {
        for byte in self.buffer.iter().skip(self.end).take(count) {
            self.next_line += u64::from(*byte == b'\r' || *byte == b'\n' && !self.is_after_return);
            self.is_after_return = *byte == b'\r';
        }
        self.end += count;
    }

    /// Reads a line into the buffer, or as much of it as a record may have.
    fn fill(&mut self) -> io::Result<usize> {
        (&mut *self.input).take(MAX_RECORD as u64).read_until(b'\n', &mut self.buffer)
    }
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Returns the delimiter that a line like `sep=;` declares for spreadsheets.
fn declared_delimiter(line: &[u8]) -> Option<u8> {
    match line {
        [name @ .., b'=', delimiter] if name.eq_ignore_ascii_case(b"sep") => Some(*delimiter),
        _ => None,
    }
}

/// Returns the most frequent delimiter outside quotes, a comma in doubt.
fn guess_delimiter(header: &[u8]) -> u8 {
    let count = |delimiter: &u8| {
        let mut is_quoted = false;
        let is_delimiter = |byte: &&u8| {
            is_quoted ^= **byte == b'"';
            *byte == delimiter && !is_quoted
        };
        header.iter().filter(is_delimiter).count()
    };
    // `max_by_key` returns the last of equal elements.
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}
