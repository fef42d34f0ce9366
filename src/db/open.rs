//! Opening a database for a command, with or without a running server.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::db::error::{AtPath, OpenError, require_database};
use crate::db::replace_file::prepare_to_open;
use crate::db::schema;
use crate::db::schema::Role;

/// Opens an existing database for reading.
///
/// # Errors
/// It is missing, empty, another program's, or newer than this program.
pub fn open_to_read(database: &Path) -> Result<Connection, OpenError> {
    require_database(database)?;
    prepare_to_open(database)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags).at(database)?;
    schema::configure(&mut connection, Role::Reader).at(database)?;
    schema::version_of(&connection, database)?;
    Ok(connection)
}

/// Opens an existing database for writing beside a server, and returns its schema version.
///
/// # Errors
/// It is missing, empty, another program's, or newer than this program.
pub fn open_to_write(database: &Path) -> Result<(Connection, i64), OpenError> {
    require_database(database)?;
    prepare_to_open(database)?;
    let connection = schema::connect(database, Role::Writer).at(database)?;
    schema::set_long_busy_timeout(&connection).at(database)?;
    let version = schema::version_of(&connection, database)?;
    Ok((connection, version))
}

/// Runs `work` while no other connection can change the database.
pub fn while_unchanged<T>(database: &Path, work: impl FnOnce() -> T) -> Result<T, OpenError> {
    let (mut connection, _) = open_to_write(database)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).at(database)?;
    let done = work();
    transaction.rollback().at(database)?;
    Ok(done)
}
