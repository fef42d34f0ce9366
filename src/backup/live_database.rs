//! Inspection of the database file that a restore writes to.

use std::fs;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::backup::verify::{Contents, contents};
use crate::db::database_id::DatabaseId;
use crate::db::error::OpenError;
use crate::db::schema;
use crate::db::schema::FileKind;

/// Present state at the database's path.
#[derive(Debug)]
pub enum RestoreTarget {
    /// A missing or empty file.
    Nothing,
    /// A database of this program. The id is `None` when it has none or has never held an entry: then it has no
    /// backups of its own, and takes over the id of the restored one.
    Ours { version: i64, contents: Contents, id: Option<DatabaseId> },
    /// A file that cannot be written into, and the reason.
    Broken(String),
}

/// Inspects the database without changing it.
pub fn inspect_target(database: &Path) -> Result<RestoreTarget, OpenError> {
    if fs::metadata(database).map_or(true, |m| m.len() == 0) {
        return Ok(RestoreTarget::Nothing);
    }
    let looked = connect_without_trace(database).map_err(|e| schema::open_error(database, &e)).and_then(
        |connection| match schema::identify(&connection, database)? {
            FileKind::Empty => Ok(RestoreTarget::Nothing),
            FileKind::Ours(version) => {
                let fault = |e| schema::open_error(database, &e);
                let contents = contents(&connection).map_err(fault)?;
                Ok(RestoreTarget::Ours { version, contents, id: id_in_use(&connection).map_err(fault)? })
            }
        },
    );
    match looked {
        Err(e) if e.is_of_the_file() => Ok(RestoreTarget::Broken(e.cause())),
        looked => looked,
    }
}

/// A file that may be damaged is kept bit for bit: no checkpoint on close.
fn connect_without_trace(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::configure(&mut connection, schema::Role::Reader)?;
    Ok(connection)
}

/// Reads a page first: before that, SQLite returns the page size of new files.
pub fn page_size(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// Returns the id of a database that has held entries; otherwise `None`.
pub fn id_in_use(connection: &Connection) -> rusqlite::Result<Option<DatabaseId>> {
    let unused = "select not exists (select 1 from sqlite_sequence where seq <> 0)";
    let is_unused = connection.query_row(unused, [], |row| row.get::<_, bool>(0))?;
    if is_unused { Ok(None) } else { DatabaseId::of(connection) }
}

/// Raises the last id of a table, which may not have one yet.
pub fn raise_last_id(connection: &Connection, table: &str, id: i64) -> rusqlite::Result<()> {
    let raised = connection
        .execute("update sqlite_sequence set seq = max(seq, ?) where name = ?", params![id, table])?;
    if raised == 0 {
        connection.execute("insert into sqlite_sequence (name, seq) values (?, ?)", params![table, id])?;
    }
    Ok(())
}

/// Returns names and statements of Litestream's tables.
pub fn litestream_tables(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare(
            "select name, sql from sqlite_schema
             where type = 'table' and name like '@_litestream@_%' escape '@'
               and not exists (select 1 from pragma_foreign_key_list(sqlite_schema.name)) order by name",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Creates the missing ones of these tables, empty.
pub fn add_tables(connection: &Connection, tables: &[(String, String)]) -> rusqlite::Result<()> {
    for (name, sql) in tables {
        if !connection.table_exists(None, name.as_str())? {
            connection.execute(sql, [])?;
        }
    }
    Ok(())
}

/// Version of the database's content, for detecting writes of others.
#[derive(Debug)]
pub struct ContentVersion {
    pub connection: Connection,
    /// SQLite changes this number when another connection writes.
    data_version: i64,
    pub schema: i64,
}

impl ContentVersion {
    /// Returns the current version.
    pub fn of(database: &Path) -> rusqlite::Result<Self> {
        let connection = schema::connect(database, schema::Role::Reader)?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        let (data_version, schema) = (number("data_version")?, number("user_version")?);
        Ok(Self { connection, data_version, schema })
    }

    /// Reports whether no other connection has written since.
    pub fn is_unchanged(&self) -> bool {
        let now = self.connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        now.is_ok_and(|now| now == self.data_version)
    }
}
