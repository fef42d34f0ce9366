//! The one thread that writes. It takes whatever waits, runs it in one transaction,
//! commits with fsync, and only then answers everyone: group commit.
//!
//! It knows nothing of coffees: a job is a closure over the transaction. A job whose
//! statements fail leaves nothing behind, and the others of its batch go on.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::hooks::Action;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::db::error::Error;
use crate::db::open_files::{Displacement, OpenFiles};

/// Jobs that may wait; one more is refused as busy.
pub const QUEUE: usize = 1024;
/// Most jobs in one commit: bounds the wait of the first of them.
const BATCH: usize = 256;
/// How long a job waits for a database that another process holds.
const MAX_WAIT: Duration = Duration::from_secs(25);
/// The same, once the server is stopping.
const MAX_WAIT_CLOSING: Duration = Duration::from_secs(3);
/// Pause between attempts at a held database. An import lets go of it for a few
/// milliseconds only.
const RETRY: Duration = Duration::from_millis(1);
/// How long the last checkpoint waits for readers of other processes.
const LAST_CHECKPOINT: Duration = Duration::from_millis(250);
/// Carries as much of the log over to the database as readers allow.
const COMPLETE: &str = "pragma wal_checkpoint(passive)";
/// Size from which the log is restarted, bytes. SQLite restarts it by itself in a moment without readers.
const LARGE_LOG: u64 = if cfg!(debug_assertions) { 1 << 20 } else { 64 << 20 };
/// Interval between attempts to restart a large log.
const RESTART_EVERY: Duration = if cfg!(debug_assertions) { Duration::ZERO } else { Duration::from_secs(1) };
/// How long one attempt waits for readers of the log; writes wait as long.
const RESTART_WAIT: Duration = Duration::from_millis(100);
/// How often an idle writer shows that it lives.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A writer that has shown no life for this long, at work or idle, is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Counters that anyone may read at any time.
#[derive(Debug, Default)]
pub struct WriterState {
    /// Jobs waiting or at work.
    pub depth: AtomicUsize,
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Entries they added, changed or deleted.
    pub rows: AtomicU64,
    /// Another process holds the database: writes wait.
    pub held: AtomicBool,
    /// Why the last commit failed, as a place in [`Error::KINDS`] plus one; 0 when it did not.
    fault: AtomicUsize,
    /// The server is stopping: nobody waits long any more.
    closing: AtomicBool,
    /// Milliseconds since the writer began, when it last showed life.
    last_beat: AtomicI64,
}

impl WriterState {
    fn set_fault(&self, fault: Option<&Error>) {
        let kind = fault.and_then(|e| Error::KINDS.iter().position(|kind| *kind == e.kind()));
        self.fault.store(kind.map_or(0, |place| place + 1), Ordering::Relaxed);
    }

    /// Why the last commit failed, by [`Error::kind`]; `None` when it did not.
    pub fn fault(&self) -> Option<&'static str> {
        let place = self.fault.load(Ordering::Relaxed).checked_sub(1)?;
        Error::KINDS.get(place).copied()
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: Mutex<Option<SyncSender<Queued>>>,
    state: Arc<WriterState>,
    thread: Mutex<Option<JoinHandle<()>>>,
    began: Instant,
}

/// How many statements a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// One, which leaves nothing behind when it fails.
    One,
    /// Several, which need a savepoint to be undone together.
    Many,
}

struct Queued {
    job: Box<dyn Job>,
    statements: Statements,
    since: Instant,
}

/// Something to be done within a transaction, and somebody who waits for it.
trait Job: Send {
    /// Does it. `Err` when nothing of it may be committed.
    fn run(&mut self, transaction: &Connection) -> Result<(), Error>;
    /// Answers, after the commit or when there was none.
    fn answer(self: Box<Self>, fault: Option<Error>);
}

struct Task<F, T> {
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, transaction: &Connection) -> Result<(), Error> {
        self.done = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, fault: Option<Error>) {
        let answer = match (fault, self.done) {
            (None, Some(done)) => Ok(done),
            (fault, _) => Err(fault.unwrap_or(Error::Closed)),
        };
        // Whoever asked may have gone; the write stands all the same.
        drop(self.reply.send(answer));
    }
}

impl Writer {
    /// Starts the thread on its own connection.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn start(connection: Connection, files: Arc<OpenFiles>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let state = Arc::new(WriterState::default());
        let began = Instant::now();
        let changed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&changed);
        // Entries alone: what triggers count of them are not rows that anybody wrote.
        let count = move |_: Action, _: &str, table: &str, _: i64| {
            if matches!(table, "coffee_logs" | "heart_rate_logs") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        connection.update_hook(Some(count)).map_err(std::io::Error::other)?;
        let last_restart = began;
        let worker =
            Worker { connection, jobs, state: Arc::clone(&state), changed, files, began, last_restart };
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || worker.run())?;
        Ok(Self { queue: Mutex::new(Some(queue)), state, thread: Mutex::new(Some(thread)), began })
    }

    /// Runs `work` in a transaction; the answer comes after its commit.
    ///
    /// # Errors
    /// [`Error::Busy`] when too much waits or the database is held too long, or what SQLite said.
    pub async fn write<T: Send + 'static>(
        &self,
        statements: Statements,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { work, done: None, reply });
        self.enqueue(Queued { job, statements, since: Instant::now() })?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    fn enqueue(&self, queued: Queued) -> Result<(), Error> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(Error::Closed)?;
        self.state.depth.fetch_add(1, Ordering::Relaxed);
        queue.try_send(queued).map_err(|refused| {
            self.state.depth.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => Error::Busy,
                TrySendError::Disconnected(_) => Error::Closed,
            }
        })
    }

    /// Its counters.
    pub fn state(&self) -> &WriterState {
        &self.state
    }

    /// Does the thread live and move?
    pub fn is_alive(&self) -> bool {
        self.was_active_within(SILENCE)
    }

    /// Does the thread live, and has it shown so within that time?
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

    /// Takes no more jobs, finishes those that wait, checkpoints, and ends the thread.
    /// False when the thread had panicked.
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
    /// Entries added, changed or deleted since the last commit.
    changed: Arc<AtomicU64>,
    files: Arc<OpenFiles>,
    began: Instant,
    /// Time of the last attempt to restart a large log.
    last_restart: Instant,
}

impl Worker {
    fn run(mut self) {
        // SQLite's own waiting sleeps up to 100 ms at a time; `begin` looks again sooner.
        if let Err(e) = self.connection.busy_timeout(Duration::ZERO) {
            tracing::warn!("the writer waits longer than it should: {e}");
        }
        loop {
            self.beat();
            match self.jobs.recv_timeout(HEARTBEAT) {
                Ok(first) => {
                    let mut batch = Vec::with_capacity(64);
                    batch.push(first);
                    batch.extend(self.jobs.try_iter().take(BATCH - 1));
                    self.commit(batch);
                    self.bound_log();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.displacement();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let displacement = self.displacement();
        let last = match displacement {
            None => "pragma wal_checkpoint(truncate)",
            Some(found) if found.is_log_only() => COMPLETE,
            Some(_) => "",
        };
        let done = self.connection.busy_timeout(LAST_CHECKPOINT);
        if let Err(e) = done.and_then(|()| self.connection.execute_batch(last)) {
            tracing::warn!("the last checkpoint failed: {e}");
        }
        if !matches!(displacement, None | Some(Displacement::LogMissing)) {
            // Closing it could carry the log over to a file that nobody has any more, or remove
            // the log of another.
            std::mem::forget(self.connection);
        }
    }

    /// Compares the open files with their paths. The content of a log that lost its name is carried
    /// over to the database at once: it is nowhere else.
    fn displacement(&self) -> Option<Displacement> {
        let known = self.files.displacement();
        let found = self.files.compare();
        if known.is_none()
            && found.is_some_and(Displacement::is_log_only)
            && let Err(e) = self.connection.execute_batch(COMPLETE)
        {
            tracing::error!("the log could not be carried over to the database: {e}");
        }
        found
    }

    /// Restarts a large log from its beginning. Readers that follow one another without a pause keep
    /// SQLite from doing so, and the log would grow with every write.
    fn bound_log(&mut self) {
        if self.last_restart.elapsed() < RESTART_EVERY || self.files.log_bytes() < LARGE_LOG {
            return;
        }
        self.last_restart = Instant::now();
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

    /// Runs a batch in one transaction and answers each of its jobs.
    fn commit(&mut self, mut batch: Vec<Queued>) {
        if self.displacement().is_some() {
            self.answer_all(batch, Some(&Error::Displaced));
            return;
        }
        batch = self.begin(batch);
        if batch.is_empty() {
            return;
        }
        self.changed.store(0, Ordering::Relaxed);
        let mut done = Vec::with_capacity(batch.len());
        let mut lost: Option<Error> = None;
        let mut waiting = batch.into_iter();
        for mut queued in waiting.by_ref() {
            self.beat();
            match self.run_one(&mut queued) {
                Ok(()) => done.push(queued),
                Err(e) => {
                    // A full disk and the like roll the whole transaction back.
                    let gone = self.connection.is_autocommit();
                    self.answer_all([queued], Some(&e));
                    if gone {
                        lost = Some(e);
                        break;
                    }
                }
            }
        }
        // What was written to a file that has lost its name meanwhile is not acknowledged.
        let fault =
            lost.or_else(|| self.finish().err()).or_else(|| self.displacement().map(|_| Error::Displaced));
        self.state.set_fault(fault.as_ref());
        if fault.is_none() {
            self.state.commits.fetch_add(1, Ordering::Relaxed);
            self.state.rows.fetch_add(self.changed.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.answer_all(done, fault.as_ref());
        self.answer_all(waiting, fault.as_ref());
    }

    /// Begins a transaction, waiting while another process holds the database. Jobs that
    /// have waited too long are answered; those that are left are returned.
    fn begin(&mut self, mut batch: Vec<Queued>) -> Vec<Queued> {
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
                    let patience = if closing { MAX_WAIT_CLOSING } else { MAX_WAIT };
                    let (late, patient) = batch.into_iter().partition(|q| q.since.elapsed() > patience);
                    self.answer_all::<Vec<_>>(late, Some(&Error::Busy));
                    batch = patient;
                    if batch.is_empty() {
                        // Nobody waits any more; the next write finds out how it is then.
                        self.state.held.store(false, Ordering::Relaxed);
                        return batch;
                    }
                    std::thread::sleep(RETRY);
                }
                Err(e) => {
                    let fault = e.into();
                    self.state.set_fault(Some(&fault));
                    self.answer_all(batch, Some(&fault));
                    return Vec::new();
                }
            }
        }
    }

    /// Runs one job, within a savepoint where it needs one.
    fn run_one(&self, queued: &mut Queued) -> Result<(), Error> {
        let in_savepoint = queued.statements == Statements::Many;
        if in_savepoint {
            self.execute("savepoint job")?;
        }
        // A panic in a job is a fault of that job alone.
        let job = &mut queued.job;
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(&self.connection)))
            .unwrap_or_else(|_| Err(Error::Internal("a write panicked".into())));
        if in_savepoint && !self.connection.is_autocommit() {
            let undone = if ran.is_err() { self.execute("rollback to job") } else { Ok(()) };
            if let Err(e) = undone.and_then(|()| self.execute("release job")) {
                // Half of this job must not be committed with the others.
                self.execute("rollback")?;
                return Err(e.into());
            }
        }
        ran
    }

    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    fn finish(&mut self) -> Result<(), Error> {
        match self.execute("commit") {
            Ok(()) => Ok(()),
            Err(e) => {
                if !self.connection.is_autocommit()
                    && let Err(e) = self.execute("rollback")
                {
                    tracing::error!("a failed commit could not be rolled back: {e}");
                }
                Err(e.into())
            }
        }
    }

    fn answer_all<I: IntoIterator<Item = Queued>>(&self, jobs: I, fault: Option<&Error>) {
        for queued in jobs {
            self.state.depth.fetch_sub(1, Ordering::Relaxed);
            queued.job.answer(fault.cloned());
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::backup::open::open_store;
    use crate::db::schema;
    use crate::db::schema::Role;
    use crate::db::store::Options;

    #[test]
    fn readers_that_never_pause_do_not_let_the_log_grow() {
        const ROUNDS: usize = 200;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coffee.db");
        let store = open_store(&Options {
            path: path.clone(),
            backups: folder.path().join("backups"),
            quick_readers: 1,
            slow_readers: 1,
            slow_query: Duration::from_secs(9),
        })
        .unwrap();
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
                let fill = store.write("fill", Statements::One, |c| {
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
