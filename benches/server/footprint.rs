//! Size of the binary, memory of an idle server, and time to start.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::goals::Measure;
use crate::numbers::median;
use crate::report::Report;
use crate::server::{Limits, Server, Setup};

/// Number of measured starts.
const STARTS: usize = 7;
/// Time between the two measurements of the idle memory.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures size, memory and starts.
pub fn footprint(setup: &Setup, report: &mut Report) -> Result<()> {
    eprintln!("  size, idle memory, starts");
    let size = std::fs::metadata(&setup.binary).with_context(|| setup.binary.display().to_string())?.len();
    report.record(Measure::BinarySize, size as f64, format!("{size} bytes"));
    let coffees = setup.copy_of_coffees("footprint.db")?;
    let server = Server::start(setup, &coffees, Limits::Off)?;
    let immediate = server.resident_bytes()?;
    thread::sleep(SETTLE);
    let later = server.resident_bytes()?;
    let detail = "VmRSS, the larger of right after the first response and a second later".to_owned();
    report.record(Measure::IdleMemory, immediate.max(later) as f64, detail);
    server.stop()?;
    starts(setup, report, Measure::StartOnCoffees, &coffees)?;
    if setup.length.is_quick() {
        report.skip(Measure::StartOnReadings, "skipped by --quick");
        return Ok(());
    }
    eprintln!("  5 million readings");
    let readings = setup.copy_of_ten_years("readings.db")?;
    starts(setup, report, Measure::StartOnReadings, &readings)?;
    setup.remove(&readings)
}

/// Records the median of several starts.
fn starts(setup: &Setup, report: &mut Report, measure: Measure, database: &Path) -> Result<()> {
    let mut millis = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(setup, database, Limits::Off)?;
        millis.push(server.started_in.as_secs_f64() * 1e3);
        server.stop()?;
    }
    let longest = millis.iter().copied().fold(0.0, f64::max);
    report.record(measure, median(millis), format!("median of {STARTS}, longest {longest:.1} ms"));
    Ok(())
}
