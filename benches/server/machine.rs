//! Check that the processors are idle before a run: other load distorts every ratio.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Length of the observation before the run.
const OBSERVATION: Duration = Duration::from_secs(1);
/// Load above which the results are unreliable, in percent.
const MAX_LOAD_PERCENT: f64 = 10.0;

/// Returns a warning when other processes keep the processors busy (Linux only).
pub fn busy_warning() -> Result<Option<String>> {
    let before = Ticks::now()?;
    thread::sleep(OBSERVATION);
    let after = Ticks::now()?;
    let total = (after.total - before.total).max(1.0);
    let percent = 100.0 * (1.0 - (after.idle - before.idle) / total);
    Ok((percent > MAX_LOAD_PERCENT).then(|| {
        format!(
            "Other processes used {percent:.0}% of the processors just before this run: its figures are unreliable."
        )
    }))
}

/// Processor time of all processors since the machine started.
struct Ticks {
    total: f64,
    idle: f64,
}

impl Ticks {
    fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, ...; the time of guests is part of user.
        Ok(Self { total: ticks.iter().take(8).sum(), idle: ticks.iter().skip(3).take(2).sum() })
    }
}
