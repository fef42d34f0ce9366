//! Rebuilding the rollups of a database.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::db::error::{OpenError, require_database};
use crate::db::lock_file::MaintenanceLock;
use crate::db::open::open_to_write;
use crate::db::{rollups, schema};

/// Rebuilds the rollups, with or without a running server, and returns the number of readings.
pub fn rebuild_rollups(database: &Path) -> Result<u64, OpenError> {
    let file = |why: String| OpenError::File { path: database.to_owned(), why };
    let fault = |e: rusqlite::Error| schema::open_error(database, &e);
    require_database(database)?;
    let _maintenance = MaintenanceLock::acquire(database)?;
    let (mut connection, version) = open_to_write(database)?;
    if version != schema::newest() {
        return Err(file("its schema is older: the next start rebuilds the rollups by itself".into()));
    }
    let count = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        rollups::recount(&transaction)?;
        let (_, readings) = schema::count_rows(&transaction)?;
        transaction.commit()?;
        Ok(readings)
    };
    count(&mut connection).map_err(fault)
}
