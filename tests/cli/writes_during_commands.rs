//! Writes between the safety backup of a command and its change: each is in the backup or survives the change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, OpenFlags};

use crate::fixtures::{add_entries, assert_no_leftovers, backups, command_in, make_database, run_ok};
use crate::helpers::{CommandResult, Server, database, number, run, temporary_folder, wait_until};
use crate::writers::{wait_for_writes, while_writing};

/// Runs a command while a client writes, and returns the notes of the acknowledged coffees.
fn run_while_writing(
    server: &Server,
    folder: &Path,
    command: &mut Command,
    more_fields: &str,
) -> (CommandResult, BTreeSet<String>) {
    let (result, written) = while_writing(server, more_fields, || {
        wait_for_writes(folder);
        run(command)
    });
    (result, written.into_iter().map(|(note, _)| note).collect())
}

#[test]
fn a_restore_killed_within_its_transaction_leaves_the_old_state_and_the_server_keeps_running() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let mut restore = command_in(folder.path(), &["restore", "then.db", "--yes"]);
    restore.env("COFFEE_TRACKER_KILL_AT", "restore.page_copy");
    let (result, acknowledged) = run_while_writing(&server, folder.path(), &mut restore, "");
    assert_eq!(result.signal, Some(9), "{result:?}");
    assert!(acknowledged.len() > 1);
    server.stop_cleanly();
    assert_eq!(notes(&folder.path().join("coffee.db")), acknowledged);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_no_leftovers(folder.path());
}

#[test]
fn writes_are_not_blocked_while_a_restore_verifies_its_safety_backup() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let mut restore = command_in(folder.path(), &["restore", "then.db", "--yes"]);
    // Killed at the second verification of a backup: by then the write transaction has ended.
    restore.env("COFFEE_TRACKER_KILL_AT", "backup.checked:2");
    let (result, acknowledged) = run_while_writing(&server, folder.path(), &mut restore, "");
    assert_eq!(result.signal, Some(9), "{result:?}");
    let now = notes(&folder.path().join("coffee.db"));
    assert!(!now.contains("meanwhile-5"), "the database has the restored state");
    let mut kept: BTreeSet<_> = backups(folder.path()).iter().flat_map(|backup| notes(backup)).collect();
    assert!(kept.contains("meanwhile-5"), "{}", kept.len());
    kept.extend(now);
    assert_eq!(acknowledged.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", acknowledged.len());
    server.stop_cleanly();
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_no_leftovers(folder.path());
}

#[test]
fn the_safety_backup_contains_changes_made_while_a_restore_prepares() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 20_000);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let stop = AtomicBool::new(false);
    let safety = std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut client = server.client();
            // Newest first, so that pages that the first copy already contains change, too.
            for id in (1..=20_000).rev() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (method, body) = if id % 2 == 0 {
                    ("DELETE", String::new())
                } else {
                    ("PUT", format!(r#"{{"notes": "meanwhile-{id}"}}"#))
                };
                let response = client.try_request(method, &format!("/coffee/{id}"), "", &body).unwrap();
                assert_eq!(response.status, 200, "{id}");
            }
        });
        let database = database(folder.path());
        let has_started = "select count(*) < 19990 from coffee_logs";
        wait_until("the client changes entries", || number(&database, has_started) == 1);
        let result = run(&mut command_in(folder.path(), &["restore", "then.db", "--yes"]));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(result.code, Some(0), "{result:?}");
        editor.join().unwrap();
        let safety = result
            .out
            .lines()
            .find_map(|line| line.strip_prefix("saved the previous state as the safety copy "));
        folder.path().join(safety.unwrap())
    });
    server.stop_cleanly();
    let kept = Connection::open_with_flags(&safety, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let first = number(&kept, "select min(id) from coffee_logs where notes like 'meanwhile-%'");
    // The entry after it may be the last change acknowledged before the restore.
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
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    add_entries(&past.path().join("coffee.db"), "large", 20_000);
    let then = folder.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", then.to_str().unwrap()]);
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "now", 2_000);
    let mut restore = command_in(folder.path(), &["restore", "then.db", "--yes", "--force"]);
    let (result, acknowledged) = run_while_writing(&server, folder.path(), &mut restore, "");
    assert_eq!(result.code, Some(0), "{result:?}");
    let safety = result
        .out
        .lines()
        .find_map(|line| line.strip_prefix("saved the previous state as the safety copy "))
        .unwrap();
    let mut kept = notes(&folder.path().join(safety));
    assert!(kept.len() > 5, "{}", kept.len());
    kept.extend(notes(&folder.path().join("coffee.db")));
    assert_eq!(acknowledged.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", acknowledged.len());
    assert_eq!(backups(folder.path()), [folder.path().join(safety)], "only the final safety backup is left");
    server.stop_cleanly();
}

#[test]
fn writes_during_the_backup_of_a_prune_are_not_removed() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    add_entries(&folder.path().join("coffee.db"), "old", 20_000);
    let old = r#", "timestamp": "2025-10-09T00:00:00Z""#;
    let mut prune = command_in(folder.path(), &["prune", "--before", "2025-12-31", "--yes"]);
    let (result, acknowledged) = run_while_writing(&server, folder.path(), &mut prune, old);
    assert_eq!(result.code, Some(0), "{result:?}");
    let made: Vec<PathBuf> = backups(folder.path());
    assert_eq!(made.len(), 1);
    let mut kept = notes(&made[0]);
    assert!(kept.len() > 5, "{}", kept.len());
    kept.extend(notes(&folder.path().join("coffee.db")));
    assert_eq!(acknowledged.difference(&kept).collect::<Vec<_>>(), [""; 0], "of {}", acknowledged.len());
    server.stop_cleanly();
}
