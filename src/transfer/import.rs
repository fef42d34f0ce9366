//! Adds entries from files, while a server may run: in short transactions, with pauses in
//! which its writer gets in.
//!
//! An entry that is stored already adds nothing: see [`crate::transfer::dedup`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi, params};

use crate::backup::open::open_store;
use crate::db::error::{OpenError, StoreError};
use crate::db::lock_file::{LockRecord, LockState, MaintenanceLock};
use crate::db::replace_file::recover_interrupted;
use crate::db::rollups::RollupBuilder;
use crate::db::schema;
use crate::db::schema::FileKind;
use crate::db::store::{Options, make_folder};
use crate::domain::entry::{CoffeeEntry, Entry, ReadingEntry};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::with_suffix;
use crate::transfer::dedup::Stored;

/// How long a transaction takes rows, while others may wait for the database.
const HOLD: Duration = Duration::from_millis(25);
/// The same, when nobody else uses it.
const HOLD_ALONE: Duration = Duration::from_millis(200);
/// Between two transactions, for the writer of a server, which tries each millisecond.
const PAUSE: Duration = Duration::from_millis(3);
/// The page cache while importing, KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Pages until the log is carried over: fewer than a server's writer would wait for, so that
/// this process does that work and no request waits for it.
const CHECKPOINT: i64 = 1500;

/// Why entries are not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{path} has schema version {found} and is in use by a server of that version, but this program \
         writes version {known}: stop the server, or import with its own program"
    )]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{path} has schema version {found}: a dry run would have to bring it to version {known} first; \
         start the server once, or import without --dry-run"
    )]
    OldSchema { path: PathBuf, found: i64, known: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// How many of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub added: u64,
    /// They were stored already.
    pub duplicates: u64,
}

/// What an import did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub coffees: Tally,
    pub readings: Tally,
}

/// Imports entries; one at a time for a database.
#[derive(Debug)]
pub struct Importer {
    /// `None`: a dry run, and there is no database yet.
    connection: Option<Connection>,
    path: PathBuf,
    is_dry: bool,
    coffees: Stored,
    readings: Stored,
    imported: Imported,
    /// `None`: a dry run changes nothing.
    _maintenance: Option<MaintenanceLock>,
}

impl Importer {
    /// Opens the database, makes it when there is none, and brings its schema up to date.
    /// With `is_dry` nothing is ever written.
    ///
    /// # Errors
    /// Why nothing can be imported into it.
    pub fn open(options: &Options, is_dry: bool) -> Result<Self, ImportError> {
        let path = options.path.clone();
        let maintenance = if is_dry { None } else { Some(acquire_maintenance_lock(&path)?) };
        if !is_ready(options, is_dry)? {
            return Ok(Self {
                connection: None,
                path,
                is_dry,
                coffees: Stored::default(),
                readings: Stored::default(),
                imported: Imported::default(),
                _maintenance: maintenance,
            });
        }
        let role = if is_dry { schema::Role::Reader } else { schema::Role::Writer };
        let connection = schema::connect(&path, role).map_err(|e| schema::open_error(&path, &e))?;
        schema::set_long_busy_timeout(&connection)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        if !is_dry {
            // The end of the import is synced.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
            // Each transaction counts its own readings.
            RollupBuilder::without_triggers(&connection)?;
        }
        let coffees = Stored::of(&connection, "coffee_logs", "select max(id) from coffee_logs not indexed")?;
        let last_id = "select max(id) from heart_rate_logs not indexed";
        let readings = Stored::of(&connection, "heart_rate_logs", last_id)?;
        let connection = Some(connection);
        let imported = Imported::default();
        Ok(Self { connection, path, is_dry, coffees, readings, imported, _maintenance: maintenance })
    }

    /// What was done so far.
    pub fn imported(&self) -> Imported {
        self.imported
    }

    /// Adds those entries that are not stored yet. They are committed, not yet synced.
    ///
    /// # Errors
    /// The store's faults; entries before the fault may have been added.
    pub fn add(&mut self, mut entries: Vec<Entry>) -> Result<(), StoreError> {
        self.drop_duplicates(&mut entries)?;
        match &self.connection {
            Some(connection) if !self.is_dry => {
                let mut rest = entries.into_iter().peekable();
                while rest.peek().is_some() {
                    let hold = if server_may_run(&self.path) { HOLD } else { HOLD_ALONE };
                    let sequences = [self.coffees.sequence, self.readings.sequence];
                    let added = transaction(connection, &mut rest, hold, sequences)?;
                    failpoint("import.batch");
                    self.imported.coffees.added += added[0];
                    self.imported.readings.added += added[1];
                    if server_may_run(&self.path) {
                        sleep(PAUSE);
                    }
                }
            }
            _ => {
                for entry in entries {
                    match entry {
                        Entry::Coffee(_) => self.imported.coffees.added += 1,
                        Entry::Reading(_) => self.imported.readings.added += 1,
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes what was added durable.
    ///
    /// # Errors
    /// The store's faults.
    pub fn finish(self) -> Result<Imported, StoreError> {
        let Some(connection) = self.connection.filter(|_| !self.is_dry) else { return Ok(self.imported) };
        let io = |e: std::io::Error| StoreError::Io(e.to_string());
        failpoint("import.end");
        connection.execute_batch("pragma synchronous = full")?;
        connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()))?;
        // A checkpoint that another process is at syncs no more than it found.
        match File::open(with_suffix(&self.path, "-wal")) {
            Ok(log) => log.sync_all().map_err(io)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        drop(connection);
        Ok(self.imported)
    }

    /// Leaves out what is stored. It is looked up without holding the database for writing.
    fn drop_duplicates(&mut self, entries: &mut Vec<Entry>) -> Result<(), StoreError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        if self.coffees.last_id == 0 && self.readings.last_id == 0 {
            return Ok(());
        }
        connection.execute_batch("begin")?;
        let mut fault = None;
        let (coffees, readings, imported) = (&mut self.coffees, &mut self.readings, &mut self.imported);
        entries.retain(|entry| {
            let (used, tally) = match entry {
                Entry::Coffee(coffee) => (coffees.use_coffee(connection, coffee), &mut imported.coffees),
                Entry::Reading(reading) => {
                    (readings.use_reading(connection, reading), &mut imported.readings)
                }
            };
            match used {
                Ok(is_stored) => {
                    tally.duplicates += u64::from(is_stored);
                    !is_stored
                }
                Err(e) => {
                    fault.get_or_insert(e);
                    true
                }
            }
        });
        connection.execute_batch("commit")?;
        fault.map_or(Ok(()), |e| Err(e.into()))
    }
}

/// Keeps restores, prunes and other imports away.
fn acquire_maintenance_lock(database: &Path) -> Result<MaintenanceLock, OpenError> {
    make_folder(database)?;
    MaintenanceLock::acquire(database)
}

/// Whether the database is there with the newest schema; otherwise it is made so, unless in
/// a dry run.
fn is_ready(options: &Options, is_dry: bool) -> Result<bool, ImportError> {
    let path = &options.path;
    let known = schema::newest();
    let mut found = 0;
    recover_interrupted(path)?;
    if path.exists() {
        let connection =
            schema::connect(path, schema::Role::Reader).map_err(|e| schema::open_error(path, &e))?;
        match schema::identify(&connection, path)? {
            FileKind::Ours(version) if version == known => return Ok(true),
            FileKind::Ours(version) => found = version,
            FileKind::Empty => {}
        }
    }
    let path = path.clone();
    if is_dry {
        return if found > 0 { Err(ImportError::OldSchema { path, found, known }) } else { Ok(false) };
    }
    match open_store(options) {
        Ok(store) => {
            store.close();
            Ok(true)
        }
        Err(OpenError::InUse { .. }) if found > 0 => Err(ImportError::OtherVersion { path, found, known }),
        Err(e) => Err(e.into()),
    }
}

/// Reports whether a server runs, or has crashed: then the pauses are for nobody, and do no harm.
fn server_may_run(path: &Path) -> bool {
    LockRecord::read(path).state == LockState::Running
}

/// Adds entries for as long as `hold`, then commits: how many of each kind.
fn transaction(
    connection: &Connection,
    entries: &mut impl Iterator<Item = Entry>,
    hold: Duration,
    sequences: [i64; 2],
) -> Result<[u64; 2], StoreError> {
    connection.execute_batch("begin immediate")?;
    let began = Instant::now();
    let mut added = [0, 0];
    let mut counter = RollupBuilder::default();
    let mut work = || -> rusqlite::Result<()> {
        while began.elapsed() < hold {
            match entries.next() {
                Some(Entry::Coffee(coffee)) => {
                    insert_coffee(connection, &coffee, sequences[0])?;
                    added[0] += 1;
                }
                Some(Entry::Reading(reading)) => {
                    insert_reading(connection, &reading, sequences[1])?;
                    added[1] += 1;
                    counter.add(reading.timestamp, reading.bpm, reading.context.as_deref());
                    if counter.is_full() {
                        counter.write(connection)?;
                    }
                }
                None => break,
            }
        }
        counter.write(connection)?;
        connection.execute_batch("commit")
    };
    match work() {
        Ok(()) => Ok(added),
        Err(e) => {
            // A full disk has rolled it back already.
            if !connection.is_autocommit() {
                connection.execute_batch("rollback")?;
            }
            Err(e.into())
        }
    }
}

/// Adds a row under its own number if that is higher than any that was given before the import,
/// and is free, else under a new one.
fn with_id(
    id: Option<i64>,
    sequence: i64,
    mut insert: impl FnMut(Option<i64>) -> rusqlite::Result<usize>,
) -> rusqlite::Result<()> {
    const TAKEN: [i32; 2] = [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_ROWID];
    let kept = id.filter(|id| *id > sequence);
    match insert(kept) {
        Err(e) if kept.is_some() && e.sqlite_error().is_some_and(|e| TAKEN.contains(&e.extended_code)) => {
            insert(None).map(drop)
        }
        other => other.map(drop),
    }
}

fn insert_coffee(connection: &Connection, coffee: &CoffeeEntry, sequence: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "insert into coffee_logs (id, timestamp, caffeine_mg, coffee_type, notes, source) values (?, ?, ?, ?, ?, ?)",
    )?;
    with_id(coffee.id.map(|id| id.0), sequence, |id| {
        statement.execute(params![
            id,
            coffee.timestamp.micros(),
            coffee.caffeine_mg.mg(),
            coffee.coffee_type,
            coffee.notes,
            coffee.source
        ])
    })
}

fn insert_reading(connection: &Connection, reading: &ReadingEntry, sequence: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "insert into heart_rate_logs (id, timestamp, bpm, context, notes, source) values (?, ?, ?, ?, ?, ?)",
    )?;
    with_id(reading.id.map(|id| id.0), sequence, |id| {
        statement.execute(params![
            id,
            reading.timestamp.micros(),
            reading.bpm.get(),
            reading.context,
            reading.notes,
            reading.source
        ])
    })
}
