//! Fills an empty database with many entries, faster than requests could.

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

/// Why a database is not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the database already holds {coffees} coffees and {readings} readings: only an empty one is filled (remove the file, if it is a demo)"
    )]
    NotEmpty { coffees: u64, readings: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for FillError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Adds entries to a database that was empty and that no server uses.
#[derive(Debug)]
pub struct Filler {
    connection: Connection,
    counter: RollupBuilder,
    /// Keeps servers away; released with the filler.
    lock: Lock,
}

impl Filler {
    /// Opens (or makes) the database and begins.
    ///
    /// # Errors
    /// That it is in use, not empty, or cannot be opened.
    pub fn open(options: &Options) -> Result<Self, FillError> {
        open_store(options)?.close();
        let mut lock = Lock::acquire(&options.path)?;
        let connection = schema::connect(&options.path, schema::Role::Writer)?;
        let (coffees, readings) = schema::count_rows(&connection)?;
        if coffees > 0 || readings > 0 {
            return Err(FillError::NotEmpty { coffees, readings });
        }
        // Whoever is cut off half-way removes the file and starts again; the end is synced.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        let counter = RollupBuilder::without_triggers(&connection)?;
        connection.execute_batch("begin immediate")?;
        lock.mark(LockState::Filling).map_err(|e| StoreError::Io(e.to_string()))?;
        Ok(Self { connection, counter, lock })
    }

    /// Adds a coffee.
    ///
    /// # Errors
    /// The store's faults.
    pub fn coffee(
        &mut self,
        at: Timestamp,
        mg: Milligrams,
        coffee_type: Option<&str>,
        notes: Option<&str>,
    ) -> Result<(), StoreError> {
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
    /// The store's faults.
    pub fn reading(&mut self, at: Timestamp, bpm: Bpm, context: Option<&str>) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("insert into heart_rate_logs (timestamp, bpm, context) values (?, ?, ?)")?
            .execute(params![at.micros(), bpm.get(), context])?;
        self.counter.add(at, bpm, context);
        if self.counter.is_full() {
            self.counter.write(&self.connection)?;
        }
        Ok(())
    }

    /// Commits what was added so far: call it now and then, it bounds the log.
    ///
    /// # Errors
    /// The store's faults.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.counter.write(&self.connection)?;
        Ok(self.connection.execute_batch("commit; begin immediate")?)
    }

    /// Commits, and makes everything durable.
    ///
    /// # Errors
    /// The store's faults.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.counter.write(&self.connection)?;
        self.connection
            .execute_batch("commit; pragma synchronous = full; pragma wal_checkpoint(truncate)")?;
        self.lock.mark(LockState::Stopped).map_err(|e| StoreError::Io(e.to_string()))
    }
}
