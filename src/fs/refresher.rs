//! Cache for a value that is read from disk, for callers that must not wait for a hanging disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// Cached value that blocking work computes, one run at a time.
///
/// Work that hangs occupies one thread and no lock, however many callers wait for it.
#[derive(Debug)]
pub struct Refresher<T>(Arc<RefresherState<T>>);

#[derive(Debug)]
struct RefresherState<T> {
    state: Mutex<RefreshState<T>>,
    ended: Notify,
}

#[derive(Debug)]
struct RefreshState<T> {
    latest: Option<T>,
    /// Start of the current run.
    running_since: Option<Instant>,
}

/// Error of a run that took too long or failed; `latest` is the value of an earlier run.
#[derive(Debug)]
pub struct Late<T> {
    pub latest: Option<T>,
}

impl<T> Default for Refresher<T> {
    fn default() -> Self {
        let state = Mutex::new(RefreshState { latest: None, running_since: None });
        Self(Arc::new(RefresherState { state, ended: Notify::new() }))
    }
}

impl<T: Clone + Send + 'static> Refresher<T> {
    /// Returns the cached value when it `is_fresh`, and otherwise the result of `work`. Waits at most
    /// `patience`, counted from the start of the run.
    pub async fn get(
        &self,
        is_fresh: impl FnOnce(&T) -> bool,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late<T>> {
        // Created before the state is read, so that the end of a run in between is not missed.
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

    /// Drops the cached value.
    pub fn forget(&self) {
        self.0.state().latest = None;
    }

    /// Returns the duration of the current run, or `None` when there is none.
    pub fn running_for(&self) -> Option<Duration> {
        self.0.state().running_since.map(|since| since.elapsed())
    }
}

impl<T> RefresherState<T> {
    fn state(&self) -> MutexGuard<'_, RefreshState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard of one run. It ends the run when dropped, also on a panic or when the runtime stops.
struct Run<T>(Arc<RefresherState<T>>);

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
