//! Imports over HTTP on real connections: uploads that are cut off, and a server that is killed meanwhile.

use std::fmt::Write;
use std::fs;
use std::net::Shutdown;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use coffee_tracker::domain::time::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::fixtures::{assert_integrity, make_database, open_copy};
use crate::helpers::{KEY, Server, number, peak_memory_kib, temporary_folder, wait_until};

/// Number of rows of a file whose import takes some seconds.
const MANY: i64 = 150_000;

/// Returns a CSV file with readings.
fn readings(count: i64) -> String {
    let mut file = "timestamp,bpm,context\n".to_owned();
    for n in 0..count {
        let at = Timestamp::clamped(1_700_000_000_000_000 + n * 1_000_000);
        writeln!(file, "{at},{},resting", 60 + n % 60).unwrap();
    }
    file
}

/// Starts a job, and returns its path.
fn start(server: &Server, path: &str, body: &[u8]) -> String {
    let mut client = server.client();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head).unwrap();
    client.send(body).unwrap();
    let accepted = client.read_response().unwrap();
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.header("Location").unwrap().to_owned()
}

/// Returns the result of a job that succeeds.
fn result_of(server: &Server, path: &str) -> Value {
    loop {
        let job = server.get(path).json();
        if job["finished_at"].is_string() {
            assert_eq!(job["state"], "succeeded", "{job}");
            return job["result"].clone();
        }
        sleep(Duration::from_millis(20));
    }
}

/// Sends a file and returns the result of its preview and the path of its import.
fn preview(server: &Server, content: &[u8]) -> (Value, String) {
    let result = result_of(server, &start(server, "/imports", content));
    let path = format!("/imports/{}", result["id"].as_str().unwrap());
    (result, path)
}

fn temporary_files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp")).collect()
}

/// Reports whether a command that a server started in this folder is importing.
fn is_importing(folder: &Path) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes.any(|process| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder)
            && fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"coffee-tracker\0import"))
    })
}

#[test]
fn an_import_that_is_killed_with_the_server_is_completed_by_a_second_one_without_duplicates() {
    let folder = temporary_folder();
    make_database(folder.path(), "coffee.db", 10);
    let before =
        number(&open_copy(&folder.path().join("coffee.db")).1, "select count(*) from heart_rate_logs");
    let server = Server::start(folder.path());
    let content = readings(MANY);
    let (counts, import) = preview(&server, content.as_bytes());
    assert_eq!((&counts["readings_added"], &counts["duplicates"]), (&MANY.into(), &0.into()));
    let job = start(&server, &import, b"");
    wait_until("rows are stored", || server.get(&job).json()["progress"].as_f64().unwrap() > 0.0);
    server.signal(Signal::KILL);
    drop(server);
    wait_until("the command has ended", || !is_importing(folder.path()));
    let (_copy_folder, copy) = open_copy(&folder.path().join("coffee.db"));
    assert_integrity(&copy);
    let stored = number(&copy, "select count(*) from heart_rate_logs") - before;
    println!("{stored} readings stored");
    assert!(stored < MANY, "the server was killed too late");

    let server = Server::start(folder.path());
    assert_eq!(server.get(&job).json()["state"], "interrupted");
    assert_eq!(temporary_files(folder.path()), Vec::<String>::new());
    server.client().post(&import, "").assert_problem(404);
    let (counts, import) = preview(&server, content.as_bytes());
    assert_eq!((&counts["readings_added"], &counts["duplicates"]), (&(MANY - stored).into(), &stored.into()));
    let imported = result_of(&server, &start(&server, &import, b""));
    assert_eq!(imported["readings_added"], MANY - stored, "{imported}");
    let stats = server.get("/heartrate/stats?days=3650").json();
    assert_eq!(stats["total_readings"], before + MANY, "{stats}");
    if let Some(peak) = peak_memory_kib(&server.process) {
        assert!(peak < 40 << 10, "{peak} KiB");
    }
    server.stop_cleanly();
    let (_copy_folder, copy) = open_copy(&folder.path().join("coffee.db"));
    assert_integrity(&copy);
    assert_eq!(number(&copy, "select count(*) from heart_rate_logs") - before, MANY);
    assert_eq!(temporary_files(folder.path()), Vec::<String>::new());
}

#[test]
fn an_upload_of_a_file_to_import_that_is_cut_off_leaves_nothing() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    client
        .send(format!(
            "POST /imports HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9000000\r\n\r\n"
        ))
        .unwrap();
    client.send(vec![b'x'; 2_000_000]).unwrap();
    wait_until("the upload has begun", || !temporary_files(folder.path()).is_empty());
    client.socket().shutdown(Shutdown::Both).unwrap();
    wait_until("the upload is removed", || temporary_files(folder.path()).is_empty());
    assert_eq!(server.get("/jobs").json()["jobs"], Value::Array(vec![]));
    server.stop_cleanly();
}

#[test]
fn a_restart_removes_a_file_that_was_not_imported_for_everyone() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let added = server.client().post("/people", r#"{"name": "anna"}"#).json();
    let key = added["key"]["key"].as_str().unwrap().to_owned();
    preview(&server, b"timestamp,bpm\n2025-07-24T09:00:00Z,60\n");
    let mut client = server.client();
    let body = "timestamp,bpm\n2025-07-24T09:00:00Z,60\n";
    let head = format!(
        "POST /imports HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(head).unwrap();
    assert_eq!(client.read_response().unwrap().status, 202);
    let folders = [folder.path().to_owned(), folder.path().join("people/anna")];
    assert_eq!(folders.each_ref().map(|folder| temporary_files(folder).len()), [1, 1]);
    server.signal(Signal::KILL);
    drop(server);
    wait_until("the command has ended", || !is_importing(folder.path()));
    let server = Server::start(folder.path());
    wait_until("the files are removed", || folders.iter().all(|folder| temporary_files(folder).is_empty()));
    server.stop_cleanly();
}
