//! Databases and WALs that are deleted or replaced while a server runs, and the next start.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::fixtures::{assert_fails_with, id_of, make_database, names, run_in, run_ok, state};
use crate::helpers::{
    CommandResult, KEY, Server, program, run, server_command, temporary_folder, wait_until,
};

const COFFEE: &str = r#"{"caffeine_mg": 95}"#;

/// Starts a server with 20 coffees in its database, and three more that are only in the WAL.
fn start_with_wal(folder: &Path) -> Server {
    make_database(folder, "then", 20);
    let server = Server::start(folder);
    for _ in 0..3 {
        assert_eq!(server.client().post("/coffee/", COFFEE).status, 201);
    }
    server
}

/// Waits until the server has detected that its files were moved, and asserts that it rejects writes.
#[track_caller]
fn assert_writes_rejected(server: &Server, reason: &str) {
    let health = || server.get("/health").json();
    wait_until("the state is failed", || health()["database"]["state"] == "failed");
    let health = server.get("/health");
    assert_eq!(health.status, 503);
    let error = health.json()["database"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains(reason), "{error}");
    let refused = server.client().post("/coffee/", COFFEE);
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.json()["detail"],
        "The database file was moved, deleted or replaced: writes are rejected"
    );
    assert!(server.process.err.text().contains(reason));
}

#[test]
fn a_deleted_database_is_detected_and_its_wal_is_kept() {
    let folder = temporary_folder();
    let at = |name: &str| folder.path().join(name);
    let server = start_with_wal(folder.path());
    let wal = fs::read(at("coffee.db-wal")).unwrap();
    assert!(!wal.is_empty());
    fs::remove_file(at("coffee.db")).unwrap();
    assert_writes_rejected(&server, "the database file was moved or deleted while the server runs");

    // As in docs/RUNBOOK.md: the deleted file is still open in the process.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.process.pid().as_raw_nonzero())).unwrap();
    let deleted =
        format!("{} (deleted)", fs::canonicalize(folder.path()).unwrap().join("coffee.db").display());
    let open = descriptors
        .map(|entry| entry.unwrap().path())
        .find(|link| fs::read_link(link).is_ok_and(|target| target.to_str() == Some(&deleted)))
        .expect("the database is open");
    fs::copy(open, at("rescued.db")).unwrap();
    fs::copy(at("coffee.db-wal"), at("rescued.db-wal")).unwrap();

    server.stop_cleanly();
    assert!(fs::read(at("coffee.db-wal")).unwrap() == wal, "the WAL has changed");
    assert!(!at("coffee.db").exists());
    let refused = run(&mut server_command(folder.path()));
    assert_suggests_restore_and_new(&refused, "coffee.db is missing, but its log coffee.db-wal exists");
    let checked = run_in(folder.path(), &["check"]);
    assert!(checked.out.contains("FAIL: database    coffee.db is missing, but its log"), "{}", checked.out);

    run_ok(folder.path(), &["verify", "rescued.db"]);
    run_ok(folder.path(), &["restore", "rescued.db", "--yes"]);
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23);
    Server::start(folder.path()).stop_cleanly();
}

#[track_caller]
fn assert_suggests_restore_and_new(result: &CommandResult, message: &str) {
    assert_eq!(result.code, Some(78), "{result:?}");
    for expected in [message, "coffee-tracker restore", "coffee-tracker serve --new"] {
        assert!(result.err.contains(expected), "{}", result.err);
    }
}

#[test]
fn a_replaced_database_is_detected_and_the_new_file_is_unchanged() {
    for is_killed in [false, true] {
        let (folder, other) = (temporary_folder(), temporary_folder());
        let at = |name: &str| folder.path().join(name);
        make_database(other.path(), "other", 7);
        let content = fs::read(other.path().join("coffee.db")).unwrap();
        fs::copy(other.path().join("coffee.db"), at("other.db")).unwrap();
        let server = start_with_wal(folder.path());
        fs::rename(at("other.db"), at("coffee.db")).unwrap();
        assert_writes_rejected(&server, "the database file was replaced while the server runs");
        if is_killed {
            server.signal(Signal::KILL);
            drop(server.process.wait());
        } else {
            server.stop_cleanly();
        }
        assert!(fs::read(at("coffee.db")).unwrap() == content, "the new file has changed");

        let wal = at("coffee.db-wal");
        assert!(fs::metadata(&wal).unwrap().len() > 0, "the WAL is empty");
        let refused = run(&mut server_command(folder.path()));
        let message =
            "the log coffee.db-wal may belong to another file than coffee.db, as one of them was replaced";
        assert_fails_with(&refused, 78, message);
        assert_fails_with(&run_in(folder.path(), &["backup"]), 78, message);
        assert!(fs::read(at("coffee.db")).unwrap() == content, "the new file has changed");
        fs::rename(&wal, at("kept-wal")).unwrap();
        Server::start(folder.path()).stop_cleanly();
        assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 7);
    }
}

#[test]
fn a_database_that_is_moved_back_is_served_with_its_wal_after_a_restart() {
    let folder = temporary_folder();
    let at = |name: &str| folder.path().join(name);
    let server = start_with_wal(folder.path());
    fs::rename(at("coffee.db"), at("away.db")).unwrap();
    assert_writes_rejected(&server, "the database file was moved or deleted while the server runs");
    fs::rename(at("away.db"), at("coffee.db")).unwrap();
    assert_eq!(server.client().post("/coffee/", COFFEE).status, 503, "writes succeed only after a restart");
    server.stop_cleanly();
    Server::start(folder.path()).stop_cleanly();
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23);
}

#[test]
fn a_deleted_wal_is_detected_and_no_entry_is_lost() {
    for is_killed in [false, true] {
        let folder = temporary_folder();
        let at = |name: &str| folder.path().join(name);
        let server = start_with_wal(folder.path());
        fs::remove_file(at("coffee.db-wal")).unwrap();
        assert_writes_rejected(
            &server,
            "the write-ahead log (-wal) was moved or deleted while the server runs",
        );
        if is_killed {
            server.signal(Signal::KILL);
            drop(server.process.wait());
        } else {
            server.stop_cleanly();
        }
        let started = Server::start(folder.path());
        assert_eq!(started.client().post("/coffee/", COFFEE).status, 201);
        started.stop_cleanly();
        assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 24, "killed: {is_killed}");
    }
}

#[test]
fn a_replaced_wal_is_detected_and_unchanged() {
    let folder = temporary_folder();
    let at = |name: &str| folder.path().join(name);
    let server = start_with_wal(folder.path());
    fs::write(at("strange"), "another log").unwrap();
    fs::rename(at("strange"), at("coffee.db-wal")).unwrap();
    assert_writes_rejected(&server, "the write-ahead log (-wal) was replaced while the server runs");
    server.stop_cleanly();
    assert_eq!(fs::read_to_string(at("coffee.db-wal")).unwrap(), "another log");
    let refused = run(&mut server_command(folder.path()));
    assert_fails_with(&refused, 78, "the log coffee.db-wal may belong to another file than coffee.db");
    fs::rename(at("coffee.db-wal"), at("kept-wal")).unwrap();
    Server::start(folder.path()).stop_cleanly();
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23, "the entries of the open WAL are missing");
}

#[test]
fn a_restore_into_a_running_server_is_not_a_displaced_file() {
    let folder = temporary_folder();
    let server = start_with_wal(folder.path());
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    for _ in 0..3 {
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert_eq!(server.client().post("/coffee/", COFFEE).status, 201);
        assert_eq!(server.get("/health").json()["database"]["state"], "ok");
    }
    server.stop_cleanly();
    Server::start(folder.path()).stop_cleanly();
}

/// Returns `serve` with these arguments on `coffee.db` in `folder`.
fn serve(folder: &Path, args: &[&str]) -> std::process::Command {
    let mut command = program(folder);
    command.args(["serve", "--port", "0", "--database-url", "coffee.db"]).args(args);
    command.envs([("API_KEY", KEY), ("TZ", "UTC")]);
    command
}

/// Creates the remains of a former database in a folder.
type CreateRemains = fn(&Path);

#[test]
fn a_start_after_a_database_was_lost_requires_new_or_a_restore() {
    let deleted: CreateRemains = |folder| {
        make_database(folder, "then", 3);
        fs::remove_file(folder.join("coffee.db")).unwrap();
    };
    let emptied: CreateRemains = |folder| {
        make_database(folder, "then", 3);
        fs::write(folder.join("coffee.db"), "").unwrap();
    };
    // Older versions leave an empty lock file.
    let older: CreateRemains = |folder| fs::write(folder.join("coffee.db.lock"), "").unwrap();
    let older_after_a_crash: CreateRemains =
        |folder| fs::write(folder.join("coffee.db.lock"), "4711\n").unwrap();
    let wal_alone: CreateRemains =
        |folder| fs::write(folder.join("coffee.db-wal"), "contents of the WAL").unwrap();
    for (create_remains, message) in [
        (deleted, "coffee.db is missing: a database existed when a server last ran"),
        (emptied, "coffee.db is missing: a database existed when a server last ran"),
        (older, "coffee.db is missing: a database existed when a server last ran"),
        (older_after_a_crash, "coffee.db is missing: a database existed when a server last ran"),
        (wal_alone, "coffee.db is missing, but its log coffee.db-wal exists"),
    ] {
        let folder = temporary_folder();
        create_remains(folder.path());
        for _ in 0..2 {
            let refused = run(&mut serve(folder.path(), &[]));
            assert_suggests_restore_and_new(&refused, message);
        }
        let checked = run_in(folder.path(), &["check"]);
        assert!(checked.out.contains(&format!("FAIL: database    {message}")), "{}", checked.out);

        Server::spawn(&mut serve(folder.path(), &["--new"])).stop_cleanly();
        assert_eq!(state(&folder.path().join("coffee.db")).unwrap().coffees.len(), 0);
        Server::spawn(&mut serve(folder.path(), &[])).stop_cleanly();
        let refused = run(&mut serve(folder.path(), &["--new"]));
        assert_fails_with(&refused, 78, "coffee.db exists: --new makes a database only where there is none");
        let moved: Vec<PathBuf> = names(folder.path())
            .into_iter()
            .filter(|name| name.starts_with("coffee.db.broken-"))
            .map(|name| folder.path().join(name))
            .collect();
        if message.contains("its log") {
            assert_eq!(moved.len(), 1, "{moved:?}");
            assert_eq!(fs::read_to_string(&moved[0]).unwrap(), "contents of the WAL");
        } else {
            assert!(moved.is_empty(), "{moved:?}");
        }
        assert_eq!(id_of(&folder.path().join("coffee.db")).len(), 32);
    }
}

#[test]
fn a_failed_first_start_is_not_a_former_database() {
    let folder = temporary_folder();
    let refused = run(serve(folder.path(), &[]).env("HOST", "nowhere"));
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let backup = {
        let past = temporary_folder();
        make_database(past.path(), "then", 3);
        run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
        folder.path().join("then.db")
    };
    // A dry run takes the lock and leaves the lock file.
    run_ok(folder.path(), &["restore", backup.to_str().unwrap(), "--dry-run"]);
    assert_eq!(fs::read_to_string(folder.path().join("coffee.db.lock")).unwrap(), "none\n");
    Server::spawn(&mut serve(folder.path(), &[])).stop_cleanly();
}
