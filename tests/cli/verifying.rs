//! `verify`: every problem is reported, and no file is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::fixtures::{add_entries, assert_fails_with, files, make_database, run_in, run_ok};
use crate::helpers::{Server, program_path, run, temporary_folder};
use crate::restores::invalid_backups;

/// Creates a folder with the backup `then.db` of 10 coffees and 100 readings.
fn with_backup() -> tempfile::TempDir {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    folder
}

/// Returns the JSON output for a file.
fn verdict(folder: &Path, file: &str) -> Value {
    serde_json::from_str(&run_in(folder, &["verify", "--json", file]).out).unwrap()
}

#[test]
fn a_valid_backup_is_described() {
    let folder = with_backup();
    let mut found = verdict(folder.path(), "then.db");
    let sha256 = found["sha256"].take();
    let size = fs::metadata(folder.path().join("then.db")).unwrap().len();
    let expected = json!({
        "file": "then.db", "restorable": true, "reasons": [], "miscounted": [], "has_digests": true, "schema_version": 7, "coffees": 10,
        "readings": 100, "newest_entry": "2025-10-09T08:53:30.000000Z", "size_bytes": size, "sha256": null,
    });
    assert_eq!(found, expected);
    let text = run_ok(folder.path(), &["verify", "then.db"]).out;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "then.db: can be restored");
    assert_eq!(lines[1], "  10 coffees, 100 readings, newest entry 2025-10-09T08:53:30.000000Z");
    assert!(lines[2].starts_with("  schema 7, ") && lines[2].ends_with(sha256.as_str().unwrap()), "{text}");
}

#[test]
fn the_newest_backup_is_found_by_name_and_future_ones_are_ignored() {
    let folder = with_backup();
    let newest = || run_in(folder.path(), &["verify", "--newest"]);
    assert_fails_with(&newest(), 1, "there is no backup: the folder backups does not exist");
    let backups = folder.path().join("backups");
    fs::create_dir(&backups).unwrap();
    fs::write(backups.join("coffee_today.db"), "no backup named this").unwrap();
    assert_fails_with(&newest(), 1, "there is no backup of coffee.db in backups");
    fs::write(backups.join("coffee_20990101_000000.db"), "of a clock that ran ahead").unwrap();
    fs::write(backups.join("coffee_20250101_020000.db"), "damaged since").unwrap();
    fs::copy(folder.path().join("then.db"), backups.join("coffee_20250101_020000_2.db")).unwrap();
    let text = run_ok(folder.path(), &["verify", "--newest"]).out;
    assert!(text.starts_with("backups/coffee_20250101_020000_2.db: can be restored\n"), "{text}");
    fs::write(backups.join("coffee_20250102_020000.db"), "damaged since").unwrap();
    assert_fails_with(&newest(), 1, "1 file cannot be restored");
    assert_eq!(run_in(folder.path(), &["verify", "--newest", "then.db"]).code, Some(2));
    assert_fails_with(&run_in(folder.path(), &["verify"]), 2, "or use --newest for the newest backup");
}

#[test]
fn every_problem_is_reported_and_no_file_is_changed() {
    let folder = with_backup();
    let good = fs::read(folder.path().join("then.db")).unwrap();
    for (invalidate, message) in invalid_backups() {
        fs::write(folder.path().join("then.db"), &good).unwrap();
        invalidate(folder.path());
        let before = files(folder.path());
        let result = run_in(folder.path(), &["verify", "then.db"]);
        assert_fails_with(&result, 1, "1 file cannot be restored");
        let all = result.out.lines().skip(1).map(str::trim).collect::<Vec<_>>().join("; ");
        assert!(result.out.starts_with("then.db: cannot be restored\n"), "{}", result.out);
        assert!(all.contains(message), "{message:?} is not in {all}");
        let found = verdict(folder.path(), "then.db");
        assert_eq!((&found["restorable"], &found["coffees"]), (&json!(false), &Value::Null));
        assert!(found["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()));
        assert!(files(folder.path()) == before, "a file has changed: {message}");
    }
}

#[test]
fn a_database_with_utf_16_text_is_rejected() {
    let folder = with_backup();
    let made = rusqlite::Connection::open(folder.path().join("then.db")).unwrap();
    let mut statements =
        made.prepare("select sql from sqlite_schema where sql is not null order by rowid").unwrap();
    let other = rusqlite::Connection::open(folder.path().join("wide.db")).unwrap();
    other.execute_batch("pragma encoding = 'UTF-16le'").unwrap();
    let all: Vec<String> = statements.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for statement in all.iter().filter(|sql| !sql.contains("sqlite_sequence")) {
        other.execute_batch(statement).unwrap();
    }
    other.execute_batch("pragma application_id = 1131374182; pragma user_version = 7").unwrap();
    assert_eq!(
        verdict(folder.path(), "wide.db")["reasons"],
        json!(["its text is UTF-16le, and must be UTF-8"])
    );
}

#[test]
fn one_invalid_file_of_several_fails_the_command() {
    let folder = with_backup();
    fs::copy(folder.path().join("then.db"), folder.path().join("with space %20?#.db")).unwrap();
    fs::write(folder.path().join("empty.db"), "").unwrap();
    let good = run_ok(folder.path(), &["verify", "then.db", "with space %20?#.db"]);
    assert_eq!(good.out.matches(": can be restored\n").count(), 2);
    let mixed = run_in(folder.path(), &["verify", "then.db", "empty.db", "gone.db", "."]);
    assert_fails_with(&mixed, 1, "3 files cannot be restored");
    for line in [
        "then.db: can be restored",
        "  it is empty",
        "  there is no such file",
        "  it is a folder, not a file",
    ] {
        assert!(mixed.out.lines().any(|l| l == line), "{line:?} in {}", mixed.out);
    }
    let lines = run_in(folder.path(), &["verify", "--json", "then.db", "empty.db"]).out;
    let verdicts: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!([&verdicts[0]["restorable"], &verdicts[1]["restorable"]], [&json!(true), &json!(false)]);
    assert_fails_with(&run_in(folder.path(), &["verify"]), 2, "or use --newest for the newest backup");
}

#[test]
fn a_copy_is_verified_with_its_wal_and_no_file_is_created() {
    let (folder, live) = (temporary_folder(), temporary_folder());
    let server = Server::start(live.path());
    add_entries(&live.path().join("coffee.db"), "live", 20);
    for end in ["", "-wal"] {
        let from = live.path().join(format!("coffee.db{end}"));
        fs::copy(from, folder.path().join(format!("copied.db{end}"))).unwrap();
    }
    let before = files(folder.path());
    assert_eq!(verdict(folder.path(), "copied.db")["coffees"], 20);
    assert!(files(folder.path()) == before);
    // The database of a running server can be verified, too, and the server keeps running.
    assert_eq!(verdict(live.path(), "coffee.db")["coffees"], 20);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).status, 201);
    server.stop_cleanly();
}

/// Runs the command as another user when the tests run as root.
fn as_other_user(mut command: Command) -> Command {
    if geteuid().is_root() {
        command.uid(1234).gid(1234);
    }
    command
}

#[test]
fn a_file_in_a_read_only_folder_is_verified_with_and_without_its_wal() {
    // In a folder that other users may enter.
    let folder = tempfile::tempdir().unwrap();
    let live = temporary_folder();
    let server = Server::start(live.path());
    add_entries(&live.path().join("coffee.db"), "live", 20);
    let at = |name: &str| folder.path().join(name);
    fs::copy(live.path().join("coffee.db"), at("copied.db")).unwrap();
    fs::copy(live.path().join("coffee.db-wal"), at("copied.db-wal")).unwrap();
    run_ok(live.path(), &["backup", "--to", at("then.db").to_str().unwrap()]);
    fs::copy(program_path(), at("program")).unwrap();
    drop(server);
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for name in ["copied.db", "copied.db-wal", "then.db"] {
        allow(&at(name), 0o444);
        if geteuid().is_root() {
            std::os::unix::fs::chown(at(name), Some(1234), Some(1234)).unwrap();
        }
    }
    if geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(1234), Some(1234)).unwrap();
    }
    allow(&at("program"), 0o555);
    allow(folder.path(), 0o500);
    let before = files(folder.path());
    let mut verify = Command::new(at("program"));
    verify.args(["verify", "then.db", "copied.db"]).env_clear().current_dir(folder.path());
    let result = run(&mut as_other_user(verify));
    assert_eq!((result.code, result.out.matches("20 coffees").count()), (Some(0), 2), "{result:?}");
    assert!(files(folder.path()) == before);
    allow(folder.path(), 0o700);
}

#[test]
fn an_unreadable_file_is_reported_as_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = folder.path().join("secret.db");
    fs::write(&secret, "x".repeat(4096)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let program = folder.path().join("program");
    fs::copy(program_path(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).unwrap();
    let mut verify = Command::new(&program);
    verify.args(["verify", "secret.db"]).env_clear().current_dir(folder.path());
    let result = run(&mut as_other_user(verify));
    assert_eq!(result.code, Some(1));
    assert!(result.out.contains("  it cannot be read: Permission denied"), "{}", result.out);
}
