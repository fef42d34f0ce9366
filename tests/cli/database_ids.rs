//! Backups of several databases in one folder: whose they are, what is kept, and what a restore does.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{
    add_entries, assert_fails_with, backups, command_in, downgrade_schema, id_of, make_database, names,
    run_in, run_ok, set_id, state,
};
use crate::helpers::{CommandResult, Server, folder, run};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// A folder with the databases `coffee.db` and `other.db`, and a backup of the first.
fn two_databases() -> TempDir {
    let place = folder();
    make_database(place.path(), "mine", 20);
    run_ok(place.path(), &["backup"]);
    let other = folder();
    make_database(other.path(), "other", 7);
    fs::copy(other.path().join("coffee.db"), place.path().join("other.db")).unwrap();
    set_id(&place.path().join("other.db"), OTHER);
    place
}

/// Runs a command on `other.db`.
fn on_other(place: &Path, args: &[&str]) -> CommandResult {
    run(command_in(place, args).env("DATABASE_URL", "other.db"))
}

/// The newest backup, as a path in `place`.
fn newest(place: &Path) -> PathBuf {
    place.join(run_ok(place, &["backups", "newest"]).out.trim_end())
}

#[test]
fn retention_keeps_backups_of_another_database() {
    let place = two_databases();
    let mine = backups(place.path()).remove(0);
    for _ in 0..2 {
        let result = on_other(place.path(), &["backup", "--keep", "1"]);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert_eq!(result.err, "");
    }
    let left = backups(place.path());
    assert_eq!(left.len(), 2, "one of each: {left:?}");
    assert!(state(&mine) == state(&place.path().join("coffee.db")));
    run_ok(place.path(), &["backup", "--keep", "1"]);
    assert!(!mine.exists());
    assert_eq!(backups(place.path()).len(), 2);
}

#[test]
fn the_newest_backup_belongs_to_this_database() {
    let place = two_databases();
    let mine = backups(place.path()).remove(0);
    assert_eq!(on_other(place.path(), &["backup"]).code, Some(0));
    let verified = run_ok(place.path(), &["verify", "--newest"]);
    assert!(verified.out.contains("20 coffees"), "{}", verified.out);
    assert_eq!(newest(place.path()), mine);
    let verified = on_other(place.path(), &["verify", "--newest"]);
    assert!(verified.out.contains("7 coffees"), "{}", verified.out);

    fs::remove_file(&mine).unwrap();
    let message = "there is no backup of coffee.db in backups (found 1 file of another database";
    assert_fails_with(&run_in(place.path(), &["verify", "--newest"]), 1, message);
    assert_fails_with(&run_in(place.path(), &["backups", "newest"]), 1, message);
    let checked = run_in(place.path(), &["check"]);
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
    let place = two_databases();
    // Its start and its stop record the id.
    Server::start(place.path()).stop_cleanly();
    let mine = backups(place.path()).remove(0);
    assert_eq!(on_other(place.path(), &["backup"]).code, Some(0));
    fs::remove_file(place.path().join("coffee.db")).unwrap();
    assert_eq!(newest(place.path()), mine);
    run_ok(place.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!(id_of(&place.path().join("coffee.db")), id_of(&mine));
    Server::start(place.path()).stop_cleanly();
}

#[test]
fn restoring_a_backup_of_another_database_requires_force_and_keeps_the_id() {
    let place = two_databases();
    let mine = backups(place.path()).remove(0);
    let coffee = place.path().join("coffee.db");
    assert_eq!(on_other(place.path(), &["backup", "--to", "foreign.db"]).code, Some(0));
    let before = (state(&coffee), id_of(&coffee));

    let refused = run_in(place.path(), &["restore", "foreign.db", "--yes"]);
    assert_fails_with(
        &refused,
        1,
        "foreign.db is not a backup of coffee.db but of another database: add --force",
    );
    let shown = run_ok(place.path(), &["restore", "foreign.db", "--dry-run"]);
    assert!(shown.out.contains("WARNING: this is a backup of another database."), "{}", shown.out);
    assert_eq!((state(&coffee), id_of(&coffee)), before);

    run_ok(place.path(), &["restore", "foreign.db", "--yes", "--force"]);
    assert!(state(&coffee) == state(&place.path().join("foreign.db")));
    assert_eq!(id_of(&coffee), before.1, "it goes on recognising its own backups");
    assert_eq!(newest(place.path()), mine);
    run_ok(place.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!((state(&coffee), id_of(&coffee)), before);
    assert_ne!(id_of(&place.path().join("foreign.db")), before.1);
}

#[test]
fn replacing_a_damaged_database_with_a_backup_of_another_requires_force_and_keeps_the_id() {
    let place = two_databases();
    let coffee = place.path().join("coffee.db");
    Server::start(place.path()).stop_cleanly();
    let id = id_of(&coffee);
    assert_eq!(on_other(place.path(), &["backup", "--to", "foreign.db"]).code, Some(0));
    fs::write(&coffee, "espresso, flat white, ristretto\n".repeat(1000)).unwrap();

    let refused = run_in(place.path(), &["restore", "foreign.db", "--replace", "--yes"]);
    assert_fails_with(
        &refused,
        1,
        "foreign.db is not a backup of coffee.db but of another database: add --force",
    );
    let shown = run_ok(place.path(), &["restore", "foreign.db", "--replace", "--dry-run"]);
    assert!(shown.out.contains("WARNING: this is a backup of another database."), "{}", shown.out);
    run_ok(place.path(), &["restore", "foreign.db", "--replace", "--yes", "--force"]);
    assert!(state(&coffee) == state(&place.path().join("foreign.db")));
    assert_eq!(id_of(&coffee), id, "it still recognizes its own backups");
}

#[test]
fn an_unused_database_takes_the_id_of_the_restored_backup() {
    let place = two_databases();
    let mine = backups(place.path()).remove(0);
    for is_served in [false, true] {
        let fresh = folder();
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
    let one = folder();
    Server::start(one.path()).stop_cleanly();
    let another = folder();
    Server::start(another.path()).stop_cleanly();
    assert_ne!(id_of(&one.path().join("coffee.db")), id_of(&another.path().join("coffee.db")));
}

#[test]
fn backups_of_an_older_version_are_kept_and_reported_once() {
    let place = two_databases();
    let coffee = place.path().join("coffee.db");
    for name in ["coffee_20240101_000000.db", "coffee_20240102_000000.db"] {
        let old = place.path().join("backups").join(name);
        fs::copy(&coffee, &old).unwrap();
        downgrade_schema(&old);
        rusqlite::Connection::open(&old).unwrap().execute_batch("pragma journal_mode = delete").unwrap();
    }
    let message = "warning: found 2 backups without a database id in backups, such as backups/coffee_20240102_000000.db";
    let result = run_ok(place.path(), &["backup", "--keep", "1"]);
    assert!(result.err.contains(message), "{}", result.err);
    assert_eq!(run_ok(place.path(), &["backup", "--keep", "1"]).err, "", "once");
    assert_eq!(names(&place.path().join("backups")).len(), 3);

    let before = id_of(&coffee);
    let shown = run_ok(place.path(), &["restore", "backups/coffee_20240101_000000.db", "--dry-run"]);
    assert!(shown.out.contains("has no database id: make sure that it is of this database"), "{}", shown.out);
    run_ok(place.path(), &["restore", "backups/coffee_20240101_000000.db", "--yes"]);
    assert_eq!(id_of(&coffee), before);
}

#[test]
fn the_list_describes_each_backup_and_does_not_suggest_safety_backups() {
    let place = two_databases();
    let mine = backups(place.path()).remove(0);
    add_entries(&place.path().join("coffee.db"), "more", 5);
    run_ok(place.path(), &["restore", mine.to_str().unwrap(), "--yes"]);
    assert_eq!(on_other(place.path(), &["backup"]).code, Some(0));
    fs::write(place.path().join("backups/coffee_20240101_000000.db"), "torn").unwrap();
    assert_eq!(newest(place.path()), mine);

    let listed: Value =
        serde_json::from_str(&run_ok(place.path(), &["backups", "list", "--json"]).out).unwrap();
    let listed = listed["backups"].as_array().unwrap().clone();
    let shape =
        |entry: &Value| json!([entry["kind"], entry["database"], entry["coffees"], entry["readings"]]);
    let shapes: Vec<Value> = listed.iter().map(shape).collect();
    // The first three may be of one second.
    for expected in [
        json!(["backup", "this", 20, 200]),
        json!(["safety", "this", 25, 250]),
        json!(["backup", "other", 7, 70]),
        json!(["backup", "unknown", null, null]),
    ] {
        assert_eq!(shapes.iter().filter(|shape| **shape == expected).count(), 1, "{expected} in {shapes:?}");
    }
    assert_eq!(listed[3]["created_at"], "2024-01-01T00:00:00Z", "the oldest is the last");
    assert_eq!(listed[3]["size_bytes"], 4);
    let safety = listed.iter().find(|entry| entry["kind"] == "safety").unwrap();
    assert!(safety["file"].as_str().unwrap().ends_with("_before-restore.db"));
    assert_eq!(listed.iter().find(|entry| entry["database"] == "other").unwrap()["other_database_id"], OTHER);

    let text = run_ok(place.path(), &["backups", "list"]).out;
    for words in [
        "20 coffees, 200 readings, newest entry ",
        "\n  backup of this database\n",
        "\n  safety copy (before a restore) of this database\n",
        "\n  backup of another database (fedcba9876543210fedcba9876543210)\n",
        "backups/coffee_20240101_000000.db\n  2024-01-01T00:00:00Z, 4 B, unreadable\n  backup of an unknown database\n",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert_eq!(run_ok(folder().path(), &["backups", "list"]).out, "there are no backups in backups\n");
}
