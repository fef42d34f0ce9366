//! Restores install exactly the verified data, and a valid backup repairs any state of the database.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;

use crate::fixtures::{
    State, assert_no_leftovers, backups, command_in, make_database, names, run_in, run_ok, state,
};
use crate::helpers::{Process, Server, database, number, report_skipped, temporary_folder, wait_until};

/// Creates a folder with 50 coffees in the database, and backups with 10 (`then.db`) and 20 (`other.db`).
fn prepare_files() -> tempfile::TempDir {
    let folder = temporary_folder();
    for (name, coffees) in [("then", 10), ("other", 20)] {
        let past = temporary_folder();
        make_database(past.path(), name, coffees);
        let file = folder.path().join(format!("{name}.db"));
        run_ok(past.path(), &["backup", "--to", file.to_str().unwrap()]);
    }
    make_database(folder.path(), "now", 50);
    folder
}

fn state_in(folder: &Path, name: &str) -> State {
    state(&folder.join(name)).expect("a database")
}

/// Restores `then.db` on a terminal, and runs an action between the prompt and the reply.
fn restore_with_action_at_prompt(
    folder: &Path,
    args: &str,
    action: impl FnOnce(),
) -> crate::helpers::CommandResult {
    use std::io::Write;
    let program = command_in(folder, &[]);
    let line = format!("{} restore then.db {args}", program.get_program().to_str().unwrap());
    let (mut typing, typed) = UnixStream::pair().unwrap();
    let mut script = Command::new("/usr/bin/script");
    script.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(folder);
    script.envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]).stdin(Stdio::from(OwnedFd::from(typed)));
    let restore = Process::spawn(&mut script);
    // The prompt has no line end, and the output is captured by line.
    wait_until("the prompt is next", || restore.out.text().contains("newest entry"));
    action();
    typing.write_all(b"y\n").unwrap();
    restore.wait()
}

#[test]
fn a_file_that_is_replaced_during_the_prompt_is_not_installed() {
    if !Path::new("/usr/bin/script").exists() {
        report_skipped("`script` is not installed");
        return;
    }
    // Into an intact database, in place of a damaged one, and without a database.
    for (args, prepare) in [
        ("", (|_| ()) as fn(&Path)),
        ("--replace", |database| fs::write(database, "flat white ".repeat(1000)).unwrap()),
        ("", |database| fs::remove_file(database).unwrap()),
    ] {
        let folder = prepare_files();
        prepare(&folder.path().join("coffee.db"));
        let then = state_in(folder.path(), "then.db");
        let result = restore_with_action_at_prompt(folder.path(), args, || {
            fs::rename(folder.path().join("other.db"), folder.path().join("then.db")).unwrap();
        });
        assert_eq!(result.code, Some(0), "{result:?}");
        assert!(
            result.out.contains("restored then.db into coffee.db: 10 coffees, 100 readings"),
            "{}",
            result.out
        );
        assert!(state_in(folder.path(), "coffee.db") == then, "{args}: not the verified file was installed");
        assert_no_leftovers(folder.path());
    }
}

#[test]
fn a_file_that_is_overwritten_during_the_prompt_is_not_installed() {
    if !Path::new("/usr/bin/script").exists() {
        report_skipped("`script` is not installed");
        return;
    }
    let folder = prepare_files();
    let (now, then) = (state_in(folder.path(), "coffee.db"), state_in(folder.path(), "then.db"));
    let other = fs::read(folder.path().join("other.db")).unwrap();
    let result = restore_with_action_at_prompt(folder.path(), "", || {
        fs::write(folder.path().join("then.db"), other).unwrap();
    });
    // If the pages are still cached, the verified state is installed.
    let expected = if result.code == Some(0) { then } else { now };
    assert!(matches!(result.code, Some(0 | 1)), "{result:?}");
    assert!(state_in(folder.path(), "coffee.db") == expected, "{result:?}");
    assert_no_leftovers(folder.path());
}

/// Statements that prevent the server from working on a database correctly.
const MANIPULATIONS: [&str; 6] = [
    "update sqlite_sequence set seq = 9223372036854775807",
    "insert into sqlite_sequence values ('coffee_logs', 'many'), ('coffee_logs', 9223372036854775807)",
    "create trigger greedy after insert on coffee_logs begin delete from coffee_logs; end",
    "create index failing on coffee_logs (abs(id - 9223372036854775807 - 53))",
    "create table dependent (coffee integer references coffee_logs (id)); insert into dependent select id from coffee_logs",
    "analyze; update sqlite_stat1 set stat = '1 1 1 1 1'",
];

#[test]
fn a_valid_backup_repairs_a_manipulated_database_of_a_running_server() {
    for statements in MANIPULATIONS {
        let folder = prepare_files();
        let now = state_in(folder.path(), "coffee.db");
        Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(statements).unwrap();
        let server = Server::start(folder.path());
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert!(State::of(&database(folder.path())) == state_in(folder.path(), "then.db"), "{statements}");
        let mut client = server.client();
        // Ids from before the restore are not reused.
        let made = client.post("/coffee/", r#"{"caffeine_mg": 1}"#);
        assert_eq!((made.status, made.json()["id"].as_i64()), (201, Some(51)), "{statements}");
        let made = client.post("/heartrate/", r#"{"bpm": 60}"#);
        assert_eq!((made.status, made.json()["id"].as_i64()), (201, Some(501)), "{statements}");
        let deleted = client.try_request("DELETE", "/coffee/51", "", "").unwrap();
        assert_eq!(deleted.status, 200, "{statements}");
        server.stop_cleanly();
        run_ok(folder.path(), &["verify", "coffee.db"]);
        let safety = backups(folder.path()).remove(0);
        assert!(state(&safety).unwrap() == now, "{statements}: the safety backup lacks entries");
        assert_no_leftovers(folder.path());
    }
}

#[test]
fn a_valid_backup_replaces_a_database_without_unused_ids() {
    let folder = prepare_files();
    let last_id = "insert into coffee_logs (id, timestamp, caffeine_mg) values (9223372036854775807, 1, 1)";
    Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(last_id).unwrap();
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("its ids are out of bounds: coffee_logs has 9223372036854775807"),
        "{refused:?}"
    );
    assert!(refused.err.contains("add --replace"), "{refused:?}");
    run_ok(folder.path(), &["restore", "then.db", "--yes", "--replace"]);
    assert!(names(folder.path()).iter().any(|name| name.contains(".broken-")));
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).json()["id"], 11);
    server.stop_cleanly();
}

#[test]
fn planner_statistics_of_a_backup_are_not_restored() {
    let folder = prepare_files();
    let statistics = "analyze; update sqlite_stat1 set stat = '1 1 1 1 1'";
    Connection::open(folder.path().join("then.db")).unwrap().execute_batch(statistics).unwrap();
    run_ok(folder.path(), &["verify", "then.db"]);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    let tables = "select count(*) from sqlite_schema where name like 'sqlite_stat%'";
    assert_eq!(number(&database(folder.path()), tables), 0);
}

#[test]
fn tables_of_other_programs_are_not_backed_up_and_reported() {
    let folder = prepare_files();
    Connection::open(folder.path().join("coffee.db"))
        .unwrap()
        .execute_batch("create table recipes (name text); create table _litestream_seq (id integer)")
        .unwrap();
    let result = run_ok(folder.path(), &["backup", "--to", "made.db"]);
    let warning = "not part of the backup, as they are not Coffee Tracker's: table recipes\n";
    assert!(result.err.ends_with(warning), "{}", result.err);
    run_ok(folder.path(), &["verify", "made.db"]);
    assert!(state_in(folder.path(), "made.db") == state_in(folder.path(), "coffee.db"));
}
