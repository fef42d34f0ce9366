//! SQLite database file of the Docker stack.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, Row};

use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, EntryKind};
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::foreign_database::{ForeignDatabase, MAX_VALUE, quoted, raw_value};
use crate::transfer::formats::import_row::{ImportRow, RawValue};
use crate::transfer::formats::sink::{MAX_CONTENT, ReadError, RowPosition, Sink};

/// Maximum number of columns of a table; the old stack had five.
const MAX_COLUMNS: usize = 64;

/// Statements that read one table.
#[derive(Debug)]
struct TableQueries {
    kind: EntryKind,
    name: &'static str,
    rowids: &'static str,
}

static TABLES: [TableQueries; 2] = [
    TableQueries {
        kind: EntryKind::Coffee,
        name: "coffee_logs",
        rowids: "select rowid from coffee_logs order by rowid",
    },
    TableQueries {
        kind: EntryKind::HeartRate,
        name: "heart_rate_logs",
        rowids: "select rowid from heart_rate_logs order by rowid",
    },
];

/// Tables of the Docker stack that a database has.
#[derive(Debug)]
pub struct DockerStackTables(Vec<&'static TableQueries>);

impl DockerStackTables {
    pub fn find(database: &ForeignDatabase) -> Result<Self, ReadError> {
        let mut found = Vec::new();
        for table in &TABLES {
            if database.connection().table_exists(None, table.name)? {
                found.push(table);
            }
        }
        Ok(Self(found))
    }

    /// Counts the rows of all tables.
    pub fn count_rows(&self, database: &ForeignDatabase) -> Result<u64, ReadError> {
        self.0.iter().map(|table| database.count_rows_of(table.name)).sum()
    }

    /// Passes every row to the sink, calling `on_row` for each. A row with a value that is too long is rejected without
    /// loading it.
    pub fn read(
        &self,
        database: &ForeignDatabase,
        on_row: &dyn Fn(),
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        self.0.iter().try_for_each(|table| read_table(database, table, on_row, sink))
    }
}

fn read_table(
    database: &ForeignDatabase,
    table: &TableQueries,
    on_row: &dyn Fn(),
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let utc = Zone::utc();
    let name: Arc<str> = table.name.into();
    let mut rowids = database.connection().prepare(table.rowids)?;
    let names = database.stored_columns(table.name)?;
    if names.len() > MAX_COLUMNS {
        let reason = format!("cannot be read: table {name} has more than {MAX_COLUMNS} columns");
        return Err(ReadError::Unusable(reason));
    }
    let list = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let mut select =
        database.connection().prepare(&format!("select {list} from main.{} where rowid = ?", table.name))?;
    let columns: Vec<_> = names.iter().map(|name| Column::from_name(name)).collect();
    let id_index = columns.iter().position(|column| *column == Some(Column::Id));
    for (number, rowid) in (1..).zip(rowids.query_map([], |row| row.get::<_, i64>(0))?) {
        let rowid = rowid?;
        on_row();
        database.check_row_number(number)?;
        database.begin_row();
        let position = |id| RowPosition::TableRow { table: Arc::clone(&name), id, number };
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
