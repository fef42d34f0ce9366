//! What readers hand on, row by row, and how reading can fail.

use std::io;

use crate::domain::entry::Entry;
use crate::domain::limits::EntryLimits;

/// One row of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// It can be stored.
    Entry(Entry),
    /// It cannot.
    Rejected(Rejection),
    /// It is something else than coffee and heart rates.
    PassedOver,
}

/// A row that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Counted from 1; of a database, the row's own number.
    pub line: u64,
    /// A sentence.
    pub reason: String,
    /// What stood there; cut when it is very long.
    pub content: String,
    /// The row can be stored, but a value is outside the limits for new entries.
    pub is_out_of_range: bool,
}

/// Longest content that a rejection keeps, in bytes.
const MAX_CONTENT: usize = 8 * 1024;

impl Rejection {
    /// A rejection of what stood at `line`.
    pub fn new(line: u64, reason: String, mut content: String) -> Self {
        if content.len() > MAX_CONTENT {
            let end = (0..=MAX_CONTENT).rev().find(|end| content.is_char_boundary(*end)).unwrap_or(0);
            content.truncate(end);
            content.push('…');
        }
        // Many rejections may wait at once, and a truncated string keeps its memory.
        content.shrink_to_fit();
        Self { line, reason, content, is_out_of_range: false }
    }
}

/// Nobody takes rows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// The beginning of a text in one line, that no terminal takes for a command.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for character in text.chars().take(most) {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

/// Receiver of the rows of a file, in their order. Rejects entries outside the limits for new
/// entries, so that every format is held to the same ones.
pub struct Sink<'a> {
    /// `None`: every value that can be stored is accepted.
    limits: Option<&'a EntryLimits>,
    send: &'a mut dyn FnMut(Row) -> Result<(), Stopped>,
}

impl<'a> Sink<'a> {
    /// Creates a sink that passes rows on to `send`.
    pub fn new(limits: Option<&'a EntryLimits>, send: &'a mut dyn FnMut(Row) -> Result<(), Stopped>) -> Self {
        Self { limits, send }
    }

    /// Passes on an entry, or rejects it with the reader's reason or because it is out of range.
    ///
    /// # Errors
    /// [`Stopped`] when rows are no longer received.
    pub fn entry(
        &mut self,
        line: u64,
        read: Result<Entry, String>,
        content: impl FnOnce() -> String,
    ) -> Result<(), Stopped> {
        self.entry_at(line, read, |reason| reason, content)
    }

    /// Like [`Sink::entry`], for rows without a line: `explain` adds to a reason where the row is.
    ///
    /// # Errors
    /// [`Stopped`] when rows are no longer received.
    pub fn entry_at(
        &mut self,
        line: u64,
        read: Result<Entry, String>,
        explain: impl FnOnce(String) -> String,
        content: impl FnOnce() -> String,
    ) -> Result<(), Stopped> {
        let (reason, is_out_of_range) = match read {
            Ok(entry) => match self.limits.map_or(Ok(()), |limits| limits.check_entry(&entry)) {
                Ok(()) => return (self.send)(Row::Entry(entry)),
                Err(reason) => (reason, true),
            },
            Err(reason) => (reason, false),
        };
        let rejection = Rejection::new(line, explain(reason), content());
        (self.send)(Row::Rejected(Rejection { is_out_of_range, ..rejection }))
    }

    /// Rejects what stood at `line`.
    ///
    /// # Errors
    /// [`Stopped`] when rows are no longer received.
    pub fn reject(&mut self, rejection: Rejection) -> Result<(), Stopped> {
        (self.send)(Row::Rejected(rejection))
    }

    /// Counts a record of a kind that is not imported.
    ///
    /// # Errors
    /// [`Stopped`] when rows are no longer received.
    pub fn pass_over(&mut self) -> Result<(), Stopped> {
        (self.send)(Row::PassedOver)
    }
}

/// Why a file was not read to its end. What came before has been handed on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("nobody takes the rows any more")]
    Stopped,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Nothing of it is an import; a sentence on what it is, and what to do.
    #[error("{0}")]
    Unusable(String),
    #[error("it breaks off at line {line}: {why}")]
    Broken { line: u64, why: String },
}

impl From<Stopped> for ReadError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
