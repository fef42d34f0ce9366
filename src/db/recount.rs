//! Rebuilding the rollups of a database.

use std::path::Path;

use rusqlite::TransactionBehavior;

use crate::db::error::{AtPath, OpenError, require_database};
use crate::db::lock_file::MaintenanceLock;
use crate::db::open::open_to_write;
use crate::db::{rollups, schema};

/// Rebuilds the rollups, with or without a running server, and returns the number of readings.
pub fn rebuild_rollups(database: &Path) -> Result<u64, OpenError> {
    require_database(database)?;
    let _maintenance = MaintenanceLock::acquire(database)?;
    let (mut connection, version) = open_to_write(database)?;
    if version != schema::newest() {
        let why = "its schema is older: the next start rebuilds the rollups by itself".to_owned();
        return Err(OpenError::File { path: database.to_owned(), why });
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).at(database)?;
    rollups::recount(&transaction).at(database)?;
    let (_, readings) = schema::count_rows(&transaction).at(database)?;
    transaction.commit().at(database)?;
    Ok(readings)
}
