//! The Docker stack's SQLite file, read and never written: no lock file, no log appears
//! beside it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Statement};

use crate::db::error::{OpenError, StoreError};
use crate::db::schema;
use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, Entry, EntryKind};
use crate::fs::paths::with_suffix;
use crate::transfer::formats::import_row::{Column, Draft, Raw};

/// Longest value that is read, in bytes: a longer one cannot be stored, and is never loaded.
const MAX_VALUE: i32 = 64 * 1024;
/// Most columns of a table: the old stack had five.
const MAX_COLUMNS: usize = 64;
/// Length to which a rejected row is cut in messages, bytes.
const MAX_SHOWN: usize = 8 * 1024;

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
        match StoreError::from(&error) {
            StoreError::Busy => Self::InUse,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// Row of the old database.
pub struct Found<'a> {
    /// Its id, or its position where it has none.
    pub number: u64,
    /// The entry, or the reason why it cannot be stored.
    pub entry: Result<Entry, String>,
    /// Writes its table and number, to go before a reason.
    pub place: &'a dyn Fn() -> String,
    /// Writes its values, separated by `|`.
    pub content: &'a dyn Fn() -> String,
}

/// The open file.
#[derive(Debug)]
pub struct DockerStack {
    connection: Connection,
    tables: Vec<EntryKind>,
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
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
        match schema::identify(&connection, path) {
            Err(OpenError::DockerStack { .. }) => {}
            Ok(schema::FileKind::Ours(_)) | Err(OpenError::NewerSchema { .. }) => {
                return Err(DockerStackError::Ours);
            }
            Ok(schema::FileKind::Empty) | Err(OpenError::Foreign { .. }) => {
                return Err(DockerStackError::Foreign);
            }
            // What to do about it holds for our own database alone.
            Err(OpenError::Damaged { why, .. }) => {
                return Err(DockerStackError::Unreadable(format!("the database is damaged ({why})")));
            }
            Err(e) => return Err(DockerStackError::Unreadable(e.to_string())),
        }
        // All that is read is of one state, whoever writes meanwhile.
        connection.execute_batch("begin")?;
        let (mut tables, mut rows) = (Vec::new(), 0);
        for (kind, count) in [
            (EntryKind::Coffee, "select count(*) from coffee_logs"),
            (EntryKind::HeartRate, "select count(*) from heart_rate_logs"),
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

    /// Passes every row to `each`, until that breaks off. A row with a value that is too long is
    /// rejected without loading it.
    ///
    /// # Errors
    /// Why the file could not be read to its end.
    pub fn read(
        &self,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DockerStackError> {
        for kind in &self.tables {
            let (by_rowid, next_rowid, all) = match kind {
                EntryKind::Coffee => (
                    "select rowid, * from coffee_logs where rowid >= ? order by rowid",
                    "select min(rowid) from coffee_logs where rowid >= ?",
                    "select null, * from coffee_logs where ? is not null",
                ),
                EntryKind::HeartRate => (
                    "select rowid, * from heart_rate_logs where rowid >= ? order by rowid",
                    "select min(rowid) from heart_rate_logs where rowid >= ?",
                    "select null, * from heart_rate_logs where ? is not null",
                ),
            };
            // A table without rowids cannot be continued behind a row that is not loaded.
            let (statement, has_rowids) = match self.connection.prepare(by_rowid) {
                Ok(statement) => (statement, true),
                Err(_) => (self.connection.prepare(all)?, false),
            };
            let mut table = TableReader::new(*kind, statement)?;
            let mut start = i64::MIN;
            loop {
                match table.read_from(start, each) {
                    Ok(end) if end.is_break() => return Ok(ControlFlow::Break(())),
                    Ok(_) => break,
                    Err(e) if is_too_big(&e) && has_rowids => {}
                    Err(e) => return Err(e.into()),
                }
                let behind = table.last.map_or(Some(i64::MIN), |last| last.checked_add(1));
                let Some(behind) = behind else { break };
                let Some(rowid) =
                    self.connection.query_row(next_rowid, [behind], |row| row.get::<_, Option<i64>>(0))?
                else {
                    break;
                };
                if table.reject_unread(rowid, each).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                match rowid.checked_add(1) {
                    Some(next) => start = next,
                    None => break,
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn is_too_big(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::TooBig)
}

/// Rows of one table. The statement's first column is the rowid, or null.
struct TableReader<'c> {
    kind: EntryKind,
    statement: Statement<'c>,
    columns: Vec<Option<Column>>,
    /// Position of the column `id`.
    id: Option<usize>,
    /// Rowid of the last row that was read or rejected.
    last: Option<i64>,
    /// Rows so far.
    count: u64,
}

impl<'c> TableReader<'c> {
    fn new(kind: EntryKind, statement: Statement<'c>) -> Result<Self, DockerStackError> {
        if statement.column_count() > MAX_COLUMNS {
            let why = format!("its table {} has more than {MAX_COLUMNS} columns", table(kind));
            return Err(DockerStackError::Unreadable(why));
        }
        // The rowid in front may be called like the column `id`.
        let mut columns: Vec<_> = statement.column_names().into_iter().map(Column::named).collect();
        if let Some(rowid) = columns.first_mut() {
            *rowid = None;
        }
        let id = columns.iter().position(|column| *column == Some(Column::Id));
        Ok(Self { kind, statement, columns, id, last: None, count: 0 })
    }

    fn read_from(
        &mut self,
        start: i64,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> rusqlite::Result<ControlFlow<()>> {
        let utc = Zone::utc();
        let mut rows = self.statement.query([start])?;
        while let Some(row) = rows.next()? {
            self.count += 1;
            self.last = row.get(0)?;
            let mut draft = Draft::default();
            for (place, column) in self.columns.iter().enumerate() {
                let Some(column) = column else { continue };
                draft.set(*column, raw(row.get_ref(place)?));
            }
            draft.set(Column::Source, Raw::Text(DOCKER_STACK));
            let id = self.id.and_then(|place| row.get::<_, i64>(place).ok()?.try_into().ok());
            let (called, number) = id.map_or(("row", self.count), |id| ("id", id));
            let found = Found {
                number,
                entry: draft.entry(self.kind, &utc),
                place: &|| format!("{}, {called} {number}", table(self.kind)),
                content: &|| shown(row, self.columns.len()),
            };
            if each(found).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn reject_unread(
        &mut self,
        rowid: i64,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.count += 1;
        self.last = Some(rowid);
        let number = u64::try_from(rowid).unwrap_or(self.count);
        each(Found {
            number,
            entry: Err(format!("has a value longer than {MAX_VALUE} bytes")),
            place: &|| format!("{}, id {rowid}", table(self.kind)),
            content: &|| format!("id {rowid}"),
        })
    }
}

const fn table(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Coffee => "coffee_logs",
        EntryKind::HeartRate => "heart_rate_logs",
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
    let has_log = std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0);
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

/// The values of a row from its second column on, separated by `|`.
fn shown(row: &Row<'_>, columns: usize) -> String {
    let mut text = String::new();
    for place in 1..columns {
        if place > 1 {
            text.push('|');
        }
        match row.get_ref(place) {
            Ok(ValueRef::Integer(number)) => text.push_str(&number.to_string()),
            Ok(ValueRef::Real(number)) => text.push_str(&number.to_string()),
            Ok(ValueRef::Text(value)) => text.push_str(&String::from_utf8_lossy(value)),
            Ok(ValueRef::Blob(_)) => text.push_str("(blob)"),
            Ok(ValueRef::Null) | Err(_) => {}
        }
        if text.len() > MAX_SHOWN {
            break;
        }
    }
    text
}
