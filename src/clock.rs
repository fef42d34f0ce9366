//! Clock that is passed to everything that needs the time, so that tests can set it.
//!
//! It has two times: the wall clock, which may jump, and a monotonic time for limits and durations.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::domain::time::Timestamp;

/// Clock, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(TimeSource);

#[derive(Clone, Debug)]
enum TimeSource {
    System {
        start: Instant,
    },
    /// Microseconds since 1970 and since the clock's creation.
    Manual {
        wall: Arc<AtomicI64>,
        elapsed: Arc<AtomicI64>,
    },
}

impl Clock {
    /// Creates a clock that shows the system's time.
    pub fn system() -> Self {
        Self(TimeSource::System { start: Instant::now() })
    }

    /// Creates a clock that shows `now` until [`Clock::advance`] or [`Clock::set`] is called.
    pub fn manual(now: Timestamp) -> Self {
        let wall = Arc::new(AtomicI64::new(now.micros()));
        Self(TimeSource::Manual { wall, elapsed: Arc::default() })
    }

    /// Returns the time of the wall clock.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            TimeSource::System { .. } => SystemTime::now().into(),
            TimeSource::Manual { wall, .. } => Timestamp::clamped(wall.load(Ordering::SeqCst)),
        }
    }

    /// Returns the monotonic time since the clock's creation.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            TimeSource::System { start } => start.elapsed(),
            TimeSource::Manual { elapsed, .. } => {
                Duration::from_micros(elapsed.load(Ordering::SeqCst).unsigned_abs())
            }
        }
    }

    /// Advances a manual clock. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let TimeSource::Manual { wall, elapsed } = &self.0 {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            wall.fetch_add(micros, Ordering::SeqCst);
            elapsed.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Sets the wall clock of a manual clock, as time synchronization does.
    pub fn set(&self, now: Timestamp) {
        if let TimeSource::Manual { wall, .. } = &self.0 {
            wall.store(now.micros(), Ordering::SeqCst);
        }
    }
}
