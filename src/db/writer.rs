//! The writer thread: group commit.
//!
//! It takes up to 256 waiting jobs, runs them in one transaction, commits with fsync, and then replies to the
//! callers whose jobs succeeded. A job is a closure over the transaction. A job that fails is undone and its caller
//! gets the error at once; the other jobs go on. If it cannot be undone separately, the whole batch fails with its
//! error. While no job is waiting, the idle work runs at the interval of the heartbeat. While the person is being moved to
//! another machine, every job fails and the idle work does not run.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::hooks::Action;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::db::error::StoreError;
use crate::db::open_files::{Displacement, OpenFiles};

/// Maximum number of waiting jobs. Further ones fail as busy.
pub const MAX_QUEUED: usize = 1024;
/// Maximum number of jobs in a transaction: bounds the latency of the first one.
const MAX_BATCH: usize = 256;
/// Maximum wait of a job for a database that another process holds.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(25);
/// The same while the server stops.
const MAX_LOCK_WAIT_CLOSING: Duration = Duration::from_secs(3);
/// Interval of retries on a held database. An import releases it for a few milliseconds only.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum wait of the last checkpoint for readers of other processes.
const LAST_CHECKPOINT: Duration = Duration::from_millis(250);
/// Checkpoints as much of the WAL as readers allow.
const PASSIVE_CHECKPOINT: &str = "pragma wal_checkpoint(passive)";
/// Size of the WAL from which a restart is forced, bytes. SQLite restarts it by itself when no reader is active.
const LARGE_WAL_BYTES: u64 = if cfg!(debug_assertions) { 1 << 20 } else { 64 << 20 };
/// Interval of attempts to restart a large WAL.
const RESTART_EVERY: Duration = if cfg!(debug_assertions) { Duration::ZERO } else { Duration::from_secs(1) };
/// Maximum wait of an attempt for readers of the WAL; writes are delayed as long.
const RESTART_WAIT: Duration = Duration::from_millis(100);
/// Interval at which an idle writer updates its heartbeat and runs the idle work.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Pause of the idle work after a failure.
const IDLE_PAUSE: Duration = Duration::from_secs(60);
/// Age of the heartbeat from which the writer counts as dead.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);

/// Work done while idle, in short transactions.
pub type IdleWork = fn(&Connection) -> rusqlite::Result<()>;

/// Counters of all writers of a process.
#[derive(Debug, Default)]
pub struct WriteCounters {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Entries added, changed or deleted in these transactions. Those of a failed job count, too, although they
    /// were undone.
    pub rows: AtomicU64,
}

/// State of a writer.
#[derive(Debug, Default)]
pub struct WriterState {
    /// Jobs waiting or running.
    pub depth: AtomicUsize,
    /// Another process holds the database: writes wait.
    pub held: AtomicBool,
    /// [`StoreError::kind`] of the error that failed the last transaction; `None` if it was committed. Unchanged when
    /// none was begun because the files are displaced, or because another process held the database.
    fault: Mutex<Option<&'static str>>,
    /// The server is stopping: waits are short.
    closing: AtomicBool,
    /// Time of the last heartbeat, milliseconds since the writer started.
    last_beat: AtomicI64,
}

impl WriterState {
    fn set_fault(&self, fault: Option<&StoreError>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.map(StoreError::kind);
    }

    pub fn fault(&self) -> Option<&'static str> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle of the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: Mutex<Option<SyncSender<Queued>>>,
    state: Arc<WriterState>,
    thread: Mutex<Option<JoinHandle<()>>>,
    began: Instant,
}

/// Need of a job for a savepoint, to which it is rolled back alone when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Savepoint {
    /// The job is one statement with its triggers, which is atomic by itself.
    Unneeded,
    /// The job is several statements.
    Needed,
}

/// Job that waits for its turn.
struct Queued {
    job: Job,
    savepoint: Savepoint,
    queued_at: Instant,
    reply: Reply,
}

/// Work within a transaction. After an error nothing of it is committed.
type Job = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// Failure of a job.
struct JobError {
    error: StoreError,
    /// The transaction no longer contains any change of the job. Otherwise the whole batch must be rolled back.
    is_undone: bool,
}

/// Receives the outcome of a job after the commit or a failure.
type Reply = oneshot::Sender<Result<(), StoreError>>;

impl Writer {
    /// Starts the thread with its own connection. `idle` runs when no job has arrived for half a second.
    pub fn start(
        connection: Connection,
        files: Arc<OpenFiles>,
        idle: IdleWork,
        counters: Arc<WriteCounters>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(MAX_QUEUED);
        let state = Arc::new(WriterState::default());
        let began = Instant::now();
        let changed_rows = Arc::new(AtomicU64::new(0));
        let count_row = {
            let changed_rows = Arc::clone(&changed_rows);
            // Entries only, not rows that triggers maintain.
            move |_: Action, _: &str, table: &str, _: i64| {
                if matches!(table, "coffee_logs" | "heart_rate_logs") {
                    changed_rows.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        connection.update_hook(Some(count_row)).map_err(std::io::Error::other)?;
        let worker = Worker {
            connection,
            jobs,
            state: Arc::clone(&state),
            counters,
            changed_rows,
            files,
            idle,
            next_idle: began,
            began,
            last_wal_restart: began,
        };
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || worker.run())?;
        Ok(Self { queue: Mutex::new(Some(queue)), state, thread: Mutex::new(Some(thread)), began })
    }

    /// Runs `work` in a transaction, and returns its result after the commit.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when the queue is full or the database is held too long.
    pub async fn write<T: Send + 'static>(
        &self,
        savepoint: Savepoint,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, committed) = oneshot::channel();
        // The value waits in its channel until the commit is reported.
        let (send_value, value) = oneshot::channel();
        let job = Box::new(|transaction: &Connection| {
            // The caller may be gone; the write stands.
            drop(send_value.send(work(transaction)?));
            Ok(())
        });
        self.enqueue(Queued { job, savepoint, queued_at: Instant::now(), reply })?;
        committed.await.unwrap_or(Err(StoreError::Closed))?;
        value.await.map_err(|_| StoreError::Closed)
    }

    fn enqueue(&self, queued: Queued) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(StoreError::Closed)?;
        self.state.depth.fetch_add(1, Ordering::Relaxed);
        queue.try_send(queued).map_err(|refused| {
            self.state.depth.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::Closed,
            }
        })
    }

    pub fn state(&self) -> &WriterState {
        &self.state
    }

    /// Reports whether the thread is alive and updated its heartbeat recently.
    pub fn is_alive(&self) -> bool {
        self.was_active_within(HEARTBEAT_TIMEOUT)
    }

    /// Reports whether the thread is alive and updated its heartbeat within `silence`.
    pub fn was_active_within(&self, silence: Duration) -> bool {
        let ended = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_none_or(JoinHandle::is_finished);
        let last = self.state.last_beat.load(Ordering::Relaxed);
        let silent = millis(self.began.elapsed()).saturating_sub(last);
        !ended && silent < millis(silence)
    }

    /// Finishes the waiting jobs, runs a checkpoint and ends the thread. Returns false when the thread had
    /// panicked.
    pub fn close(&self) -> bool {
        self.state.closing.store(true, Ordering::Relaxed);
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended_well = thread.is_none_or(|thread| thread.join().is_ok());
        if !ended_well {
            tracing::error!("the writer thread had panicked");
        }
        ended_well
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

struct Worker {
    connection: Connection,
    jobs: Receiver<Queued>,
    state: Arc<WriterState>,
    counters: Arc<WriteCounters>,
    /// Entries added, changed or deleted in this batch, including those of failed jobs.
    changed_rows: Arc<AtomicU64>,
    files: Arc<OpenFiles>,
    idle: IdleWork,
    /// Time from which idle work may run.
    next_idle: Instant,
    began: Instant,
    /// Time of the last attempt to restart a large WAL.
    last_wal_restart: Instant,
}

impl Worker {
    fn run(mut self) {
        // SQLite's own busy handler sleeps up to 100 ms at a time; `begin` retries sooner.
        if let Err(e) = self.connection.busy_timeout(Duration::ZERO) {
            tracing::warn!("the busy timeout of the writer could not be set: {e}");
        }
        loop {
            self.beat();
            match self.jobs.recv_timeout(HEARTBEAT) {
                Ok(first) => {
                    let mut batch = Vec::with_capacity(64);
                    batch.push(first);
                    batch.extend(self.jobs.try_iter().take(MAX_BATCH - 1));
                    self.run_batch(batch);
                    self.bound_wal();
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.find_displacement().is_none() {
                        self.run_idle_work();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let displacement = self.find_displacement();
        let last_checkpoint = match displacement {
            None => "pragma wal_checkpoint(truncate)",
            Some(found) if found.is_log_only() => PASSIVE_CHECKPOINT,
            Some(_) => "",
        };
        let done = self.connection.busy_timeout(LAST_CHECKPOINT);
        if let Err(e) = done.and_then(|()| self.connection.execute_batch(last_checkpoint)) {
            tracing::warn!("the last checkpoint failed: {e}");
        }
        if !matches!(displacement, None | Some(Displacement::LogMissing)) {
            // Closing it could checkpoint into an unlinked file, or remove the WAL of another database.
            std::mem::forget(self.connection);
        }
    }

    /// Runs the idle work, unless it failed recently or the person is being moved to another machine.
    fn run_idle_work(&mut self) {
        if Instant::now() < self.next_idle || self.files.is_frozen() {
            return;
        }
        match (self.idle)(&self.connection) {
            Ok(()) => {}
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(e) => {
                tracing::warn!("the writer's idle work failed: {e}");
                self.next_idle = Instant::now() + IDLE_PAUSE;
            }
        }
    }

    /// Compares the open files with their paths, and returns the displacement found, now or earlier. The content of
    /// a WAL that was renamed or unlinked is checkpointed at once: it exists nowhere else.
    fn find_displacement(&self) -> Option<Displacement> {
        let known = self.files.displacement();
        let found = self.files.compare();
        if known.is_none()
            && found.is_some_and(Displacement::is_log_only)
            && let Err(e) = self.connection.execute_batch(PASSIVE_CHECKPOINT)
        {
            tracing::error!("the checkpoint of the displaced log failed: {e}");
        }
        found
    }

    /// Restarts a large WAL from its beginning. Overlapping readers keep SQLite from doing so, and the WAL
    /// would grow with every write.
    fn bound_wal(&mut self) {
        if self.last_wal_restart.elapsed() < RESTART_EVERY || self.files.log_bytes() < LARGE_WAL_BYTES {
            return;
        }
        self.last_wal_restart = Instant::now();
        if self.files.displacement().is_some() {
            return;
        }
        let restarted = self
            .connection
            .busy_timeout(RESTART_WAIT)
            .and_then(|()| self.connection.execute_batch("pragma wal_checkpoint(restart)"))
            .and_then(|()| self.connection.busy_timeout(Duration::ZERO));
        if let Err(e) = restarted {
            tracing::warn!("the write-ahead log could not be restarted: {e}");
        }
    }

    fn beat(&self) {
        self.state.last_beat.store(millis(self.began.elapsed()), Ordering::Relaxed);
    }

    /// Runs a batch in one transaction and responds to each job.
    fn run_batch(&mut self, mut batch: Vec<Queued>) {
        if self.find_displacement().is_some() {
            self.fail_all(batch, &StoreError::Displaced);
            return;
        }
        batch = self.begin(batch);
        if batch.is_empty() {
            return;
        }
        // Under SQLite's write lock, without which nobody is frozen.
        if self.files.is_frozen() {
            self.roll_back();
            self.fail_all(batch, &StoreError::Frozen);
            return;
        }
        self.changed_rows.store(0, Ordering::Relaxed);
        let mut succeeded = Vec::with_capacity(batch.len());
        let mut batch_error: Option<StoreError> = None;
        let mut remaining = batch.into_iter();
        for queued in remaining.by_ref() {
            self.beat();
            match self.run_one(queued.job, queued.savepoint) {
                Ok(()) => succeeded.push(queued.reply),
                Err(JobError { error, is_undone }) => {
                    self.reply_all([queued.reply], Some(&error));
                    if !is_undone || !self.has_transaction() {
                        batch_error = Some(error);
                        break;
                    }
                }
            }
        }
        if batch_error.is_some() {
            self.roll_back();
        }
        if batch_error.is_none() {
            batch_error = self.commit().err();
        }
        // Writes to a file that was renamed or unlinked meanwhile are not acknowledged.
        let fault = batch_error.or_else(|| self.find_displacement().map(|_| StoreError::Displaced));
        self.state.set_fault(fault.as_ref());
        if fault.is_none() {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.counters.rows.fetch_add(self.changed_rows.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.reply_all(succeeded, fault.as_ref());
        // Jobs that did not run because the batch was rolled back.
        self.reply_all(remaining.map(|queued| queued.reply), fault.as_ref());
    }

    /// Begins a transaction, waiting while another process holds the database. Fails jobs that have waited too
    /// long and returns the others.
    fn begin(&mut self, mut batch: Vec<Queued>) -> Vec<Queued> {
        // A transaction is still open only when its rollback failed.
        self.roll_back();
        loop {
            match self.execute("begin immediate") {
                Ok(()) => {
                    self.state.held.store(false, Ordering::Relaxed);
                    return batch;
                }
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    self.state.held.store(true, Ordering::Relaxed);
                    self.beat();
                    let closing = self.state.closing.load(Ordering::Relaxed);
                    let max_wait = if closing { MAX_LOCK_WAIT_CLOSING } else { MAX_LOCK_WAIT };
                    let (late, waiting): (Vec<_>, Vec<_>) =
                        batch.into_iter().partition(|q| q.queued_at.elapsed() > max_wait);
                    self.fail_all(late, &StoreError::Busy);
                    batch = waiting;
                    if batch.is_empty() {
                        // No job is left; the next write checks again.
                        self.state.held.store(false, Ordering::Relaxed);
                        return batch;
                    }
                    std::thread::sleep(RETRY_INTERVAL);
                }
                Err(e) => {
                    let fault = e.into();
                    self.state.set_fault(Some(&fault));
                    self.fail_all(batch, &fault);
                    return Vec::new();
                }
            }
        }
    }

    /// Runs one job, within a savepoint where it needs one.
    fn run_one(&self, job: Job, savepoint: Savepoint) -> Result<(), JobError> {
        let in_savepoint = savepoint == Savepoint::Needed;
        if in_savepoint {
            self.execute("savepoint job").map_err(|e| JobError { error: e.into(), is_undone: true })?;
        }
        let ran = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&self.connection))) {
            Ok(ran) => ran.map_err(StoreError::from),
            Err(_) => {
                let error = StoreError::Internal("a write panicked".into());
                if !in_savepoint {
                    // Its statement may have been executed already.
                    return Err(JobError { error, is_undone: false });
                }
                Err(error)
            }
        };
        // Without a transaction, the savepoint is gone, too.
        if in_savepoint && self.has_transaction() {
            let rolled_back = if ran.is_err() { self.execute("rollback to job") } else { Ok(()) };
            rolled_back
                .and_then(|()| self.execute("release job"))
                .map_err(|e| JobError { error: e.into(), is_undone: false })?;
        }
        ran.map_err(|error| JobError { error, is_undone: true })
    }

    /// Reports whether a transaction is open. On some errors, such as a full disk, SQLite itself rolls it back.
    fn has_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        match self.execute("commit") {
            Ok(()) => Ok(()),
            Err(e) => {
                self.roll_back();
                Err(e.into())
            }
        }
    }

    /// Rolls back the transaction, if one is open.
    fn roll_back(&self) {
        if self.has_transaction()
            && let Err(e) = self.execute("rollback")
        {
            tracing::error!("a failed transaction could not be rolled back: {e}");
        }
    }

    fn reply_all(&self, replies: impl IntoIterator<Item = Reply>, fault: Option<&StoreError>) {
        for reply in replies {
            self.state.depth.fetch_sub(1, Ordering::Relaxed);
            drop(reply.send(fault.cloned().map_or(Ok(()), Err)));
        }
    }

    fn fail_all(&self, batch: Vec<Queued>, fault: &StoreError) {
        self.reply_all(batch.into_iter().map(|queued| queued.reply), Some(fault));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backup::open::open_store;
    use crate::db::schema;
    use crate::db::schema::Role;
    use crate::db::store::{Cost, Options, Store};

    fn store_in(folder: &Path) -> Store {
        open_store(&Options::of_command(folder.join("coffee.db"), folder.join("backups"))).unwrap()
    }

    #[test]
    fn a_write_that_panics_stores_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for savepoint in [Savepoint::Unneeded, Savepoint::Needed] {
            let insert = |c: &Connection, caffeine_mg: u32, panics: bool| {
                c.execute("insert into coffee_logs (timestamp, caffeine_mg) values (1, ?)", [caffeine_mg])?;
                assert!(!panics);
                Ok(())
            };
            let failed = runtime.block_on(store.write("fail", savepoint, move |c| insert(c, 90, true)));
            assert!(matches!(failed, Err(StoreError::Internal(_))), "{failed:?}");
            runtime.block_on(store.write("succeed", savepoint, move |c| insert(c, 40, false))).unwrap();
        }
        let stored = store.read("stored", Cost::Quick, |c| {
            let sums = "select count(*), sum(caffeine_mg) from coffee_logs";
            c.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?)))
        });
        assert_eq!(runtime.block_on(stored).unwrap(), (2_i64, 80.0));
        store.close();
    }

    #[test]
    fn readers_that_never_pause_do_not_let_the_log_grow() {
        const ROUNDS: usize = 200;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coffee.db");
        let store = store_in(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let log_bytes = || std::fs::metadata(folder.path().join("coffee.db-wal")).unwrap().len();
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begin = "begin; select count(*) from coffee_logs indexed by coffee_logs_by_time";
                let readers = [0, 1].map(|_| schema::connect(&path, Role::Reader).unwrap());
                readers[0].execute_batch(begin).unwrap();
                for round in 0.. {
                    if has_ended.load(Ordering::Relaxed) {
                        break;
                    }
                    // One of the two always reads.
                    readers[(round + 1) % 2].execute_batch(begin).unwrap();
                    readers[round % 2].execute_batch("commit").unwrap();
                }
            });
            for _ in 0..ROUNDS {
                let fill = store.write("fill", Savepoint::Unneeded, |c| {
                    c.execute_batch(
                        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 100)
                         insert into coffee_logs (timestamp, caffeine_mg, notes)
                         select n, 90, printf('%.*c', 1000, 'x') from n",
                    )
                });
                runtime.block_on(fill).unwrap();
            }
            has_ended.store(true, Ordering::Relaxed);
        });
        assert!(log_bytes() <= 8 << 20, "{} bytes after {ROUNDS} writes of 100 KB", log_bytes());
        store.close();
    }
}
