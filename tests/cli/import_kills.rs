//! SIGKILL at every step of an import: each transaction is stored entirely or not at all, and repeating the import gives the
//! result of an uninterrupted one.
//!
//! A fifth of `KILLS` sets the number of kills (10). `TEST_SEED` repeats the moments of a run.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::fixtures::{
    State, assert_integrity, assert_no_leftovers, command_in, make_database, open_copy, state,
};
use crate::helpers::{Process, Server, number, number_from_env, temporary_folder, test_seed};

/// Number of rows in the file. Every tenth is a duplicate, and some are already in the database.
const ROWS: i64 = 30_000;

fn write_file(folder: &Path) {
    let mut file = fs::File::create(folder.join("readings.csv")).unwrap();
    writeln!(file, "timestamp,bpm,context,notes,source").unwrap();
    for n in 0..ROWS {
        let n = if n % 10 == 9 { n - 1 } else { n };
        // The first thousand are equal to those of `make_database`.
        writeln!(file, "{},{},resting,now-{n},", at(1_760_000_000_000_000 + n * 100_000), 60 + n % 90)
            .unwrap();
    }
}

fn at(micros: i64) -> String {
    coffee_tracker::domain::time::Timestamp::clamped(micros).to_string()
}

fn import(folder: &Path) -> Command {
    command_in(folder, &["import", "readings.csv", "--backup-dir", "backups"])
}

/// Creates a folder with a database of 100 coffees and 1,000 readings, and the file.
fn prepare() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 100);
    write_file(folder.path());
    folder
}

/// Returns the rows without ids, which depend on the order of the insertions.
fn without_ids(folder: &Path) -> Vec<String> {
    let state: State = state(&folder.join("coffee.db")).unwrap();
    let mut rows: Vec<String> = state.readings.into_iter().chain(state.coffees).collect();
    rows.iter_mut().for_each(|row| drop(row.drain(..=row.find('|').unwrap())));
    rows.sort_unstable();
    rows
}

/// Runs the import and kills it. Returns `false` when it had already ended.
fn kill(folder: &Path, step: Option<&str>, after: Duration) -> bool {
    let mut command = import(folder);
    if let Some(step) = step {
        let result = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", step)).wait();
        assert_eq!(result.signal, Some(9), "the step {step} was not reached: {result:?}");
        return true;
    }
    let running = Process::spawn(&mut command);
    std::thread::sleep(after);
    // Fails when the process has already exited.
    let _ = kill_process(running.pid(), Signal::KILL);
    running.wait().signal == Some(9)
}

/// Kills an import, checks the database, repeats the import and compares the result with an uninterrupted one.
fn kill_and_repeat(
    uninterrupted: &[String],
    step: Option<&str>,
    after: Duration,
    with_server: bool,
) -> String {
    let folder = prepare();
    let server = with_server.then(|| Server::start(folder.path()));
    let was_killed = kill(folder.path(), step, after);
    let (_folder, copy) = open_copy(&folder.path().join("coffee.db"));
    assert_integrity(&copy);
    let stored = number(&copy, "select count(*) from heart_rate_logs");
    assert!((1000..=1000 + ROWS).contains(&stored), "{stored}");
    let result = Process::spawn(&mut import(folder.path())).wait();
    assert_eq!(result.code, Some(0), "{result:?}");
    if let Some(server) = server {
        assert_eq!(server.get("/heartrate/current").status, 200);
        server.stop_cleanly();
    }
    assert!(
        without_ids(folder.path()) == uninterrupted,
        "the result differs from that of an uninterrupted import"
    );
    assert_no_leftovers(folder.path());
    format!("{step:?} {after:?}: {stored} readings stored{}", if was_killed { "" } else { " (too late)" })
}

#[test]
fn repeating_a_killed_import_gives_the_result_of_an_uninterrupted_one() {
    let kills = number_from_env("KILLS").map_or(10, |n| n / 5).max(6);
    println!("{kills} kills");
    let folder = prepare();
    assert_eq!(Process::spawn(&mut import(folder.path())).wait().code, Some(0));
    let uninterrupted = without_ids(folder.path());
    assert!(uninterrupted.len() > 30_000, "{}", uninterrupted.len());
    let mut random = fastrand::Rng::with_seed(test_seed());
    let steps = ["import.batch", "import.batch:2", "import.end"];
    for n in 0..usize::try_from(kills).unwrap() {
        let step = (n < 2 * steps.len()).then(|| steps[n % steps.len()]);
        let after = Duration::from_millis(random.u64(1..=600));
        println!("{}", kill_and_repeat(&uninterrupted, step, after, n % 2 == 0));
    }
}
