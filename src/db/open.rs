//! Opening a database for a command, with or without a running server.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::db::error::{OpenError, require_database};
use crate::db::replace_file::recover_interrupted;
use crate::db::schema;
use crate::db::schema::{FileKind, Role};

/// Opens an existing database for reading.
///
/// # Errors
/// It is missing, empty, another program's, or newer than this program.
pub fn open_to_read(database: &Path) -> Result<Connection, OpenError> {
    require_database(database)?;
    recover_interrupted(database)?;
    let fault = |e: &rusqlite::Error| schema::open_error(database, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags).map_err(|e| fault(&e))?;
    schema::configure(&mut connection, Role::Reader).map_err(|e| fault(&e))?;
    version_of(&connection, database)?;
    Ok(connection)
}

/// Opens an existing database for writing beside a server, and returns its schema version.
///
/// # Errors
/// It is missing, empty, another program's, or newer than this program.
pub fn open_to_write(database: &Path) -> Result<(Connection, i64), OpenError> {
    require_database(database)?;
    recover_interrupted(database)?;
    let fault = |e: &rusqlite::Error| schema::open_error(database, e);
    let connection = schema::connect(database, Role::Writer).map_err(|e| fault(&e))?;
    schema::set_long_busy_timeout(&connection).map_err(|e| fault(&e))?;
    let version = version_of(&connection, database)?;
    Ok((connection, version))
}

fn version_of(connection: &Connection, database: &Path) -> Result<i64, OpenError> {
    match schema::identify(connection, database)? {
        FileKind::Ours(version) => Ok(version),
        FileKind::Empty => Err(OpenError::Empty { path: database.to_owned() }),
    }
}
