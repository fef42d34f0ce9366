//! `restore`: confirmation, safety backup, running servers, and backups that are rejected.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::fixtures::{
    DATABASE_ID, State, add_entries, assert_fails_with, assert_integrity, assert_no_leftovers, backups,
    command_in, files, make_database, names, run_in, run_ok, set_id, state,
};
use crate::helpers::{
    Process, Server, database, number, report_skipped, rows, run, server_command, temporary_folder,
    wait_until,
};

/// Creates a folder with a database of 50 coffees and the backup `then.db` of 10 coffees.
fn prepare_files() -> tempfile::TempDir {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 10);
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    make_database(folder.path(), "now", 50);
    folder
}

fn state_in(folder: &Path, name: &str) -> State {
    state(&folder.join(name)).expect("a database")
}

/// Executes SQL on `then.db`, which may change its schema directly.
fn change(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("then.db")).unwrap();
    connection.execute_batch("pragma writable_schema = on").unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn a_dry_run_prints_the_changes_and_makes_none() {
    let folder = prepare_files();
    let before = files(folder.path());
    let result = run_ok(folder.path(), &["restore", "then.db", "--dry-run"]);
    let rows: Vec<Vec<&str>> = result.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["Restoring", "then.db", "into", "coffee.db:"]);
    assert_eq!(rows[1], ["current", "after"]);
    assert_eq!(rows[2], ["coffees", "50", "10"]);
    assert_eq!(rows[3], ["readings", "500", "100"]);
    assert_eq!(rows[4], ["newest", "entry", "2025-10-09T08:54:10.000000Z", "2025-10-09T08:53:30.000000Z"]);
    let last: Vec<&str> = result.out.lines().skip(5).collect();
    assert_eq!(
        last,
        ["A safety copy of the current state will be made in backups first.", "nothing was changed"]
    );
    let after = files(folder.path());
    assert!(before["coffee.db"] == after["coffee.db"] && before["then.db"] == after["then.db"]);
    assert_eq!(backups(folder.path()).len(), 0);
}

#[test]
fn without_a_terminal_a_restore_requires_yes() {
    let folder = prepare_files();
    let before = names(folder.path());
    let refused = run_in(folder.path(), &["restore", "then.db"]);
    assert_fails_with(&refused, 2, "standard input is not a terminal: add --yes");
    assert_eq!(names(folder.path()), before);
    assert_eq!(run_in(folder.path(), &["restore", "then.db", "--yes", "--dry-run"]).code, Some(2));
}

#[test]
fn on_a_terminal_a_restore_asks_for_confirmation() {
    if !Path::new("/usr/bin/script").exists() {
        report_skipped("`script` is not installed");
        return;
    }
    let folder = prepare_files();
    let restore_with_reply = |reply: &str| {
        let program = command_in(folder.path(), &[]);
        let line = format!("{} restore then.db", program.get_program().to_str().unwrap());
        let mut script = std::process::Command::new("/usr/bin/script");
        script.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(folder.path());
        script.envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]);
        let typed = folder.path().join("typed");
        fs::write(&typed, format!("{reply}\n")).unwrap();
        run(script.stdin(fs::File::open(typed).unwrap()))
    };
    let no = restore_with_reply("no");
    assert!(
        no.out.contains("Restore this backup? [y/N]") && no.out.contains("nothing was changed"),
        "{}",
        no.out
    );
    assert_eq!(state_in(folder.path(), "coffee.db").coffees.len(), 50);
    let yes = restore_with_reply("y");
    assert!(yes.out.contains("restored then.db into coffee.db: 10 coffees, 100 readings"), "{}", yes.out);
    assert_eq!(state_in(folder.path(), "coffee.db").coffees.len(), 10);
}

#[test]
fn the_previous_state_is_backed_up_and_can_be_restored() {
    let folder = prepare_files();
    let (now, then) = (state_in(folder.path(), "coffee.db"), state_in(folder.path(), "then.db"));
    let result = run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    let lines: Vec<&str> = result.out.lines().collect();
    let safety = lines[0].strip_prefix("saved the previous state as the safety copy ").unwrap();
    assert!(lines[1].starts_with("restored then.db into coffee.db: 10 coffees, 100 readings, "));
    assert!(state_in(folder.path(), "coffee.db") == then);
    assert!(state_in(folder.path(), safety) == now);
    run_ok(folder.path(), &["restore", safety, "--yes"]);
    assert!(state_in(folder.path(), "coffee.db") == now);
    assert_no_leftovers(folder.path());
    assert_eq!(backups(folder.path()).len(), 2);
}

#[test]
fn a_running_server_serves_the_restored_state_and_reuses_no_id() {
    let folder = prepare_files();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let id = |client: &mut crate::client::Client, path: &str, body: &str| {
        let response = client.post(path, body);
        assert_eq!(response.status, 201);
        response.json()["id"].as_i64().unwrap()
    };
    assert_eq!(id(&mut client, "/coffee/", r#"{"caffeine_mg": 1}"#), 51);
    let shown = run_ok(folder.path(), &["restore", "then.db", "--dry-run"]);
    assert!(shown.out.contains("The server keeps running; writes wait"), "{}", shown.out);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    let database = database(folder.path());
    assert!(State::of(&database) == state_in(folder.path(), "then.db"), "the restored rows are visible");
    assert_eq!(id(&mut client, "/coffee/", r#"{"caffeine_mg": 1}"#), 52);
    assert_eq!(id(&mut client, "/heartrate/", r#"{"bpm": 60}"#), 501);
    assert_eq!(client.get("/coffee/51").status, 404);
    server.stop_cleanly();
}

#[test]
fn litestream_tables_survive_a_restore_with_and_without_a_server() {
    let folder = prepare_files();
    let live = folder.path().join("coffee.db");
    let tables = "select name || ': ' || sql from sqlite_schema where name like '\\_litestream%' escape '\\' order by name";
    let streamed = Connection::open(&live).unwrap();
    streamed
        .execute_batch(
            "create table _litestream_seq (id integer primary key, seq integer);
             create table _litestream_lock (id integer);
             create table unknown (id integer)",
        )
        .unwrap();
    let before = rows(&streamed, tables);
    assert_eq!(before.len(), 2);
    let assert_restored = || {
        assert_eq!(rows(&streamed, tables), before);
        assert_eq!(number(&streamed, "select count(*) from coffee_logs"), 10);
        assert_eq!(number(&streamed, "select count(*) from sqlite_schema where name = 'unknown'"), 0);
        assert_integrity(&streamed);
    };
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_restored();
    // Also from a backup that contains such tables. Their contents after a restore are unspecified.
    run_ok(folder.path(), &["backup", "--to", "streamed.db"]);
    let server = Server::start(folder.path());
    run_ok(folder.path(), &["restore", "streamed.db", "--yes"]);
    assert_restored();
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert_restored();
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).json()["id"], 51);
    server.stop_cleanly();
}

#[test]
fn a_restore_does_not_wait_for_an_open_read_transaction() {
    let folder = prepare_files();
    let restore_beside_a_reader = || {
        let reader = database(folder.path());
        reader.execute_batch("begin").unwrap();
        let before = number(&reader, "select count(*) from coffee_logs");
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert_eq!(number(&reader, "select count(*) from coffee_logs"), before);
    };
    let server = Server::start(folder.path());
    restore_beside_a_reader();
    assert_eq!(server.get("/coffee/?limit=1").json()[0]["id"], 10);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).status, 201);
    server.stop_cleanly();
    restore_beside_a_reader();
    assert!(state_in(folder.path(), "coffee.db") == state_in(folder.path(), "then.db"));
}

#[test]
fn ids_are_not_reused_after_restoring_an_empty_backup() {
    let (folder, past) = (temporary_folder(), temporary_folder());
    Server::start(past.path()).stop_cleanly();
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    make_database(folder.path(), "now", 50);
    run_ok(folder.path(), &["restore", "then.db", "--yes", "--force"]);
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).json()["id"], 51);
    server.stop_cleanly();
}

#[test]
fn an_older_schema_is_migrated_in_a_copy_and_a_newer_one_is_rejected() {
    let folder = prepare_files();
    let next = folder.path().join("next.sql");
    fs::write(&next, "create table roasts (name text) strict").unwrap();
    let newer = |args: &[&str]| {
        let mut command = command_in(folder.path(), args);
        run(command.env("COFFEE_TRACKER_NEXT_SCHEMA", &next))
    };
    Server::spawn(server_command(folder.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", &next)).stop_cleanly();
    let (backup, then) =
        (fs::read(folder.path().join("then.db")).unwrap(), state_in(folder.path(), "then.db"));
    let result = newer(&["restore", "then.db", "--yes"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(fs::read(folder.path().join("then.db")).unwrap() == backup, "the backup has changed");
    assert!(state_in(folder.path(), "coffee.db") == then);
    let version = || number(&database(folder.path()), "select user_version from pragma_user_version");
    assert_eq!(version(), 8);

    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_fails_with(&refused, 1, "has schema version 8, but this program knows versions up to 7");
    assert_eq!(newer(&["backup", "--to", "newer.db"]).code, Some(0));
    fs::remove_file(folder.path().join("coffee.db")).unwrap();
    let refused = run_in(folder.path(), &["restore", "newer.db", "--yes"]);
    assert_fails_with(&refused, 1, "newer.db has schema version 8, but this program knows versions up to 7");
    assert!(!folder.path().join("coffee.db").exists());
}

#[test]
fn an_invalid_backup_is_rejected_with_a_reason_and_nothing_changes() {
    let folder = prepare_files();
    let before = (state_in(folder.path(), "coffee.db"), names(folder.path()));
    let good = fs::read(folder.path().join("then.db")).unwrap();
    let put = |bytes: &[u8]| fs::write(folder.path().join("then.db"), bytes).unwrap();
    for (invalidate, message) in invalid_backups() {
        put(&good);
        invalidate(folder.path());
        let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
        assert_fails_with(&refused, 1, &format!("then.db cannot be restored: {message}"));
        assert!(state_in(folder.path(), "coffee.db") == before.0);
        // Lock files are kept.
        let left: Vec<_> = names(folder.path()).into_iter().filter(|n| !n.ends_with(".lock")).collect();
        assert_eq!(left, before.1.iter().filter(|n| !n.ends_with(".lock")).cloned().collect::<Vec<_>>());
    }
    assert_fails_with(&run_in(folder.path(), &["restore", "gone.db", "--yes"]), 1, "there is no such file");
    assert_fails_with(&run_in(folder.path(), &["restore", ".", "--yes"]), 1, "it is a folder, not a file");
    fs::hard_link(folder.path().join("coffee.db"), folder.path().join("same.db")).unwrap();
    for itself in ["coffee.db", "./coffee.db"] {
        let refused = run_in(folder.path(), &["restore", itself, "--yes"]);
        assert_fails_with(&refused, 1, "is the database itself: name a backup");
    }
}

/// Function that makes `then.db` invalid, and the expected error message.
type InvalidBackup = (Box<dyn Fn(&Path)>, &'static str);

/// Truncates `then.db` to the length that `new_length` returns.
fn truncate(new_length: fn(u64) -> u64) -> Box<dyn Fn(&Path)> {
    Box::new(move |folder| {
        let file = fs::File::options().write(true).open(folder.join("then.db")).unwrap();
        file.set_len(new_length(file.metadata().unwrap().len())).unwrap();
    })
}

/// Executes SQL on `then.db`.
fn sql(sql: &'static str) -> Box<dyn Fn(&Path)> {
    Box::new(move |folder| change(folder, sql))
}

/// Replaces `then.db` by another database.
fn replace_by(sql: &'static str) -> Box<dyn Fn(&Path)> {
    Box::new(move |folder| {
        fs::remove_file(folder.join("then.db")).unwrap();
        Connection::open(folder.join("then.db")).unwrap().execute_batch(sql).unwrap();
    })
}

/// Returns the ways to make `then.db` invalid, with their error messages.
pub fn invalid_backups() -> Vec<InvalidBackup> {
    let docker = "create table coffee_logs (id integer primary key, timestamp datetime);
                  create table heart_rate_logs (id integer primary key, timestamp datetime)";
    let check = "update sqlite_schema set sql = replace(sql, 'caffeine_mg <= 1e6', 'caffeine_mg <= 1e9')";
    vec![
        (truncate(|_| 0), "it is empty"),
        (truncate(|_| 60), "it is not a SQLite database"),
        (truncate(|size| size - 8192), "it is truncated: "),
        (truncate(|_| 5000), "it is truncated: 5000 of "),
        (
            Box::new(|folder| fs::write(folder.join("then.db"), "a".repeat(9000)).unwrap()),
            "it is not a SQLite database",
        ),
        (Box::new(|folder| crate::restore_replace::damage(&folder.join("then.db"))), "it is damaged: "),
        (
            sql("drop table idempotency_keys"),
            "the index idempotency_keys_by_age is missing; the table idempotency_keys is missing",
        ),
        (sql("drop index coffee_logs_by_time"), "the index coffee_logs_by_time is missing"),
        (sql(check), "the table coffee_logs is not as schema version 7 has it"),
        (
            sql("pragma ignore_check_constraints = on; update coffee_logs set caffeine_mg = -5 where id = 3"),
            "it is damaged: a row of coffee_logs has a value out of bounds",
        ),
        (
            sql("create trigger greedy after insert on coffee_logs begin delete from coffee_logs; end"),
            "the trigger greedy does not belong to schema version 7",
        ),
        (
            sql("create unique index only on heart_rate_logs (timestamp)"),
            "the index only does not belong to schema version 7",
        ),
        (replace_by("create table recipes (name text)"), "then.db is a SQLite database of another program"),
        (replace_by("pragma user_version = 0; create table x (a); drop table x"), "it is an empty database"),
        (
            replace_by(docker),
            "then.db is the Docker stack's database: bring it over with `coffee-tracker import then.db`",
        ),
    ]
    .into_iter()
    .chain(manipulations().into_iter().map(|(statements, message)| (sql(statements), message)))
    .collect()
}

/// Returns changes to `then.db` that SQLite accepts and the server cannot work with.
fn manipulations() -> Vec<(&'static str, &'static str)> {
    let bad_text = "it is damaged: coffee_logs has 1 text with invalid UTF-8 or a NUL character";
    vec![
        (
            "update sqlite_sequence set seq = 9223372036854775807 where name = 'coffee_logs'",
            "its ids are out of bounds: the last id of coffee_logs is 9223372036854775807, \
             not between 10 and 4611686018427387904",
        ),
        (
            "update heart_rate_logs set id = 9223372036854775807 where id = 100",
            "its ids are out of bounds: heart_rate_logs has 9223372036854775807, and 4611686018427387904 is the most",
        ),
        (
            "update sqlite_sequence set seq = 3 where name = 'coffee_logs'",
            "its ids are out of bounds: the last id of coffee_logs is 3, not between 10 and 4611686018427387904",
        ),
        (
            "update sqlite_sequence set seq = 'ten' where name = 'coffee_logs'",
            "its ids are out of bounds: the last id of coffee_logs is -1, not between 10 and 4611686018427387904",
        ),
        (
            "insert into sqlite_sequence values ('coffee_logs', 10)",
            "its ids are out of bounds: coffee_logs has 2 last ids",
        ),
        (
            "create index failing on coffee_logs (abs(caffeine_mg))",
            "the index failing does not belong to schema version 7",
        ),
        (
            "create table dependent (coffee integer references coffee_logs (id)); insert into dependent values (1)",
            "the table dependent does not belong to schema version 7",
        ),
        (
            "create table _litestream_lock (id integer references coffee_logs (id))",
            "the table _litestream_lock does not belong to schema version 7",
        ),
        (
            "create view peek as select * from coffee_logs",
            "the view peek does not belong to schema version 7",
        ),
        ("update coffee_logs set notes = cast(x'41ff42' as text) where id = 3", bad_text),
        ("update coffee_logs set notes = 'a' || char(0) || 'b' where id = 3", bad_text),
    ]
}

#[test]
fn a_backup_with_another_page_size_is_restored_into_a_running_server() {
    for changed in ["then.db", "coffee.db"] {
        let folder = prepare_files();
        let connection = Connection::open(folder.path().join(changed)).unwrap();
        let smaller = "pragma journal_mode = delete; pragma page_size = 1024; vacuum";
        connection.execute_batch(smaller).unwrap();
        assert_eq!(number(&connection, "pragma page_size"), 1024);
        drop(connection);
        let then = state_in(folder.path(), "then.db");
        let server = Server::start(folder.path());
        run_ok(folder.path(), &["restore", "then.db", "--yes"]);
        assert!(State::of(&database(folder.path())) == then);
        assert_integrity(&database(folder.path()));
        server.stop_cleanly();
        assert_no_leftovers(folder.path());
    }
}

#[test]
fn a_copied_database_is_restored_with_the_contents_of_its_wal() {
    let (folder, live) = (prepare_files(), temporary_folder());
    let server = Server::start(live.path());
    add_entries(&live.path().join("coffee.db"), "live", 20);
    set_id(&live.path().join("coffee.db"), DATABASE_ID);
    for end in ["", "-wal"] {
        let from = live.path().join(format!("coffee.db{end}"));
        fs::copy(from, folder.path().join(format!("copied.db{end}"))).unwrap();
    }
    drop(server);
    let before = files(folder.path());
    run_ok(folder.path(), &["restore", "copied.db", "--yes", "--force"]);
    assert_eq!(
        number(&database(folder.path()), "select count(*) from coffee_logs where notes like 'live-%'"),
        20
    );
    let after = files(folder.path());
    assert!(before["copied.db"] == after["copied.db"] && before["copied.db-wal"] == after["copied.db-wal"]);
    assert!(!after.contains_key("copied.db-shm"));
}

#[test]
fn a_restore_excludes_other_restores_and_servers() {
    let folder = prepare_files();
    let lock = |name: &str| {
        let file =
            fs::File::options().create(true).truncate(false).write(true).open(folder.path().join(name));
        let file = file.unwrap();
        file.try_lock().unwrap();
        file
    };
    let other = lock("coffee.db.maintenance.lock");
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_fails_with(
        &refused,
        75,
        "another restore, import, prune or server start is working on coffee.db: wait until it has finished",
    );
    drop(other);

    // A restore holds both locks, also during the prompt.
    let restore = lock("coffee.db.lock");
    let refused = run(&mut server_command(folder.path()));
    assert_fails_with(&refused, 75, "coffee.db is in use by another coffee-tracker server, or by a restore");
    drop(restore);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_database_locked_by_another_program_is_not_changed() {
    let folder = prepare_files();
    let holder = Connection::open(folder.path().join("coffee.db")).unwrap();
    holder
        .execute_batch("begin immediate; insert into coffee_logs (timestamp, caffeine_mg) values (1, 1)")
        .unwrap();
    let restore = Process::spawn(&mut command_in(folder.path(), &["restore", "then.db", "--yes"]));
    wait_until("the safety backup is made", || !backups(folder.path()).is_empty());
    holder.execute_batch("commit").unwrap();
    let result = restore.wait();
    assert_eq!(result.code, Some(0), "the restore did not wait for the lock: {result:?}");
    assert_eq!(state_in(folder.path(), "coffee.db").coffees.len(), 10);
    let seq = number(&database(folder.path()), "select seq from sqlite_sequence where name = 'coffee_logs'");
    assert_eq!(seq, 51, "the id assigned while the restore waited is reused");
}
