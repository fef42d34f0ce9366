//! The database or its log is deleted or replaced while a server runs, and what a start does then.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::fixtures::{assert_fails_with, id_of, make_database, names, run_in, run_ok, state};
use crate::helpers::{KEY, Server, folder, run, server_command, wait_until};

const COFFEE: &str = r#"{"caffeine_mg": 95}"#;

/// A server with 20 older coffees in its database, and three that are in the log alone.
fn serving(folder: &Path) -> Server {
    make_database(folder, "then", 20);
    let server = Server::start(folder);
    for _ in 0..3 {
        assert_eq!(server.client().post("/coffee/", COFFEE).status, 201);
    }
    server
}

/// Waits until the server has seen that its files are not where they were; it must refuse writes.
#[track_caller]
fn assert_failed(server: &Server, reason: &str) {
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
fn a_deleted_database_is_seen_and_its_log_is_kept() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let server = serving(folder.path());
    let log = fs::read(at("coffee.db-wal")).unwrap();
    assert!(!log.is_empty());
    fs::remove_file(at("coffee.db")).unwrap();
    assert_failed(&server, "the database file was moved or deleted while the server runs");

    // docs/RUNBOOK.md, The database is gone: the open file is still there under the process.
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
    assert!(fs::read(at("coffee.db-wal")).unwrap() == log, "the log is as it was");
    assert!(!at("coffee.db").exists());
    let refused = run(&mut server_command(folder.path()));
    assert_says_both_ways(
        &refused.err,
        refused.code,
        "coffee.db is missing, but its log coffee.db-wal exists",
    );
    let checked = run_in(folder.path(), &["check"]);
    assert!(checked.out.contains("FAIL: database    coffee.db is missing, but its log"), "{}", checked.out);

    run_ok(folder.path(), &["verify", "rescued.db"]);
    run_ok(folder.path(), &["restore", "rescued.db", "--yes"]);
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23);
    Server::start(folder.path()).stop_cleanly();
}

#[track_caller]
fn assert_says_both_ways(err: &str, code: Option<i32>, message: &str) {
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains(message), "{err}");
    for way in ["coffee-tracker restore", "coffee-tracker serve --new"] {
        assert!(err.contains(way), "{err}");
    }
}

#[test]
fn a_database_that_is_renamed_over_is_seen_and_the_new_file_is_left_as_it_is() {
    for is_killed in [false, true] {
        let (place, other) = (folder(), folder());
        let at = |name: &str| place.path().join(name);
        make_database(other.path(), "other", 7);
        let content = fs::read(other.path().join("coffee.db")).unwrap();
        fs::copy(other.path().join("coffee.db"), at("other.db")).unwrap();
        let server = serving(place.path());
        fs::rename(at("other.db"), at("coffee.db")).unwrap();
        assert_failed(&server, "the database file was replaced while the server runs");
        if is_killed {
            server.signal(Signal::KILL);
            drop(server.process.wait());
        } else {
            server.stop_cleanly();
        }
        assert!(fs::read(at("coffee.db")).unwrap() == content, "nothing was written to it");

        let log = at("coffee.db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0, "the log is kept");
        let refused = run(&mut server_command(place.path()));
        let message =
            "the log coffee.db-wal may belong to another file than coffee.db, as one of them was replaced";
        assert_fails_with(&refused, 78, message);
        assert_fails_with(&run_in(place.path(), &["backup"]), 78, message);
        assert!(fs::read(at("coffee.db")).unwrap() == content, "nothing was written to it");
        fs::rename(&log, at("kept-wal")).unwrap();
        Server::start(place.path()).stop_cleanly();
        assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 7);
    }
}

#[test]
fn a_database_that_is_put_back_is_served_with_its_log() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let server = serving(folder.path());
    fs::rename(at("coffee.db"), at("away.db")).unwrap();
    assert_failed(&server, "the database file was moved or deleted while the server runs");
    fs::rename(at("away.db"), at("coffee.db")).unwrap();
    assert_eq!(server.client().post("/coffee/", COFFEE).status, 503, "until it is started again");
    server.stop_cleanly();
    Server::start(folder.path()).stop_cleanly();
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23);
}

#[test]
fn a_deleted_log_is_seen_and_costs_no_entry() {
    for is_killed in [false, true] {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let server = serving(folder.path());
        fs::remove_file(at("coffee.db-wal")).unwrap();
        assert_failed(&server, "the write-ahead log (-wal) was moved or deleted while the server runs");
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
fn a_log_that_is_replaced_is_seen_and_left_as_it_is() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let server = serving(folder.path());
    fs::write(at("strange"), "another log").unwrap();
    fs::rename(at("strange"), at("coffee.db-wal")).unwrap();
    assert_failed(&server, "the write-ahead log (-wal) was replaced while the server runs");
    server.stop_cleanly();
    assert_eq!(fs::read_to_string(at("coffee.db-wal")).unwrap(), "another log");
    let refused = run(&mut server_command(folder.path()));
    assert_fails_with(&refused, 78, "the log coffee.db-wal may belong to another file than coffee.db");
    fs::rename(at("coffee.db-wal"), at("kept-wal")).unwrap();
    Server::start(folder.path()).stop_cleanly();
    assert_eq!(state(&at("coffee.db")).unwrap().coffees.len(), 23, "what the open log held is there");
}

#[test]
fn a_restore_into_a_running_server_is_no_displacement() {
    let folder = folder();
    let server = serving(folder.path());
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    for _ in 0..3 {
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert_eq!(server.client().post("/coffee/", COFFEE).status, 201);
        assert_eq!(server.get("/health").json()["database"]["state"], "ok");
    }
    server.stop_cleanly();
    Server::start(folder.path()).stop_cleanly();
}

/// Starts `serve` with these arguments on `coffee.db` in `folder`.
fn serve(folder: &Path, args: &[&str]) -> std::process::Command {
    let mut command = crate::helpers::program(folder);
    command.args(["serve", "--port", "0", "--database-url", "coffee.db"]).args(args);
    command.envs([("API_KEY", KEY), ("TZ", "UTC")]);
    command
}

/// Lays out the folder of a former database.
type Layout = fn(&Path);

#[test]
fn a_start_does_not_begin_empty_where_a_database_was() {
    let cleanly: Layout = |folder| {
        make_database(folder, "then", 3);
        fs::remove_file(folder.join("coffee.db")).unwrap();
    };
    let emptied: Layout = |folder| {
        make_database(folder, "then", 3);
        fs::write(folder.join("coffee.db"), "").unwrap();
    };
    // A version before this one left an empty file behind.
    let older: Layout = |folder| fs::write(folder.join("coffee.db.lock"), "").unwrap();
    let older_after_a_crash: Layout = |folder| fs::write(folder.join("coffee.db.lock"), "4711\n").unwrap();
    let log_alone: Layout = |folder| fs::write(folder.join("coffee.db-wal"), "what it wrote").unwrap();
    for (layout, message) in [
        (cleanly, "coffee.db is missing: a database existed when a server last ran"),
        (emptied, "coffee.db is missing: a database existed when a server last ran"),
        (older, "coffee.db is missing: a database existed when a server last ran"),
        (older_after_a_crash, "coffee.db is missing: a database existed when a server last ran"),
        (log_alone, "coffee.db is missing, but its log coffee.db-wal exists"),
    ] {
        let folder = folder();
        layout(folder.path());
        for _ in 0..2 {
            let refused = run(&mut serve(folder.path(), &[]));
            assert_says_both_ways(&refused.err, refused.code, message);
        }
        let checked = run_in(folder.path(), &["check"]);
        assert!(checked.out.contains(&format!("FAIL: database    {message}")), "{}", checked.out);

        Server::spawn(&mut serve(folder.path(), &["--new"])).stop_cleanly();
        assert_eq!(state(&folder.path().join("coffee.db")).unwrap().coffees.len(), 0);
        Server::spawn(&mut serve(folder.path(), &[])).stop_cleanly();
        let refused = run(&mut serve(folder.path(), &["--new"]));
        assert_fails_with(&refused, 78, "coffee.db exists: --new makes a database only where there is none");
        let logs: Vec<PathBuf> = names(folder.path())
            .into_iter()
            .filter(|name| name.starts_with("coffee.db.broken-"))
            .map(|name| folder.path().join(name))
            .collect();
        if message.contains("its log") {
            assert_eq!(logs.len(), 1, "{logs:?}");
            assert_eq!(fs::read_to_string(&logs[0]).unwrap(), "what it wrote");
        } else {
            assert!(logs.is_empty(), "{logs:?}");
        }
        assert_eq!(id_of(&folder.path().join("coffee.db")).len(), 32);
    }
}

#[test]
fn a_first_start_that_failed_is_no_former_database() {
    let folder = folder();
    let refused = run(serve(folder.path(), &[]).env("HOST", "nowhere"));
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let backup = {
        let past = crate::helpers::folder();
        make_database(past.path(), "then", 3);
        run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
        folder.path().join("then.db")
    };
    // It takes the lock, and leaves its file.
    run_ok(folder.path(), &["restore", backup.to_str().unwrap(), "--dry-run"]);
    assert_eq!(fs::read_to_string(folder.path().join("coffee.db.lock")).unwrap(), "none\n");
    Server::spawn(&mut serve(folder.path(), &[])).stop_cleanly();
}
