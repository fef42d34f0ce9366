//! A value that comes from the disk, for callers that must not wait for a disk that hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// Cache of one value that blocking work computes, on a blocking thread and once at a time.
///
/// Work that hangs occupies one thread, however many callers wait for it, and no lock.
#[derive(Debug)]
pub struct Refresher<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<RefreshState<T>>,
    ended: Notify,
}

#[derive(Debug)]
struct RefreshState<T> {
    latest: Option<T>,
    /// Start of the work that is running.
    running_since: Option<Instant>,
}

/// The work took too long, or failed; `latest` is the value of an earlier run.
#[derive(Debug)]
pub struct Late<T> {
    pub latest: Option<T>,
}

impl<T> Default for Refresher<T> {
    fn default() -> Self {
        let state = Mutex::new(RefreshState { latest: None, running_since: None });
        Self(Arc::new(Shared { state, ended: Notify::new() }))
    }
}

impl<T: Clone + Send + 'static> Refresher<T> {
    /// Returns the latest value when it `is_fresh`, and the result of `work` otherwise. Waits until
    /// the work has been running for `patience`, which is not at all when it has hung for longer.
    ///
    /// # Errors
    /// The work did not end in time.
    pub async fn get(
        &self,
        is_fresh: impl FnOnce(&T) -> bool,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late<T>> {
        // Created before the look at the state: it does not miss an end between the two.
        let ended = self.0.ended.notified();
        let since = {
            let mut state = self.0.state();
            match (&state.latest, state.running_since) {
                (Some(latest), _) if is_fresh(latest) => return Ok(latest.clone()),
                (_, Some(since)) => since,
                (_, None) => {
                    let now = Instant::now();
                    state.running_since = Some(now);
                    let run = Run(Arc::clone(&self.0));
                    drop(spawn_blocking(move || run.finish(work())));
                    now
                }
            }
        };
        let left = patience.saturating_sub(since.elapsed());
        let in_time = tokio::time::timeout(left, ended).await.is_ok();
        match (self.0.state().latest.clone(), in_time) {
            (Some(latest), true) => Ok(latest),
            (latest, _) => Err(Late { latest }),
        }
    }

    /// Forgets the latest value, so that the next caller gets a new one.
    pub fn forget(&self) {
        self.0.state().latest = None;
    }

    /// Returns for how long the work that is running has been running; `None` when none is.
    pub fn running_for(&self) -> Option<Duration> {
        self.0.state().running_since.map(|since| since.elapsed())
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, RefreshState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run of the work; ends when dropped, also when the work panics or the runtime stops before it.
struct Run<T>(Arc<Shared<T>>);

impl<T> Run<T> {
    fn finish(self, value: T) {
        self.0.state().latest = Some(value);
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        self.0.state().running_since = None;
        self.0.ended.notify_waiters();
    }
}
