//! `backup`: file names, retention, output, and failures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixtures::{
    assert_fails_with, assert_no_leftovers, backups, command_in, files, make_database, names, run_in, run_ok,
    state,
};
use crate::helpers::{Process, Server, mode, temporary_folder, wait_until};

/// Creates a folder with a database of 30 coffees and 300 readings.
fn prepare_database() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 30);
    folder
}

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reports whether a name has the form `coffee_YYYYMMDD_HHMMSS.db`.
fn is_dated(name: &str) -> bool {
    let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    shape == "coffee_99999999_999999.db"
}

#[test]
fn a_backup_in_the_default_folder_is_named_by_its_time_and_described() {
    let folder = prepare_database();
    let before = files(folder.path());
    let result = run_ok(folder.path(), &["backup"]);
    let made = backups(folder.path());
    assert_eq!(made.len(), 1);
    let name = made[0].file_name().unwrap().to_str().unwrap();
    assert!(is_dated(name), "{name}");
    let start = format!("backups/{name}: ");
    let middle = format!(" kB, 30 coffees, 300 readings, SHA-256 {}, ", sha256(&made[0]));
    assert!(result.out.starts_with(&start) && result.out.contains(&middle), "{}", result.out);
    assert!(result.out.ends_with(" s\n") && result.out.lines().count() == 1 && result.err.is_empty());
    assert!(state(&made[0]) == state(&folder.path().join("coffee.db")));
    assert!(files(folder.path())["coffee.db"] == before["coffee.db"], "the database has changed");
    assert_eq!(
        (mode(&made[0]), mode(&folder.path().join("backups"))),
        (0o600, 0o700),
        "other users have access"
    );
    assert_no_leftovers(folder.path());
}

#[test]
fn a_backup_never_overwrites_another_file() {
    let folder = prepare_database();
    let at = |name: &str| folder.path().join(name);
    let named = run_ok(folder.path(), &["backup", "--to", "mine.db"]);
    assert!(named.out.starts_with("mine.db: "), "{}", named.out);
    run_ok(folder.path(), &["backup", "--to", "weekly", "--create-dir"]);
    run_ok(folder.path(), &["backup", "--to", "deep/down/", "--create-dir"]);
    fs::create_dir(at("dotted.d")).unwrap();
    run_ok(folder.path(), &["backup", "--to", "dotted.d"]);
    for location in ["weekly", "deep/down", "dotted.d"] {
        let found = names(&at(location));
        assert!(found.len() == 1 && is_dated(&found[0]), "{location}: {found:?}");
    }
    assert!(!at("backups").exists());
    fs::write(at("letter.txt"), "dear diary").unwrap();
    let before = names(folder.path());
    let refused = run_in(folder.path(), &["backup", "--to", "letter.txt"]);
    assert_fails_with(&refused, 1, "letter.txt exists already: a backup never overwrites");
    assert_eq!(fs::read_to_string(at("letter.txt")).unwrap(), "dear diary");
    assert_eq!(names(folder.path()), before);
    let below = run_in(folder.path(), &["backup", "--to", "letter.txt/below"]);
    assert_fails_with(&below, 1, "the folder letter.txt/below cannot be used: Not a directory");
}

/// Copies the database to backups with names of `days` ago.
fn create_old_backups(folder: &Path, days: impl IntoIterator<Item = i64>) {
    fs::create_dir_all(folder.join("backups")).unwrap();
    let clock = Connection::open_in_memory().unwrap();
    for day in days {
        let query = "select strftime('coffee_%Y%m%d_%H%M%S.db', 'now', ?)";
        let name: String = clock.query_row(query, [format!("-{day} days")], |row| row.get(0)).unwrap();
        fs::copy(folder.join("coffee.db"), folder.join("backups").join(name)).unwrap();
    }
}

#[test]
fn the_failed_backup_of_a_missing_database_leaves_no_file() {
    let folder = temporary_folder();
    for args in [&["backup"][..], &["backup", "--to", "disk/"]] {
        assert_fails_with(&run_in(folder.path(), args), 78, "there is no database at coffee.db");
        assert_eq!(names(folder.path()), [""; 0], "{args:?}");
    }
}

#[test]
fn a_missing_folder_is_created_only_with_create_dir() {
    let folder = prepare_database();
    let at = |name: &str| folder.path().join(name);
    for to in ["disk/copy.db", "disk/", "disk/coffee"] {
        let refused = run_in(folder.path(), &["backup", "--to", to]);
        assert_fails_with(&refused, 1, ": mount its disk, or add --create-dir to create it");
        assert!(!at("disk").exists(), "{to}");
    }
    let record = fs::read_to_string(at("coffee.db.backup.json")).unwrap();
    assert!(record.contains("the folder disk/coffee does not exist: mount its disk"), "{record}");
    run_ok(folder.path(), &["backup", "--to", "disk/copy.db", "--create-dir"]);
    assert!(state(&at("disk/copy.db")) == state(&at("coffee.db")));
    run_ok(folder.path(), &["backup", "--to", "disk/"]);
    assert_eq!(names(&at("disk")).len(), 2);
    assert_eq!(
        run_in(folder.path(), &["backup", "--create-dir"]).code,
        Some(2),
        "--create-dir requires --to"
    );
}

#[test]
fn a_pipe_named_like_a_temporary_file_is_ignored() {
    let folder = prepare_database();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("backups")).unwrap();
    fs::write(at("letter.txt"), "dear diary").unwrap();
    for location in ["", "backups/"] {
        let pipe = at(&format!("{location}.coffee-1-1.tmp"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink(at("letter.txt"), at(&format!("{location}.coffee-2-1.tmp"))).unwrap();
    }
    run_ok(folder.path(), &["backup"]);
    Server::start(folder.path()).stop_cleanly();
    for location in ["", "backups"] {
        let left = names(&at(location));
        assert!(left.contains(&".coffee-1-1.tmp".to_owned()) && left.contains(&".coffee-2-1.tmp".to_owned()));
    }
    assert_eq!(fs::read_to_string(at("letter.txt")).unwrap(), "dear diary");
}

#[test]
fn keep_removes_and_lists_old_backups() {
    for (args, kept) in [
        (&[][..], 14),
        (&["--keep", "3"][..], 3),
        (&["--keep", "0"], 21),
        (&["--keep-days", "5"], 6),
        (&["--keep", "2", "--keep-days", "4"], 5),
        (&["--keep", "8", "--keep-days", "4"], 8),
    ] {
        let folder = prepare_database();
        create_old_backups(folder.path(), 1..=20);
        fs::write(folder.path().join("backups/notes.txt"), "").unwrap();
        let result = run_ok(folder.path(), &[&["backup"], args].concat());
        let left = backups(folder.path()).len() - 1;
        // A backup of exactly this age may be a second too old by now.
        let is_expected = left == kept || args.contains(&"--keep-days") && left + 1 == kept;
        assert!(is_expected, "{args:?}: {left} left instead of {kept}");
        let removed = result.out.lines().filter(|line| line.starts_with("removed backups/coffee_")).count();
        assert_eq!(removed, 21 - left, "{}", result.out);
        assert!(folder.path().join("backups/notes.txt").exists());
    }
    let folder = prepare_database();
    create_old_backups(folder.path(), 1..=20);
    run_ok(folder.path(), &["backup", "--to", "mine.db"]);
    assert_eq!(backups(folder.path()).len(), 20, "a backup to a named file removed others");
}

#[test]
fn backups_from_the_future_are_kept_and_reported() {
    let folder = prepare_database();
    fs::create_dir(folder.path().join("backups")).unwrap();
    for day in 10..30 {
        let future = folder.path().join(format!("backups/coffee_209901{day}_000000.db"));
        fs::copy(folder.path().join("coffee.db"), future).unwrap();
    }
    for n in 1..=3 {
        let result = run_ok(folder.path(), &["backup", "--keep", "2"]);
        assert_eq!(backups(folder.path()).len(), 20 + n.min(2), "{result:?}");
        assert!(
            result.err.starts_with(
                "coffee-tracker: warning: ignored 20 backups with a date in the future, such as "
            ),
            "{}",
            result.err
        );
    }
}

#[test]
fn a_backup_that_cannot_be_removed_does_not_stop_retention() {
    let folder = prepare_database();
    create_old_backups(folder.path(), 1..=5);
    fs::create_dir(folder.path().join("backups/coffee_20200101_000000.db")).unwrap();
    let result = run_ok(folder.path(), &["backup", "--keep", "1"]);
    assert_eq!(
        names(&folder.path().join("backups")).len(),
        2,
        "not only the new backup and the folder are left: {result:?}"
    );
}

#[test]
fn keep_requires_a_folder() {
    let folder = prepare_database();
    for keep in ["--keep", "--keep-days"] {
        let refused = run_in(folder.path(), &["backup", "--to", "mine.db", keep, "1"]);
        assert_fails_with(&refused, 2, "--keep and --keep-days apply to a folder, but --to names a file");
    }
    assert!(!folder.path().join("mine.db").exists());
}

#[test]
fn a_backup_outcome_that_cannot_be_saved_is_reported() {
    let folder = prepare_database();
    fs::create_dir(folder.path().join("coffee.db.backup.json")).unwrap();
    let result = run_ok(folder.path(), &["backup"]);
    assert!(
        result.err.starts_with("coffee-tracker: warning: the outcome of the backup could not be recorded: "),
        "{}",
        result.err
    );
}

#[test]
fn backup_prints_json_or_nothing_when_quiet() {
    let folder = prepare_database();
    create_old_backups(folder.path(), [400]);
    let old = backups(folder.path())[0].clone();
    let result = run_ok(folder.path(), &["backup", "--json", "--keep", "1"]);
    let mut report: Value = serde_json::from_str(&result.out).unwrap();
    let made = &backups(folder.path())[0];
    assert!(report["seconds"].take().as_f64().is_some_and(|seconds| seconds > 0.0));
    let newest = "2025-10-09T08:53:50.000000Z";
    let short = |path: &Path| format!("backups/{}", path.file_name().unwrap().to_str().unwrap());
    let expected = json!({
        "person": "owner", "path": short(made), "size_bytes": fs::metadata(made).unwrap().len(), "coffees": 30, "readings": 300,
        "newest_entry": newest, "sha256": sha256(made), "seconds": null, "removed": [short(&old)],
    });
    assert_eq!(report, expected);
    assert_eq!(result.out.lines().count(), 1);
    let silent = run_ok(folder.path(), &["backup", "--quiet", "--keep", "1"]);
    assert_eq!((silent.out.as_str(), silent.err.as_str()), ("", ""));
    assert_eq!(run_in(folder.path(), &["backup", "--quiet", "--json"]).code, Some(2));
}

#[test]
fn a_failed_backup_names_the_reason_and_creates_nothing() {
    let empty = temporary_folder();
    assert_fails_with(&run_in(empty.path(), &["backup"]), 78, "there is no database at coffee.db");
    assert_eq!(names(empty.path()), [""; 0]);
    for (content, message) in [
        ("create table recipes (name text)", "coffee.db is a SQLite database of another program"),
        ("create table coffee_logs (id integer)", "coffee-tracker import coffee.db"),
        ("pragma application_id = 1131374182; pragma user_version = 9", "has schema version 9"),
    ] {
        let folder = temporary_folder();
        Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(content).unwrap();
        assert_fails_with(&run_in(folder.path(), &["backup"]), 78, message);
        assert_eq!(backups(folder.path()).len(), 0);
    }
    let text = temporary_folder();
    fs::write(text.path().join("coffee.db"), "flat white ".repeat(1000)).unwrap();
    assert_fails_with(&run_in(text.path(), &["backup"]), 78, "coffee.db is not a SQLite database");
    let damaged = prepare_database();
    crate::restore_replace::damage(&damaged.path().join("coffee.db"));
    assert_fails_with(&run_in(damaged.path(), &["backup"]), 78, "coffee.db is damaged (");
    assert_eq!(backups(damaged.path()).len(), 0);
}

/// Returns the value of a metric.
fn metric(server: &Server, name: &str) -> f64 {
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_running_server_reports_successful_and_failed_backups() {
    let folder = prepare_database();
    let server = Server::start(folder.path());
    assert_eq!(server.get("/health").json()["backup"]["status"], "none");
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 44}"#).status, 201);
    run_ok(folder.path(), &["backup", "--to", "mine.db"]);
    run_ok(folder.path(), &["backup"]);
    let made = &backups(folder.path())[0];
    assert_eq!(state(made).unwrap().coffees.len(), 31, "the coffee in the WAL is missing");
    // The server caches the state of the backups.
    let has_status = |status: &str| server.get("/health").json()["backup"]["status"] == status;
    wait_until("the backup is reported", || has_status("ok"));
    let good = server.get("/health").json()["backup"].clone();
    assert_eq!(metric(&server, "backup_last_result"), 1.0);
    assert_eq!(metric(&server, "backup_last_size_bytes"), fs::metadata(made).unwrap().len() as f64);
    assert!(metric(&server, "backup_last_success_timestamp_seconds") > 1.7e9);

    let record = || fs::read_to_string(folder.path().join("coffee.db.backup.json")).unwrap();
    let before = record();
    assert_fails_with(&run_in(folder.path(), &["backup", "--to", "mine.db"]), 1, "mine.db exists already");
    assert_eq!(record(), before, "a usage error is recorded as a failed backup");
    fs::write(folder.path().join("taken"), "").unwrap();
    assert_fails_with(
        &run_in(folder.path(), &["backup", "--to", "taken/"]),
        1,
        "the folder taken/ cannot be used",
    );
    wait_until("the failure is reported", || has_status("failed"));
    assert_eq!(server.get("/health").json()["backup"]["last_success"], good["last_success"]);
    assert_eq!(metric(&server, "backup_last_result"), 0.0);
    server.stop_cleanly();
}

#[test]
fn concurrent_backups_get_unique_names() {
    let folder = prepare_database();
    let all: Vec<_> =
        (0..12).map(|_| Process::spawn(&mut command_in(folder.path(), &["backup", "--keep", "0"]))).collect();
    for running in all {
        let result = running.wait();
        assert_eq!(result.code, Some(0), "{result:?}");
    }
    assert_eq!(backups(folder.path()).len(), 12);
    assert_no_leftovers(folder.path());
}

#[test]
fn a_read_only_database_can_be_backed_up_elsewhere() {
    let folder = prepare_database();
    let away = temporary_folder();
    let database = folder.path().join("coffee.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o400)).unwrap();
    run_ok(folder.path(), &["backup", "--to", away.path().join("copy.db").to_str().unwrap()]);
    assert!(state(&away.path().join("copy.db")) == state(&database));
}
