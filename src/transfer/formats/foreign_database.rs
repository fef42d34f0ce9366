//! SQLite database of another program, which may be damaged or hostile. It is read without changing it, and no file appears
//! beside it. Only rows of ordinary tables are read, in the order in which they are stored.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, ffi};

use crate::db::error::StoreError;
use crate::domain::text;
use crate::fs::paths::{file_uri, with_suffix};
use crate::fs::temp_file::TempFile;
use crate::transfer::formats::import_row::RawValue;
use crate::transfer::formats::sink::ReadError;
use crate::transfer::formats::temp_copy::{TempFolders, copy_companion};

/// Maximum length of a value or of a statement of the schema, in bytes. A longer value is never loaded.
pub const MAX_VALUE: i32 = 64 * 1024;
/// Maximum length of a text that [`ForeignDatabase::each_row`] reads, in bytes. It reads numbers and names.
const MAX_TEXT: usize = 4096;
/// Maximum memory of SQLite in this process, in bytes: a schema may be as large as its file.
const MAX_HEAP: i64 = 48 << 20;
/// Instructions of SQLite between two calls of the progress handler.
const INSTRUCTIONS: i32 = 1000;
/// Maximum number of these calls for one row, which takes far less than one.
const MAX_CALLS_FOR_ROW: u64 = 10_000;

/// Open database. It is in a read transaction, so that all tables are read in one state.
#[derive(Debug)]
pub struct ForeignDatabase {
    connection: Connection,
    limit: Arc<InstructionLimit>,
    /// Number of rows that the file cannot exceed. A damaged one may have pages that refer to each other in a circle.
    max_rows: u64,
    /// File that is read instead of the original. It is removed after the connection above is closed.
    _copy: Option<TempFile>,
}

/// Limit for the instructions of a statement, counted in calls of the progress handler.
#[derive(Debug, Default)]
struct InstructionLimit {
    used: AtomicU64,
    max: AtomicU64,
}

impl InstructionLimit {
    fn allow(&self, calls: u64) {
        self.used.store(0, Ordering::Relaxed);
        self.max.store(calls, Ordering::Relaxed);
    }

    /// Counts a call, and returns whether the statement must be interrupted.
    fn is_reached(&self) -> bool {
        self.used.fetch_add(1, Ordering::Relaxed) >= self.max.load(Ordering::Relaxed)
    }
}

/// Ordinary table of a database.
#[derive(Debug)]
pub struct ForeignTable {
    name: String,
    /// Name for messages.
    pub label: Arc<str>,
    /// Names of the columns that are stored.
    columns: Vec<String>,
}

impl ForeignTable {
    /// Returns the name of a column as the table spells it. Case is ignored.
    pub fn column(&self, name: &str) -> Option<&str> {
        self.columns.iter().map(String::as_str).find(|column| column.eq_ignore_ascii_case(name))
    }

    /// Returns the name of the table in lower case: names that differ in case only are equal.
    pub fn lower_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

impl ForeignDatabase {
    /// Opens a file, which may be in use by its program.
    ///
    /// # Errors
    /// The file is no database, is damaged, or is locked.
    pub fn open(path: &Path, temp_folders: &TempFolders) -> Result<Self, ReadError> {
        // SQLite looks for the log beside the file that a link leads to.
        let path = fs::canonicalize(path)?;
        let (wal, shm) = (with_suffix(&path, "-wal"), with_suffix(&path, "-shm"));
        if fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0) && !shm.exists() {
            // SQLite would create the index of the log beside it.
            let copy = temp_folders.copy(&mut File::open(&path)?)?;
            copy_companion(&copy, "-wal", &mut File::open(&wal)?)?;
            return Self::open_copy(copy);
        }
        Self::open_uris(&read_only_uris(&path), None)
    }

    /// Opens a private copy of a database, which is removed when it is closed.
    pub fn open_copy(copy: TempFile) -> Result<Self, ReadError> {
        Self::open_uris(&[file_uri(copy.path(), "mode=ro")], Some(copy))
    }

    /// Opens the first URI that can be read.
    fn open_uris(uris: &[String], copy: Option<TempFile>) -> Result<Self, ReadError> {
        let limit = Arc::new(InstructionLimit::default());
        limit.allow(MAX_CALLS_FOR_ROW);
        let mut opened = Err(ReadError::unusable("the database cannot be opened"));
        for uri in uris {
            opened = connect(uri, &limit).map_err(ReadError::from);
            if opened.is_ok() {
                break;
            }
        }
        let connection = opened?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let bytes = number("page_count")?.saturating_mul(number("page_size")?);
        // A row takes at least six bytes of its page.
        Ok(Self { max_rows: bytes.unsigned_abs() / 6 + 1, connection, limit, _copy: copy })
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Allows the instructions of another row.
    pub fn begin_row(&self) {
        self.limit.allow(MAX_CALLS_FOR_ROW);
    }

    /// Fails when a table has more rows than the file can hold: its pages refer to each other in a circle.
    pub fn check_row_number(&self, number: u64) -> Result<(), ReadError> {
        if number > self.max_rows {
            let reason = "the table has more rows than fit into the file, which is damaged";
            return Err(ReadError::unusable(reason));
        }
        Ok(())
    }

    /// Returns the ordinary tables that `is_wanted` selects. Views, virtual tables and SQLite's own tables are left out.
    pub fn tables(&self, is_wanted: impl Fn(&ForeignTable) -> bool) -> Result<Vec<ForeignTable>, ReadError> {
        let mut tables = Vec::new();
        let mut names = self.connection.prepare(
            "select name from main.sqlite_schema
             where type = 'table' and rootpage > 0 and sql like 'create table %'
             and name not like 'sqlite@_%' escape '@'",
        )?;
        let mut rows = names.query([])?;
        loop {
            self.begin_row();
            let Some(row) = rows.next()? else { return Ok(tables) };
            let Ok(name) = row.get::<_, String>(0) else { continue };
            if name.contains('\0') {
                continue;
            }
            let columns = self.stored_columns(&name)?;
            let label = text::escape_control(&text::shorten(&name, 100)).into();
            let table = ForeignTable { name, label, columns };
            if is_wanted(&table) {
                tables.push(table);
            }
        }
    }

    /// Returns the columns of a table without the generated ones, whose expressions would have to be evaluated.
    pub fn stored_columns(&self, table: &str) -> Result<Vec<String>, ReadError> {
        let mut columns = Vec::new();
        // Not the function of the same name, which a table could replace.
        self.connection.pragma(None, "table_xinfo", table, |row| {
            let (name, hidden): (String, i64) = (row.get("name")?, row.get("hidden")?);
            if hidden == 0 && !name.contains('\0') {
                columns.push(name);
            }
            Ok(())
        })?;
        Ok(columns)
    }

    /// Counts the rows of a table.
    pub fn count_rows(&self, table: &ForeignTable) -> Result<u64, ReadError> {
        self.count_rows_of(&table.name)
    }

    /// Counts the rows of the table with this name.
    pub fn count_rows_of(&self, table: &str) -> Result<u64, ReadError> {
        // Unlike `count(*)`, it can be interrupted.
        let query = format!("select sum(1) from main.{} not indexed", quoted(table));
        self.limit.allow(self.max_rows / 100 + MAX_CALLS_FOR_ROW);
        let count = self.connection.query_row(&query, [], |row| row.get::<_, Option<i64>>(0));
        Ok(count?.unwrap_or(0).unsigned_abs())
    }

    /// Returns a statement that selects an integer from the row with this integer as its key; `None` when the table has no
    /// such columns, or no index for the key.
    pub fn lookup(
        &self,
        table: &ForeignTable,
        key: &str,
        column: &str,
    ) -> Result<Option<CachedStatement<'_>>, ReadError> {
        let (Some(key), Some(column)) = (table.column(key), table.column(column)) else { return Ok(None) };
        let (table, key, column) = (quoted(&table.name), quoted(key), quoted(column));
        let query = format!("select {column} from main.{table} where {key} = ?");
        let plan = self
            .connection
            .query_row(&format!("explain query plan {query}"), [0], |row| row.get::<_, String>("detail"))?;
        Ok(if plan.starts_with("SEARCH") { Some(self.connection.prepare_cached(&query)?) } else { None })
    }

    /// Passes these columns of every row to `each`, with the number of the row, in the order in which they are stored. `None`
    /// stands for a column that is always null. A blob or a long text is an invalid value.
    ///
    /// # Errors
    /// The table cannot be read completely. The rows before have been passed on.
    pub fn each_row<const N: usize>(
        &self,
        table: &ForeignTable,
        columns: [Option<&str>; N],
        mut each: impl FnMut(u64, [RawValue<'_>; N]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let values = columns.map(|column| column.map_or_else(|| "null".to_owned(), bounded_value)).join(", ");
        let query = format!("select {values} from main.{} not indexed", quoted(&table.name));
        let mut number = 0;
        let mut statement = self.connection.prepare(&query)?;
        let mut rows = statement.raw_query();
        loop {
            self.begin_row();
            let Some(row) = rows.next().map_err(|e| stopped(number, &e))? else { return Ok(()) };
            number += 1;
            self.check_row_number(number)?;
            let mut raw = [RawValue::Null; N];
            for (index, value) in raw.iter_mut().enumerate() {
                *value = raw_value(row.get_ref(index)?);
            }
            each(number, raw)?;
        }
    }
}

/// Opens a connection and begins a read transaction.
fn connect(uri: &str, limit: &Arc<InstructionLimit>) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // Before anything is read: the first statement loads the schema.
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.pragma_update(None, "hard_heap_limit", MAX_HEAP)?;
    for (option, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(option, value)?;
    }
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    let limit = Arc::clone(limit);
    connection.progress_handler(INSTRUCTIONS, Some(move || limit.is_reached()))?;
    connection.execute_batch("begin; select count(*) from main.sqlite_schema")?;
    Ok(connection)
}

/// Returns the URIs that open a file without creating files beside it, in the order in which they are to be tried.
fn read_only_uris(path: &Path) -> Vec<String> {
    let mut header = [0; 20];
    let is_read = File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok();
    // The versions for writing and for reading; SQLite looks at the second one.
    let is_in_wal_mode = is_read && header[18..20].contains(&2);
    let has_wal = fs::metadata(with_suffix(path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    match (has_wal, is_in_wal_mode) {
        // The index of the log is not written either, unless its program has just opened it.
        (true, _) => vec![file_uri(path, "mode=ro&readonly_shm=1"), file_uri(path, "mode=ro")],
        // SQLite would create a log for it, unless it takes the file for immutable.
        (false, true) => vec![file_uri(path, "immutable=1")],
        (false, false) => vec![file_uri(path, "mode=ro")],
    }
}

/// Quotes a name for a statement.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns an expression for the value of a column, or for a blob when it is too long to be loaded.
fn bounded_value(column: &str) -> String {
    let column = quoted(column);
    format!(
        "case typeof({column}) when 'text' then iif(octet_length({column}) <= {MAX_TEXT}, {column}, x'') \
         when 'blob' then x'' else {column} end"
    )
}

pub fn raw_value(value: ValueRef<'_>) -> RawValue<'_> {
    match value {
        ValueRef::Null => RawValue::Null,
        ValueRef::Integer(number) => RawValue::Integer(number),
        ValueRef::Real(number) => RawValue::Real(number),
        ValueRef::Text(text) => RawValue::from_bytes(text),
        ValueRef::Blob(_) => RawValue::Invalid("must not be a blob"),
    }
}

/// Returns the error of a table that could be read up to a row.
fn stopped(number: u64, error: &rusqlite::Error) -> ReadError {
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => "it takes too long, the file may be damaged".to_owned(),
        _ => error.to_string(),
    };
    ReadError::Unusable(format!("reading stopped after row {number}: {reason}"))
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map(|e| e.extended_code);
        match StoreError::from(&error) {
            StoreError::Busy => {
                Self::Temporary("the database is in use: close the program that writes to it".to_owned())
            }
            _ if code == Some(ffi::SQLITE_READONLY_ROLLBACK) => Self::unusable(
                "the database has an unfinished transaction (a file that ends in -journal): open it once with its own \
                 program, and close it",
            ),
            StoreError::Corrupt(why) => {
                Self::Unusable(format!("cannot be read: the database is damaged ({why})"))
            }
            _ if code == Some(ffi::SQLITE_TOOBIG) => {
                Self::unusable("cannot be read: a definition in the database is too long")
            }
            _ if code == Some(ffi::SQLITE_NOMEM) => {
                Self::unusable("cannot be read: the database has too many tables")
            }
            _ => Self::Unusable(format!("cannot be read: {error}")),
        }
    }
}
