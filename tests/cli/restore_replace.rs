//! `restore --replace`: the damaged database is kept with its WAL, and an interruption loses neither.

use std::fs;
use std::path::Path;

use crate::fixtures::{
    assert_fails_with, assert_no_leftovers, command_in, crash_with_five_coffees_in_the_wal, files,
    make_database, names, open_copy, run_in, run_ok, state,
};
use crate::helpers::{Server, database, number, run, server_command, temporary_folder};

/// Overwrites a page of an index: the file is damaged, but its rows can be read.
pub fn damage(database: &Path) {
    let (_folder, copy) = open_copy(database);
    let query = "select rootpage from sqlite_schema where name = 'heart_rate_logs_by_context'";
    let page = usize::try_from(number(&copy, query)).unwrap();
    let size = usize::try_from(number(&copy, "pragma page_size")).unwrap();
    let mut bytes = fs::read(database).unwrap();
    bytes[(page - 1) * size + 8..page * size].fill(0x77);
    fs::write(database, bytes).unwrap();
}

/// Overwrites the last page of the table of readings, so that some rows cannot be read.
fn damage_rows(database: &Path) {
    let (_folder, copy) = open_copy(database);
    let root =
        usize::try_from(number(&copy, "select rootpage from sqlite_schema where name = 'heart_rate_logs'"))
            .unwrap();
    let size = usize::try_from(number(&copy, "pragma page_size")).unwrap();
    let mut bytes = fs::read(database).unwrap();
    let at = (root - 1) * size;
    assert_eq!(bytes[at], 5, "the root is an interior page of a table");
    let last = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    bytes[(last - 1) * size + 8..last * size].fill(0x77);
    fs::write(database, bytes).unwrap();
}

/// Creates a folder with the backup `then.db` and a damaged database with five coffees that are only in the WAL.
fn prepare_damaged() -> tempfile::TempDir {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    make_database(folder.path(), "now", 50);
    crash_with_five_coffees_in_the_wal(folder.path());
    damage(&folder.path().join("coffee.db"));
    folder
}

fn moved_files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.contains(".broken-")).collect()
}

/// Runs a replacement that is killed after moving the WAL and before moving the database.
fn interrupt_replacement(folder: &Path) {
    let mut restore = command_in(folder, &["restore", "then.db", "--yes", "--replace"]);
    let result = run(restore.env("COFFEE_TRACKER_KILL_AT", "restore.moved"));
    assert_eq!(result.signal, Some(9), "{result:?}");
    assert!(!folder.join("coffee.db-wal").exists() && moved_files(folder).len() == 2, "{:?}", names(folder));
}

#[test]
fn a_server_recovers_an_interrupted_replacement_at_its_start() {
    let folder = prepare_damaged();
    interrupt_replacement(folder.path());
    let server = Server::start(folder.path());
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 55);
    assert_eq!(moved_files(folder.path()), [""; 0]);
    server.stop_cleanly();
}

#[test]
fn a_backup_recovers_an_interrupted_replacement_first() {
    let folder = prepare_damaged();
    let before = files(folder.path());
    interrupt_replacement(folder.path());
    assert_fails_with(
        &run_in(folder.path(), &["backup"]),
        78,
        "coffee.db is damaged (database disk image is malformed): stop the server and restore a backup",
    );
    let after = files(folder.path());
    for name in ["coffee.db", "coffee.db-wal"] {
        assert!(before[name] == after[name], "{name} has changed");
    }
    assert_eq!(moved_files(folder.path()), [""; 0]);
}

#[test]
fn a_replaced_damaged_database_is_kept_with_its_wal() {
    let folder = prepare_damaged();
    let before = files(folder.path());
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_fails_with(
        &refused,
        1,
        "stop the server and add --replace; the current file is kept under another name",
    );
    assert!(files(folder.path())["coffee.db"] == before["coffee.db"]);
    let done = run_ok(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    let kept = moved_files(folder.path());
    for name in &kept {
        assert!(
            done.out.contains(&format!("moved the old file to coffee.db{}", &name["coffee.db".len()..]))
                || done.out.contains(name),
            "{name} is not in {}",
            done.out
        );
    }
    let after = files(folder.path());
    let kept_with = |end: &str| kept.iter().find(|name| name.ends_with(end)).map(|name| &after[name]);
    assert!(kept_with("-wal") == Some(&before["coffee.db-wal"]), "the WAL has changed");
    assert!(after[&kept[0]] == before["coffee.db"], "the database has changed: {kept:?}");
    assert!(state(&folder.path().join("coffee.db")) == state(&folder.path().join("then.db")));
    assert_no_leftovers(folder.path());
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_database_with_unreadable_rows_is_replaced() {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    make_database(folder.path(), "now", 200);
    Server::start(folder.path()).stop_cleanly();
    damage_rows(&folder.path().join("coffee.db"));
    let before = files(folder.path());
    assert_fails_with(
        &run_in(folder.path(), &["restore", "then.db", "--yes"]),
        1,
        "coffee.db is damaged (database disk image is malformed). To replace the file, stop the server and add",
    );
    run_ok(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    let kept = moved_files(folder.path());
    assert!(files(folder.path())[&kept[0]] == before["coffee.db"], "the damaged file is kept");
    assert!(state(&folder.path().join("coffee.db")) == state(&folder.path().join("then.db")));
    assert_no_leftovers(folder.path());
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn replacing_is_rejected_while_a_server_runs() {
    let folder = prepare_damaged();
    let server = Server::start(folder.path());
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    assert_fails_with(&refused, 1, "a server runs on coffee.db: stop it first");
    assert_eq!(moved_files(folder.path()), [""; 0]);
    // Also when its file was moved away.
    fs::rename(folder.path().join("coffee.db"), folder.path().join("elsewhere.db")).unwrap();
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_fails_with(&refused, 1, "a server runs on coffee.db: stop it first");
    assert!(!folder.path().join("coffee.db").exists());
    drop(server);
}

#[test]
fn a_wal_without_database_is_rejected_and_a_restore_renames_it() {
    let folder = prepare_damaged();
    fs::remove_file(folder.path().join("coffee.db")).unwrap();
    let log = fs::read(folder.path().join("coffee.db-wal")).unwrap();
    let refused = run(&mut server_command(folder.path()));
    assert_fails_with(
        &refused,
        78,
        "coffee.db is missing, but its log coffee.db-wal exists: restore a backup",
    );
    assert!(fs::read(folder.path().join("coffee.db-wal")).unwrap() == log);
    let done = run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    let kept = moved_files(folder.path());
    assert!(kept.len() == 1 && done.out.contains(&kept[0]), "{kept:?} in {}", done.out);
    assert!(fs::read(folder.path().join(&kept[0])).unwrap() == log);
    let server = Server::start(folder.path());
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 10);
    server.stop_cleanly();
}

#[test]
fn a_replaced_file_of_another_program_is_renamed_and_a_symlink_is_followed() {
    let folder = prepare_damaged();
    let at = |name: &str| folder.path().join(name);
    for name in ["coffee.db", "coffee.db-wal", "coffee.db-shm"] {
        fs::remove_file(at(name)).unwrap();
    }
    fs::create_dir(at("disk")).unwrap();
    fs::write(at("disk/real.db"), "espresso, flat white, ristretto\n".repeat(100)).unwrap();
    std::os::unix::fs::symlink("disk/real.db", at("coffee.db")).unwrap();
    assert_fails_with(
        &run_in(folder.path(), &["restore", "then.db", "--yes"]),
        1,
        "disk/real.db is not a SQLite database",
    );
    run_ok(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    assert!(fs::symlink_metadata(at("coffee.db")).unwrap().is_symlink());
    let kept = moved_files(&at("disk"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(fs::read_to_string(at("disk").join(&kept[0])).unwrap().starts_with("espresso"));
    assert!(state(&at("coffee.db")) == state(&at("then.db")));
}
