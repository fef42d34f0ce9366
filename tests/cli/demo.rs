//! `demo`: equal seeds generate equal data, and existing data is never changed.

use std::path::Path;

use crate::helpers::{
    CommandResult, Server, database, number, program, rows, run, server_command, temporary_folder,
};

fn demo(folder: &Path, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["demo", "--database-url", "coffee.db"]).args(args).env("TZ", "UTC");
    run(&mut command)
}

/// Returns every entry before today: the entries of today depend on the time.
fn entries(folder: &Path) -> (Vec<String>, Vec<String>) {
    let database = database(folder);
    let before = "from coffee_logs where timestamp < unixepoch('now', 'start of day') * 1000000 order by id";
    let coffees =
        rows(&database, &format!("select timestamp, caffeine_mg, coffee_type, notes, source {before}"));
    let before = before.replace("coffee_logs", "heart_rate_logs");
    (coffees, rows(&database, &format!("select timestamp, bpm, context, notes, source {before}")))
}

fn today() -> i64 {
    number(&rusqlite::Connection::open_in_memory().unwrap(), "select unixepoch('now') / 86400")
}

#[test]
fn equal_seeds_generate_equal_data_and_different_seeds_different_data() {
    let (first, second, other) = (temporary_folder(), temporary_folder(), temporary_folder());
    let start = loop {
        let start = today();
        for (folder, seed) in [(&first, "7"), (&second, "7"), (&other, "8")] {
            drop(std::fs::remove_file(folder.path().join("coffee.db")));
            let result = demo(folder.path(), &["--days", "20", "--readings-per-day", "200", "--seed", seed]);
            assert_eq!(result.code, Some(0), "{result:?}");
        }
        // Repeated if the date changed meanwhile.
        if today() == start {
            break start;
        }
    };
    let generated = entries(first.path());
    assert!(
        generated.0.len() > 30 && generated.1.len() > 3000,
        "{} and {}",
        generated.0.len(),
        generated.1.len()
    );
    assert!(generated == entries(second.path()), "equal seeds generated different data");
    let different = entries(other.path());
    assert!(generated.0 != different.0 && generated.1 != different.1, "different seeds generated equal data");
    let oldest = number(&database(first.path()), "select min(timestamp) / 86400000000 from heart_rate_logs");
    assert_eq!(start - oldest, 19, "the last of 20 days is today");
}

#[test]
fn the_number_of_entries_is_close_to_the_requested_and_printed_one() {
    let folder = temporary_folder();
    let result =
        demo(folder.path(), &["--days", "90", "--coffees-per-day", "3", "--readings-per-day", "100"]);
    assert_eq!((result.code, result.err.as_str()), (Some(0), ""), "no progress bar without a terminal");
    let database = database(folder.path());
    let coffees = number(&database, "select count(*) from coffee_logs");
    let readings = number(&database, "select count(*) from heart_rate_logs");
    assert!((200..=340).contains(&coffees), "{coffees} coffees in 90 days at 3 a day");
    assert!((8400..=9100).contains(&readings), "{readings} readings in 90 days at 100 a day");
    assert!(result.out.starts_with(&format!(
        "added {coffees} coffees and {},{:03} readings over 90 days to coffee.db",
        readings / 1000,
        readings % 1000
    )));
    let future =
        "select count(*) from heart_rate_logs where timestamp > unixepoch('now') * 1000000 + 1000000";
    assert_eq!(number(&database, future), 0, "entries in the future");
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn zero_readings_per_day_generates_only_coffees() {
    let folder = temporary_folder();
    assert_eq!(demo(folder.path(), &["--days", "10", "--readings-per-day", "0"]).code, Some(0));
    let database = database(folder.path());
    assert_eq!(number(&database, "select count(*) from heart_rate_logs"), 0);
    assert!(number(&database, "select count(*) from coffee_logs") > 10);
}

#[test]
fn a_database_with_entries_is_rejected_and_unchanged() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 33}"#).status, 201);
    server.stop_cleanly();
    let result = demo(folder.path(), &["--days", "5"]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert_eq!(
        result.err,
        "coffee-tracker: the database is not empty (coffees: 1, readings: 0): remove the file if it is a demo, or use another one\n"
    );
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 1);
}

#[test]
fn a_database_in_use_by_a_server_is_rejected() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut server_command(folder.path()));
    let result = demo(folder.path(), &["--days", "5"]);
    assert_eq!(result.code, Some(75), "{result:?}");
    assert!(result.err.contains("coffee.db is in use by another coffee-tracker server"), "{}", result.err);
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 0);
}
