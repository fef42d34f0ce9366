//! SQLite database file of the Docker stack. It is read without writing anything: no lock file or log appears beside it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Statement};

use crate::db::error::{OpenError, StoreError};
use crate::db::schema;
use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, EntryKind};
use crate::fs::paths::{file_uri, with_suffix};
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::sink::{MAX_CONTENT, ReadError, RowPosition, Sink, SinkClosed};

/// Maximum length of a value, in bytes. A longer one cannot be stored, and is never loaded.
const MAX_VALUE: i32 = 64 * 1024;
/// Maximum number of columns of a table; the old stack had five.
const MAX_COLUMNS: usize = 64;

/// Statements that read one table.
struct TableQueries {
    kind: EntryKind,
    name: &'static str,
    count: &'static str,
    by_rowid: &'static str,
    next_rowid: &'static str,
    /// For a table without rowids; uses the same parameter.
    all: &'static str,
}

const TABLES: [TableQueries; 2] = [
    TableQueries {
        kind: EntryKind::Coffee,
        name: "coffee_logs",
        count: "select count(*) from coffee_logs",
        by_rowid: "select rowid, * from coffee_logs where rowid >= ? order by rowid",
        next_rowid: "select min(rowid) from coffee_logs where rowid >= ?",
        all: "select null, * from coffee_logs where ? is not null",
    },
    TableQueries {
        kind: EntryKind::HeartRate,
        name: "heart_rate_logs",
        count: "select count(*) from heart_rate_logs",
        by_rowid: "select rowid, * from heart_rate_logs where rowid >= ? order by rowid",
        next_rowid: "select min(rowid) from heart_rate_logs where rowid >= ?",
        all: "select null, * from heart_rate_logs where ? is not null",
    },
];

/// Open database of the Docker stack.
#[derive(Debug)]
pub struct DockerStackDatabase {
    connection: Connection,
    row_count: u64,
}

impl DockerStackDatabase {
    /// Opens the file and begins a read transaction, so that both tables are read in one state.
    ///
    /// # Errors
    /// The file is another database, is damaged, or is locked.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(read_only_uri(path), flags).map_err(sqlite_error)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(sqlite_error)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE).map_err(sqlite_error)?;
        check_schema(&connection, path)?;
        let row_count = begin_and_count(&connection).map_err(sqlite_error)?;
        Ok(Self { connection, row_count })
    }

    /// Returns the number of rows in both tables.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Passes every row to the sink, calling `on_row` for each. A row with a value that is too long is rejected without
    /// loading it.
    ///
    /// # Errors
    /// The database cannot be read to its end, or the sink is closed.
    pub fn read(&self, on_row: impl Fn(), sink: &mut Sink<'_>) -> Result<(), ReadError> {
        for table in &TABLES {
            if self.connection.table_exists(None, table.name).map_err(sqlite_error)? {
                self.read_table(table, &on_row, sink)?;
            }
        }
        Ok(())
    }

    fn read_table(
        &self,
        table: &TableQueries,
        on_row: &impl Fn(),
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        // Without rowids, reading cannot continue behind a row that is not loaded.
        let (statement, has_rowids) = match self.connection.prepare(table.by_rowid) {
            Ok(statement) => (statement, true),
            Err(_) => (self.connection.prepare(table.all).map_err(sqlite_error)?, false),
        };
        let mut reader = TableReader::new(table, statement)?;
        let mut start = i64::MIN;
        loop {
            match reader.read_from(start, on_row, sink) {
                Err(RowError::Sqlite(e))
                    if has_rowids && e.sqlite_error_code() == Some(ErrorCode::TooBig) => {}
                Err(RowError::Sqlite(e)) => return Err(sqlite_error(e)),
                Err(RowError::Closed(closed)) => return Err(closed.into()),
                Ok(()) => return Ok(()),
            }
            // The row behind the last one that was read is too long.
            let Some(behind) = reader.last_rowid.map_or(Some(i64::MIN), |last| last.checked_add(1)) else {
                return Ok(());
            };
            let too_long = self.connection.query_row(table.next_rowid, [behind], |row| row.get(0));
            let Some(rowid): Option<i64> = too_long.map_err(sqlite_error)? else { return Ok(()) };
            on_row();
            reader.reject_unread(rowid, sink)?;
            let Some(next) = rowid.checked_add(1) else { return Ok(()) };
            start = next;
        }
    }
}

/// Fails unless the database is the Docker stack's.
fn check_schema(connection: &Connection, path: &Path) -> Result<(), ReadError> {
    let reason = match schema::identify(connection, path) {
        Err(OpenError::DockerStack { .. }) => return Ok(()),
        Ok(schema::FileKind::Ours(_)) | Err(OpenError::NewerSchema { .. }) => {
            "this is a Coffee Tracker database: to replace the current one, use `coffee-tracker restore`; to add its \
             entries, `coffee-tracker export` them and import the files"
                .to_owned()
        }
        Ok(schema::FileKind::Empty) | Err(OpenError::Foreign { .. }) => {
            "this is a SQLite database without the tables coffee_logs and heart_rate_logs".to_owned()
        }
        // The error's own advice is about our database.
        Err(OpenError::Damaged { why, .. }) => format!("cannot be read: the database is damaged ({why})"),
        Err(e) => format!("cannot be read: {e}"),
    };
    Err(ReadError::Unusable(reason))
}

fn begin_and_count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.execute_batch("begin")?;
    let mut count = 0;
    for table in &TABLES {
        if connection.table_exists(None, table.name)? {
            count += connection.query_row(table.count, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        }
    }
    Ok(count)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of `map_err`")]
fn sqlite_error(error: rusqlite::Error) -> ReadError {
    match StoreError::from(&error) {
        StoreError::Busy => ReadError::unusable("the database is in use: stop the old server first"),
        _ => ReadError::Unusable(format!("cannot be read: {error}")),
    }
}

/// Error of reading a row.
enum RowError {
    Sqlite(rusqlite::Error),
    Closed(SinkClosed),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reader of one table. The statement's first column is the rowid, or null.
struct TableReader<'c> {
    table: &'c TableQueries,
    statement: Statement<'c>,
    columns: Vec<Option<Column>>,
    /// Rowid of the last row that was read or rejected.
    last_rowid: Option<i64>,
    row_number: u64,
}

impl<'c> TableReader<'c> {
    fn new(table: &'c TableQueries, statement: Statement<'c>) -> Result<Self, ReadError> {
        if statement.column_count() > MAX_COLUMNS {
            let reason = format!("cannot be read: table {} has more than {MAX_COLUMNS} columns", table.name);
            return Err(ReadError::Unusable(reason));
        }
        let mut columns: Vec<_> = statement.column_names().into_iter().map(Column::from_name).collect();
        // SQLite names the rowid like the column `id` when that is the primary key.
        if let Some(rowid) = columns.first_mut() {
            *rowid = None;
        }
        Ok(Self { table, statement, columns, last_rowid: None, row_number: 0 })
    }

    fn read_from(&mut self, start: i64, on_row: &impl Fn(), sink: &mut Sink<'_>) -> Result<(), RowError> {
        let utc = Zone::utc();
        let id_index = self.columns.iter().position(|column| *column == Some(Column::Id));
        let mut rows = self.statement.query([start])?;
        while let Some(row) = rows.next()? {
            on_row();
            self.row_number += 1;
            self.last_rowid = row.get(0)?;
            let mut values = ImportRow::default();
            for (index, column) in self.columns.iter().enumerate() {
                if let Some(column) = column {
                    values.set(*column, raw_value(row.get_ref(index)?));
                }
            }
            values.set(Column::Source, RawValue::Text(DOCKER_STACK));
            let entry = values.into_entry_of(self.table.kind, &utc);
            let id = id_index.and_then(|index| row.get(index).ok());
            let position = RowPosition::TableRow { table: self.table.name, id, number: self.row_number };
            sink.entry(position, entry, || content(row, self.columns.len())).map_err(RowError::Closed)?;
        }
        Ok(())
    }

    fn reject_unread(&mut self, rowid: i64, sink: &mut Sink<'_>) -> Result<(), SinkClosed> {
        self.row_number += 1;
        self.last_rowid = Some(rowid);
        let position =
            RowPosition::TableRow { table: self.table.name, id: Some(rowid), number: self.row_number };
        let reason = format!("has a value longer than {MAX_VALUE} bytes");
        sink.entry(position, Err(reason), || format!("id {rowid}"))
    }
}

/// Returns a URI that opens the file without creating files beside it. SQLite would create a log for a database in WAL
/// mode that has none, unless it takes the file for immutable.
fn read_only_uri(path: &Path) -> String {
    let mut header = [0; 100];
    let is_read = File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok();
    let is_in_wal_mode = is_read && header[18] == 2;
    let has_wal = std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    file_uri(path, if is_in_wal_mode && !has_wal { "immutable=1" } else { "mode=ro" })
}

fn raw_value(value: ValueRef<'_>) -> RawValue<'_> {
    match value {
        ValueRef::Null => RawValue::Null,
        ValueRef::Integer(number) => RawValue::Integer(number),
        ValueRef::Real(number) => RawValue::Real(number),
        ValueRef::Text(text) => RawValue::from_bytes(text),
        ValueRef::Blob(_) => RawValue::Invalid("must not be a blob"),
    }
}

/// Returns the values of a row behind its rowid, separated by `|`.
fn content(row: &Row<'_>, column_count: usize) -> String {
    let mut content = String::new();
    for index in 1..column_count {
        if index > 1 {
            content.push('|');
        }
        match row.get_ref(index) {
            Ok(ValueRef::Integer(number)) => content.push_str(&number.to_string()),
            Ok(ValueRef::Real(number)) => content.push_str(&number.to_string()),
            Ok(ValueRef::Text(text)) => content.push_str(&String::from_utf8_lossy(text)),
            Ok(ValueRef::Blob(_)) => content.push_str("(blob)"),
            Ok(ValueRef::Null) | Err(_) => {}
        }
        // The rest would be cut off.
        if content.len() > MAX_CONTENT {
            break;
        }
    }
    content
}
