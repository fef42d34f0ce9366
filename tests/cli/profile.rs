//! `profile`: prints and changes the profile, beside a server that uses it at once.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::fixtures::{run_in, run_ok};
use crate::helpers::{CommandResult, Server, program, run, temporary_folder};

fn profile(folder: &Path, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["profile", "--database-url", "coffee.db"]).args(args);
    run(&mut command)
}

#[test]
fn a_running_server_uses_what_profile_sets_and_keeps_it_after_a_restart() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let result = profile(folder.path(), &["--set", "bedtime=22:30", "--set", "daily_limit_mg=200"]);
    assert_eq!((result.code, result.err.as_str()), (Some(0), ""), "{result:?}");
    let lines: Vec<Vec<&str>> = result.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        vec!["bedtime", "22:30", "set"],
        vec!["half_life_hours", "5", "default"],
        vec!["sleep_threshold_mg", "50", "default"],
        vec!["usual_dose_mg", "median", "of", "the", "latest", "50", "coffees", "default"],
        vec!["daily_limit_mg", "200", "set"],
    ];
    assert_eq!(lines[0], ["NAME", "VALUE", "SOURCE"]);
    assert_eq!(lines[2..], expected);
    let limit = |server: &Server| server.get("/coffee/today").json()["recommended_max"].clone();
    assert_eq!(limit(&server), 200.0);
    server.stop_cleanly();
    let server = Server::start(folder.path());
    assert_eq!(limit(&server), 200.0);
    let result = profile(folder.path(), &["--set", "daily_limit_mg=", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&result.out).unwrap();
    assert_eq!(printed["daily_limit_mg"], json!({"value": 400.0, "default": 400.0, "is_default": true}));
    assert_eq!(printed["bedtime"], json!({"value": "22:30", "default": "23:00", "is_default": false}));
    assert_eq!(limit(&server), 400.0);
    server.stop_cleanly();
}

#[test]
fn an_invalid_value_is_a_usage_error_and_changes_nothing() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    for (assignment, message) in [
        ("bedtime=25:00", "--set bedtime=25:00: must be a time of day such as 23:00"),
        ("half_life_hours=100", "--set half_life_hours=100: must be a number from 1 to 24"),
        ("bedtime", "--set bedtime: must be NAME=VALUE"),
        ("sleep=3", "--set sleep=3: must be one of bedtime"),
    ] {
        let result = profile(folder.path(), &["--set", "daily_limit_mg=100", "--set", assignment]);
        assert_eq!(result.code, Some(2), "{result:?}");
        assert!(result.err.contains(message), "{result:?}");
    }
    assert!(!profile(folder.path(), &[]).out.contains("set\n"), "nothing was set");
}

#[test]
fn a_restore_brings_back_the_profile_of_the_backup() {
    let folder = temporary_folder();
    let limit = |server: &Server| server.get("/coffee/today").json()["recommended_max"].clone();
    Server::start(folder.path()).stop_cleanly();
    profile(folder.path(), &["--set", "daily_limit_mg=200"]);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    // A backup of the schema before profiles.
    let file = Connection::open(folder.path().join("coffee.db")).unwrap();
    file.execute_batch("drop table profile; pragma user_version = 4").unwrap();
    drop(file);
    let result = profile(folder.path(), &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.err.contains("coffee.db has schema 4, which has no profile"), "{result:?}");
    run_ok(folder.path(), &["backup", "--to", "older.db"]);

    let server = Server::start(folder.path());
    assert_eq!(limit(&server), 400.0);
    profile(folder.path(), &["--set", "daily_limit_mg=300"]);
    assert_eq!(limit(&server), 300.0);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_eq!(limit(&server), 200.0);
    run_ok(folder.path(), &["restore", "older.db", "--yes"]);
    assert_eq!(limit(&server), 400.0);
    server.stop_cleanly();
}

#[test]
fn a_changed_profile_in_a_backup_is_found() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    profile(folder.path(), &["--set", "daily_limit_mg=200"]);
    for (change, reason) in [
        ("update profile set daily_limit_mg = 250", "profile"),
        ("drop table profile", "the table profile is missing"),
        ("pragma ignore_check_constraints = on; update profile set bedtime = '29:00'", "profile"),
    ] {
        run_ok(folder.path(), &["backup", "--to", "then.db"]);
        Connection::open(folder.path().join("then.db")).unwrap().execute_batch(change).unwrap();
        let result = run_in(folder.path(), &["verify", "then.db"]);
        assert_eq!(result.code, Some(1), "{result:?}");
        assert!(result.out.contains(reason) || result.err.contains(reason), "{result:?}");
        std::fs::remove_file(folder.path().join("then.db")).unwrap();
    }
}
