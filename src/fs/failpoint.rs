//! Named points at which a test kills the process, as a power cut would.
//!
//! In a debug build the variable `COFFEE_TRACKER_KILL_AT=NAME` (or `NAME:3` for the third time) selects the
//! point. In a release build they do nothing.

/// Kills the process if this point was selected.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TIMES: AtomicU32 = AtomicU32::new(0);

    let Ok(wanted) = std::env::var("COFFEE_TRACKER_KILL_AT") else { return };
    let (wanted, time) = wanted.split_once(':').unwrap_or((wanted.as_str(), "1"));
    if wanted == name && Ok(TIMES.fetch_add(1, Ordering::Relaxed) + 1) == time.parse() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn failpoint(_: &str) {}
