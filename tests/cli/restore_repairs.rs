//! A restore installs exactly what it verified, and a good backup heals whatever state there is.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;

use crate::fixtures::{
    State, assert_no_leftovers, backups, command_in, make_database, names, run_in, run_ok, state,
};
use crate::helpers::{Process, Server, database, folder, number, report_skipped, wait_until};

/// A folder with 50 coffees of `now` in the database, 10 of `then` in `then.db` and 20 in `other.db`.
fn filled() -> tempfile::TempDir {
    let folder = folder();
    for (name, coffees) in [("then", 10), ("other", 20)] {
        let past = crate::helpers::folder();
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

/// Restores `then.db` on a terminal, and does something between the question and the answer.
fn restore_and_meanwhile(
    folder: &Path,
    args: &str,
    meanwhile: impl FnOnce(),
) -> crate::helpers::CommandResult {
    use std::io::Write;
    let program = command_in(folder, &[]);
    let line = format!("{} restore then.db {args}", program.get_program().to_str().unwrap());
    let (mut typing, typed) = UnixStream::pair().unwrap();
    let mut script = Command::new("/usr/bin/script");
    script.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(folder);
    script.envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]).stdin(Stdio::from(OwnedFd::from(typed)));
    let restore = Process::spawn(&mut script);
    // The question itself has no line end, by which the output is gathered.
    wait_until("it is about to ask", || restore.out.text().contains("newest entry"));
    meanwhile();
    typing.write_all(b"y\n").unwrap();
    restore.wait()
}

#[test]
fn a_file_that_is_exchanged_while_restore_asks_is_not_installed() {
    if !Path::new("/usr/bin/script").exists() {
        report_skipped("`script` is not installed");
        return;
    }
    // Into a database that is whole, in place of a broken one, and where there is none.
    for (args, prepare) in [
        ("", (|_| ()) as fn(&Path)),
        ("--replace", |database| fs::write(database, "flat white ".repeat(1000)).unwrap()),
        ("", |database| fs::remove_file(database).unwrap()),
    ] {
        let folder = filled();
        prepare(&folder.path().join("coffee.db"));
        let then = state_in(folder.path(), "then.db");
        let result = restore_and_meanwhile(folder.path(), args, || {
            fs::rename(folder.path().join("other.db"), folder.path().join("then.db")).unwrap();
        });
        assert_eq!(result.code, Some(0), "{result:?}");
        assert!(
            result.out.contains("restored then.db into coffee.db: 10 coffees, 100 readings"),
            "{}",
            result.out
        );
        assert!(state_in(folder.path(), "coffee.db") == then, "{args}: the file that was verified");
        assert_no_leftovers(folder.path());
    }
}

#[test]
fn a_file_that_is_overwritten_while_restore_asks_is_not_installed() {
    if !Path::new("/usr/bin/script").exists() {
        report_skipped("`script` is not installed");
        return;
    }
    let folder = filled();
    let (now, then) = (state_in(folder.path(), "coffee.db"), state_in(folder.path(), "then.db"));
    let other = fs::read(folder.path().join("other.db")).unwrap();
    let result = restore_and_meanwhile(folder.path(), "", || {
        fs::write(folder.path().join("then.db"), other).unwrap();
    });
    // Pages that were read before may still be known: then the verified state is installed.
    let expected = if result.code == Some(0) { then } else { now };
    assert!(matches!(result.code, Some(0 | 1)), "{result:?}");
    assert!(state_in(folder.path(), "coffee.db") == expected, "{result:?}");
    assert_no_leftovers(folder.path());
}

/// Statements after which the server cannot work on a database as it should.
const HOSTILE: [&str; 6] = [
    "update sqlite_sequence set seq = 9223372036854775807",
    "insert into sqlite_sequence values ('coffee_logs', 'many'), ('coffee_logs', 9223372036854775807)",
    "create trigger greedy after insert on coffee_logs begin delete from coffee_logs; end",
    "create index failing on coffee_logs (abs(id - 9223372036854775807 - 53))",
    "create table dependent (coffee integer references coffee_logs (id)); insert into dependent select id from coffee_logs",
    "analyze; update sqlite_stat1 set stat = '1 1 1 1 1'",
];

#[test]
fn a_good_backup_heals_a_hostile_database_beside_a_server() {
    for statements in HOSTILE {
        let folder = filled();
        let now = state_in(folder.path(), "coffee.db");
        Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(statements).unwrap();
        let server = Server::start(folder.path());
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert!(State::of(&database(folder.path())) == state_in(folder.path(), "then.db"), "{statements}");
        let mut client = server.client();
        // The ids of before the restore are not given again.
        let made = client.post("/coffee/", r#"{"caffeine_mg": 1}"#);
        assert_eq!((made.status, made.json()["id"].as_i64()), (201, Some(51)), "{statements}");
        let made = client.post("/heartrate/", r#"{"bpm": 60}"#);
        assert_eq!((made.status, made.json()["id"].as_i64()), (201, Some(501)), "{statements}");
        let deleted = client.try_request("DELETE", "/coffee/51", "", "").unwrap();
        assert_eq!(deleted.status, 200, "{statements}");
        server.stop_cleanly();
        run_ok(folder.path(), &["verify", "coffee.db"]);
        let safety = backups(folder.path()).remove(0);
        assert!(state(&safety).unwrap() == now, "{statements}: the entries of before are in the safety copy");
        assert_no_leftovers(folder.path());
    }
}

#[test]
fn a_good_backup_heals_a_database_without_ids_left_by_taking_its_place() {
    let folder = filled();
    let spent = "insert into coffee_logs (id, timestamp, caffeine_mg) values (9223372036854775807, 1, 1)";
    Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(spent).unwrap();
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
fn statistics_that_came_with_a_backup_stay_behind() {
    let folder = filled();
    let hostile = "analyze; update sqlite_stat1 set stat = '1 1 1 1 1'";
    Connection::open(folder.path().join("then.db")).unwrap().execute_batch(hostile).unwrap();
    run_ok(folder.path(), &["verify", "then.db"]);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    let tables = "select count(*) from sqlite_schema where name like 'sqlite_stat%'";
    assert_eq!(number(&database(folder.path()), tables), 0);
}

#[test]
fn tables_of_others_are_left_out_of_a_backup_and_named() {
    let folder = filled();
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
