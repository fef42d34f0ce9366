//! Clients that write while a test does something else.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::helpers::{Server, database, number, wait_until};

/// Sets a flag when dropped, also when the test panics: otherwise its scope would wait for the writers forever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Posts coffees with the notes `meanwhile-0`, `meanwhile-1`, … until `stop` is set.
fn write(server: &Server, more_fields: &str, stop: &AtomicBool) -> Vec<(String, i64)> {
    let mut client = server.client();
    let mut written = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let note = format!("meanwhile-{}", written.len());
        let body = format!(r#"{{"caffeine_mg": 1, "notes": "{note}"{more_fields}}}"#);
        let response = client.post("/coffee/", &body);
        assert_eq!(response.status, 201);
        written.push((note, response.json()["id"].as_i64().unwrap()));
    }
    written
}

/// Runs `action` while a client writes. Returns its result, and the notes and ids of the acknowledged coffees.
pub fn while_writing<T>(
    server: &Server,
    more_fields: &str,
    action: impl FnOnce() -> T,
) -> (T, Vec<(String, i64)>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(server, more_fields, &stop));
        let stop_writer = StopOnDrop(&stop);
        let result = action();
        drop(stop_writer);
        (result, writer.join().unwrap())
    })
}

/// Waits until the client of [`while_writing`] has written a few coffees.
pub fn wait_for_writes(folder: &Path) {
    let is_stored = "select exists (select 1 from coffee_logs where notes = 'meanwhile-5')";
    let database = database(folder);
    wait_until("the client writes", || number(&database, is_stored) == 1);
}
