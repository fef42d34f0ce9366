//! Output files of commands: the files of the database and existing files are never overwritten.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rusqlite::Connection;

use crate::fixtures::{assert_fails_with, command_in, files, make_database, names, run_in, run_ok, state};
use crate::helpers::{database, number, run, temporary_folder};

const GOOD: &str = "timestamp,caffeine_mg\n2025-07-23T14:30:00Z,95\n";
const BAD: &str = "timestamp,caffeine_mg\n2025-07-23T14:30:00Z,95\nnever,1\n";

fn write(folder: &Path, name: &str, content: &str) {
    fs::write(folder.join(name), content).unwrap();
}

#[test]
fn no_command_overwrites_the_database_or_its_companion_files() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    write(folder.path(), "bad.csv", BAD);
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::hard_link(folder.path().join("coffee.db"), folder.path().join("sub/hard.db")).unwrap();
    std::os::unix::fs::symlink("../coffee.db", folder.path().join("sub/soft.db")).unwrap();
    std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
    let absolute = folder.path().join("coffee.db");
    let database = ["coffee.db", "sub/../coffee.db", "sub/hard.db", "sub/soft.db", "here/coffee.db"]
        .into_iter()
        .chain(absolute.to_str());
    // Some of them do not exist yet.
    let companions = [
        "coffee.db-wal",
        "coffee.db-shm",
        "coffee.db-journal",
        "coffee.db.lock",
        "coffee.db.maintenance.lock",
        "coffee.db.closing.lock",
        "coffee.db.person.json",
        "coffee.db.backup.json",
        "coffee.key",
        "coffee.db.keys",
        "coffee.db.keys.lock",
        "coffee.db.keys.used",
        "here/coffee.db-wal",
        "sub/../coffee.db.lock",
    ];
    let cases = database.map(|name| (name, "is the database: name another file"));
    let cases = cases.chain(companions.map(|name| (name, "belongs to the database: name another file")));
    let before = files(folder.path());
    for (name, reason) in cases {
        for args in [
            &["import", "bad.csv", "--rejects", name][..],
            &["export", "coffee", "-o", name],
            &["export", "coffee", "-o", name, "--force"],
            &["backup", "--to", name],
        ] {
            let refused = run_in(folder.path(), args);
            assert_eq!(
                (refused.code, refused.out.as_str(), refused.err),
                (Some(1), "", format!("coffee-tracker: {name} {reason}\n")),
                "{args:?}"
            );
            assert!(files(folder.path()) == before, "{args:?} changed something");
        }
    }
}

#[test]
fn companion_files_of_a_symlinked_database_are_protected() {
    let (folder, elsewhere) = (temporary_folder(), temporary_folder());
    make_database(elsewhere.path(), "now", 3);
    let real = elsewhere.path().join("coffee.db");
    std::os::unix::fs::symlink(&real, folder.path().join("coffee.db")).unwrap();
    let companions = ["-wal", ".lock"].map(|end| format!("{}{end}", real.display()));
    for name in [real.to_str().unwrap(), &companions[0], &companions[1], "coffee.db"] {
        let refused = run_in(folder.path(), &["export", "coffee", "-o", name, "--force"]);
        assert_fails_with(&refused, 1, "the database: name another file");
    }
    run_ok(folder.path(), &["export", "coffee", "-o", "coffee.db.csv"]);
}

#[test]
fn the_file_of_rejected_rows_is_created_only_when_rows_are_rejected() {
    let folder = temporary_folder();
    write(folder.path(), "good.csv", GOOD);
    write(folder.path(), "bad.csv", BAD);
    write(folder.path(), "taken", "an existing file");
    let before = files(folder.path());
    for (name, reason) in [
        ("taken", "taken already exists: pass another name for the rejected rows"),
        ("bad.csv", "bad.csv already exists: pass another name for the rejected rows"),
        ("nowhere/rejects", "nowhere/rejects cannot be written: No such file or directory (os error 2)"),
        ("coffee.db", "coffee.db is the database: name another file"),
    ] {
        assert_fails_with(&run_in(folder.path(), &["import", "bad.csv", "--rejects", name]), 1, reason);
        assert!(files(folder.path()) == before, "{name}: a file has changed");
    }
    // Not the file of standard input, either.
    let mut command = command_in(folder.path(), &["import", "-", "--rejects", "bad.csv"]);
    command.stdin(Stdio::from(fs::File::open(folder.path().join("bad.csv")).unwrap()));
    assert_fails_with(
        &run(&mut command),
        1,
        "bad.csv already exists: pass another name for the rejected rows",
    );
    assert!(files(folder.path()) == before);

    run_ok(folder.path(), &["import", "good.csv", "--rejects", "rejects"]);
    assert!(!names(folder.path()).contains(&"rejects".to_owned()), "no row was rejected");
    assert_fails_with(
        &run_in(folder.path(), &["import", "taken", "--rejects", "rejects"]),
        1,
        "no column timestamp",
    );
    assert!(!names(folder.path()).contains(&"rejects".to_owned()), "no row was read");
    run_ok(folder.path(), &["import", "bad.csv", "--rejects", "rejects"]);
    let rejects = fs::read_to_string(folder.path().join("rejects")).unwrap();
    let reason = "timestamp: must be a date and time such as 2025-07-23T14:30:00Z (got \"\"never\"\")";
    assert_eq!(rejects, format!("line,reason,content\n3,\"{reason}\",\"never,1\"\n"));
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 1);
}

#[test]
fn retention_keeps_a_database_that_is_named_like_a_backup() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let backups = folder.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let named = backups.join("coffee_20200101_000000.db");
    fs::rename(folder.path().join("coffee.db"), &named).unwrap();
    let mut command = command_in(folder.path(), &["backup", "--keep", "1"]);
    let result = run(command.env("DATABASE_URL", "backups/coffee_20200101_000000.db"));
    assert_eq!(result.code, Some(0), "{result:?}");
    assert_eq!(state(&named).unwrap().coffees.len(), 3);
}

#[test]
fn a_hard_link_of_the_database_cannot_be_restored() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    fs::hard_link(folder.path().join("coffee.db"), folder.path().join("copy.db")).unwrap();
    let refused = run_in(folder.path(), &["restore", "copy.db", "--yes"]);
    assert_fails_with(&refused, 1, "copy.db is the database itself: name a backup");
    let connection = Connection::open(folder.path().join("coffee.db")).unwrap();
    assert_eq!(number(&connection, "select count(*) from coffee_logs"), 3);
}
