//! What time it is. Handed to whoever needs it, so that no test sleeps.
//!
//! Two times: the wall clock, which people read and which may jump, and a monotonic
//! one, which limits and durations use.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::domain::time::Timestamp;

/// A source of time, cheap to copy.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Instant,
    },
    /// Microseconds since 1970 and since its start; both move only when told.
    Manual {
        wall: Arc<AtomicI64>,
        elapsed: Arc<AtomicI64>,
    },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// A clock that stands still at `now` until [`Clock::advance`] or [`Clock::set`].
    pub fn manual(now: Timestamp) -> Self {
        let wall = Arc::new(AtomicI64::new(now.micros()));
        Self(Source::Manual { wall, elapsed: Arc::default() })
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => SystemTime::now().into(),
            Source::Manual { wall, .. } => Timestamp::clamped(wall.load(Ordering::SeqCst)),
        }
    }

    /// Time since this clock was made; never goes back.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System { start } => start.elapsed(),
            Source::Manual { elapsed, .. } => {
                Duration::from_micros(elapsed.load(Ordering::SeqCst).unsigned_abs())
            }
        }
    }

    /// Moves a manual clock on; the machine's clocks move by themselves.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { wall, elapsed } = &self.0 {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            wall.fetch_add(micros, Ordering::SeqCst);
            elapsed.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Sets a manual clock's wall time, as a battery-less machine does when it hears the time.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual { wall, .. } = &self.0 {
            wall.store(now.micros(), Ordering::SeqCst);
        }
    }
}
