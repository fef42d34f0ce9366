//! `sql`: read-only queries, also while a server runs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::fixtures::{
    add_entries, assert_fails_with, command_in, files, make_database, names, run_in, run_ok, state,
};
use crate::helpers::{CommandResult, Process, Server, server_command, temporary_folder};

/// Runs a command with `text` as standard input.
fn piped(folder: &Path, args: &[&str], text: &str) -> CommandResult {
    let mut input = tempfile::tempfile_in(folder).unwrap();
    input.write_all(text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    Process::spawn(command_in(folder, args).stdin(Stdio::from(input))).wait()
}

#[test]
fn results_are_aligned_columns_or_csv() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 12);
    let query = "select id, time, caffeine_mg as mg, notes from coffees where id > 10 order by id";
    let expected = "\
id  time                       mg  notes
--  ------------------------  ---  ------
11  2025-10-09T08:53:31.000Z   11  now-11
12  2025-10-09T08:53:32.000Z   12  now-12
"
    .replace(" 11  now", "11.0  now")
    .replace(" 12  now", "12.0  now")
    .replace("   mg", "    mg")
    .replace("  ---  ", "  ----  ");
    let result = run_ok(folder.path(), &["sql", query]);
    assert_eq!((result.out.as_str(), result.err.as_str()), (expected.as_str(), ""));
    let csv =
        run_ok(folder.path(), &["sql", "--csv", "select 1 as a, null as b, 'x, \"y\"' as c, x'00ff' as d"]);
    assert_eq!(csv.out, "a,b,c,d\n1,,\"x, \"\"y\"\"\",00ff\n");
}

#[test]
fn statements_from_a_pipe_stop_at_the_first_failure() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let text =
        "-- how many?\nselect count(*) as coffees from coffees;\nselect count(*) as rates from heart_rates";
    let both = piped(folder.path(), &["sql"], text);
    let expected = "coffees\n-------\n      3\n\nrates\n-----\n   30\n";
    assert_eq!((both.code, both.out.as_str(), both.err.as_str()), (Some(0), expected, ""));
    let failing = piped(folder.path(), &["sql"], "select 1 as one; select a from nowhere; select 2;");
    assert_fails_with(&failing, 1, "no such table: nowhere");
    assert_eq!(failing.out, "one\n---\n  1\n");
    assert_fails_with(&run_in(folder.path(), &["sql", "select from where"]), 1, "syntax error");
    for nothing in ["", " ;\n-- nothing\n"] {
        let result = piped(folder.path(), &["sql"], nothing);
        assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (Some(0), "", ""), "{nothing:?}");
    }
}

#[test]
fn no_statement_can_change_data_or_create_a_file() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let before = state(&folder.path().join("coffee.db")).unwrap();
    for write in [
        "insert into coffee_logs (timestamp, caffeine_mg) values (0, 1)",
        "pragma query_only = 0; delete from coffee_logs",
        "update heart_rate_logs set bpm = 1",
        "drop table coffee_logs",
        "create table t (a)",
        "create temp table t (a)",
        "pragma user_version = 99",
        "pragma journal_mode = delete",
        "pragma wal_checkpoint(truncate)",
        "vacuum",
        "vacuum into 'copy.db'",
        "reindex",
        "analyze",
        "begin immediate",
        "with gone as (select 1) delete from coffee_logs returning id",
    ] {
        assert_fails_with(
            &run_in(folder.path(), &["sql", write]),
            1,
            "only statements that read are answered here",
        );
    }
    let attached = run_in(folder.path(), &["sql", "attach 'new.db' as new"]);
    assert_fails_with(&attached, 1, "unable to open database: new.db (only files that exist");
    assert_eq!(run_in(folder.path(), &["sql", "attach 'file:new.db?mode=rwc' as new"]).code, Some(1));
    let found = names(folder.path());
    let unexpected: Vec<&String> = found.iter().filter(|name| !name.starts_with("coffee")).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert!(state(&folder.path().join("coffee.db")).unwrap() == before);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn queries_beside_a_server_see_the_latest_write() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut server_command(folder.path()));
    for n in 1..=20 {
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
        let result =
            run_ok(folder.path(), &["sql", "--csv", "select count(*), sum(caffeine_mg) from coffees"]);
        assert_eq!(result.out.lines().nth(1), Some(&*format!("{n},{:?}", 80.0 * f64::from(n))));
    }
    server.stop_cleanly();
    assert_eq!(state(&folder.path().join("coffee.db")).unwrap().coffees.len(), 20);
}

#[test]
fn two_states_can_be_compared_by_attaching_a_backup() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    add_entries(&folder.path().join("coffee.db"), "later", 2);
    let before = fs::read(folder.path().join("then.db")).unwrap();
    let query = "attach 'then.db' as backup; select notes from main.coffee_logs except select notes from backup.coffee_logs order by 1";
    assert_eq!(run_ok(folder.path(), &["sql", "--csv", query]).out, "notes\nlater-1\nlater-2\n");
    assert!(fs::read(folder.path().join("then.db")).unwrap() == before);
    assert_fails_with(
        &run_in(folder.path(), &["sql", "attach 'then.db' as backup; delete from backup.coffee_logs"]),
        1,
        "only statements that read",
    );
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let endless = "with recursive n(n) as (select 1 union all select n + 1 from n) select n from n";
    let mut command = command_in(folder.path(), &["sql", endless]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let result = child.wait_with_output().unwrap();
    assert_eq!((result.status.code(), &*result.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_foreign_database_is_rejected() {
    let folder = temporary_folder();
    assert_fails_with(&run_in(folder.path(), &["sql", "select 1"]), 78, "there is no database at coffee.db");
    fs::write(folder.path().join("coffee.db"), "no database".repeat(100)).unwrap();
    let before = files(folder.path());
    assert_fails_with(&run_in(folder.path(), &["sql", "select 1"]), 78, "is not a SQLite database");
    assert!(files(folder.path()) == before);
}

#[test]
fn prompt_commands_list_and_describe_tables_and_unknown_commands_print_help() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    let tables = run_ok(folder.path(), &["sql", "--csv", ".tables"]).out;
    for line in
        ["name,type", "coffee_logs,table", "coffees,view", "heart_rate_logs,table", "heart_rates,view"]
    {
        assert!(tables.lines().any(|found| found == line), "{line} in {tables}");
    }
    let schema = run_ok(folder.path(), &["sql", ".schema"]).out;
    assert!(schema.contains("CREATE TABLE coffee_logs (\n"), "{schema}");
    assert!(schema.contains("CREATE VIEW coffees as\n"), "{schema}");
    let one = run_ok(folder.path(), &["sql", ".schema Coffees"]).out;
    assert!(one.starts_with("CREATE VIEW coffees as\n") && !one.contains("coffee_logs ("), "{one}");
    let piped_in = piped(folder.path(), &["sql"], ".schema coffees\n.help\nselect 1 as one;\n");
    assert!(piped_in.out.starts_with(&one) && piped_in.out.ends_with("one\n---\n  1\n"), "{piped_in:?}");
    assert!(piped_in.out.contains(".tables         list tables and views\n"), "{piped_in:?}");
    let quit = piped(folder.path(), &["sql"], ".quit\nselect 1;\n");
    assert_eq!((quit.code, quit.out.as_str(), quit.err.as_str()), (Some(0), "", ""));
    assert_fails_with(
        &run_in(folder.path(), &["sql", ".dump"]),
        1,
        "unknown command .dump: use .tables, .schema, .help, .quit or SQL",
    );
}
