//! What readers hand on, row by row, and how reading can fail.

use std::io;

use crate::model::entry::Entry;

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
}

/// Longest content that a rejection keeps, in bytes.
const MAX_CONTENT: usize = 8 * 1024;

impl Row {
    /// What a reader made of a line.
    pub fn of(line: u64, read: Result<Entry, String>, content: impl FnOnce() -> String) -> Self {
        match read {
            Ok(entry) => Self::Entry(entry),
            Err(reason) => Self::Rejected(Rejection::new(line, reason, content())),
        }
    }
}

impl Rejection {
    /// A rejection of what stood at `line`.
    pub fn new(line: u64, reason: String, mut content: String) -> Self {
        if content.len() > MAX_CONTENT {
            let end = (0..=MAX_CONTENT).rev().find(|end| content.is_char_boundary(*end)).unwrap_or(0);
            content.truncate(end);
            content.push('…');
        }
        Self { line, reason, content }
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

/// Takes one row after the other, in the order of the file.
pub type Sink<'a> = dyn FnMut(Row) -> Result<(), Stopped> + 'a;

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
