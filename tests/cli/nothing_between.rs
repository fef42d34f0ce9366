//! What is written between a command's backup and its change is in the one or survives the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, OpenFlags};

use crate::client::Client;
use crate::fixtures::{add_entries, assert_no_leftovers, backups, command_in, make_database, run_ok};
use crate::helpers::{CommandResult, Server, database, folder, number, run, wait_until};

/// Posts coffees, each with a note of its own, until told to stop; says which were answered.
fn write(mut client: Client, timestamp: &str, stop: &AtomicBool) -> BTreeSet<String> {
    let mut answered = BTreeSet::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let note = format!("meanwhile-{n}");
        let body = format!(r#"{{"caffeine_mg": 1, "notes": "{note}"{timestamp}}}"#);
        assert_eq!(client.post("/coffee/", &body).status, 201);
        answered.insert(note);
    }
    answered
}

/// Waits until the writer writes.
fn wait_for_it(folder: &Path) {
    let is_stored = "select exists (select 1 from coffee_logs where notes = 'meanwhile-5')";
    let database = database(folder);
    wait_until("the writer writes", || number(&database, is_stored) == 1);
}

/// Stops a writer, also when the test has failed: the scope waits for it.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a command while a client writes, from before its start until after its end.
fn beside_a_writer(
    server: &Server,
    folder: &Path,
    args: &[&str],
    timestamp: &str,
) -> (CommandResult, BTreeSet<String>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(server.client(), timestamp, &stop));
        let stopping = StopOnDrop(&stop);
        wait_for_it(folder);
        let result = run(&mut command_in(folder, args));
        drop(stopping);
        assert_eq!(result.code, Some(0), "{result:?}");
        (result, writer.join().unwrap())
    })
}

#[test]
fn a_restore_that_is_killed_while_it_holds_the_database_leaves_the_old_state_and_the_server_goes_on() {
    let folder = folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(server.client(), "", &stop));
        wait_for_it(folder.path());
        let mut restore = command_in(folder.path(), &["restore", "then.db", "--yes"]);
        let result = run(restore.env("COFFEE_TRACKER_KILL_AT", "restore.saved.again"));
        assert_eq!(result.signal, Some(9), "{result:?}");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(answered.len() > 1);
    server.stop_cleanly();
    assert_eq!(notes(&folder.path().join("coffee.db")), answered);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_no_leftovers(folder.path());
}

#[test]
fn writes_are_not_blocked_while_a_restore_verifies_its_safety_backup() {
    let folder = folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(server.client(), "", &stop));
        wait_for_it(folder.path());
        let mut restore = command_in(folder.path(), &["restore", "then.db", "--yes"]);
        // Killed at the second check of a backup: by then the database is free again.
        let result = run(restore.env("COFFEE_TRACKER_KILL_AT", "backup.checked:2"));
        assert_eq!(result.signal, Some(9), "{result:?}");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let now = notes(&folder.path().join("coffee.db"));
    assert!(!now.contains("meanwhile-5"), "the restored state is in place");
    let mut kept: BTreeSet<_> = backups(folder.path()).iter().flat_map(|backup| notes(backup)).collect();
    assert!(kept.contains("meanwhile-5"), "{}", kept.len());
    kept.extend(now);
    assert_eq!(answered.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", answered.len());
    server.stop_cleanly();
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_no_leftovers(folder.path());
}

#[test]
fn the_safety_backup_contains_changes_made_while_a_restore_prepares() {
    let folder = folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 20_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let stop = AtomicBool::new(false);
    let safety = std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut client = server.client();
            // Newest first: what the first copy has already is touched again and again.
            for id in (1..=20_000).rev() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (method, body) = if id % 2 == 0 {
                    ("DELETE", String::new())
                } else {
                    ("PUT", format!(r#"{{"notes": "meanwhile-{id}"}}"#))
                };
                let answer = client.try_request(method, &format!("/coffee/{id}"), "", &body).unwrap();
                assert_eq!(answer.status, 200, "{id}");
            }
        });
        let database = database(folder.path());
        let is_under_way = "select count(*) < 19990 from coffee_logs";
        wait_until("it edits", || number(&database, is_under_way) == 1);
        let result = run(&mut command_in(folder.path(), &["restore", "then.db", "--yes"]));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(result.code, Some(0), "{result:?}");
        editor.join().unwrap();
        let safety = result.out.lines().find_map(|line| line.strip_prefix("backed up the previous state to "));
        folder.path().join(safety.unwrap())
    });
    server.stop_cleanly();
    let kept = Connection::open_with_flags(&safety, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let first = number(&kept, "select min(id) from coffee_logs where notes like 'meanwhile-%'");
    // The one after it may have been the last that was answered before the restore.
    let deleted = format!("select count(*) from coffee_logs where id > {first} and id % 2 = 0");
    assert_eq!(number(&kept, &deleted), 0);
    let changed =
        format!("select count(*) from coffee_logs where id >= {first} and notes is not 'meanwhile-' || id");
    assert_eq!(number(&kept, &changed), 0);
    let untouched = format!("select count(*) from coffee_logs where id < {first} - 1");
    assert_eq!(number(&kept, &untouched), (first - 2).max(0));
}

fn notes(file: &Path) -> BTreeSet<String> {
    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = file.prepare("select notes from coffee_logs where notes like 'meanwhile-%'").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn writes_during_a_restore_are_in_the_safety_backup_or_the_new_state() {
    let (folder, past) = (folder(), folder());
    make_database(past.path(), "then", 10);
    add_entries(&past.path().join("coffee.db"), "large", 20_000);
    let then = folder.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", then.to_str().unwrap()]);
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    let (result, answered) =
        beside_a_writer(&server, folder.path(), &["restore", "then.db", "--yes", "--force"], "");
    let safety =
        result.out.lines().find_map(|line| line.strip_prefix("backed up the previous state to ")).unwrap();
    let mut kept = notes(&folder.path().join(safety));
    assert!(kept.len() > 5, "{}", kept.len());
    kept.extend(notes(&folder.path().join("coffee.db")));
    assert_eq!(answered.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", answered.len());
    assert_eq!(backups(folder.path()), [folder.path().join(safety)], "the one of the last moment alone");
    server.stop_cleanly();
}

#[test]
fn writes_during_the_backup_of_a_prune_are_not_removed() {
    let folder = folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "old", 20_000);
    let old = r#", "timestamp": "2025-10-09T00:00:00Z""#;
    let prune = ["prune", "--before", "2025-12-31", "--yes"];
    let (_, answered) = beside_a_writer(&server, folder.path(), &prune, old);
    let made: Vec<PathBuf> = backups(folder.path());
    assert_eq!(made.len(), 1);
    let mut kept = notes(&made[0]);
    assert!(kept.len() > 5, "{}", kept.len());
    kept.extend(notes(&folder.path().join("coffee.db")));
    assert_eq!(answered.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", answered.len());
    server.stop_cleanly();
}
