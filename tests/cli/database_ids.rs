//! Backups of several databases in one folder: identification, retention and restores.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{
    add_entries, assert_fails_with, backups, command_in, downgrade_schema, id_of, make_database, names,
    run_in, run_ok, set_id, state,
};
use crate::helpers::{CommandResult, Server, run, temporary_folder};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// Creates a folder with the databases `coffee.db` and `other.db`, and a backup of the first.
fn two_databases() -> TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "mine", 20);
    run_ok(folder.path(), &["backup"]);
    let other = temporary_folder();
    make_database(other.path(), "other", 7);
    fs::copy(other.path().join("coffee.db"), folder.path().join("other.db")).unwrap();
    set_id(&folder.path().join("other.db"), OTHER);
    folder
}

/// Runs a command on `other.db`.
fn on_other(folder: &Path, args: &[&str]) -> CommandResult {
    run(command_in(folder, args).env("DATABASE_URL", "other.db"))
}

/// Returns the newest backup of `coffee.db`.
fn newest(folder: &Path) -> PathBuf {
    folder.join(run_ok(folder, &["backups", "newest"]).out.trim_end())
}

#[test]
fn retention_keeps_backups_of_another_database() {
    let folder = two_databases();
    let mine = backups(folder.path()).remove(0);
    for _ in 0..2 {
        let result = on_other(folder.path(), &["backup", "--keep", "1"]);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert_eq!(result.err, "");
    }
    let left = backups(folder.path());
    assert_eq!(left.len(), 2, "not one backup of each database: {left:?}");
    assert!(state(&mine) == state(&folder.path().join("coffee.db")));
    run_ok(folder.path(), &["backup", "--keep", "1"]);
    assert!(!mine.exists());
    assert_eq!(backups(folder.path()).len(), 2);
}

#[test]
fn the_newest_backup_belongs_to_this_database() {
    let folder = two_databases();
    let mine = backups(folder.path()).remove(0);
    assert_eq!(on_other(folder.path(), &["backup"]).code, Some(0));
    let verified = run_ok(folder.path(), &["verify", "--newest"]);
    assert!(verified.out.contains("20 coffees"), "{}", verified.out);
    assert_eq!(newest(folder.path()), mine);
    let verified = on_other(folder.path(), &["verify", "--newest"]);
    assert!(verified.out.contains("7 coffees"), "{}", verified.out);

    fs::remove_file(&mine).unwrap();
    let message = "there is no backup of coffee.db in backups (found 1 file of another database";
    assert_fails_with(&run_in(folder.path(), &["verify", "--newest"]), 1, message);
    assert_fails_with(&run_in(folder.path(), &["backups", "newest"]), 1, message);
    let checked = run_in(folder.path(), &["check"]);
    assert!(
        checked.out.contains(
            "FAIL: backups     there is no backup of this database in backups (found 1 file of another"
        ),
        "{}",
        checked.out
    );
}

#[test]
fn backups_of_a_lost_database_are_still_found() {
    let folder = two_databases();
    // The server records the id at its start and stop.
    Server::start(folder.path()).stop_cleanly();
    let mine = backups(folder.path()).remove(0);
    assert_eq!(on_other(folder.path(), &["backup"]).code, Some(0));
    fs::remove_file(folder.path().join("coffee.db")).unwrap();
    assert_eq!(newest(folder.path()), mine);
    run_ok(folder.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!(id_of(&folder.path().join("coffee.db")), id_of(&mine));
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn restoring_a_backup_of_another_database_requires_force_and_keeps_the_id() {
    let folder = two_databases();
    let mine = backups(folder.path()).remove(0);
    let coffee = folder.path().join("coffee.db");
    assert_eq!(on_other(folder.path(), &["backup", "--to", "foreign.db"]).code, Some(0));
    let before = (state(&coffee), id_of(&coffee));

    let refused = run_in(folder.path(), &["restore", "foreign.db", "--yes"]);
    assert_fails_with(
        &refused,
        1,
        "foreign.db is not a backup of coffee.db but of another database: add --force",
    );
    let shown = run_ok(folder.path(), &["restore", "foreign.db", "--dry-run"]);
    assert!(shown.out.contains("WARNING: this is a backup of another database."), "{}", shown.out);
    assert_eq!((state(&coffee), id_of(&coffee)), before);

    run_ok(folder.path(), &["restore", "foreign.db", "--yes", "--force"]);
    assert!(state(&coffee) == state(&folder.path().join("foreign.db")));
    assert_eq!(id_of(&coffee), before.1, "the id has changed");
    assert_eq!(newest(folder.path()), mine);
    run_ok(folder.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!((state(&coffee), id_of(&coffee)), before);
    assert_ne!(id_of(&folder.path().join("foreign.db")), before.1);
}

#[test]
fn replacing_a_damaged_database_with_a_backup_of_another_requires_force_and_keeps_the_id() {
    let folder = two_databases();
    let coffee = folder.path().join("coffee.db");
    Server::start(folder.path()).stop_cleanly();
    let id = id_of(&coffee);
    assert_eq!(on_other(folder.path(), &["backup", "--to", "foreign.db"]).code, Some(0));
    fs::copy(folder.path().join("foreign.db"), folder.path().join("without-id.db")).unwrap();
    downgrade_schema(&folder.path().join("without-id.db"));
    fs::write(&coffee, "espresso, flat white, ristretto\n".repeat(1000)).unwrap();

    let refused = run_in(folder.path(), &["restore", "foreign.db", "--replace", "--yes"]);
    assert_fails_with(
        &refused,
        1,
        "foreign.db is not a backup of coffee.db but of another database: add --force",
    );
    let shown = run_ok(folder.path(), &["restore", "foreign.db", "--replace", "--dry-run"]);
    assert!(shown.out.contains("WARNING: this is a backup of another database."), "{}", shown.out);
    run_ok(folder.path(), &["restore", "foreign.db", "--replace", "--yes", "--force"]);
    assert!(state(&coffee) == state(&folder.path().join("foreign.db")));
    assert_eq!(id_of(&coffee), id, "it still recognizes its own backups");

    fs::write(&coffee, "espresso, flat white, ristretto\n".repeat(1000)).unwrap();
    run_ok(folder.path(), &["restore", "without-id.db", "--replace", "--yes"]);
    assert_eq!(id_of(&coffee), id, "also after a backup without an id");
}

#[test]
fn an_unused_database_takes_the_id_of_the_restored_backup() {
    let folder = two_databases();
    let mine = backups(folder.path()).remove(0);
    for is_served in [false, true] {
        let fresh = temporary_folder();
        let mut server = Some(Server::start(fresh.path()));
        if !is_served && let Some(server) = server.take() {
            server.stop_cleanly();
        }
        run_ok(fresh.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
        if let Some(server) = server.take() {
            server.stop_cleanly();
        }
        assert_eq!(id_of(&fresh.path().join("coffee.db")), id_of(&mine), "served: {is_served}");
    }
    let one = temporary_folder();
    Server::start(one.path()).stop_cleanly();
    let another = temporary_folder();
    Server::start(another.path()).stop_cleanly();
    assert_ne!(id_of(&one.path().join("coffee.db")), id_of(&another.path().join("coffee.db")));
}

#[test]
fn backups_of_an_older_version_are_kept_and_reported_once() {
    let folder = two_databases();
    let coffee = folder.path().join("coffee.db");
    for name in ["coffee_20240101_000000.db", "coffee_20240102_000000.db"] {
        let old = folder.path().join("backups").join(name);
        fs::copy(&coffee, &old).unwrap();
        downgrade_schema(&old);
        rusqlite::Connection::open(&old).unwrap().execute_batch("pragma journal_mode = delete").unwrap();
    }
    let message = "warning: found 2 backups without a database id in backups, such as backups/coffee_20240102_000000.db";
    let result = run_ok(folder.path(), &["backup", "--keep", "1"]);
    assert!(result.err.contains(message), "{}", result.err);
    assert_eq!(run_ok(folder.path(), &["backup", "--keep", "1"]).err, "", "reported a second time");
    assert_eq!(names(&folder.path().join("backups")).len(), 3);

    let before = id_of(&coffee);
    let shown = run_ok(folder.path(), &["restore", "backups/coffee_20240101_000000.db", "--dry-run"]);
    assert!(shown.out.contains("has no database id: make sure that it is of this database"), "{}", shown.out);
    run_ok(folder.path(), &["restore", "backups/coffee_20240101_000000.db", "--yes"]);
    assert_eq!(id_of(&coffee), before);
}

#[test]
fn the_list_describes_each_backup_and_does_not_suggest_safety_backups() {
    let folder = two_databases();
    let mine = backups(folder.path()).remove(0);
    add_entries(&folder.path().join("coffee.db"), "more", 5);
    run_ok(folder.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!(on_other(folder.path(), &["backup"]).code, Some(0));
    fs::write(folder.path().join("backups/coffee_20240101_000000.db"), "torn").unwrap();
    assert_eq!(newest(folder.path()), mine);

    let listed: Value =
        serde_json::from_str(&run_ok(folder.path(), &["backups", "list", "--json"]).out).unwrap();
    let listed = listed["backups"].as_array().unwrap().clone();
    let shape =
        |entry: &Value| json!([entry["kind"], entry["database"], entry["coffees"], entry["readings"]]);
    let shapes: Vec<Value> = listed.iter().map(shape).collect();
    // The order is undefined for the first three, which may have the same timestamp.
    for expected in [
        json!(["backup", "this", 20, 200]),
        json!(["safety", "this", 25, 250]),
        json!(["backup", "other", 7, 70]),
        json!(["backup", "unknown", null, null]),
    ] {
        assert_eq!(shapes.iter().filter(|shape| **shape == expected).count(), 1, "{expected} in {shapes:?}");
    }
    assert_eq!(listed[3]["created_at"], "2024-01-01T00:00:00Z", "the oldest backup is the last");
    assert_eq!(listed[3]["size_bytes"], 4);
    let safety = listed.iter().find(|entry| entry["kind"] == "safety").unwrap();
    assert!(safety["file"].as_str().unwrap().ends_with("_before-restore.db"));
    assert_eq!(listed.iter().find(|entry| entry["database"] == "other").unwrap()["other_database_id"], OTHER);

    let text = run_ok(folder.path(), &["backups", "list"]).out;
    for expected in [
        "20 coffees, 200 readings, newest entry ",
        "\n  backup of this database\n",
        "\n  safety copy (before a restore) of this database\n",
        "\n  backup of another database (fedcba9876543210fedcba9876543210)\n",
        "backups/coffee_20240101_000000.db\n  2024-01-01T00:00:00Z, 4 B, unreadable\n  backup of an unknown database\n",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert_eq!(
        run_ok(temporary_folder().path(), &["backups", "list"]).out,
        "the folder backups does not exist: no backup has been made\n"
    );
}
