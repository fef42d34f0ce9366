//! Import of entries into a database that a server may be using: short transactions, with pauses for its writer.
//!
//! Entries that are stored already are skipped, see [`crate::transfer::dedup`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi, params};

use crate::backup::open::open_store;
use crate::db::error::{AtPath, OpenError, StoreError};
use crate::db::lock_file::{LockRecord, LockState, MaintenanceLock};
use crate::db::reading_merge::{OnChangedValue, ReadingPlan};
use crate::db::replace_file::prepare_to_open;
use crate::db::rollups::RollupBuilder;
use crate::db::schema;
use crate::db::sources::NewestBySource;
use crate::db::store::{Options, make_folder};
use crate::db::tombstones;
use crate::domain::entry::{Amount, Entry, EntryKind, IdInFile};
use crate::domain::sample::{ReadingSample, SampleCounts};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::with_suffix;
use crate::transfer::dedup::{Provenance, StoredRows};

/// Duration of a transaction while a server may wait for the database.
const SHARED_TRANSACTION: Duration = Duration::from_millis(25);
/// Duration of a transaction while no server runs.
const EXCLUSIVE_TRANSACTION: Duration = Duration::from_millis(200);
/// Pause between two transactions for the writer of a server, which retries each millisecond.
const PAUSE: Duration = Duration::from_millis(3);
/// Page cache during the import, KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Pages in the write-ahead log that trigger a checkpoint: fewer than in a server, so that the import does that work
/// and no request waits for it.
const CHECKPOINT_PAGES: i64 = 1500;

/// Readings that are merged in one transaction: a server waits for it for some 10 ms.
const MERGED_READINGS: usize = 2048;

/// Every kind, in the order of its variants.
const KINDS: [EntryKind; 2] = [EntryKind::Coffee, EntryKind::HeartRate];

/// Error of an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{path} has schema version {found} and is in use by a server of that version, but this program writes \
         version {known}: stop the server, or import with the server's version of the program"
    )]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{path} has schema version {found}, and a dry run does not migrate it to version {known}: start the server \
         once, or import without --dry-run"
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

/// Counters of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCounts {
    pub coffees_added: u64,
    pub readings_added: u64,
    /// Stored readings that got a context from the file.
    pub updated: u64,
    pub duplicates: u64,
}

impl ImportCounts {
    /// Returns the number of entries that were added, updated or skipped.
    pub fn entries(&self) -> u64 {
        self.coffees_added + self.readings_added + self.updated + self.duplicates
    }

    fn count_added(&mut self, kind: EntryKind) {
        match kind {
            EntryKind::Coffee => self.coffees_added += 1,
            EntryKind::HeartRate => self.readings_added += 1,
        }
    }
}

/// Importer of entries, one at a time for a database.
#[derive(Debug)]
pub struct Importer {
    /// `None`: a dry run without a database.
    connection: Option<Connection>,
    path: PathBuf,
    is_dry_run: bool,
    /// Stored rows of each [`EntryKind`], in the order of its variants.
    stored: [StoredRows; 2],
    counts: ImportCounts,
    /// `None`: a dry run, which needs no lock.
    _maintenance: Option<MaintenanceLock>,
}

impl Importer {
    /// Opens the database, creates it when there is none, and migrates its schema. A dry run writes nothing.
    ///
    /// # Errors
    /// The database cannot be opened, or not be migrated now.
    pub fn open(options: &Options, is_dry_run: bool) -> Result<Self, ImportError> {
        let path = options.path.clone();
        let maintenance = if is_dry_run { None } else { Some(lock_maintenance(&path)?) };
        let mut importer = Self {
            connection: None,
            path,
            is_dry_run,
            stored: KINDS.map(StoredRows::empty),
            counts: ImportCounts::default(),
            _maintenance: maintenance,
        };
        if migrate(options, is_dry_run)? {
            importer.connect()?;
        }
        Ok(importer)
    }

    fn connect(&mut self) -> Result<(), ImportError> {
        let role = if self.is_dry_run { schema::Role::Reader } else { schema::Role::Writer };
        let connection = schema::connect(&self.path, role).at(&self.path)?;
        schema::set_long_busy_timeout(&connection)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        if !self.is_dry_run {
            // `finish` syncs.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            // Each transaction updates the rollups itself.
            RollupBuilder::without_triggers(&connection)?;
        }
        for stored in &mut self.stored {
            *stored = StoredRows::load(&connection, stored.kind)?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    pub fn counts(&self) -> ImportCounts {
        self.counts
    }

    /// Returns the number of stored coffees and of readings.
    pub fn count_stored(&self) -> Result<(u64, u64), StoreError> {
        Ok(self.connection.as_ref().map_or(Ok((0, 0)), schema::count_rows)?)
    }

    /// Adds the entries that are not stored yet, whichever file or push they came from first. They are committed, but not
    /// yet synced.
    ///
    /// # Errors
    /// The database cannot be read or written; entries before the failure may have been added.
    pub fn add(&mut self, entries: Vec<Entry>, provenance: Provenance) -> Result<(), StoreError> {
        let (mut readings, mut others) = (Vec::new(), Vec::new());
        for entry in entries {
            match ReadingSample::of_entry(&entry).filter(|_| provenance == Provenance::Samples) {
                Some(reading) => readings.push(reading),
                None => others.push(entry),
            }
        }
        self.skip_duplicates(&mut others, provenance)?;
        self.insert_all(&others)?;
        readings.chunks(MERGED_READINGS).try_for_each(|chunk| self.merge(chunk))
    }

    fn insert_all(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(connection) = self.connection.as_ref().filter(|_| !self.is_dry_run) else {
            entries.iter().for_each(|entry| self.counts.count_added(entry.kind()));
            return Ok(());
        };
        let mut rest = entries.iter().peekable();
        while rest.peek().is_some() {
            let duration =
                if server_may_run(&self.path) { SHARED_TRANSACTION } else { EXCLUSIVE_TRANSACTION };
            let sequences = self.stored.each_ref().map(|stored| stored.sequence);
            self.counts = in_transaction(connection, || {
                insert_for(duration, connection, &mut rest, sequences, self.counts)
            })?;
            self.pause();
        }
        Ok(())
    }

    /// Merges readings with the stored ones in one transaction. If they are stored already, nothing is locked.
    fn merge(&mut self, readings: &[ReadingSample]) -> Result<(), StoreError> {
        let Some(connection) = &self.connection else {
            self.counts.readings_added += readings.len() as u64;
            return Ok(());
        };
        let plan = || ReadingPlan::new(connection, readings, OnChangedValue::Add);
        connection.execute_batch("begin")?;
        let first = plan();
        connection.execute_batch("commit")?;
        let first = first?;
        let SampleCounts { inserted, updated, duplicates } = if self.is_dry_run || first.is_empty() {
            first.counts
        } else {
            // Planned again, since a server may have stored some of them meanwhile.
            let counts = in_transaction(connection, || {
                let plan = plan()?;
                plan.write(connection)?;
                Ok(plan.counts)
            })?;
            self.pause();
            counts
        };
        self.counts.readings_added += inserted;
        self.counts.updated += updated;
        self.counts.duplicates += duplicates;
        Ok(())
    }

    /// Pauses between two transactions, so that a server can write.
    fn pause(&self) {
        failpoint("import.batch");
        if server_may_run(&self.path) {
            sleep(PAUSE);
        }
    }

    /// Syncs what was added.
    pub fn finish(self) -> Result<ImportCounts, StoreError> {
        let Some(connection) = self.connection.filter(|_| !self.is_dry_run) else { return Ok(self.counts) };
        let io_error = |e: io::Error| StoreError::Io(e.to_string());
        failpoint("import.end");
        connection.execute_batch("pragma synchronous = full")?;
        connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()))?;
        // A concurrent checkpoint of another process syncs only what it found at its beginning.
        match File::open(with_suffix(&self.path, "-wal")) {
            Ok(wal) => wal.sync_all().map_err(io_error)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error(e)),
        }
        Ok(self.counts)
    }

    /// Removes stored entries, which are looked up without a write lock, and samples that have a tombstone.
    fn skip_duplicates(
        &mut self,
        entries: &mut Vec<Entry>,
        provenance: Provenance,
    ) -> Result<(), StoreError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let has_tombstones = provenance == Provenance::Samples && tombstones::exist(connection)?;
        if entries.is_empty() || !has_tombstones && self.stored.iter().all(StoredRows::is_empty) {
            return Ok(());
        }
        connection.execute_batch("begin")?;
        let mut failure = None;
        entries.retain(|entry| {
            let stored = &mut self.stored[entry.kind() as usize];
            let mut is_known = stored.claim_duplicate(connection, entry, provenance);
            if has_tombstones && matches!(is_known, Ok(false)) {
                is_known = has_tombstone(connection, entry);
            }
            let is_stored = is_known.unwrap_or_else(|e| {
                failure.get_or_insert(e);
                false
            });
            self.counts.duplicates += u64::from(is_stored);
            !is_stored
        });
        connection.execute_batch("commit")?;
        failure.map_or(Ok(()), |e| Err(e.into()))
    }
}

/// Reports whether the user has deleted or changed a coffee of an app.
fn has_tombstone(connection: &Connection, entry: &Entry) -> rusqlite::Result<bool> {
    match (entry.amount, &entry.source) {
        (Amount::Caffeine(dose), Some(source)) => {
            tombstones::has_coffee(connection, entry.timestamp, source, Some(dose))
        }
        _ => Ok(false),
    }
}

/// Takes the lock that excludes restores, prunes and other imports.
fn lock_maintenance(database: &Path) -> Result<MaintenanceLock, OpenError> {
    make_folder(database)?;
    MaintenanceLock::acquire(database)
}

/// Creates or migrates the database, except in a dry run. Returns whether it exists.
fn migrate(options: &Options, is_dry_run: bool) -> Result<bool, ImportError> {
    let path = &options.path;
    let known = schema::newest();
    let mut found = 0;
    prepare_to_open(path)?;
    if path.exists() {
        let connection = schema::connect(path, schema::Role::Reader).at(path)?;
        match schema::identify(&connection, path)? {
            Some(version) if version == known => return Ok(true),
            Some(version) => found = version,
            None => {}
        }
    }
    let path = path.clone();
    match is_dry_run {
        true if found > 0 => return Err(ImportError::OldSchema { path, found, known }),
        true => return Ok(false),
        false => {}
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

/// Returns whether a server runs, or has crashed; then the pauses are unnecessary, but harmless.
fn server_may_run(path: &Path) -> bool {
    LockRecord::read(path).state == LockState::Running
}

/// Runs work in a transaction that locks other writers out from its beginning.
fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    connection.execute_batch("begin immediate")?;
    let done = work().and_then(|done| connection.execute_batch("commit").map(|()| done));
    // SQLite has rolled back already when the disk is full.
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("rollback")?;
    }
    Ok(done?)
}

/// Inserts entries for this duration, and adds them to the counts. `sequences` are the highest ids that were assigned
/// before the import, by [`EntryKind`].
fn insert_for<'e>(
    duration: Duration,
    connection: &Connection,
    entries: &mut impl Iterator<Item = &'e Entry>,
    sequences: [i64; 2],
    mut counts: ImportCounts,
) -> rusqlite::Result<ImportCounts> {
    let began = Instant::now();
    let (mut rollups, mut newest) = (RollupBuilder::default(), NewestBySource::default());
    while began.elapsed() < duration {
        let Some(entry) = entries.next() else { break };
        insert(connection, entry, sequences[entry.kind() as usize])?;
        counts.count_added(entry.kind());
        if let Some(source) = &entry.source {
            newest.add(entry.kind(), source, entry.timestamp);
        }
        if let Amount::HeartRate(bpm) = entry.amount {
            rollups.add(entry.timestamp, bpm, entry.label.as_deref());
            if rollups.is_full() {
                rollups.write(connection)?;
            }
        }
    }
    rollups.write(connection)?;
    newest.write(connection)?;
    Ok(counts)
}

/// Inserts an entry under its own id if that is free and was never assigned before the import, else under a new one.
fn insert(connection: &Connection, entry: &Entry, sequence: i64) -> rusqlite::Result<()> {
    const ID_TAKEN: [i32; 2] = [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_ROWID];
    let mut statement = connection.prepare_cached(match entry.kind() {
        EntryKind::Coffee => {
            "insert into coffee_logs (id, timestamp, caffeine_mg, coffee_type, notes, source) values (?, ?, ?, ?, ?, ?)"
        }
        EntryKind::HeartRate => {
            "insert into heart_rate_logs (id, timestamp, bpm, context, notes, source) values (?, ?, ?, ?, ?, ?)"
        }
    })?;
    let Entry { timestamp, amount, label, notes, source, .. } = entry;
    let mut insert = |id: Option<i64>| {
        statement.execute(params![id, timestamp.micros(), amount.number(), label, notes, source])
    };
    let kept_id = entry.id.map(|IdInFile(id)| id).filter(|id| *id > sequence);
    match insert(kept_id) {
        Err(e)
            if kept_id.is_some() && e.sqlite_error().is_some_and(|e| ID_TAKEN.contains(&e.extended_code)) =>
        {
            insert(None).map(drop)
        }
        inserted => inserted.map(drop),
    }
}
