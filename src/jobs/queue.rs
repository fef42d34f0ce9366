//! Jobs of everyone: at most one active job per person, a few at once on the server, and the last ones of each.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::config::CommonSettings;
use crate::domain::person::PersonName;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;
use crate::jobs::job::{BackgroundJob, JobKind, JobProblem, JobState};
use crate::jobs::program::{CommandEnvironment, CommandFailure, Program};

/// Maximum number of jobs that run at once. A backup of a large database keeps a disk busy.
const MAX_RUNNING: usize = 2;
/// Maximum number of jobs that are kept per person.
const MAX_KEPT: usize = 10;
/// Suffix of the file with the last job of a person.
const SUFFIX: &str = ".job.json";

/// Error of starting a job while another one of the person is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Another task is running: wait until it has finished")]
pub struct JobActive;

/// Job that other tasks may read while it runs.
type SharedJob = Arc<Mutex<BackgroundJob>>;

/// Jobs of everyone.
#[derive(Debug)]
pub struct JobQueue {
    program: Program,
    clock: Clock,
    running: Semaphore,
    people: Mutex<HashMap<PersonName, VecDeque<SharedJob>>>,
}

/// Work of a job while it runs.
#[derive(Debug)]
pub struct JobContext {
    queue: Arc<JobQueue>,
    pub settings: CommonSettings,
    job: SharedJob,
}

impl JobContext {
    /// Runs a command of this program for the person of the job.
    pub async fn run(&self, args: &[&OsStr]) -> Result<Value, CommandFailure> {
        self.run_for(&self.settings, args).await
    }

    /// Runs a command of this program for another person.
    pub async fn run_for(&self, person: &CommonSettings, args: &[&OsStr]) -> Result<Value, CommandFailure> {
        let mut of_person = args.to_vec();
        of_person.extend([OsStr::new("--person"), OsStr::new(person.person.as_str())]);
        let on_progress = |line| lock(&self.job).report(line);
        self.queue.program.run(person, CommandEnvironment::Person, &of_person, on_progress).await
    }
}

impl JobQueue {
    pub fn new(program: Program, clock: Clock) -> Self {
        Self { program, clock, running: Semaphore::new(MAX_RUNNING), people: Mutex::default() }
    }

    /// Runs a command that is about the whole installation.
    pub async fn installation_command(
        &self,
        settings: &CommonSettings,
        environment: CommandEnvironment<'_>,
        args: &[&OsStr],
    ) -> Result<Value, CommandFailure> {
        self.program.run(settings, environment, args, |_| {}).await
    }

    /// Starts a job of a person, and returns it.
    ///
    /// # Errors
    /// [`JobActive`] while another one of that person is active.
    pub async fn start<F>(
        self: &Arc<Self>,
        settings: &CommonSettings,
        kind: JobKind,
        work: impl FnOnce(JobContext) -> F,
    ) -> Result<BackgroundJob, JobActive>
    where
        F: Future<Output = Result<Value, JobProblem>> + Send + 'static,
    {
        self.load(settings).await;
        let job = BackgroundJob::new(kind, self.clock.now());
        let shared = Arc::new(Mutex::new(job.clone()));
        {
            let mut people = lock(&self.people);
            let jobs = people.entry(settings.person.clone()).or_default();
            if jobs.front().is_some_and(|last| lock(last).state.is_active()) {
                return Err(JobActive);
            }
            jobs.push_front(Arc::clone(&shared));
            jobs.truncate(MAX_KEPT);
        }
        // Before the caller gets the id, which is then known after a restart, too.
        save(settings, &shared).await;
        let context =
            JobContext { queue: Arc::clone(self), settings: settings.clone(), job: Arc::clone(&shared) };
        tokio::spawn(Arc::clone(self).finish(settings.clone(), shared, work(context)));
        Ok(job)
    }

    async fn finish(
        self: Arc<Self>,
        settings: CommonSettings,
        job: SharedJob,
        work: impl Future<Output = Result<Value, JobProblem>>,
    ) {
        let permit = self.running.acquire().await;
        lock(&job).state = JobState::Running;
        let outcome = work.await;
        drop(permit);
        let mut ended = lock(&job).clone();
        let (person, id, kind) = (settings.person.as_str(), ended.id.as_str(), ended.kind);
        match &outcome {
            Ok(_) => tracing::info!(person, job = id, ?kind, "job completed"),
            Err(e) => tracing::warn!(person, job = id, ?kind, "job failed: {}", e.detail),
        }
        // Saved before anybody can see the outcome, which is then the same after a restart.
        ended.finish(outcome, self.clock.now());
        save(&settings, &Arc::new(Mutex::new(ended.clone()))).await;
        *lock(&job) = ended;
    }

    /// Fails while a job of a person is active.
    pub async fn ensure_none_active(&self, settings: &CommonSettings) -> Result<(), JobActive> {
        let is_active = self.list(settings).await.first().is_some_and(|job| job.state.is_active());
        if is_active { Err(JobActive) } else { Ok(()) }
    }

    /// Returns the last jobs of a person, newest first.
    pub async fn list(&self, settings: &CommonSettings) -> Vec<BackgroundJob> {
        self.load(settings).await;
        let people = lock(&self.people);
        let jobs = people.get(&settings.person).into_iter().flatten();
        jobs.map(|job| lock(job).clone()).collect()
    }

    /// Reads the last job of a person, once. The process that ran it has ended.
    async fn load(&self, settings: &CommonSettings) {
        if lock(&self.people).contains_key(&settings.person) {
            return;
        }
        let database = settings.database.clone();
        let job = spawn_blocking(move || recorded_job(&database)).await.ok().flatten();
        let job = job.map(|mut job| {
            if job.state.is_active() {
                job.interrupt();
            }
            Arc::new(Mutex::new(job))
        });
        lock(&self.people).entry(settings.person.clone()).or_insert_with(|| job.into_iter().collect());
    }
}

/// Returns the last job that a server has recorded beside the database of a person. One that is active there was
/// interrupted if it is older than the server. Blocks on files.
pub fn recorded_job(database: &Path) -> Option<BackgroundJob> {
    let text = fs::read(with_suffix(database, SUFFIX)).ok()?;
    serde_json::from_slice(&text).ok()
}

async fn save(settings: &CommonSettings, job: &SharedJob) {
    let (path, job) = (with_suffix(&settings.database, SUFFIX), lock(job).clone());
    let write = move || -> io::Result<()> { write_atomically(&path, &serde_json::to_vec(&job)?) };
    match spawn_blocking(write).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("the state of a job could not be saved: {e}"),
        Err(e) => tracing::warn!("the state of a job could not be saved: {e}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;
    use serde_json::json;
    use tokio::sync::oneshot;

    fn queue() -> (tempfile::TempDir, CommonSettings, Arc<JobQueue>) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("coffee.db");
        let settings = CommonSettings::of_owner(database, folder.path().join("backups"), Zone::utc());
        let queue = Arc::new(JobQueue::new(Program::default(), Clock::system()));
        (folder, settings, queue)
    }

    async fn last(queue: &JobQueue, settings: &CommonSettings) -> BackgroundJob {
        loop {
            let job = queue.list(settings).await.remove(0);
            if !job.state.is_active() {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_person_has_one_active_job_and_others_have_theirs() {
        let (_folder, settings, queue) = queue();
        let (end, has_ended) = oneshot::channel::<()>();
        let first = queue
            .start(&settings, JobKind::Backup, |_| async {
                has_ended.await.unwrap();
                Ok(json!({"file": "one.db"}))
            })
            .await
            .unwrap();
        let second = queue.start(&settings, JobKind::Verify, |_| async { Ok(Value::Null) });
        assert_eq!(second.await, Err(JobActive));
        let anna = settings.of_person(&"anna".parse().unwrap());
        fs::create_dir_all(anna.database.parent().unwrap()).unwrap();
        queue.start(&anna, JobKind::Verify, |_| async { Ok(Value::Null) }).await.unwrap();
        assert_eq!(last(&queue, &anna).await.state, JobState::Succeeded);
        end.send(()).unwrap();
        let ended = last(&queue, &settings).await;
        assert_eq!((&ended.id, ended.state), (&first.id, JobState::Succeeded));
        assert_eq!(ended.result, Some(json!({"file": "one.db"})));
        assert!(queue.start(&settings, JobKind::Verify, |_| async { Ok(Value::Null) }).await.is_ok());
    }

    #[tokio::test]
    async fn after_a_restart_an_active_job_is_interrupted_and_an_ended_one_is_kept() {
        let (_folder, settings, queue) = queue();
        let problem = JobProblem { title: "The task failed".into(), status: 500, detail: "no space".into() };
        let failed = problem.clone();
        queue.start(&settings, JobKind::Restore, |_| async { Err(failed) }).await.unwrap();
        let ended = last(&queue, &settings).await;
        assert_eq!((ended.state, &ended.problem), (JobState::Failed, &Some(problem)));
        let restarted = JobQueue::new(Program::default(), Clock::system());
        assert_eq!(restarted.list(&settings).await, std::slice::from_ref(&ended));

        let active = BackgroundJob { state: JobState::Running, problem: None, ..ended };
        save(&settings, &Arc::new(Mutex::new(active.clone()))).await;
        let restarted = JobQueue::new(Program::default(), Clock::system());
        let found = restarted.list(&settings).await.remove(0);
        assert_eq!((found.id, found.state), (active.id, JobState::Interrupted));
    }
}
