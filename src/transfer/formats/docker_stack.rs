//! SQLite database file of the Docker stack. It is read without writing anything: no lock file or log appears beside it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use crate::db::error::{OpenError, StoreError};
use crate::db::schema;
use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, EntryKind};
use crate::fs::paths::{file_uri, with_suffix};
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::sink::{MAX_CONTENT, ReadError, RowPosition, Sink};

/// Maximum length of a value, in bytes. A longer one cannot be stored, and is never loaded.
const MAX_VALUE: i32 = 64 * 1024;
/// Maximum number of columns of a table; the old stack had five.
const MAX_COLUMNS: usize = 64;

/// Statements that read one table.
#[derive(Debug)]
struct TableQueries {
    kind: EntryKind,
    name: &'static str,
    count: &'static str,
    rowids: &'static str,
    row: &'static str,
}

static TABLES: [TableQueries; 2] = [
    TableQueries {
        kind: EntryKind::Coffee,
        name: "coffee_logs",
        count: "select count(*) from coffee_logs",
        rowids: "select rowid from coffee_logs order by rowid",
        row: "select * from coffee_logs where rowid = ?",
    },
    TableQueries {
        kind: EntryKind::HeartRate,
        name: "heart_rate_logs",
        count: "select count(*) from heart_rate_logs",
        rowids: "select rowid from heart_rate_logs order by rowid",
        row: "select * from heart_rate_logs where rowid = ?",
    },
];

/// Open database of the Docker stack.
#[derive(Debug)]
pub struct DockerStackDatabase {
    connection: Connection,
    tables: Vec<&'static TableQueries>,
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
        let connection = Connection::open_with_flags(read_only_uri(path), flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
        check_schema(&connection, path)?;
        connection.execute_batch("begin")?;
        let (mut tables, mut row_count) = (Vec::new(), 0);
        for table in &TABLES {
            if connection.table_exists(None, table.name)? {
                row_count +=
                    connection.query_row(table.count, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
                tables.push(table);
            }
        }
        Ok(Self { connection, tables, row_count })
    }

    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Passes every row to the sink, calling `on_row` for each. A row with a value that is too long is rejected without
    /// loading it.
    pub fn read(&self, on_row: impl Fn(), sink: &mut Sink<'_>) -> Result<(), ReadError> {
        self.tables.iter().try_for_each(|table| self.read_table(table, &on_row, sink))
    }

    fn read_table(
        &self,
        table: &TableQueries,
        on_row: &impl Fn(),
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let utc = Zone::utc();
        let mut rowids = self.connection.prepare(table.rowids)?;
        let mut select = self.connection.prepare(table.row)?;
        if select.column_count() > MAX_COLUMNS {
            let reason = format!("cannot be read: table {} has more than {MAX_COLUMNS} columns", table.name);
            return Err(ReadError::Unusable(reason));
        }
        let columns: Vec<_> = select.column_names().into_iter().map(Column::from_name).collect();
        let id_index = columns.iter().position(|column| *column == Some(Column::Id));
        for (number, rowid) in (1..).zip(rowids.query_map([], |row| row.get::<_, i64>(0))?) {
            let rowid = rowid?;
            on_row();
            let position = |id| RowPosition::TableRow { table: table.name, id, number };
            let passed = select.query_row([rowid], |row| {
                let mut values = ImportRow::default();
                for (index, column) in columns.iter().enumerate() {
                    if let Some(column) = column {
                        values.set(*column, raw_value(row.get_ref(index)?));
                    }
                }
                values.set(Column::Source, RawValue::Text(DOCKER_STACK));
                let entry = values.into_entry_of(table.kind, &utc);
                let id = id_index.and_then(|index| row.get(index).ok());
                Ok(sink.entry(position(id), entry, || content(row, columns.len())))
            });
            match passed {
                Ok(passed) => passed?,
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::TooBig) => {
                    let reason = format!("has a value longer than {MAX_VALUE} bytes");
                    sink.entry(position(Some(rowid)), Err(reason), || format!("id {rowid}"))?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

fn check_schema(connection: &Connection, path: &Path) -> Result<(), ReadError> {
    let reason = match schema::identify(connection, path) {
        Err(OpenError::DockerStack { .. }) => return Ok(()),
        Ok(Some(_)) | Err(OpenError::NewerSchema { .. }) => {
            "this is a Coffee Tracker database: to replace the current one, use `coffee-tracker restore`; to add its \
             entries, `coffee-tracker export` them and import the files"
                .to_owned()
        }
        Ok(None) | Err(OpenError::Foreign { .. }) => {
            "this is a SQLite database without the tables coffee_logs and heart_rate_logs".to_owned()
        }
        // The error's own advice is about our database.
        Err(OpenError::Damaged { why, .. }) => format!("cannot be read: the database is damaged ({why})"),
        Err(e) => format!("cannot be read: {e}"),
    };
    Err(ReadError::Unusable(reason))
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match StoreError::from(&error) {
            StoreError::Busy => Self::unusable("the database is in use: stop the old server first"),
            _ => Self::Unusable(format!("cannot be read: {error}")),
        }
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

/// Returns the values of a row, separated by `|`.
fn content(row: &Row<'_>, column_count: usize) -> String {
    let mut content = String::new();
    for index in 0..column_count {
        if index > 0 {
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
