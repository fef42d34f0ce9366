//! The open database: one file, one writer thread, pools of readers.
//!
//! A read declares its cost. Quick reads run on the calling thread, slow ones on a bounded set of blocking
//! threads, so that they never delay quick ones.
//!
//! Quick reads are the only file-system calls on the threads that serve requests. At most `quick_readers` of
//! them run at once, one fewer than there are threads: on a hanging disk one thread remains for responses that
//! need no disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags};
use scheduled_thread_pool::ScheduledThreadPool;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::db::database_id::DatabaseId;
use crate::db::entry_filter::EntryFilter;
use crate::db::error::{AtPath, FailedBackup, OpenError, StoreError};
use crate::db::idempotency::ResponseClock;
use crate::db::lock_file::{LockState, ServerLock};
use crate::db::open_files::{Displacement, OpenFiles};
use crate::db::packed_days::pack_pending;
use crate::db::replace_file::{ensure_not_lost, make_room_for_new, undo_interrupted};
use crate::db::schema;
use crate::db::schema::Role;
use crate::db::writer::{Savepoint, WriteCounters, Writer};
use crate::fs::paths::folder_of;
use crate::fs::refresher::Refresher;
use crate::fs::temp_file;
use crate::fs::temp_file::remove_stale;

/// Options of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// Folder for the backup before a migration.
    pub backups: PathBuf,
    /// Creates the folder of the file if it is missing. Otherwise that is an error.
    pub make_folder: bool,
    /// Connections for quick reads; at most as many as the resources allow to run at once.
    pub quick_readers: u32,
    /// Connections for slow reads.
    pub slow_readers: u32,
    /// Connections for slow reads that are opened at once; the others are opened when they are needed.
    pub min_slow_readers: u32,
    /// Duration from which a query is logged as slow.
    pub slow_query: Duration,
    /// Limits and counters that the store shares with others.
    pub resources: Arc<StoreResources>,
    /// Clock that outlives the store.
    pub response_clock: Arc<ResponseClock>,
}

impl Options {
    /// Returns the options of a store that no server uses.
    pub fn of_command(path: PathBuf, backups: PathBuf) -> Self {
        Self {
            path,
            backups,
            make_folder: true,
            quick_readers: 1,
            slow_readers: 1,
            min_slow_readers: 0,
            slow_query: Duration::from_secs(60),
            resources: StoreResources::new(1, 1),
            response_clock: Arc::new(ResponseClock::starting_at(Duration::ZERO)),
        }
    }
}

/// Limits, threads and counters that all stores of a process share.
pub struct StoreResources {
    /// Maximum number of concurrent quick reads; fewer than there are worker threads.
    max_quick_reads: usize,
    quick_slots: Semaphore,
    slow_slots: Semaphore,
    pub(crate) export_slots: Arc<Semaphore>,
    /// Opens the connections of the pools.
    pool_thread: Arc<ScheduledThreadPool>,
    /// Number of errors by [`StoreError::KINDS`].
    faults: [AtomicU64; StoreError::KINDS.len()],
    pub(crate) writes: Arc<WriteCounters>,
}

impl fmt::Debug for StoreResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreResources").finish_non_exhaustive()
    }
}

impl StoreResources {
    /// Creates resources with a limit of concurrent quick reads and of concurrent slow reads.
    pub fn new(quick_reads: u32, slow_reads: u32) -> Arc<Self> {
        Arc::new(Self {
            max_quick_reads: quick_reads as usize,
            quick_slots: Semaphore::new(quick_reads as usize),
            slow_slots: Semaphore::new(slow_reads as usize),
            export_slots: Arc::new(Semaphore::new(MAX_EXPORTS as usize)),
            pool_thread: Arc::new(ScheduledThreadPool::builder().num_threads(1).build()),
            faults: Default::default(),
            writes: Arc::default(),
        })
    }

    /// Reports whether a query runs on a thread that serves requests; it may hang with the disk.
    pub fn has_inline_reads(&self) -> bool {
        self.quick_slots.available_permits() < self.max_quick_reads
    }

    /// Returns the counters, without a query.
    pub fn totals(&self) -> StoreTotals {
        StoreTotals {
            commits: self.writes.commits.load(Ordering::Relaxed),
            rows_committed: self.writes.rows.load(Ordering::Relaxed),
            faults: std::array::from_fn(|n| self.faults[n].load(Ordering::Relaxed)),
        }
    }
}

/// Counters of all stores of a process, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTotals {
    pub commits: u64,
    pub rows_committed: u64,
    /// Number of errors by [`StoreError::KINDS`].
    pub faults: [u64; StoreError::KINDS.len()],
}

/// Behaviour when a former database is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnMissing {
    /// Fail.
    Refuse,
    /// Create an empty database.
    Create,
}

/// Cost of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Some tens of microseconds: less than handing it to another thread.
    Quick,
    /// Grows with the data requested.
    Slow,
}

impl Cost {
    /// Number of entries from which a list counts as slow.
    const LONG_LIST: u32 = 2000;

    pub(crate) fn of_list(filter: &EntryFilter) -> Self {
        let is_long = filter.offset.saturating_add(filter.limit) > Self::LONG_LIST;
        if is_long { Self::Slow } else { Self::Quick }
    }
}

type Pool = r2d2::Pool<SqliteConnectionManager>;

/// Time and result of the last probe of the file.
pub(crate) type ProbeOutcome = (Instant, Result<(), StoreError>);

/// The database, open.
#[derive(Debug)]
pub struct Store {
    pub(crate) path: PathBuf,
    pub(crate) writer: Writer,
    /// Shared with the writes that use it.
    pub(crate) response_clock: Arc<ResponseClock>,
    pub(crate) quick: Pool,
    /// One for each connection for quick reads.
    connection_slots: Semaphore,
    pub(crate) slow: Pool,
    slow_query: Duration,
    pub(crate) resources: Arc<StoreResources>,
    pub(crate) damaged: Arc<AtomicBool>,
    /// The last stop was clean, or the check after it found nothing.
    checked: Arc<AtomicBool>,
    pub(crate) last_probe: Refresher<ProbeOutcome>,
    pub(crate) files: Arc<OpenFiles>,
    lock: Arc<Mutex<ServerLock>>,
    /// `None` when the last stop was clean, or the store is closed.
    check: Mutex<Option<BackgroundCheck>>,
}

/// Maximum number of concurrent exports; each has a connection and a blocking thread.
pub const MAX_EXPORTS: u32 = 2;

/// Maximum wait of a read for a slot, and then for a connection.
const MAX_WAIT_FOR_SLOT: Duration = Duration::from_secs(10);

/// First SQLite that cannot lose a commit when a writer and a checkpoint meet: 3.51.3.
const OLDEST_SQLITE: i32 = 3_051_003;

impl Store {
    /// Opens a database, and migrates it after calling `backup` where there is data to lose. The usual entry
    /// point is `backup::open::open_store`.
    pub(crate) fn open(
        options: &Options,
        migrations: &[&str],
        on_missing: OnMissing,
        backup: impl FnOnce() -> Result<(), FailedBackup>,
    ) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let path = &options.path;
        if options.make_folder {
            make_folder(path)?;
        }
        let mut lock = ServerLock::acquire(path)?;
        undo_interrupted(path)?;
        match on_missing {
            OnMissing::Refuse => ensure_not_lost(path)?,
            OnMissing::Create => make_room_for_new(path)?,
        }
        remove_stale(folder_of(path));
        remove_stale(&options.backups);
        let connection = open_writer(path, migrations, backup)?;
        options.response_clock.resume(&connection).at(path)?;
        lock.set_id(DatabaseId::of(&connection).at(path)?);
        let resources = Arc::clone(&options.resources);
        // One more for the probe.
        let quick_readers = options.quick_readers + 1;
        let quick = pool(path, quick_readers, quick_readers, &resources.pool_thread)?;
        let slow = pool(path, options.slow_readers, options.min_slow_readers, &resources.pool_thread)?;
        let damaged = Arc::new(AtomicBool::new(false));
        let checked = Arc::new(AtomicBool::new(lock.was_clean()));
        let check = (!lock.was_clean()).then(|| BackgroundCheck::start(path, &damaged, &checked));
        let check = check.transpose().at(path)?;
        lock.mark(LockState::Running).at(path)?;
        let lock = Arc::new(Mutex::new(lock));
        let files = Arc::new(OpenFiles::of(path, Arc::clone(&lock)).at(path)?);
        Ok(Self {
            path: path.clone(),
            writer: Writer::start(
                connection,
                Arc::clone(&files),
                pack_pending,
                Arc::clone(&resources.writes),
            )
            .at(path)?,
            response_clock: Arc::clone(&options.response_clock),
            quick,
            connection_slots: Semaphore::new(options.quick_readers as usize),
            slow,
            slow_query: options.slow_query,
            resources,
            damaged,
            checked,
            last_probe: Refresher::default(),
            files,
            lock,
            check: Mutex::new(check),
        })
    }

    /// Finishes pending writes, runs a checkpoint, and records a clean stop. A damaged or unchecked file is not
    /// recorded as clean, so that the next start checks it. Moved or replaced files are left alone.
    pub fn close(&self) {
        // First, as its connection must not be the last one that is closed.
        drop(self.check.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended_well = self.writer.close();
        match self.files.displacement() {
            None => {}
            Some(Displacement::LogMissing) => return,
            Some(_) => {
                // Closing the last connection would remove whatever file has the log's name now.
                std::mem::forget((self.quick.clone(), self.slow.clone()));
                return;
            }
        }
        if !(ended_well && self.is_sound()) {
            return;
        }
        if let Err(e) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).mark(LockState::Stopped) {
            tracing::warn!("the clean stop could not be recorded: {e}");
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the state of a database that was found to be damaged or displaced, and its description.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.damaged.load(Ordering::Relaxed) {
            return Some(("damaged", "the database file is damaged: restore a backup"));
        }
        self.files.displacement().map(|displacement| ("failed", displacement.sentence()))
    }

    /// Reports whether no fault was found, and the file was checked after an unclean stop.
    pub(crate) fn is_sound(&self) -> bool {
        self.checked.load(Ordering::Relaxed) && self.fault().is_none()
    }

    /// Reports whether the file is being checked after an unclean stop.
    pub(crate) fn is_being_checked(&self) -> bool {
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
        check.as_ref().is_some_and(BackgroundCheck::is_running)
    }

    /// Runs a named query on a reader.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        cost: Cost,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = match cost {
            Cost::Quick => self.read_inline(query).await,
            // Boxed, so that quick reads do not carry the state of slow ones.
            Cost::Slow => Box::pin(self.read_on_blocking_thread(query)).await,
        };
        self.record_outcome(name, began.elapsed(), answer)
    }

    /// Runs a query on the calling thread, within the limit of concurrent quick reads.
    async fn read_inline<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let _connection = acquire(&self.connection_slots).await?;
        let _slot = acquire(&self.resources.quick_slots).await?;
        let reader = self.quick.try_get().ok_or(StoreError::Busy)?;
        query(&reader).map_err(StoreError::from)
    }

    /// Runs a query on a blocking thread, within the limit of concurrent slow reads.
    async fn read_on_blocking_thread<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _slot = acquire(&self.resources.slow_slots).await?;
        let pool = self.slow.clone();
        let run = move || match pool.get_timeout(MAX_WAIT_FOR_SLOT) {
            Ok(reader) => query(&reader).map_err(StoreError::from),
            Err(_) => Err(StoreError::Busy),
        };
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|e| Err(StoreError::Internal(e.to_string())))
    }

    /// Runs a named write; see [`Writer::write`].
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        savepoint: Savepoint,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = self.writer.write(savepoint, work).await;
        self.record_outcome(name, began.elapsed(), answer)
    }

    pub(crate) fn record_outcome<T>(
        &self,
        name: &'static str,
        took: Duration,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if took >= self.slow_query {
            tracing::warn!(query = name, milliseconds = took.as_millis() as u64, "slow query");
        }
        if let Err(e) = &answer
            && !matches!(e, StoreError::Frozen)
        {
            self.last_probe.forget();
            let kind = StoreError::KINDS.iter().position(|kind| *kind == e.kind());
            if let Some(counter) = kind.and_then(|n| self.resources.faults.get(n)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if matches!(e, StoreError::Corrupt(_)) {
                self.damaged.store(true, Ordering::Relaxed);
            }
        }
        answer
    }
}

/// Acquires a slot, waiting at most [`MAX_WAIT_FOR_SLOT`].
async fn acquire(slots: &Semaphore) -> Result<SemaphorePermit<'_>, StoreError> {
    match slots.try_acquire() {
        Ok(slot) => Ok(slot),
        // Boxed, so that requests that need not wait do not carry the state of the wait.
        Err(_) => Box::pin(tokio::time::timeout(MAX_WAIT_FOR_SLOT, slots.acquire()))
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::Closed),
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    temp_file::make_folder(folder)
        .map_err(|e| OpenError::Folder { path: folder.to_owned(), why: e.to_string() })
}

fn pool(
    path: &Path,
    size: u32,
    min_size: u32,
    threads: &Arc<ScheduledThreadPool>,
) -> Result<Pool, OpenError> {
    let manager = SqliteConnectionManager::file(path)
        .with_flags(schema::READ_WRITE)
        .with_init(|connection| schema::configure(connection, Role::Reader));
    Pool::builder()
        .max_size(size)
        .min_idle(Some(min_size))
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(Duration::from_secs(10))
        .thread_pool(Arc::clone(threads))
        .build(manager)
        .map_err(|e| OpenError::unopened(path.to_owned(), e.to_string()))
}

/// Opens the writer's connection, creates or migrates the schema, and probes the file.
fn open_writer(
    path: &Path,
    migrations: &[&str],
    backup: impl FnOnce() -> Result<(), FailedBackup>,
) -> Result<Connection, OpenError> {
    let flags = schema::READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = Connection::open_with_flags(path, flags).at(path)?;
    schema::configure(&mut connection, Role::Writer).at(path)?;
    schema::prepare(&mut connection, path, migrations, backup)?;
    if let Err(e) = schema::drop_statistics(&connection) {
        tracing::warn!("statistics in the database could not be dropped: {e}");
    }
    probe(&connection).at(path)?;
    Ok(connection)
}

/// Reads from the file, and writes to it in a transaction that is rolled back.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row(
        "select count(*) from (select id from coffee_logs not indexed limit 1)",
        [],
        |_| Ok(()),
    )?;
    // Start on a full disk as well: stored data can be read.
    let wrote = connection.execute_batch(
        "begin immediate; insert into coffee_logs (timestamp, caffeine_mg) values (0, 0); rollback",
    );
    match wrote {
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
            tracing::error!("no space left on the disk: reads work, writes will fail");
            if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("rollback") }
        }
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        other => other,
    }
}

/// Check of the whole file after an unclean stop, while the server already responds. Cancelled on drop: if its
/// connection was the last one that is closed, SQLite would remove whatever file has the log's name by then.
#[derive(Debug)]
struct BackgroundCheck {
    is_cancelled: Arc<AtomicBool>,
    /// `None` once it has ended.
    thread: Option<JoinHandle<()>>,
}

/// Number of steps of the check, such as pages, after which it looks whether it was cancelled.
const CHECK_STEPS: i32 = 100;

impl BackgroundCheck {
    fn start(path: &Path, damaged: &Arc<AtomicBool>, checked: &Arc<AtomicBool>) -> io::Result<Self> {
        let (path, damaged, checked) = (path.to_owned(), Arc::clone(damaged), Arc::clone(checked));
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&is_cancelled);
        let check = move || {
            tracing::info!("the last stop was not clean: checking the database in the background");
            let began = Instant::now();
            let handler = Arc::clone(&cancelled);
            let verdict = schema::connect(&path, Role::Reader).and_then(|c| {
                c.progress_handler(CHECK_STEPS, Some(move || handler.load(Ordering::Relaxed)))?;
                c.query_row("pragma quick_check(1)", [], |row| row.get::<_, String>(0))
            });
            match verdict.as_deref() {
                Ok("ok") => {
                    checked.store(true, Ordering::Relaxed);
                    tracing::info!(seconds = began.elapsed().as_secs(), "the database passed the check");
                }
                _ if cancelled.load(Ordering::Relaxed) => {}
                Ok(fault) => {
                    damaged.store(true, Ordering::Relaxed);
                    tracing::error!("the database is damaged, restore a backup: {fault}");
                }
                Err(e) => tracing::warn!("the database could not be checked: {e}"),
            }
        };
        let thread = std::thread::Builder::new().name("quick-check".into()).spawn(check)?;
        Ok(Self { is_cancelled, thread: Some(thread) })
    }

    fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for BackgroundCheck {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the check of the database had panicked");
        }
    }
}

/// Returns the version of the bundled SQLite.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::fs;

    use super::*;
    use crate::fs::paths::with_suffix;

    fn open(options: &Options) -> Store {
        Store::open(options, schema::migrations(), OnMissing::Refuse, || Ok(())).unwrap()
    }

    #[test]
    fn closing_a_store_ends_the_check_after_an_unclean_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coffee.db");
        let options = Options::of_command(path.clone(), folder.path().join("backups"));
        open(&options).close();
        fs::write(with_suffix(&path, ".lock"), "4711 -\n").unwrap();
        let store = open(&options);
        assert!(store.check.lock().unwrap().is_some());
        store.close();
        assert!(!store.is_being_checked());
        drop(store);
        let open_files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = open_files.filter_map(|file| fs::read_link(file.path()).ok());
        assert_eq!(targets.filter(|target| target.starts_with(folder.path())).count(), 0);
    }
}
