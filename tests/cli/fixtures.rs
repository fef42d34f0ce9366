//! Databases for tests of commands, and assertions about their contents and leftover files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::helpers::{CommandResult, Server, number, program, rows, run, temporary_folder};

/// Returns the program with these arguments, on `coffee.db` and `backups/` in `folder`.
pub fn command_in(folder: &Path, args: &[&str]) -> Command {
    let mut command = program(folder);
    command.args(args).envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]);
    command
}

/// Runs [`command_in`].
pub fn run_in(folder: &Path, args: &[&str]) -> CommandResult {
    run(&mut command_in(folder, args))
}

/// Runs [`command_in`] and asserts that it succeeds.
#[track_caller]
pub fn run_ok(folder: &Path, args: &[&str]) -> CommandResult {
    let result = run_in(folder, args);
    assert_eq!(result.code, Some(0), "{args:?}: {result:?}");
    result
}

/// Asserts the exit code, and that standard error has exactly one error message, which contains `message`.
#[track_caller]
pub fn assert_fails_with(result: &CommandResult, code: i32, message: &str) {
    assert_eq!(result.code, Some(code), "{result:?}");
    let last: Vec<&str> = result.err.lines().filter(|line| line.starts_with("coffee-tracker: ")).collect();
    assert_eq!(last.len(), 1, "not exactly one error message: {}", result.err);
    assert!(last[0].contains(message), "{:?} does not contain {message:?}", last[0]);
    for noise in ["panicked", "Error {", "Some(", "SqliteFailure", "Os {"] {
        assert!(!result.err.contains(noise), "{noise} in {}", result.err);
    }
}

/// All rows of both tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub coffees: Vec<String>,
    pub readings: Vec<String>,
}

impl State {
    pub fn of(database: &Connection) -> Self {
        Self {
            coffees: rows(database, "select * from coffee_logs order by id"),
            readings: rows(database, "select * from heart_rate_logs order by id"),
        }
    }
}

/// Opens a copy of the database with its WAL in another folder, so that reading changes nothing.
pub fn open_copy(database: &Path) -> (tempfile::TempDir, Connection) {
    let elsewhere = temporary_folder();
    let copy = elsewhere.path().join("coffee.db");
    for end in ["", "-wal", "-journal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        if name(database).exists() {
            fs::copy(name(database), name(&copy)).unwrap();
        }
    }
    let connection = Connection::open(copy).unwrap();
    (elsewhere, connection)
}

/// Returns the rows of an intact database including its WAL, or `None` when it is missing or empty.
#[track_caller]
pub fn state(database: &Path) -> Option<State> {
    if fs::metadata(database).map_or(0, |m| m.len()) == 0 {
        return None;
    }
    let (_folder, copy) = open_copy(database);
    assert_integrity(&copy);
    let is_made = number(&copy, "select count(*) from sqlite_schema where name = 'coffee_logs'") == 1;
    is_made.then(|| State::of(&copy))
}

#[track_caller]
pub fn assert_integrity(database: &Connection) {
    assert_eq!(rows(database, "pragma integrity_check"), [r#"Text("ok")"#], "integrity_check");
    if number(database, "pragma user_version") > 1 {
        assert_rollups_match(database);
    }
}

/// Asserts that the rollups equal the readings.
#[track_caller]
fn assert_rollups_match(database: &Connection) {
    // Rounds down before 1970, too.
    let floor = |number: &str, unit: &str| format!("({number}) / {unit} - (({number}) % {unit} < 0)");
    let day = floor("timestamp", "86400000000");
    let (block, hour) = (floor(&day, "32"), floor("timestamp", "3600000000"));
    let (by_pulse, sums) = ("coalesce(context, ''), bpm, count(*)", "count(*), sum(bpm), min(bpm), max(bpm)");
    for (table, unit, others, key) in [
        ("days", day, by_pulse, "1, 2, 3"),
        ("blocks", block, by_pulse, "1, 2, 3"),
        ("hours", hour, sums, "1"),
    ] {
        let naive = format!("select {unit}, {others} from heart_rate_logs group by {key} order by {key}");
        let counted = format!("select * from heart_rate_{table} order by {key}");
        assert!(rows(database, &counted) == rows(database, &naive), "wrong rollups in heart_rate_{table}");
    }
}

/// Converts a database to the first schema version, without a checkpoint.
pub fn downgrade_schema(database: &Path) {
    let file = Connection::open(database).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    file.execute_batch(
        "drop trigger heart_rate_logs_counted; drop trigger heart_rate_logs_uncounted;
         drop trigger heart_rate_logs_recounted;
         drop trigger if exists heart_rate_logs_pending_insert;
         drop trigger if exists heart_rate_logs_pending_delete;
         drop trigger if exists heart_rate_logs_pending_update;
         drop table if exists heart_rate_packed_days; drop table if exists profile;
         drop table if exists sources; drop table if exists tombstones;
         drop table heart_rate_days; drop table heart_rate_blocks; drop table heart_rate_hours;
         pragma user_version = 1",
    )
    .unwrap();
    // COFFEE_TRACKER may be an older version, without database ids or digests in backups.
    file.execute_batch("drop table if exists database_identity; drop table if exists backup_digests")
        .unwrap();
}

/// Adds `coffees` coffees and ten times as many readings, with notes that begin with `name`.
pub fn add_entries(database: &Path, name: &str, coffees: u32) {
    let connection = Connection::open(database).unwrap();
    let many = "with recursive n(n) as (select 1 union all select n + 1 from n where n < ?2) insert into";
    let coffee = "coffee_logs (timestamp, caffeine_mg, coffee_type, notes)
        select 1760000000000000 + n * 1000000, n % 200, 'espresso', ?1 || '-' || n from n";
    let reading = "heart_rate_logs (timestamp, bpm, context, notes)
        select 1760000000000000 + n * 100000, 60 + n % 90, 'resting', ?1 || '-' || n from n";
    connection.execute(&format!("{many} {coffee}"), (name, coffees)).unwrap();
    connection.execute(&format!("{many} {reading}"), (name, coffees * 10)).unwrap();
}

/// Id of the databases that [`make_database`] creates.
pub const DATABASE_ID: &str = "0123456789abcdef0123456789abcdef";

/// Creates a database with the rows of [`add_entries`], and stops its server. All of these databases have the same id, as
/// states of one database.
pub fn make_database(folder: &Path, name: &str, coffees: u32) {
    Server::start(folder).stop_cleanly();
    let database = folder.join("coffee.db");
    add_entries(&database, name, coffees);
    set_id(&database, DATABASE_ID);
}

/// Sets the id of a database.
pub fn set_id(database: &Path, id: &str) {
    let connection = Connection::open(database).unwrap();
    if number(&connection, "pragma user_version") > 2 {
        connection.execute("update database_identity set id = ?", [id]).unwrap();
    }
}

/// Returns the id of a database or a backup.
pub fn id_of(database: &Path) -> String {
    let (_folder, copy) = open_copy(database);
    copy.query_row("select id from database_identity", [], |row| row.get(0)).unwrap()
}

/// Starts a server, logs five coffees and kills the server: they are only in the WAL.
pub fn crash_with_five_coffees_in_the_wal(folder: &Path) {
    let server = Server::start(folder);
    for _ in 0..5 {
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    }
    server.signal(rustix::process::Signal::KILL);
    drop(server.process.wait());
}

/// Returns the sorted names of a folder's entries.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

/// Returns the contents of every file in a folder, by name.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let content = |name: String| fs::read(folder.join(&name)).ok().map(|bytes| (name, bytes));
    names(folder).into_iter().filter_map(content).collect()
}

/// Returns the backups in the default folder.
pub fn backups(folder: &Path) -> Vec<PathBuf> {
    names(&folder.join("backups")).iter().map(|name| folder.join("backups").join(name)).collect()
}

/// Asserts that no temporary file is left, and that every backup can be restored.
#[track_caller]
pub fn assert_no_leftovers(folder: &Path) {
    assert_no_leftovers_with(folder, &[]);
}

/// Like [`assert_no_leftovers`], with environment variables for the program that verifies the backups.
#[track_caller]
pub fn assert_no_leftovers_with(folder: &Path, variables: &[(&str, &Path)]) {
    for location in [folder, &folder.join("backups")] {
        for name in names(location) {
            let is_stray =
                name.starts_with(".coffee-") || name.ends_with(".tmp") || name.contains("-journal");
            assert!(!is_stray, "{name} was left in {}", location.display());
        }
    }
    for backup in backups(folder) {
        let name = backup.to_str().unwrap();
        assert!(name.ends_with(".db"), "{name} was left");
        let verified = run(command_in(folder, &["verify", name]).envs(variables.iter().copied()));
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}
