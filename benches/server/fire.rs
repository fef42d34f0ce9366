//! Backups and restores while clients write at full speed: what a request waits for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::footprint::READINGS;
use crate::load::{Load, Shot, Tally, Until};
use crate::rates::millis;
use crate::report::{Measure, Report, median, thousands};
use crate::server::{Demo, KEY, Limits, Server, Setup};
use crate::{http, load};

const WRITERS: usize = 8;
const READERS: usize = 8;
/// Some 60 MB: what a year of a watch makes of a file.
const YEAR: Demo = Demo { days: 365, coffees_per_day: 4.0, readings_per_day: 1440 };
/// How long the load runs alone, for comparison.
const ALONE: Duration = Duration::from_secs(5);

/// The measures of one size of file.
#[derive(Clone, Copy)]
struct Wanted {
    failures: Measure,
    tail: Measure,
    longest: Measure,
    rounds: u32,
}

/// Backups in a row under eight writers: fifty of a small file, ten of one with 5 million readings,
/// which at full speed grows by a million coffees in every minute that they take.
///
/// # Errors
/// The server does not come up, or no backup can be made.
pub fn backups(setup: &Setup, report: &mut Report) -> Result<()> {
    let small = Wanted {
        failures: Measure::BackupFailures,
        tail: Measure::BackupTail,
        longest: Measure::BackupLongest,
        rounds: if setup.quick { 5 } else { 50 },
    };
    let large = Wanted {
        failures: Measure::LargeBackupFailures,
        tail: Measure::LargeBackupTail,
        longest: Measure::LargeBackupLongest,
        rounds: 10,
    };
    eprintln!("  backups of a file with 36,500 coffees");
    back_up(setup, report, &setup.copy_of_coffees("backups.db")?, small)?;
    if setup.quick {
        for measure in [large.failures, large.tail, large.longest] {
            report.skip(measure, "left out by --quick");
        }
        return Ok(());
    }
    eprintln!("  backups of a file with 5 million readings");
    let readings = setup.make_demo("large.db", READINGS)?;
    back_up(setup, report, &readings, large)?;
    setup.remove(&readings)
}

fn back_up(setup: &Setup, report: &mut Report, database: &Path, wanted: Wanted) -> Result<()> {
    let rounds = wanted.rounds;
    let server = Server::start(setup, database, Limits::Off)?;
    let folder = database.with_file_name("backups-under-fire");
    let alone = load::run(server.address, &writes(Until::Over(ALONE)))?;
    let mut failed = 0_u32;
    let mut seconds = Vec::new();
    let under_load = while_loaded(&server, writes, || {
        for _ in 0..rounds {
            let began = Instant::now();
            let made = setup
                .command("backup", database)
                .arg("--to")
                .arg(&folder)
                .args(["--keep", "2", "--quiet"])
                .output()?;
            seconds.push(began.elapsed().as_secs_f64());
            if !made.status.success() {
                failed += 1;
                eprintln!("  a backup failed: {}", String::from_utf8_lossy(&made.stderr).trim());
            }
        }
        Ok(())
    })?;
    let times = under_load.all_times();
    let first = under_load.first_bad.clone().unwrap_or_default();
    let detail = format!(
        "{rounds} backups, median {:.2} s; {} writes, {}/s; {first}",
        median(seconds),
        thousands(under_load.good as f64),
        thousands(under_load.rate())
    );
    report.record(wanted.failures, under_load.bad as f64 + f64::from(failed), detail);
    let beside = |time: Duration| format!("without backups {}", millis(time));
    let (p99, alone) = (times.percentile(99), alone.all_times());
    report.record(wanted.tail, p99.as_secs_f64() * 1e3, beside(alone.percentile(99)));
    report.record(wanted.longest, times.longest().as_secs_f64() * 1e3, beside(alone.longest()));
    server.stop()?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Twenty restores back and forth between two states under writers and readers.
///
/// # Errors
/// The server does not come up, or a restore fails.
pub fn restores(setup: &Setup, report: &mut Report) -> Result<()> {
    let rounds = if setup.quick { 4 } else { 20 };
    eprintln!("  restores of a year of readings");
    let database = setup.make_demo("restores.db", YEAR)?;
    let states = [one_state(setup, &database)?, one_state(setup, &setup.copy_of_coffees("other.db")?)?];
    let server = Server::start(setup, &database, Limits::Off)?;
    let mut seconds = Vec::new();
    let tally = while_loaded(&server, reads_and_writes, || {
        for state in states.iter().cycle().take(rounds) {
            let began = Instant::now();
            let done = setup.command("restore", &database).arg(state).arg("--yes").output()?;
            ensure!(done.status.success(), "a restore failed: {}", String::from_utf8_lossy(&done.stderr));
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(())
    })?;
    let first = tally.first_bad.clone().unwrap_or_default();
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0.0, |m| m.len() as f64 / 1e6);
    let detail = format!(
        "{rounds} restores of {:.0} and {:.0} MB, median {:.2} s with the safety copy; {} served; {first}",
        size(&states[0]),
        size(&states[1]),
        median(seconds),
        thousands(tally.good as f64)
    );
    report.record(Measure::RestoreFailures, tally.bad as f64, detail);
    let (writes, reads) = (&tally.times[0], &tally.times[1]);
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

/// A backup of a database, to go back to.
fn one_state(setup: &Setup, database: &Path) -> Result<PathBuf> {
    let file = database.with_extension("state.db");
    let made = setup.command("backup", database).arg("--to").arg(&file).output()?;
    ensure!(made.status.success(), "no backup: {}", String::from_utf8_lossy(&made.stderr));
    Ok(file)
}

/// Runs a load on its own thread for as long as `work` takes.
fn while_loaded(
    server: &Server,
    load: fn(Until) -> Load,
    work: impl FnOnce() -> Result<()>,
) -> Result<Tally> {
    let told = Arc::new(AtomicBool::new(false));
    let (address, load) = (server.address, load(Until::Told(Arc::clone(&told))));
    let running = std::thread::spawn(move || load::run(address, &load));
    let done = work();
    told.store(true, Ordering::Relaxed);
    let tally = running.join().ok().context("the load panicked")??;
    done.map(|()| tally)
}

fn coffee() -> Shot {
    Shot::new(0, http::post("/coffee/", KEY, r#"{"caffeine_mg":95,"coffee_type":"espresso"}"#))
}

fn writes(until: Until) -> Load {
    Load { shots: vec![coffee()].into(), connections: WRITERS, until }
}

/// Half of the connections begin with a write, half with a read; all alternate.
fn reads_and_writes(until: Until) -> Load {
    let reads = ["/coffee/today", "/heartrate/current", "/heartrate/?limit=50", "/health"];
    let shots = reads.iter().flat_map(|path| [coffee(), Shot::new(1, http::get(path, KEY))]);
    Load { shots: shots.collect(), connections: WRITERS + READERS, until }
}
