//! One message per cause: every command reports the same state of the database file with the same message.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::fixtures::{assert_fails_with, make_database, names, run_in, run_ok};
use crate::helpers::{CommandResult, run, server_command, temporary_folder};

/// Commands that read or change a database and create none.
const COMMANDS: [&[&str]; 7] = [
    &["backup"],
    &["export", "coffee"],
    &["sql", "select 1"],
    &["prune", "--before", "2024-01-01"],
    &["prune", "--before", "2024-01-01", "--yes"],
    &["recount"],
    &["profile"],
];

/// Valid file for `import`.
const CSV: &str = "timestamp,caffeine_mg\n2025-07-23T14:30:00Z,80\n";

/// Runs every command, a server and an import on a database in the state that `prepare` creates, and asserts the message.
fn assert_all_fail_with(prepare: impl Fn(&Path), message: &str) {
    let runs: [fn(&Path) -> CommandResult; 2] =
        [|folder| run(&mut server_command(folder)), |folder| run_in(folder, &["import", "log.csv"])];
    let commands = COMMANDS.iter().map(|args| {
        let args: &'static [&'static str] = args;
        let run: Box<dyn Fn(&Path) -> CommandResult> = Box::new(move |folder| run_in(folder, args));
        run
    });
    let others = runs.into_iter().map(|run| Box::new(run) as Box<dyn Fn(&Path) -> CommandResult>);
    for command in commands.chain(others) {
        let folder = temporary_folder();
        fs::write(folder.path().join("log.csv"), CSV).unwrap();
        prepare(folder.path());
        assert_fails_with(&command(folder.path()), 78, message);
    }
}

fn execute_sql(folder: &Path, sql: &str) {
    Connection::open(folder.join("coffee.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn every_command_reports_a_missing_database_alike() {
    let message = "coffee-tracker: there is no database at coffee.db: start the server once to create it, or set DATABASE_URL";
    for args in COMMANDS.iter().chain(&[&["key", "list"][..]]) {
        let folder = temporary_folder();
        let result = run_in(folder.path(), args);
        assert_fails_with(&result, 78, message);
        assert_eq!(names(folder.path()), [""; 0], "{args:?}");
    }
}

#[test]
fn every_command_reports_an_empty_file_alike() {
    for args in COMMANDS {
        let folder = temporary_folder();
        fs::write(folder.path().join("coffee.db"), "").unwrap();
        assert_fails_with(&run_in(folder.path(), args), 78, "coffee.db is empty: start the server once");
    }
}

#[test]
fn every_command_reports_a_foreign_database_alike() {
    assert_all_fail_with(
        |folder| fs::create_dir(folder.join("coffee.db")).unwrap(),
        "coffee-tracker: coffee.db is a folder, not a database file: set DATABASE_URL to the file",
    );
    assert_all_fail_with(
        |folder| fs::write(folder.join("coffee.db"), "espresso, flat white\n".repeat(400)).unwrap(),
        "coffee-tracker: coffee.db is not a SQLite database",
    );
    assert_all_fail_with(
        |folder| execute_sql(folder, "create table recipes (name text)"),
        "coffee-tracker: coffee.db is a SQLite database of another program",
    );
    assert_all_fail_with(
        |folder| execute_sql(folder, "create table coffee_logs (id integer)"),
        "coffee-tracker: coffee.db is the Docker stack's database",
    );
    assert_all_fail_with(
        |folder| execute_sql(folder, "pragma application_id = 1131374182; pragma user_version = 99"),
        "coffee-tracker: coffee.db has schema version 99, but this program knows versions up to",
    );
}

#[test]
fn a_damaged_file_with_an_intact_header_is_reported_as_damaged() {
    // The page with the schema, and the page size in the header.
    for (start, end) in [(100, 4000), (16, 18)] {
        let origin = temporary_folder();
        make_database(origin.path(), "now", 20);
        let mut bytes = fs::read(origin.path().join("coffee.db")).unwrap();
        bytes[start..end].fill(0x77);
        assert_all_fail_with(
            |folder| fs::write(folder.join("coffee.db"), &bytes).unwrap(),
            "coffee-tracker: coffee.db is damaged (",
        );
        let folder = temporary_folder();
        fs::write(folder.path().join("coffee.db"), &bytes).unwrap();
        run_ok(origin.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
        let result = run_in(folder.path(), &["restore", "then.db", "--yes"]);
        assert_fails_with(&result, 1, "coffee-tracker: coffee.db is damaged (");
        assert!(result.err.contains("--replace"), "{}", result.err);
        run_ok(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    }
}

#[test]
fn a_missing_backup_is_reported_before_the_missing_terminal() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let result = run_in(folder.path(), &["restore", "nosuch.db"]);
    assert_fails_with(&result, 1, "nosuch.db cannot be restored: there is no such file");
    fs::copy(folder.path().join("coffee.db"), folder.path().join("copy.db")).unwrap();
    assert_fails_with(
        &run_in(folder.path(), &["restore", "copy.db"]),
        2,
        "standard input is not a terminal: add --yes",
    );
}

#[test]
fn the_runbook_contains_every_message() {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RUNBOOK.md");
    let runbook = fs::read_to_string(runbook).unwrap();
    for message in [
        "is in use by another coffee-tracker server",
        "is locked by another program",
        "there is no database at …",
        "is a folder, not a database file",
        "cannot be opened: permission denied",
        "is empty",
        "is not a SQLite database",
        "is damaged (…)",
        "is a SQLite database of another program",
        "is the Docker stack's database",
        "has schema version …",
        "is missing, but its log … exists",
        "no space left on the disk",
        "the folder … cannot be used",
    ] {
        assert!(runbook.contains(&format!("| {message} ")), "{message}");
    }
}
