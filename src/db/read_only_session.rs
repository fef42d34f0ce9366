//! A database that whatever is asked of it, and nothing changes: any statement that reads.
//!
//! Three locks, for each leaves a gap: the file is opened to read only, `query_only` covers
//! what is temporary, and a statement that would write is refused before it runs, so that
//! `vacuum into` makes no other file either.

use std::io;
use std::path::Path;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, Statement};

use crate::db::error::{Error, OpenError};
use crate::db::open::open_to_read;

/// Why a statement has no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("only statements that read are answered here: nothing was changed")]
    Write,
    /// What SQLite says to it.
    #[error("{0}")]
    Statement(String),
    #[error(transparent)]
    Store(Error),
    /// Where the rows went takes no more.
    #[error(transparent)]
    Target(io::Error),
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqlInputError { msg, .. } = error {
            return Self::Statement(msg);
        }
        // The database itself is open by now: another file is meant, which a statement attaches.
        if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
            let why = match error {
                rusqlite::Error::SqliteFailure(_, Some(message)) => message,
                other => other.to_string(),
            };
            return Self::Statement(format!("{why} (only files that exist and can be read are attached)"));
        }
        match Error::from(&error) {
            Error::ReadOnly => Self::Write,
            Error::Internal(_) => Self::Statement(match error {
                rusqlite::Error::SqliteFailure(_, Some(message)) => message,
                other => other.to_string(),
            }),
            fault => Self::Store(fault),
        }
    }
}

/// What a statement answers, piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlOutput<'a> {
    /// It begins: the names of its columns.
    Columns(&'a [String]),
    /// A row as text; `None` is null.
    Row(&'a [Option<String>]),
    /// It has no more.
    End,
}

/// A database to ask.
#[derive(Debug)]
pub struct ReadOnlySession(Connection);

impl ReadOnlySession {
    /// Opens a database, in use or not. None is made where there is none.
    ///
    /// # Errors
    /// That it is not there, not ours, or newer than this program.
    pub fn open(database: &Path) -> Result<Self, OpenError> {
        open_to_read(database).map(Self)
    }

    /// Runs every statement of `text`, one after the other, up to the first that fails; hands what
    /// they answer to `each`.
    ///
    /// # Errors
    /// Why that one did.
    pub fn ask(
        &self,
        text: &str,
        mut each: impl FnMut(SqlOutput<'_>) -> io::Result<()>,
    ) -> Result<(), SqlError> {
        let mut statements = Batch::new(&self.0, text);
        while let Some(mut statement) = statements.next()? {
            if !statement.readonly() {
                return Err(SqlError::Write);
            }
            answer(&mut statement, &mut each)?;
        }
        Ok(())
    }
}

fn answer(
    statement: &mut Statement<'_>,
    each: &mut impl FnMut(SqlOutput<'_>) -> io::Result<()>,
) -> Result<(), SqlError> {
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut found = statement.raw_query();
    if columns.is_empty() {
        return Ok(found.next().map(drop)?);
    }
    each(SqlOutput::Columns(&columns)).map_err(SqlError::Target)?;
    let mut row = Vec::with_capacity(columns.len());
    while let Some(next) = found.next()? {
        row.clear();
        for column in 0..columns.len() {
            row.push(as_text(next.get_ref(column)?));
        }
        each(SqlOutput::Row(&row)).map_err(SqlError::Target)?;
    }
    each(SqlOutput::End).map_err(SqlError::Target)
}

/// As SQLite's own shell shows it; bytes in hexadecimal.
fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(format!("{number:?}")),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => {
            use std::fmt::Write;
            Some(bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }))
        }
    }
}
