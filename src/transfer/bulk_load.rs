//! Bulk load of generated entries into an empty database, faster than requests could write them.

use rusqlite::{Connection, params};

use crate::backup::open::open_store;
use crate::db::error::{OpenError, StoreError};
use crate::db::lock_file::{Lock, LockState};
use crate::db::rollups::RollupBuilder;
use crate::db::schema;
use crate::db::store::Options;
use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Page cache during the load, KiB.
const CACHE_KIB: i64 = 64 * 1024;

/// Error of a bulk load.
#[derive(Debug, thiserror::Error)]
pub enum BulkLoadError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the database is not empty (coffees: {coffees}, readings: {readings}): remove the file if it is a demo, \
         or use another one"
    )]
    NotEmpty { coffees: u64, readings: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for BulkLoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Loader of entries into a database that was empty and that no server uses.
#[derive(Debug)]
pub struct BulkLoader {
    connection: Connection,
    rollups: RollupBuilder,
    /// Keeps servers from starting.
    lock: Lock,
}

impl BulkLoader {
    /// Opens or creates the database and begins a transaction.
    ///
    /// # Errors
    /// The database is in use, not empty, or cannot be opened.
    pub fn open(options: &Options) -> Result<Self, BulkLoadError> {
        open_store(options)?.close();
        let mut lock = Lock::acquire(&options.path)?;
        let connection = schema::connect(&options.path, schema::Role::Writer)?;
        let (coffees, readings) = schema::count_rows(&connection)?;
        if coffees > 0 || readings > 0 {
            return Err(BulkLoadError::NotEmpty { coffees, readings });
        }
        // An interrupted load starts again with an empty file; `finish` syncs.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let rollups = RollupBuilder::without_triggers(&connection)?;
        connection.execute_batch("begin immediate")?;
        lock.mark(LockState::Filling).map_err(|e| StoreError::Io(e.to_string()))?;
        Ok(Self { connection, rollups, lock })
    }

    /// Adds a coffee.
    ///
    /// # Errors
    /// The row cannot be inserted.
    pub fn add_coffee(
        &mut self,
        at: Timestamp,
        mg: Milligrams,
        coffee_type: Option<&str>,
        notes: Option<&str>,
    ) -> Result<(), BulkLoadError> {
        self.connection
            .prepare_cached(
                "insert into coffee_logs (timestamp, caffeine_mg, coffee_type, notes) values (?, ?, ?, ?)",
            )?
            .execute(params![at.micros(), mg.mg(), coffee_type, notes])?;
        Ok(())
    }

    /// Adds a reading.
    ///
    /// # Errors
    /// The row cannot be inserted.
    pub fn add_reading(
        &mut self,
        at: Timestamp,
        bpm: Bpm,
        context: Option<&str>,
    ) -> Result<(), BulkLoadError> {
        self.connection
            .prepare_cached("insert into heart_rate_logs (timestamp, bpm, context) values (?, ?, ?)")?
            .execute(params![at.micros(), bpm.get(), context])?;
        self.rollups.add(at, bpm, context);
        if self.rollups.is_full() {
            self.rollups.write(&self.connection)?;
        }
        Ok(())
    }

    /// Commits the added entries and begins a new transaction, which bounds the size of the write-ahead log.
    ///
    /// # Errors
    /// The commit fails.
    pub fn commit(&mut self) -> Result<(), BulkLoadError> {
        self.rollups.write(&self.connection)?;
        Ok(self.connection.execute_batch("commit; begin immediate")?)
    }

    /// Commits the added entries and syncs the database.
    ///
    /// # Errors
    /// The commit or the checkpoint fails.
    pub fn finish(mut self) -> Result<(), BulkLoadError> {
        self.rollups.write(&self.connection)?;
        self.connection
            .execute_batch("commit; pragma synchronous = full; pragma wal_checkpoint(truncate)")?;
        Ok(self.lock.mark(LockState::Stopped).map_err(|e| StoreError::Io(e.to_string()))?)
    }
}
