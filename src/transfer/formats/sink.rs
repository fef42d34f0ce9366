//! Receiver of the rows of a file, and the errors of reading one.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::domain::entry::Entry;
use crate::domain::limits::EntryLimits;
use crate::domain::text;

/// Maximum length of the content that a rejection keeps, in bytes.
pub const MAX_CONTENT: usize = 8 * 1024;

/// Outcome of reading one row.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadRow {
    /// Entry of a table or a copy of one, in which equal entries may be stored twice on purpose.
    Entry(Entry),
    /// Sample of a health app or a sensor, which other files and apps may deliver, too.
    Sample(Entry),
    Rejected(Rejection),
    /// Record of a type that is not imported.
    Unsupported,
}

/// Position of a row in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowPosition {
    /// Line, counted from 1.
    Line(u64),
    /// Line of one of several files.
    FileLine { file: Arc<str>, line: u64 },
    /// Row of a database table, by id, or by number when the table has no ids.
    TableRow { table: Arc<str>, id: Option<i64>, number: u64 },
}

impl RowPosition {
    /// Returns the line, the id or the number of the row.
    pub fn number(&self) -> u64 {
        match self {
            Self::Line(line) | Self::FileLine { line, .. } => *line,
            Self::TableRow { id, number, .. } => id.and_then(|id| id.try_into().ok()).unwrap_or(*number),
        }
    }
}

impl fmt::Display for RowPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::FileLine { file, line } => write!(f, "{file}, line {line}"),
            Self::TableRow { table, id: Some(id), .. } => write!(f, "{table}, id {id}"),
            Self::TableRow { table, id: None, number } => write!(f, "{table}, row {number}"),
        }
    }
}

/// Row that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub position: RowPosition,
    pub reason: String,
    /// The row as it was in the file, cut when it is very long.
    pub content: String,
    /// The row can be stored, but a value is outside the limits for new entries.
    pub is_out_of_range: bool,
}

/// The receiver of rows was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkClosed;

/// Receiver of the rows of a file, in their order. Rejects entries outside the limits for new entries, so that
/// every format is held to the same ones.
pub struct Sink<'a> {
    /// `None`: every value that can be stored is accepted.
    limits: Option<&'a EntryLimits>,
    send: &'a mut dyn FnMut(ReadRow) -> Result<(), SinkClosed>,
}

impl<'a> Sink<'a> {
    pub fn new(
        limits: Option<&'a EntryLimits>,
        send: &'a mut dyn FnMut(ReadRow) -> Result<(), SinkClosed>,
    ) -> Self {
        Self { limits, send }
    }

    /// Passes on an entry, or rejects it for the reader's reason or because it is out of range.
    pub fn entry(
        &mut self,
        position: RowPosition,
        entry: Result<Entry, String>,
        content: impl FnOnce() -> String,
    ) -> Result<(), SinkClosed> {
        let row = self.checked(position, entry, content).map_or_else(ReadRow::Rejected, ReadRow::Entry);
        (self.send)(row)
    }

    /// Passes on a sample of a health app or a sensor, or rejects it.
    pub fn sample(
        &mut self,
        position: RowPosition,
        entry: Result<Entry, String>,
        content: impl FnOnce() -> String,
    ) -> Result<(), SinkClosed> {
        let row = self.checked(position, entry, content).map_or_else(ReadRow::Rejected, ReadRow::Sample);
        (self.send)(row)
    }

    fn checked(
        &self,
        position: RowPosition,
        entry: Result<Entry, String>,
        content: impl FnOnce() -> String,
    ) -> Result<Entry, Rejection> {
        let (reason, is_out_of_range) = match entry {
            Ok(entry) => match self.limits.map_or(Ok(()), |limits| limits.check(entry.amount)) {
                Ok(()) => return Ok(entry),
                Err(reason) => (reason, true),
            },
            Err(reason) => (reason, false),
        };
        Err(Rejection { position, reason, content: cut_content(content()), is_out_of_range })
    }

    /// Rejects a row that was not parsed.
    pub fn reject(&mut self, line: u64, reason: String, content: &[u8]) -> Result<(), SinkClosed> {
        let content = || String::from_utf8_lossy(content).into_owned();
        self.entry(RowPosition::Line(line), Err(reason), content)
    }

    /// Counts a record of a type that is not imported.
    pub fn skip_unsupported(&mut self) -> Result<(), SinkClosed> {
        (self.send)(ReadRow::Unsupported)
    }
}

fn cut_content(mut content: String) -> String {
    if content.len() > MAX_CONTENT {
        let end = (0..=MAX_CONTENT).rev().find(|end| content.is_char_boundary(*end)).unwrap_or(0);
        content.truncate(end);
        content.push('…');
    }
    // Many rejections may be queued at once, and a truncated string keeps its capacity.
    content.shrink_to_fit();
    content
}

/// Returns the beginning of a text on one line, with control characters escaped.
pub fn one_line(text: &str, max_chars: usize) -> String {
    text::escape_control(&text::shorten(text, max_chars))
}

/// Error that ends reading a file. The rows before it have been passed on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the import was stopped")]
    SinkClosed,
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file cannot be imported; holds the reason and what to do.
    #[error("{0}")]
    Unusable(String),
    /// The file cannot be read now, but may be later; holds the reason.
    #[error("{0}")]
    Temporary(String),
    #[error("reading stopped at line {line}: {reason}")]
    Broken { line: u64, reason: String },
}

impl ReadError {
    /// Creates an error for a file that cannot be imported.
    pub fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable(reason.into())
    }
}

impl From<SinkClosed> for ReadError {
    fn from(_: SinkClosed) -> Self {
        Self::SinkClosed
    }
}
