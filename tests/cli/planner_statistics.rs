//! Statistics of SQLite's query planner: the program collects none and drops existing ones.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::fixtures::run_ok;
use crate::helpers::{Server, database, number, temporary_folder};

/// Returns the number of statistics tables.
fn statistics(folder: &Path) -> i64 {
    number(&database(folder), "select count(*) from sqlite_schema where name like 'sqlite@_stat%' escape '@'")
}

fn analyze(file: &Path) {
    Connection::open(file).unwrap().execute_batch("analyze").unwrap();
}

#[test]
fn planner_statistics_are_never_collected_and_existing_ones_are_dropped() {
    let folder = temporary_folder();
    let folder = folder.path();
    let server = Server::start(folder);
    assert_eq!(server.client().post("/heartrate/", &json!({"bpm": 60}).to_string()).status, 201);
    server.stop_cleanly();
    assert_eq!(statistics(folder), 0, "after a stop");
    // Collected by hand while no server runs.
    analyze(&folder.join("coffee.db"));
    assert!(statistics(folder) > 0);
    let server = Server::start(folder);
    assert_eq!(statistics(folder), 0, "after a start");
    // Contained in a backup.
    run_ok(folder, &["backup", "--to", "analyzed.db"]);
    analyze(&folder.join("analyzed.db"));
    run_ok(folder, &["restore", "--yes", "analyzed.db"]);
    assert_eq!(statistics(folder), 0, "after a restore");
    assert_eq!(server.get("/heartrate/current").json()["bpm"], 60);
    server.stop_cleanly();
    assert_eq!(statistics(folder), 0, "after another stop");
}
