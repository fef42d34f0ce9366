//! Read-only SQL sessions.
//!
//! Three locks, as each leaves a gap: the file is opened read-only, `query_only` covers temporary tables, and
//! writing statements are refused before they run, so that `vacuum into` creates no file.

use std::io;
use std::path::Path;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, Statement};

use crate::db::error::{OpenError, StoreError};
use crate::db::open::open_to_read;

/// Error of a statement.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("only statements that read are answered here: nothing was changed")]
    Write,
    /// SQLite rejected the statement.
    #[error("{0}")]
    Statement(String),
    #[error(transparent)]
    Store(StoreError),
    /// The output could not be written.
    #[error(transparent)]
    Target(io::Error),
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqlInputError { msg, .. } = error {
            return Self::Statement(msg);
        }
        let (code, fault) = (error.sqlite_error_code(), StoreError::from(&error));
        let why = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message,
            other => other.to_string(),
        };
        match fault {
            // The database itself is open: the error is about a file that the statement attaches.
            _ if code == Some(ErrorCode::CannotOpen) => {
                Self::Statement(format!("{why} (only files that exist and can be read are attached)"))
            }
            StoreError::ReadOnly => Self::Write,
            StoreError::Internal(_) => Self::Statement(why),
            fault => Self::Store(fault),
        }
    }
}

/// Output of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlOutput<'a> {
    /// Column names.
    Columns(&'a [String]),
    /// A row as text; `None` is null.
    Row(&'a [Option<String>]),
    /// End of the rows.
    End,
}

/// Open read-only database.
#[derive(Debug)]
pub struct ReadOnlySession(Connection);

impl ReadOnlySession {
    /// Opens an existing database, in use or not.
    pub fn open(database: &Path) -> Result<Self, OpenError> {
        open_to_read(database).map(Self)
    }

    /// Runs the statements of `text` up to the first that fails, and passes their output to `each`.
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

/// Formats a value as SQLite's shell does; blobs in hexadecimal.
fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(format!("{number:?}")),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(hex::encode(bytes)),
    }
}
