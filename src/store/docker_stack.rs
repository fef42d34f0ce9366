//! The Docker stack's SQLite file, read and never written: no lock file, no log appears
//! beside it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::error::{Error, OpenError};
use super::lock::beside;
use super::schema;
use crate::model::calendar::Zone;
use crate::model::draft::{Column, Draft, Raw};
use crate::model::entry::{DOCKER_STACK, Entry, Kind};

/// Why such a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum DockerStackError {
    #[error(
        "it is a Coffee Tracker database: `coffee-tracker restore` puts it in place of the present one; \
         to add its entries, `coffee-tracker export` it and import that"
    )]
    Ours,
    #[error("it is a SQLite database without the tables coffee_logs and heart_rate_logs")]
    Foreign,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is in use: stop the old server first")]
    InUse,
}

impl From<rusqlite::Error> for DockerStackError {
    fn from(error: rusqlite::Error) -> Self {
        match Error::from(&error) {
            Error::Busy => Self::InUse,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// A row as it was found: its id, or its place where it has none; what it is, or where it stands
/// and why it does not fit; and its text for whoever wants to see it.
pub type Found<'a> = (u64, Result<Entry, String>, &'a dyn Fn() -> String);

/// The open file.
#[derive(Debug)]
pub struct DockerStack {
    connection: Connection,
    tables: Vec<Kind>,
    rows: u64,
}

impl DockerStack {
    /// Opens the file and looks whether it is one.
    ///
    /// # Errors
    /// What it is instead.
    pub fn open(path: &Path) -> Result<Self, DockerStackError> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(address(path), flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        match schema::recognise(&connection, path) {
            Err(OpenError::DockerStack { .. }) => {}
            Ok(schema::Found::Ours(_)) | Err(OpenError::NewerSchema { .. }) => {
                return Err(DockerStackError::Ours);
            }
            Ok(schema::Found::Empty) | Err(OpenError::Foreign { .. }) => {
                return Err(DockerStackError::Foreign);
            }
            Err(e) => return Err(DockerStackError::Unreadable(e.to_string())),
        }
        // All that is read is of one state, whoever writes meanwhile.
        connection.execute_batch("begin")?;
        let (mut tables, mut rows) = (Vec::new(), 0);
        for (kind, count) in [
            (Kind::Coffee, "select count(*) from coffee_logs"),
            (Kind::HeartRate, "select count(*) from heart_rate_logs"),
        ] {
            if connection.table_exists(None, table(kind))? {
                tables.push(kind);
                rows += connection.query_row(count, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
            }
        }
        Ok(Self { connection, tables, rows })
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hands every row to `each`, until it breaks off.
    ///
    /// # Errors
    /// That the file could not be read to its end.
    pub fn read(
        &self,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DockerStackError> {
        let utc = Zone::utc();
        for kind in &self.tables {
            let mut statement = self.connection.prepare(match kind {
                Kind::Coffee => "select * from coffee_logs",
                Kind::HeartRate => "select * from heart_rate_logs",
            })?;
            let columns: Vec<Option<Column>> =
                statement.column_names().into_iter().map(Column::named).collect();
            let id = columns.iter().position(|column| *column == Some(Column::Id));
            let mut rows = statement.query([])?;
            for number in 1.. {
                let Some(row) = rows.next()? else { break };
                let mut draft = Draft::default();
                for (place, column) in columns.iter().enumerate() {
                    let Some(column) = column else { continue };
                    draft.set(*column, raw(row.get_ref(place)?));
                }
                draft.set(Column::Source, Raw::Text(DOCKER_STACK));
                let content = || shown(row, columns.len());
                let id = id.and_then(|place| row.get::<_, i64>(place).ok()?.try_into().ok());
                let (called, number) = id.map_or(("row", number), |id| ("id", id));
                let misfit = |why| format!("{}, {called} {number}: {why}", table(*kind));
                if each((number, draft.entry(*kind, &utc).map_err(misfit), &content)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

const fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Coffee => "coffee_logs",
        Kind::HeartRate => "heart_rate_logs",
    }
}

/// The file as a URI. One that keeps a log is told not to look for it when there is none:
/// SQLite would make a new one.
fn address(path: &Path) -> String {
    use std::fmt::Write;
    let mut address = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                address.push(char::from(*byte));
            }
            // Writing to a string does not fail.
            other => drop(write!(address, "%{other:02X}")),
        }
    }
    let keeps_log = read_head(path).is_some_and(|head| head.get(18) == Some(&2));
    let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    address.push_str(if keeps_log && !has_log { "?immutable=1" } else { "?mode=ro" });
    address
}

fn read_head(path: &Path) -> Option<[u8; 100]> {
    use std::io::Read;
    let mut head = [0; 100];
    std::fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(head)
}

fn raw(value: ValueRef<'_>) -> Raw<'_> {
    match value {
        ValueRef::Null => Raw::Nothing,
        ValueRef::Integer(number) => Raw::Whole(number),
        ValueRef::Real(number) => Raw::Real(number),
        ValueRef::Text(text) => std::str::from_utf8(text).map_or(Raw::Unfit("is not UTF-8"), Raw::Text),
        ValueRef::Blob(_) => Raw::Unfit("must not be a blob"),
    }
}

fn shown(row: &rusqlite::Row<'_>, columns: usize) -> String {
    let value = |place| match row.get_ref(place) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Real(number)) => number.to_string(),
        Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Ok(ValueRef::Blob(_)) => "(blob)".to_owned(),
        Ok(ValueRef::Null) | Err(_) => String::new(),
    };
    (0..columns).map(value).collect::<Vec<_>>().join("|")
}
