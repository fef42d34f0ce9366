//! A job and its states.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::time::Timestamp;
use crate::jobs::program::{CommandFailure, ProgressLine};

/// Kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    Backup,
    Verify,
    RestorePreview,
    Restore,
    Upload,
    Prune,
    RemovePerson,
    ImportPreview,
    Import,
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for jobs of other people.
    Queued,
    Running,
    Succeeded,
    Failed,
    /// The server stopped meanwhile.
    Interrupted,
}

impl JobState {
    /// Reports whether the job has not ended.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// Stage of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStage {
    Copying,
    Checking,
    /// Reading a file, and storing its entries unless this is a preview.
    Importing,
}

/// Reason why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobProblem {
    /// Short description.
    pub title: String,
    /// Status that a request with this outcome would have: 422, 500 or 503.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Reason, and what to do.
    pub detail: String,
}

impl From<CommandFailure> for JobProblem {
    fn from(failure: CommandFailure) -> Self {
        let (title, status) =
            if failure.is_transient { ("Try again later", 503) } else { ("The task failed", 500) };
        Self { title: title.to_owned(), status, detail: failure.message }
    }
}

/// Work that the server does in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Job)]
pub struct BackgroundJob {
    #[schema(value_type = String, pattern = "^[0-9a-f]{16}$")]
    pub id: JobId,
    pub kind: JobKind,
    pub state: JobState,
    /// Null until the first report of progress, and after the end.
    #[schema(required)]
    pub stage: Option<JobStage>,
    /// Fraction of the current stage that is done.
    #[schema(minimum = 0, maximum = 1)]
    pub progress: f64,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub finished_at: Option<Timestamp>,
    /// Outcome of a job that succeeded.
    #[schema(value_type = Option<Object>, required)]
    pub result: Option<Value>,
    /// Reason why the job failed.
    #[schema(required)]
    pub problem: Option<JobProblem>,
}

/// Random number of a job, 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    fn random() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BackgroundJob {
    /// Creates a job that waits.
    pub fn new(kind: JobKind, created_at: Timestamp) -> Self {
        Self {
            id: JobId::random(),
            kind,
            state: JobState::Queued,
            stage: None,
            progress: 0.0,
            created_at,
            finished_at: None,
            result: None,
            problem: None,
        }
    }

    /// Records progress.
    pub fn report(&mut self, line: ProgressLine) {
        let share = |done, total| if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) };
        let (stage, progress) = match line {
            ProgressLine::Copying { done, total } => (JobStage::Copying, share(done, total)),
            ProgressLine::Checking => (JobStage::Checking, 0.0),
            ProgressLine::Importing { done, total } => (JobStage::Importing, share(done, total)),
        };
        (self.stage, self.progress) = (Some(stage), progress);
    }

    /// Records the outcome.
    pub fn finish(&mut self, outcome: Result<Value, JobProblem>, at: Timestamp) {
        (self.stage, self.finished_at) = (None, Some(at));
        match outcome {
            Ok(result) => {
                (self.state, self.progress, self.result) = (JobState::Succeeded, 1.0, Some(result));
            }
            Err(problem) => (self.state, self.problem) = (JobState::Failed, Some(problem)),
        }
    }

    /// Records that the server stopped before the job ended.
    pub fn interrupt(&mut self) {
        (self.state, self.stage) = (JobState::Interrupted, None);
    }
}
