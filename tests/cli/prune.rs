//! `prune`: prints what it would delete, deletes only with `--yes`, and makes a backup first.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::helpers::{CommandResult, Server, database, number, program, run, temporary_folder};

fn prune(folder: &Path, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["prune", "--database-url", "coffee.db"]).args(args).env("TZ", "Europe/Berlin");
    run(&mut command)
}

/// Adds three coffees, and one reading per hour from 2024-01-01T00:00Z.
fn fill(folder: &Path, readings: u32) {
    let fill = format!(
        "insert into coffee_logs (timestamp, caffeine_mg) values
           (1703980799999999, 1), (1704063600000000, 2), (1706742000000000, 3);
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {readings})
         insert into heart_rate_logs (timestamp, bpm, context)
         select 1704067200000000 + i * 3600000000, 60 + i % 40, 'resting' from n"
    );
    Connection::open(folder.join("coffee.db")).unwrap().execute_batch(&fill).unwrap();
}

fn counts(path: &Path) -> (i64, i64) {
    let connection = Connection::open(path).unwrap();
    (
        number(&connection, "select count(*) from coffee_logs"),
        number(&connection, "select count(*) from heart_rate_logs"),
    )
}

fn backups(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("backups")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn without_yes_prune_only_prints_what_it_would_remove() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    fill(folder.path(), 1000);
    let result = prune(folder.path(), &["--before", "2024-01-02"]);
    assert_eq!((result.code, result.err.as_str()), (Some(0), ""), "{result:?}");
    assert_eq!(
        result.out,
        "2 coffees before 2024-01-01T23:00:00.000000Z (from 2023-12-30T23:59:59.999999Z to 2023-12-31T23:00:00.000000Z), 1 to keep\n\
         23 readings before 2024-01-01T23:00:00.000000Z (from 2024-01-01T00:00:00.000000Z to 2024-01-01T22:00:00.000000Z), 977 to keep\n\
         nothing was deleted: add --yes to delete these entries, after a backup\n"
    );
    let result = prune(folder.path(), &["--before", "2023-12-31T23:00:00Z", "--coffee"]);
    assert!(result.out.starts_with("1 coffee before 2023-12-31T23:00:00.000000Z ("), "{}", result.out);
    let result = prune(folder.path(), &["--before", "2001-01-01", "--heartrate", "--yes"]);
    assert_eq!(
        result.out,
        "0 readings before 2000-12-31T23:00:00.000000Z, 1,000 to keep\nnothing to delete\n"
    );
    assert_eq!(counts(&folder.path().join("coffee.db")), (3, 1000));
    assert!(backups(folder.path()).is_empty());
}

#[test]
fn with_yes_prune_backs_up_and_removes_only_older_entries() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    fill(folder.path(), 1000);
    let result = prune(folder.path(), &["--before", "2024-01-02", "--heartrate", "--yes"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    let lines: Vec<&str> = result.out.lines().skip(1).collect();
    let backup = &backups(folder.path())[0];
    let relative = format!("backup: backups/{}", backup.file_name().unwrap().to_str().unwrap());
    assert_eq!(
        lines,
        [
            &relative,
            "deleted 23 readings",
            "the freed space is reused for later entries; the file does not shrink"
        ]
    );
    assert_eq!(counts(backup), (3, 1000), "the backup has everything");
    assert_eq!(counts(&folder.path().join("coffee.db")), (3, 977));
    let connection = database(folder.path());
    assert_eq!(number(&connection, "select min(timestamp) from heart_rate_logs"), 1_704_150_000_000_000);

    assert_eq!(prune(folder.path(), &["--before", "2024-01-02", "--yes"]).code, Some(0));
    assert_eq!(counts(&folder.path().join("coffee.db")), (1, 977), "without a type, both are deleted");
    assert_eq!(
        prune(
            folder.path(),
            &["--before", "2024-01-31T23:00:00.000001Z", "--yes", "--coffee", "--heartrate"]
        )
        .code,
        Some(0)
    );
    assert_eq!(counts(&folder.path().join("coffee.db")), (0, 256), "with both types, both are deleted");
    assert_eq!(backups(folder.path()).len(), 3);
    let verdict = "select count(*) from pragma_integrity_check where integrity_check = 'ok'";
    assert_eq!(number(&database(folder.path()), verdict), 1);
}

#[test]
fn with_since_prune_shows_and_removes_only_the_entries_of_the_period() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    fill(folder.path(), 1000);
    let period = ["--since", "2024-01-01T02:00:00Z", "--before", "2024-01-01T05:00:00Z"];
    let shown = prune(folder.path(), &period);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""), "{shown:?}");
    assert_eq!(
        shown.out,
        "0 coffees since 2024-01-01T02:00:00.000000Z and before 2024-01-01T05:00:00.000000Z, 3 to keep\n\
         3 readings since 2024-01-01T02:00:00.000000Z and before 2024-01-01T05:00:00.000000Z \
         (from 2024-01-01T02:00:00.000000Z to 2024-01-01T04:00:00.000000Z), 997 to keep\n\
         nothing was deleted: add --yes to delete these entries, after a backup\n"
    );
    let [since, start, before, end] = period;
    let result = prune(folder.path(), &[since, start, before, end, "--yes"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(result.out.contains("\ndeleted 0 coffees\ndeleted 3 readings\n"), "{}", result.out);
    let readings =
        "select count(*) from heart_rate_logs where timestamp between 1704070800000000 and 1704085200000000";
    // Those of 01:00 and 05:00 are left.
    assert_eq!(number(&database(folder.path()), readings), 2);
    assert_eq!(counts(&backups(folder.path())[0]), (3, 1000));
    let empty =
        prune(folder.path(), &["--since", "2024-01-02", "--before", "2024-01-02", "--coffee", "--yes"]);
    assert!(empty.out.ends_with("nothing to delete\n"), "{}", empty.out);
}

#[test]
fn a_server_keeps_writing_during_a_prune() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    fill(folder.path(), 300_000);
    // 300,000 hours are 34 years: moves the readings from the future to the past.
    let all = "update heart_rate_logs set timestamp = timestamp / 10";
    Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(all).unwrap();
    let (is_done, mut writes, mut slowest) = (AtomicBool::new(false), 0, Duration::ZERO);
    let result = std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let result = prune(folder.path(), &["--before", "2023-01-01", "--heartrate", "--yes"]);
            is_done.store(true, Ordering::SeqCst);
            result
        });
        let mut client = server.client();
        while !is_done.load(Ordering::SeqCst) {
            let start = Instant::now();
            assert_eq!(client.post("/heartrate/", r#"{"bpm": 61}"#).status, 201);
            slowest = slowest.max(start.elapsed());
            writes += 1;
        }
        pruning.join().unwrap()
    });
    println!("{writes} concurrent writes, the slowest took {slowest:?}");
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(result.out.contains("\ndeleted 300,000 readings\n"), "{}", result.out);
    assert!(writes > 10, "{writes}");
    assert_eq!(counts(&folder.path().join("coffee.db")), (3, writes));
    assert_eq!(server.get("/health").json()["status"], "alive");
    server.stop_cleanly();
}

#[test]
fn invalid_arguments_are_rejected_and_change_nothing() {
    let folder = temporary_folder();
    for (args, reason) in [
        (
            &["--before", "soon"][..],
            "coffee-tracker: --before must be a date or a time, such as 2025-07-23 or 2025-07-23T14:30:00Z (got \"soon\")\n",
        ),
        (
            &["--before", "2999-01-01", "--yes"],
            "coffee-tracker: --before must not be in the future (got \"2999-01-01\")\n",
        ),
        (
            &["--since", "soon", "--before", "2024-01-01"],
            "coffee-tracker: --since must be a date or a time, such as 2025-07-23 or 2025-07-23T14:30:00Z (got \"soon\")\n",
        ),
        (
            &["--since", "2024-01-02", "--before", "2024-01-01", "--yes"],
            "coffee-tracker: --before must not be before --since\n",
        ),
    ] {
        let refused = prune(folder.path(), args);
        assert_eq!((refused.code, refused.err.as_str()), (Some(2), reason));
    }
    assert_eq!(prune(folder.path(), &[]).code, Some(2));
    let missing = prune(folder.path(), &["--before", "2024-01-01", "--yes"]);
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (
            Some(78),
            "coffee-tracker: there is no database at coffee.db: start the server once to create it, or set DATABASE_URL\n"
        )
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    Server::start(folder.path()).stop_cleanly();
    fill(folder.path(), 100);
    // A file in place of the backup folder.
    std::fs::write(folder.path().join("backups"), "in the way").unwrap();
    let refused = prune(folder.path(), &["--before", "2024-01-02", "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.starts_with("coffee-tracker: nothing was deleted, because the backup failed: "),
        "{}",
        refused.err
    );
    assert_eq!(counts(&folder.path().join("coffee.db")), (3, 100));
}
