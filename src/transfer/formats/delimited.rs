//! CSV: our own, and that of others, whatever the delimiter and the order of the columns.
//!
//! Records are fed to the CSV library one at a time: a quote that is never closed then
//! spoils the line it stands in, not the rest of the file, and memory stays bounded.

use std::io;
use std::io::{BufRead, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};

use crate::domain::calendar::Zone;
use crate::domain::entry::Entry;
use crate::transfer::formats::import_row::{Column, Draft, Raw};
use crate::transfer::formats::json_lines::without_mark;
use crate::transfer::formats::rows::{ReadError, Rejection, Sink, one_line};

/// Longest record, in bytes: two thousand characters of text, each quoted, are 16 KB.
const MAX_RECORD: usize = 64 * 1024;

/// How much of a line is kept whose quotes are not closed, in bytes.
const MAX_UNCLOSED: usize = 256;

/// How much of the header a sentence quotes, in characters.
const MAX_QUOTED: usize = 300;

/// A column of the file, by name, that means a field: what `--map` says.
pub type Mapping = (String, Column);

/// Reads every record below the header.
///
/// # Errors
/// That the header does not say where things are, or why it was not read to its end.
pub fn read(
    input: &mut dyn BufRead,
    mappings: &[Mapping],
    zone: &Zone,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut feed = Feed::new(input);
    let header = feed.header(sink)?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(feed.delimiter)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(feed);
    let mut record = ByteRecord::new();
    let columns = columns(&header, mappings)?;
    loop {
        let more = reader.read_byte_record(&mut record).map_err(io::Error::from)?;
        if let Some(unclosed) = reader.get_mut().unclosed.take() {
            sink.reject(unclosed)?;
        }
        if !more {
            return Ok(());
        }
        // Spreadsheets end with rows of nothing but delimiters.
        if record.iter().all(|value| value.trim_ascii().is_empty()) {
            continue;
        }
        let feed = reader.get_ref();
        let read = entry(&record, &columns, feed.delimiter, zone);
        sink.entry(feed.line, read, || feed.record_text())?;
    }
}

fn entry(
    record: &ByteRecord,
    columns: &[Option<Column>],
    delimiter: u8,
    zone: &Zone,
) -> Result<Entry, String> {
    let surplus = record.iter().skip(columns.len()).any(|value| !value.is_empty());
    if surplus || record.len() < columns.len() {
        return Err(format!("has {} columns where the header has {}", record.len(), columns.len()));
    }
    let mut draft = Draft::default();
    for (value, column) in record.iter().zip(columns) {
        let Some(column) = *column else { continue };
        let is_number = matches!(column, Column::CaffeineMg | Column::Bpm);
        let raw = match std::str::from_utf8(value) {
            Err(_) => Raw::Unfit("is not UTF-8"),
            Ok(text) if is_number && delimiter == b',' && may_have_thousands(text) => {
                Raw::Unfit("may be thousands or a fraction: write it without a comma")
            }
            Ok(text) => Raw::Text(text),
        };
        draft.set(column, raw);
    }
    draft.entry(draft.kind()?, zone)
}

/// `1,200`: where commas delimit fields, whoever wrote it may have meant either.
fn may_have_thousands(number: &str) -> bool {
    let number = number.trim();
    let Some((whole, rest)) = number.strip_prefix('+').unwrap_or(number).split_once(',') else {
        return false;
    };
    let are_digits = whole.bytes().chain(rest.bytes()).all(|byte| byte.is_ascii_digit());
    are_digits && (1..=3).contains(&whole.len()) && rest.len() == 3 && !whole.starts_with('0')
}

/// What each column of the header means.
fn columns(header: &[String], mappings: &[Mapping]) -> Result<Vec<Option<Column>>, ReadError> {
    let unusable = |why: String| {
        let found = one_line(&header.join(", "), MAX_QUOTED);
        ReadError::Unusable(format!(
            "{why}; its columns are: {found}. Say --map COLUMN=FIELD, such as --map Time=timestamp"
        ))
    };
    let mut columns: Vec<Option<Column>> = vec![None; header.len()];
    for (name, column) in mappings {
        let place = header.iter().position(|found| found.eq_ignore_ascii_case(name.trim()));
        match place.and_then(|place| columns.get_mut(place)) {
            Some(slot) => *slot = Some(*column),
            None => return Err(unusable(format!("it has no column {name:?}"))),
        }
    }
    for (slot, name) in columns.iter_mut().zip(header) {
        let column = Column::named(name);
        if slot.is_none() && !mappings.iter().any(|(_, mapped)| Some(*mapped) == column) {
            *slot = column;
        }
    }
    for column in Column::ALL {
        if columns.iter().filter(|found| **found == Some(column)).count() > 1 {
            return Err(unusable(format!("two of its columns are {}", column.name())));
        }
    }
    if !columns.contains(&Some(Column::Timestamp)) {
        return Err(unusable("it has no column timestamp".to_owned()));
    }
    if !columns.contains(&Some(Column::CaffeineMg)) && !columns.contains(&Some(Column::Bpm)) {
        return Err(unusable("it has neither a column caffeine_mg nor bpm".to_owned()));
    }
    Ok(columns)
}

/// Hands on one whole record with each read; a row of nothing but a delimiter stands for a line that
/// was rejected, so that rejections are passed on one by one.
struct Feed<'a> {
    input: &'a mut dyn BufRead,
    delimiter: u8,
    /// Lines that were read, and where the next record begins in them.
    held: Vec<u8>,
    start: usize,
    /// The record that is handed on, and how much of it has been.
    record: Vec<u8>,
    given: usize,
    /// Where it began, and where the next one begins.
    line: u64,
    next_line: u64,
    /// A line that opens a quote and does not close it.
    unclosed: Option<Rejection>,
}

impl<'a> Feed<'a> {
    fn new(input: &'a mut dyn BufRead) -> Self {
        Self {
            input,
            delimiter: b',',
            held: Vec::new(),
            start: 0,
            record: Vec::new(),
            given: 0,
            line: 1,
            next_line: 1,
            unclosed: None,
        }
    }

    /// Reads the header and learns the delimiter from it.
    fn header(&mut self, sink: &mut Sink<'_>) -> Result<Vec<String>, ReadError> {
        self.next_closed_record(sink)?;
        let mut header = without_mark(&self.record).to_vec();
        let said = spreadsheet_delimiter(&header);
        if let Some(delimiter) = said {
            self.delimiter = delimiter;
            self.next_closed_record(sink)?;
            header.clone_from(&self.record);
        }
        self.given = self.record.len();
        let count = |delimiter: &u8| {
            let mut quoted = false;
            header
                .iter()
                .filter(|byte| {
                    quoted ^= **byte == b'"';
                    *byte == delimiter && !quoted
                })
                .count()
        };
        // Of equals the last one wins: a comma.
        let likeliest = [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',');
        self.delimiter = said.unwrap_or(likeliest);
        let mut names = ByteRecord::new();
        let mut reader =
            ReaderBuilder::new().has_headers(false).delimiter(self.delimiter).from_reader(&header[..]);
        reader.read_byte_record(&mut names).map_err(io::Error::from)?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect())
    }

    /// Like [`Feed::next_record`], but rejects lines with an unclosed quote here and now.
    fn next_closed_record(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        loop {
            self.next_record()?;
            match self.unclosed.take() {
                Some(unclosed) => sink.reject(unclosed)?,
                None => return Ok(()),
            }
        }
    }

    /// Makes the next record that is not blank the present one; empty at the end.
    fn next_record(&mut self) -> io::Result<()> {
        loop {
            self.record.clear();
            self.given = 0;
            let (length, is_closed) = self.measure()?;
            let Some(text) = self.held.get(self.start..self.start + length).filter(|_| length > 0) else {
                return Ok(());
            };
            self.line = self.next_line;
            self.next_line += lines_in(text);
            let content = text.strip_suffix(b"\n").unwrap_or(text);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            self.record.extend_from_slice(content);
            let is_cut = !text.ends_with(b"\n") && !text.ends_with(b"\r");
            self.start += length;
            if !is_closed {
                // There may be many before the next good one.
                self.record.truncate(MAX_UNCLOSED);
                let reason = "opens a quote that is not closed, or is longer than 64 KiB".to_owned();
                self.unclosed = Some(Rejection::new(self.line, reason, self.record_text()));
                if is_cut {
                    self.skip_line()?;
                }
                self.record.clear();
                self.record.extend([self.delimiter, b'\n']);
                return Ok(());
            } else if !self.record.trim_ascii().is_empty() {
                self.record.push(b'\n');
                return Ok(());
            }
        }
    }

    /// Drops the rest of a line that is too long.
    fn skip_line(&mut self) -> io::Result<()> {
        self.next_line += 1;
        loop {
            let rest = self.held.get(self.start..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let is_return = rest.get(end) == Some(&b'\r');
                self.start += end + 1;
                if is_return && self.byte_at(0)? == Some(b'\n') {
                    self.start += 1;
                }
                return Ok(());
            }
            self.held.clear();
            self.start = 0;
            if self.read_more()? == 0 {
                return Ok(());
            }
        }
    }

    /// The byte at that place behind `start`; `None` at the end of the input.
    fn byte_at(&mut self, place: usize) -> io::Result<Option<u8>> {
        while self.held.len() <= self.start + place {
            if self.read_more()? == 0 {
                return Ok(None);
            }
        }
        Ok(self.held.get(self.start + place).copied())
    }

    /// Reads a line, or as much of it as a record may have.
    fn read_more(&mut self) -> io::Result<usize> {
        (&mut *self.input).take(MAX_RECORD as u64).read_until(b'\n', &mut self.held)
    }

    /// The length of the record at `start`, its end of line included, and whether its quotes
    /// are closed: if not, the length is that of its first line.
    fn measure(&mut self) -> io::Result<(usize, bool)> {
        if self.start > MAX_RECORD {
            self.held.drain(..self.start);
            self.start = 0;
        }
        let (mut length, mut quotes) = (0, Quotes::FieldStart);
        let mut first_line = None;
        loop {
            let Some(byte) = self.byte_at(length)? else {
                return match quotes {
                    Quotes::Open => Ok((first_line.unwrap_or(length), false)),
                    _ => Ok((length, true)),
                };
            };
            length += 1;
            quotes = quotes.after(byte, self.delimiter);
            if byte == b'\r' && self.byte_at(length)? == Some(b'\n') {
                continue;
            }
            if matches!(byte, b'\n' | b'\r') {
                if quotes != Quotes::Open {
                    return Ok((length, true));
                }
                first_line.get_or_insert(length);
            }
            if length > MAX_RECORD {
                return Ok((first_line.unwrap_or(length), false));
            }
        }
    }

    fn record_text(&self) -> String {
        String::from_utf8_lossy(self.record.trim_ascii_end()).into_owned()
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.record.len() {
            self.next_record()?;
        }
        let rest = self.record.get(self.given..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

/// What `sep=;` says, which spreadsheets take for the delimiter and not for a row.
fn spreadsheet_delimiter(line: &[u8]) -> Option<u8> {
    match line.strip_suffix(b"\n").unwrap_or(line) {
        [name @ .., b'=', delimiter] if name.eq_ignore_ascii_case(b"sep") => Some(*delimiter),
        _ => None,
    }
}

/// How many lines end in a text, each in `\n`, `\r\n` or `\r`.
fn lines_in(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    (ends - pairs) as u64
}

/// Where in a record one is: a quote opens only at the beginning of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    Unquoted,
    Open,
    /// After a quote within quotes: the end, or the first of two.
    Closing,
}

impl Quotes {
    fn after(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Open, b'"') => Self::Closing,
            (Self::Open, _) | (Self::FieldStart | Self::Closing, b'"') => Self::Open,
            (_, byte) if byte == delimiter => Self::FieldStart,
            _ => Self::Unquoted,
        }
    }
}
