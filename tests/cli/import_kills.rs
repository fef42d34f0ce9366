//! Kill -9 at every step of an import: each transaction is there whole or not at all, and the
//! same import, given again, ends as an undisturbed one.
//!
//! `KILLS` sets how many kills (a fifth of it; 10), `KILL_SEED` repeats a run's moments.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::{Signal, kill_process};

use crate::helpers::{Running, Server, folder, number};
use crate::keeping::{State, assert_integrity, assert_tidy, copy_of, make, state, tracker};

/// Rows of the file: every tenth is there twice, some are in the database already.
const ROWS: i64 = 30_000;

fn write_file(folder: &Path) {
    let mut file = fs::File::create(folder.join("readings.csv")).unwrap();
    writeln!(file, "timestamp,bpm,context,notes,source").unwrap();
    for n in 0..ROWS {
        let n = if n % 10 == 9 { n - 1 } else { n };
        // As `make` has them, the first thousand.
        writeln!(file, "{},{},resting,now-{n},", at(1_760_000_000_000_000 + n * 100_000), 60 + n % 90)
            .unwrap();
    }
}

fn at(micros: i64) -> String {
    coffee_tracker::domain::time::Timestamp::clamped(micros).to_string()
}

fn import(folder: &Path) -> Command {
    tracker(folder, &["import", "readings.csv", "--backup-dir", "backups"])
}

/// A folder with a database of 100 coffees and 1,000 readings, and the file.
fn prepared() -> tempfile::TempDir {
    let folder = folder();
    make(folder.path(), "now", 100);
    write_file(folder.path());
    folder
}

/// The rows, whatever their ids are: those differ with the order in which they came.
fn without_ids(folder: &Path) -> Vec<String> {
    let state: State = state(&folder.join("coffee.db")).unwrap();
    let mut rows: Vec<String> = state.readings.into_iter().chain(state.coffees).collect();
    rows.iter_mut().for_each(|row| drop(row.drain(..=row.find('|').unwrap())));
    rows.sort_unstable();
    rows
}

/// Runs the import and kills it; false when it had ended.
fn kill(folder: &Path, step: Option<&str>, after: Duration) -> bool {
    let mut command = import(folder);
    if let Some(step) = step {
        let ended = Running::spawn(command.env("COFFEE_TRACKER_KILL_AT", step)).end();
        assert_eq!(ended.signal, Some(9), "it never came to {step}: {ended:?}");
        return true;
    }
    let running = Running::spawn(&mut command);
    std::thread::sleep(after);
    // It fails when it has ended.
    let _ = kill_process(running.pid(), Signal::KILL);
    running.end().signal == Some(9)
}

/// Kills one, looks, repeats it, compares with an undisturbed one.
fn round(undisturbed: &[String], step: Option<&str>, after: Duration, served: bool) -> String {
    let folder = prepared();
    let server = served.then(|| Server::start(folder.path()));
    let was_killed = kill(folder.path(), step, after);
    let (_copy, looked) = copy_of(&folder.path().join("coffee.db"));
    assert_integrity(&looked);
    let stored = number(&looked, "select count(*) from heart_rate_logs");
    assert!((1000..=1000 + ROWS).contains(&stored), "{stored}");
    let ended = Running::spawn(&mut import(folder.path())).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    if let Some(server) = server {
        assert_eq!(server.get("/heartrate/current").status, 200);
        server.stop_well();
    }
    assert!(without_ids(folder.path()) == undisturbed, "not as an undisturbed import leaves it");
    assert_tidy(folder.path());
    format!("{step:?} {after:?}: {stored} readings stored{}", if was_killed { "" } else { " (too late)" })
}

#[test]
fn an_import_killed_at_any_moment_and_given_again_ends_as_an_undisturbed_one() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = setting("KILL_SEED").unwrap_or_else(now);
    let kills = setting("KILLS").map_or(10, |n| n / 5).max(6);
    println!("{kills} kills, KILL_SEED={seed}");
    let whole = prepared();
    assert_eq!(Running::spawn(&mut import(whole.path())).end().code, Some(0));
    let undisturbed = without_ids(whole.path());
    assert!(undisturbed.len() > 30_000, "{}", undisturbed.len());
    let mut random = fastrand::Rng::with_seed(seed);
    let steps = ["import.batch", "import.batch:2", "import.end"];
    for n in 0..usize::try_from(kills).unwrap() {
        let step = (n < 2 * steps.len()).then(|| steps[n % steps.len()]);
        let after = Duration::from_millis(random.u64(1..=600));
        println!("{}", round(&undisturbed, step, after, n % 2 == 0));
    }
}
