//! Backups and restores while clients write at full speed, and how long requests wait for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::goals::Measure;
use crate::load::{Load, LoadRequest, LoadResult, RunLength};
use crate::numbers::{median, thousands};
use crate::rates::millis;
use crate::report::Report;
use crate::server::{Demo, KEY, Limits, Server, Setup};
use crate::{http, load};

const WRITERS: usize = 8;
const READERS: usize = 8;
/// A year of readings from a watch, about 60 MB.
const YEAR: Demo = Demo { days: 365, coffees_per_day: 4.0, readings_per_day: 1440 };
/// Length of the load without backups, for comparison.
const BASELINE: Duration = Duration::from_secs(5);

/// Measures and rounds for one size of database.
#[derive(Clone, Copy)]
struct BackupMeasures {
    failures: Measure,
    tail: Measure,
    longest: Measure,
    rounds: u32,
}

/// Measures backups under eight writers: of a small database and of one with 5 million readings, which grows by about
/// a million coffees per minute meanwhile.
pub fn backups(setup: &Setup, report: &mut Report) -> Result<()> {
    let small = BackupMeasures {
        failures: Measure::BackupFailures,
        tail: Measure::BackupTail,
        longest: Measure::BackupLongest,
        rounds: setup.length.pick(5, 10, 50),
    };
    let large = BackupMeasures {
        failures: Measure::LargeBackupFailures,
        tail: Measure::LargeBackupTail,
        longest: Measure::LargeBackupLongest,
        rounds: setup.length.pick(0, 3, 10),
    };
    eprintln!("  backups of a file with 36,500 coffees");
    back_up(setup, report, &setup.copy_of_coffees("backups.db")?, small)?;
    if setup.length.is_quick() {
        for measure in [large.failures, large.tail, large.longest] {
            report.skip(measure, "skipped by --quick");
        }
        return Ok(());
    }
    eprintln!("  backups of a file with 5 million readings");
    let readings = setup.copy_of_ten_years("large.db")?;
    back_up(setup, report, &readings, large)?;
    setup.remove(&readings)
}

fn back_up(setup: &Setup, report: &mut Report, database: &Path, measures: BackupMeasures) -> Result<()> {
    let rounds = measures.rounds;
    let server = Server::start(setup, database, Limits::Off)?;
    let folder = database.with_file_name("backups-under-load");
    let baseline = load::run(server.address, &writes(RunLength::Time(BASELINE)))?;
    let mut failed_backups = 0_u32;
    let mut seconds = Vec::new();
    let under_load = while_loaded(&server, writes, || {
        for _ in 0..rounds {
            let began = Instant::now();
            let output = setup
                .command("backup", database)
                .arg("--to")
                .arg(&folder)
                .args(["--create-dir", "--keep", "2", "--quiet"])
                .output()?;
            seconds.push(began.elapsed().as_secs_f64());
            if !output.status.success() {
                failed_backups += 1;
                eprintln!("  a backup failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(())
    })?;
    let times = under_load.all_times();
    let first = under_load.first_failure.clone().unwrap_or_default();
    let detail = format!(
        "{rounds} backups, median {:.2} s; {} writes, {}/s; {first}",
        median(seconds),
        thousands(under_load.succeeded as f64),
        thousands(under_load.rate())
    );
    report.record(measures.failures, under_load.failed as f64 + f64::from(failed_backups), detail);
    let without_backups = |time: Duration| format!("without backups {}", millis(time));
    let (p99, baseline) = (times.percentile(99), baseline.all_times());
    report.record(measures.tail, p99.as_secs_f64() * 1e3, without_backups(baseline.percentile(99)));
    report.record(measures.longest, times.longest().as_secs_f64() * 1e3, without_backups(baseline.longest()));
    server.stop()?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Measures restores that alternate between two backups, under eight writers and eight readers.
pub fn restores(setup: &Setup, report: &mut Report) -> Result<()> {
    let rounds = setup.length.pick(4, 4, 20);
    eprintln!("  restores of a year of readings");
    let database = setup.make_demo("restores.db", YEAR)?;
    let backups = [make_backup(setup, &database)?, make_backup(setup, &setup.copy_of_coffees("other.db")?)?];
    let server = Server::start(setup, &database, Limits::Off)?;
    let mut seconds = Vec::new();
    let result = while_loaded(&server, reads_and_writes, || {
        for backup in backups.iter().cycle().take(rounds) {
            let began = Instant::now();
            let output =
                setup.command("restore", &database).arg(backup).args(["--yes", "--force"]).output()?;
            ensure!(output.status.success(), "a restore failed: {}", String::from_utf8_lossy(&output.stderr));
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(())
    })?;
    let first = result.first_failure.clone().unwrap_or_default();
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0.0, |m| m.len() as f64 / 1e6);
    let detail = format!(
        "{rounds} restores of {:.0} and {:.0} MB, median {:.2} s with the safety copy; {} served; {first}",
        size(&backups[0]),
        size(&backups[1]),
        median(seconds),
        thousands(result.succeeded as f64)
    );
    report.record(Measure::RestoreFailures, result.failed as f64, detail);
    let (writes, reads) = (&result.times[0], &result.times[1]);
    let detail = format!(
        "p99 {}; reads: p99 {}, longest {}",
        millis(writes.percentile(99)),
        millis(reads.percentile(99)),
        millis(reads.longest())
    );
    report.record(Measure::RestoreLongest, writes.longest().as_secs_f64() * 1e3, detail);
    server.stop()?;
    setup.remove(&database)
}

/// Creates a backup of a database beside it.
fn make_backup(setup: &Setup, database: &Path) -> Result<PathBuf> {
    let file = database.with_extension("backup.db");
    let output = setup.command("backup", database).arg("--to").arg(&file).output()?;
    ensure!(output.status.success(), "the backup failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(file)
}

/// Runs a load on another thread while `work` runs.
pub fn while_loaded(
    server: &Server,
    load: fn(RunLength) -> Load,
    work: impl FnOnce() -> Result<()>,
) -> Result<LoadResult> {
    let stop = Arc::new(AtomicBool::new(false));
    let (address, load) = (server.address, load(RunLength::Stopped(Arc::clone(&stop))));
    let running = std::thread::spawn(move || load::run(address, &load));
    let done = work();
    stop.store(true, Ordering::Relaxed);
    let result = running.join().ok().context("the load panicked")??;
    done.map(|()| result)
}

fn coffee() -> LoadRequest {
    LoadRequest::new(0, http::post("/coffee/", KEY, r#"{"caffeine_mg":95,"coffee_type":"espresso"}"#))
}

fn writes(length: RunLength) -> Load {
    Load { requests: vec![coffee()].into(), connections: WRITERS, length }
}

/// Alternating writes and reads. Half of the connections start with a write.
pub fn reads_and_writes(length: RunLength) -> Load {
    let reads = ["/coffee/today", "/heartrate/current", "/heartrate/?limit=50", "/health"];
    let requests = reads.iter().flat_map(|path| [coffee(), LoadRequest::new(1, http::get(path, KEY))]);
    Load { requests: requests.collect(), connections: WRITERS + READERS, length }
}
