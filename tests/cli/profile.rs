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
fn a_weekday_gets_a_bedtime_of_its_own_and_loses_it_again() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let by_weekday = |server: &Server| server.get("/coffee/active").json()["bedtimes"]["by_weekday"].clone();
    let result = profile(folder.path(), &["--set", "bedtime.saturday=23:30", "--set", "bedtime.friday=0:30"]);
    let lines: Vec<Vec<&str>> = result.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        vec!["bedtime", "23:00", "default"],
        vec!["bedtime.friday", "00:30", "set"],
        vec!["bedtime.saturday", "23:30", "set"],
        vec!["half_life_hours", "5", "default"],
    ];
    assert_eq!(lines[2..6], expected, "{result:?}");
    assert_eq!(by_weekday(&server), json!({"friday": "00:30", "saturday": "23:30"}));
    let result = profile(folder.path(), &["--set", "bedtime.friday=", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&result.out).unwrap();
    let expected = json!({"value": {"saturday": "23:30"}, "default": {}, "is_default": false});
    assert_eq!(printed["bedtime_by_weekday"], expected);
    assert_eq!(by_weekday(&server), json!({"saturday": "23:30"}));
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    profile(folder.path(), &["--set", "bedtime.saturday="]);
    assert_eq!(by_weekday(&server), json!({}));
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_eq!(by_weekday(&server), json!({"saturday": "23:30"}));
    server.stop_cleanly();
}

#[test]
fn a_profile_of_the_schema_before_bedtimes_of_weekdays_is_migrated() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    let file = Connection::open(folder.path().join("coffee.db")).unwrap();
    file.execute_batch(concat!(
        "drop table sources; drop table tombstones; drop table profile;",
        include_str!("../../sql/0005_profile.sql"),
        "insert into profile (id, bedtime, daily_limit_mg) values (1, '22:15', 200); pragma user_version = 5"
    ))
    .unwrap();
    drop(file);
    let server = Server::start(folder.path());
    let active = server.get("/coffee/active").json();
    assert_eq!(active["bedtimes"], json!({"usual": "22:15", "by_weekday": {}}));
    assert_eq!(active["daily_limit_mg"], 200.0);
    server.stop_cleanly();
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    run_ok(folder.path(), &["verify", "then.db"]);
}

#[test]
fn an_invalid_value_is_a_usage_error_and_changes_nothing() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    for (assignment, message) in [
        ("bedtime=25:00", "--set bedtime=25:00: must be a time of day such as 23:00"),
        ("half_life_hours=100", "--set half_life_hours=100: must be a number from 1 to 24"),
        ("bedtime", "--set bedtime: must be NAME=VALUE"),
        (
            "sleep=3",
            "--set sleep=3: must be one of bedtime, bedtime.monday to bedtime.sunday, half_life_hours,",
        ),
        ("bedtime.fri=23:00", "--set bedtime.fri=23:00: must be one of bedtime,"),
        ("bedtime.friday=25:00", "--set bedtime.friday=25:00: must be a time of day such as 23:00"),
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
    file.execute_batch(
        "drop table sources; drop table tombstones; drop table profile; pragma user_version = 4",
    )
    .unwrap();
    drop(file);
    let result = profile(folder.path(), &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.err.contains("coffee.db has schema 4, older than 7: start the server"), "{result:?}");
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
        ("update profile set bedtime_by_weekday = '{\"friday\":\"00:30\"}'", "profile"),
    ] {
        run_ok(folder.path(), &["backup", "--to", "then.db"]);
        Connection::open(folder.path().join("then.db")).unwrap().execute_batch(change).unwrap();
        let result = run_in(folder.path(), &["verify", "then.db"]);
        assert_eq!(result.code, Some(1), "{result:?}");
        assert!(result.out.contains(reason) || result.err.contains(reason), "{result:?}");
        std::fs::remove_file(folder.path().join("then.db")).unwrap();
    }
}
