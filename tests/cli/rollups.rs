//! Rollups: built by migrations, updated by imports, prunes and restores, verified and rebuilt.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{assert_fails_with, downgrade_schema, run_in, run_ok};
use crate::helpers::{Server, database, number, program, rows, run, temporary_folder, wait_until};

/// Creates a folder with a database of 90 days of sample data.
fn create_demo_database() -> TempDir {
    let folder = temporary_folder();
    let mut demo = program(folder.path());
    let demo = demo.args(["demo", "--days", "90", "--readings-per-day", "200"]);
    assert_eq!(run(demo.envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")])).code, Some(0));
    folder
}

/// Returns every row of the rollup tables.
fn rollups(folder: &Path) -> [Vec<String>; 3] {
    let database = database(folder);
    ["days", "blocks", "hours"].map(|table| rows(&database, &format!("select * from heart_rate_{table}")))
}

pub fn differing_rollups(folder: &Path, file: &str) -> Value {
    let found = run_in(folder, &["verify", "--json", file]);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((&found["restorable"], &found["reasons"]), (&json!(true), &json!([])), "{found}");
    found["miscounted"].clone()
}

/// Makes every rollup table wrong.
fn corrupt_rollups(folder: &Path, file: &str) {
    let connection = Connection::open(folder.join(file)).unwrap();
    connection
        .execute_batch(
            "update heart_rate_days set count = count + 1 where bpm = (select min(bpm) from heart_rate_days);
             delete from heart_rate_blocks where bpm = 60;
             insert into heart_rate_hours values (7, 1, 60, 60, 60);
             update heart_rate_packed_days set readings = x'01' where day % 20 = 0",
        )
        .unwrap();
}

#[test]
fn rollups_of_an_older_file_are_built_on_migration_and_on_restore() {
    let folder = create_demo_database();
    let before = rollups(folder.path());
    assert!(before.iter().all(|table| !table.is_empty()));
    run_ok(folder.path(), &["backup", "--to", "old.db"]);
    for file in ["coffee.db", "old.db"] {
        downgrade_schema(&folder.path().join(file));
    }
    let mut server = Server::start(folder.path());
    assert!(rollups(folder.path()) == before);
    assert_eq!(
        fs::read_dir(folder.path().join("backups")).unwrap().count(),
        1,
        "the older file was not backed up"
    );
    let log = server.process.err.text();
    let (begin, end) = (
        "the database has schema 1: backing it up, then bringing it to 7",
        "the database has schema 7 seconds=",
    );
    assert!(log.find(begin) < log.find(end) && log.contains(begin), "{log}");
    assert_eq!(server.client().post("/heartrate/", r#"{"bpm": 199}"#).status, 201);
    assert!(rollups(folder.path()) != before);
    run_ok(folder.path(), &["restore", "old.db", "--yes"]);
    assert!(rollups(folder.path()) == before);
    assert!(!server.process.has_ended());
    server.stop_cleanly();
    assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
    let version = number(&Connection::open(folder.path().join("old.db")).unwrap(), "pragma user_version");
    assert_eq!(version, 1, "the backup has changed");
}

#[test]
fn imports_and_prunes_keep_the_rollups_correct() {
    let (from, to) = (create_demo_database(), temporary_folder());
    run_ok(from.path(), &["export", "heartrate", "-o", "heart.csv"]);
    let file = from.path().join("heart.csv");
    run_ok(to.path(), &["import", file.to_str().unwrap()]);
    assert!(rollups(to.path()) == rollups(from.path()));
    // While a server writes, and with duplicates only.
    let server = Server::start(to.path());
    assert_eq!(server.client().post("/heartrate/", r#"{"bpm": 199, "context": "new"}"#).status, 201);
    run_ok(to.path(), &["import", file.to_str().unwrap()]);
    let day = rows(
        &database(to.path()),
        "select date(max(day) * 86400 - 5000000, 'unixepoch') from heart_rate_days",
    );
    let day = day[0].trim_start_matches("Text(\"").trim_end_matches("\")").to_owned();
    run_ok(to.path(), &["prune", "--before", &format!("{day}T11:22:33Z"), "--yes"]);
    server.stop_cleanly();
    assert_eq!(differing_rollups(to.path(), "coffee.db"), json!([]));
    let (counted, readings) =
        ("select sum(count) from heart_rate_hours", "select count(*) from heart_rate_logs");
    let database = database(to.path());
    assert_eq!(number(&database, counted), number(&database, readings));
}

#[test]
fn wrong_rollups_are_reported_and_fixed_by_recount_or_restore() {
    let folder = create_demo_database();
    let expected = rollups(folder.path());
    for file in ["coffee.db", "then.db"] {
        if file == "then.db" {
            run_ok(folder.path(), &["backup", "--to", file]);
        }
        corrupt_rollups(folder.path(), file);
        assert_eq!(
            differing_rollups(folder.path(), file),
            json!(["heart_rate_days", "heart_rate_blocks", "heart_rate_hours", "heart_rate_packed_days"])
        );
        let verified = run_in(folder.path(), &["verify", file]);
        assert_fails_with(
            &verified,
            1,
            "1 file with wrong rollups: rebuild them with `coffee-tracker recount`",
        );
        if file == "coffee.db" {
            let checked = run_in(folder.path(), &["check"]);
            assert!(
                checked.out.contains("its rollups are wrong: run `coffee-tracker recount`"),
                "{}",
                checked.out
            );
            let server = Server::start(folder.path());
            let result = run_ok(folder.path(), &["recount"]);
            assert!(
                result.out.starts_with("rebuilt the rollups of ") && result.out.ends_with(" in coffee.db\n"),
                "{}",
                result.out
            );
            server.stop_cleanly();
        } else {
            run_ok(folder.path(), &["restore", file, "--yes"]);
        }
        assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
        assert!(rollups(folder.path()) == expected, "{file}");
    }
    let nowhere = temporary_folder();
    assert_fails_with(&run_in(nowhere.path(), &["recount"]), 78, "there is no database at coffee.db");
}

#[test]
fn an_idle_server_packs_past_days_once_without_changing_responses() {
    let folder = create_demo_database();
    let server = Server::start(folder.path());
    let correlation = || server.get("/heartrate/correlation?days=3650").json();
    let expected = correlation();
    let pending = "select count(*) from heart_rate_packed_days
                   where readings is null and day < cast(strftime('%s', 'now') as integer) / 86400";
    wait_until("all past days are packed", || number(&database(folder.path()), pending) == 0);
    let packed = "select count(*) from heart_rate_packed_days where length(readings) > 0";
    assert!(number(&database(folder.path()), packed) > 80);
    assert_eq!(correlation(), expected);
    let connection = database(folder.path());
    let before = number(&connection, "select data_version from pragma_data_version");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        number(&connection, "select data_version from pragma_data_version"),
        before,
        "days were packed again"
    );
    server.stop_cleanly();
    assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
}
