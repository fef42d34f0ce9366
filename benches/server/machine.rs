//! Whether the machine was free to be measured on: others' work distorts every ratio.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long the processors are watched before anything is started.
const WATCH: Duration = Duration::from_secs(1);
/// Busier than this, the results are doubtful.
const DOUBTFUL_PERCENT: f64 = 10.0;

/// A sentence when others keep the processors busy now.
///
/// # Errors
/// This is not Linux.
pub fn doubts() -> Result<Option<String>> {
    let before = Ticks::now()?;
    thread::sleep(WATCH);
    let after = Ticks::now()?;
    let total = (after.total - before.total).max(1.0);
    let percent = 100.0 * (1.0 - (after.idle - before.idle) / total);
    Ok((percent > DOUBTFUL_PERCENT).then(|| {
        format!(
            "Others kept the processors {percent:.0}% busy just before this run: do not trust its figures."
        )
    }))
}

/// Processor time since the start of the machine, of all processors together.
struct Ticks {
    total: f64,
    idle: f64,
}

impl Ticks {
    fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("an empty /proc/stat")?;
        let ticks: Vec<f64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, ...; time of guests is counted in user already.
        Ok(Self { total: ticks.iter().take(8).sum(), idle: ticks.iter().skip(3).take(2).sum() })
    }
}
