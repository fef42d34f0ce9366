//! Databases behind links, and WALs in unexpected places: no database is opened without its WAL, and no WAL is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rusqlite::Connection;

use crate::fixtures::{
    add_entries, assert_fails_with, command_in, crash_with_five_coffees_in_the_wal, files, make_database,
    names, run_in, run_ok, state,
};
use crate::helpers::{Server, database, number, run, server_command, temporary_folder};

/// Every command that opens a database, with its arguments.
const COMMANDS: [&[&str]; 5] = [
    &["import", "in.csv"],
    &["export", "coffee"],
    &["prune", "--before", "2025-12-31", "--yes"],
    &["prune", "--before", "2025-12-31"],
    &["backup"],
];

/// Creates a folder with a database of 50 coffees and 5 more that are only in the WAL, as after a power cut.
fn prepare_with_wal() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 50);
    crash_with_five_coffees_in_the_wal(folder.path());
    fs::write(folder.path().join("in.csv"), "timestamp,bpm\n2025-01-01T00:00:00Z,60\n").unwrap();
    folder
}

/// Creates the files of an interrupted replacement.
fn interrupt_replacement(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::hard_link(at("coffee.db"), at("coffee.db.broken-20260101_000000")).unwrap();
    fs::rename(at("coffee.db-wal"), at("coffee.db.broken-20260101_000000-wal")).unwrap();
    fs::remove_file(at("coffee.db-shm")).unwrap();
}

#[test]
fn every_command_recovers_an_interrupted_replacement() {
    for command in COMMANDS {
        let folder = prepare_with_wal();
        interrupt_replacement(folder.path());
        let verified = run_in(folder.path(), &["verify", "coffee.db"]);
        assert!(verified.out.contains("a replacement of this file was interrupted"), "{verified:?}");
        let result = run_ok(folder.path(), command);
        match command[0] {
            "export" => assert_eq!(result.out.lines().count(), 56),
            "backup" => assert!(result.out.contains("55 coffees"), "{}", result.out),
            _ => {}
        }
        assert!(!names(folder.path()).iter().any(|name| name.contains(".broken-")), "{command:?}");
        let now = state(&folder.path().join("coffee.db")).unwrap().coffees.len();
        // Only the five coffees of today are kept.
        assert_eq!(now, if command.contains(&"--yes") { 5 } else { 55 }, "{command:?}");
    }
}

#[test]
fn a_wal_that_blocks_a_recovery_is_kept_and_reported() {
    let folder = prepare_with_wal();
    interrupt_replacement(folder.path());
    fs::write(folder.path().join("coffee.db-wal"), "another log").unwrap();
    let before = files(folder.path());
    for mut command in [server_command(folder.path()), command_in(folder.path(), &["export", "coffee"])] {
        let refused = run(&mut command);
        assert_fails_with(
            &refused,
            78,
            "a replacement of this file was interrupted, and coffee.db-wal is in the place of coffee.db.broken-",
        );
    }
    let after = files(folder.path());
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{:?}", names(folder.path()));
    // An empty WAL does not block the recovery.
    fs::write(folder.path().join("coffee.db-wal"), "").unwrap();
    let server = Server::start(folder.path());
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 55);
    server.stop_cleanly();
}

#[test]
fn no_command_opens_an_empty_file_that_has_a_wal() {
    for command in COMMANDS {
        let folder = prepare_with_wal();
        let database = folder.path().join("coffee.db");
        fs::File::options().write(true).open(&database).unwrap().set_len(0).unwrap();
        let wal = fs::read(folder.path().join("coffee.db-wal")).unwrap();
        assert_fails_with(
            &run_in(folder.path(), command),
            78,
            "coffee.db is missing, but its log coffee.db-wal exists",
        );
        assert!(fs::read(folder.path().join("coffee.db-wal")).unwrap() == wal, "{command:?}");
    }
}

#[test]
fn a_symlinked_database_is_the_same_under_both_names() {
    let folder = temporary_folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("disk")).unwrap();
    make_database(&at("disk"), "now", 50);
    symlink("disk/coffee.db", at("coffee.db")).unwrap();
    let server = Server::start(folder.path());
    assert_fails_with(
        &run(&mut server_command(&at("disk"))),
        75,
        "coffee.db is in use by another coffee-tracker server",
    );
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    let both = run_ok(folder.path(), &["verify", "coffee.db", "disk/coffee.db"]);
    assert_eq!(both.out.matches("  51 coffees, 500 readings, ").count(), 2, "{}", both.out);
    assert_fails_with(
        &run_in(folder.path(), &["restore", "disk/coffee.db", "--yes"]),
        1,
        "disk/coffee.db is the database itself: name a backup",
    );
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let replaced =
        command_in(&at("disk"), &["restore", "../then.db", "--yes", "--replace"]).output().unwrap();
    assert_eq!(replaced.status.code(), Some(0), "an intact database is written to instead of replaced");
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    server.stop_cleanly();
    assert_eq!(state(&at("disk/coffee.db")).unwrap().coffees.len(), 52);
}

#[test]
fn a_symlink_to_a_missing_database_with_a_wal_is_rejected() {
    let folder = prepare_with_wal();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("disk")).unwrap();
    fs::rename(at("coffee.db-wal"), at("disk/coffee.db-wal")).unwrap();
    fs::remove_file(at("coffee.db")).unwrap();
    symlink("disk/coffee.db", at("coffee.db")).unwrap();
    assert_fails_with(
        &run(&mut server_command(folder.path())),
        78,
        "disk/coffee.db is missing, but its log disk/coffee.db-wal",
    );
    assert!(fs::metadata(at("disk/coffee.db-wal")).unwrap().len() > 0);
}

#[test]
fn a_hard_link_of_the_database_is_not_a_backup() {
    let folder = prepare_with_wal();
    fs::hard_link(folder.path().join("coffee.db"), folder.path().join("second.db")).unwrap();
    let refused = run_in(folder.path(), &["restore", "second.db", "--yes"]);
    assert_fails_with(&refused, 1, "second.db is the database itself: name a backup");
    assert_eq!(state(&folder.path().join("coffee.db")).unwrap().coffees.len(), 55);
}

#[test]
fn a_database_open_in_another_program_is_never_replaced() {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    make_database(folder.path(), "now", 50);
    let holder = Connection::open(folder.path().join("coffee.db")).unwrap();
    holder.execute_batch("pragma locking_mode = exclusive; begin exclusive; commit").unwrap();
    for command in [
        &["restore", "then.db", "--yes", "--replace"][..],
        &["restore", "then.db", "--yes"],
        &["export", "coffee"],
        &["prune", "--before", "2025-12-31"],
    ] {
        assert_fails_with(&run_in(folder.path(), command), 75, "coffee.db is locked by another program");
    }
    assert_fails_with(&run(&mut server_command(folder.path())), 75, "coffee.db is locked by another program");
    drop(holder);
    assert_eq!(state(&folder.path().join("coffee.db")).unwrap().coffees.len(), 50);
    assert!(!names(folder.path()).iter().any(|name| name.contains(".broken-")));
}

#[test]
fn a_dry_run_with_a_missing_database_creates_nothing() {
    let folder = temporary_folder();
    let refused = run(command_in(folder.path(), &["restore", "gone.db", "--dry-run"])
        .args(["--database-url", "deep/down/coffee.db"]));
    assert_fails_with(&refused, 1, "gone.db cannot be restored: there is no such file");
    assert_eq!(names(folder.path()), [""; 0]);
    let (past, then) = (temporary_folder(), folder.path().join("then.db"));
    make_database(past.path(), "then", 1);
    add_entries(&past.path().join("coffee.db"), "more", 1);
    run_ok(past.path(), &["backup", "--to", then.to_str().unwrap()]);
    let shown = run_ok(folder.path(), &["restore", "then.db", "--dry-run"]);
    assert!(shown.out.contains("There is no database yet; it will be created."), "{}", shown.out);
    assert!(!folder.path().join("coffee.db").exists());
}
