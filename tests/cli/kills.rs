//! SIGKILL at every step of a backup, a restore, a migration and a first start. Afterwards, the database is exactly in the old
//! or exactly in the new state, and the same command succeeds and leaves nothing unfinished.
//!
//! Every step is killed once, then operations at random moments, until there were `KILLS` kills (80). `TEST_SEED` repeats
//! the moments of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::fixtures::{
    State, assert_integrity, assert_no_leftovers, assert_no_leftovers_with, command_in, downgrade_schema,
    files, make_database, names, open_copy, run_ok, state,
};
use crate::helpers::{
    Process, Server, database, number, number_from_env, rows, server_command, temporary_folder, test_seed,
};
use crate::writers::{wait_for_writes, while_writing};

/// Operations that are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Backup,
    BackupWithServer,
    Restore,
    RestoreWithServer,
    /// Restore without a database, beside the WAL of another one.
    RestoreMissing,
    /// Replacement of a damaged database.
    Replace,
    /// Restore of a backup with the first schema.
    RestoreOlder,
    /// Migration from the first schema.
    Migration,
    FirstStart,
}

/// Expected state after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Old,
    New,
    /// Both are possible: the kill came at a random moment.
    Either,
}

use Expected::{Either, New, Old};

const BACKUP_STEPS: [(&str, Expected); 5] = [
    ("backup.begun", Old),
    ("backup.copied", Old),
    ("backup.checked", Old),
    ("backup.named", Old),
    ("backup.noted", Old),
];

const RESTORE_STEPS: [(&str, Expected); 7] = [
    ("restore.begun", Old),
    ("restore.saved", Old),
    ("restore.prepared", Old),
    ("restore.preserved", Old),
    ("restore.half", Old),
    ("restore.written", New),
    ("restore.done", New),
];

/// Steps of a restore during which others write.
const SECOND_SAFETY_STEPS: [(&str, Expected); 2] =
    [("restore.page_copy", Old), ("restore.second_safety", New)];

const MIGRATION_STEPS: [(&str, Expected); 5] = [
    ("migration.step", Old),
    ("migration.step:2", Old),
    ("migration.counted", Old),
    ("migration.commit", Old),
    ("migration.done", Old),
];

/// Steps of each operation, as named by the failpoints.
fn steps(operation: Operation) -> Vec<(&'static str, Expected)> {
    match operation {
        Operation::Backup | Operation::BackupWithServer => BACKUP_STEPS.to_vec(),
        Operation::Restore => [&BACKUP_STEPS[..], &RESTORE_STEPS].concat(),
        Operation::RestoreWithServer => [&BACKUP_STEPS[..], &RESTORE_STEPS, &SECOND_SAFETY_STEPS].concat(),
        Operation::RestoreOlder => [&MIGRATION_STEPS[..], &RESTORE_STEPS[2..]].concat(),
        Operation::RestoreMissing => vec![
            ("restore.begun", Old),
            ("restore.saved", Old),
            ("restore.prepared", Old),
            ("restore.moved", Old),
            ("restore.done", New),
        ],
        Operation::Replace => vec![
            ("restore.begun", Old),
            ("restore.prepared", Old),
            ("restore.linked", Old),
            ("restore.moved", Old),
            ("restore.done", New),
        ],
        Operation::Migration => {
            let first = [&BACKUP_STEPS[..], &MIGRATION_STEPS[..4]].concat();
            [&first[..], &[("migration.done", New)]].concat()
        }
        Operation::FirstStart => {
            vec![("migration.step", Old), ("migration.commit", Old), ("migration.done", New)]
        }
    }
}

const OPERATIONS: [Operation; 9] = [
    Operation::Backup,
    Operation::BackupWithServer,
    Operation::Restore,
    Operation::RestoreWithServer,
    Operation::RestoreMissing,
    Operation::Replace,
    Operation::RestoreOlder,
    Operation::Migration,
    Operation::FirstStart,
];

/// Database files that every operation starts from, created once.
struct Scenario {
    folder: TempDir,
    /// Contents of `now.db` with `now.db-wal`.
    now: State,
    /// Contents of the backup `then.db`.
    then: State,
}

impl Scenario {
    fn create() -> Self {
        let scenario = temporary_folder();
        let at = |name: &str| scenario.path().join(name);
        let (present, past, newer) = (temporary_folder(), temporary_folder(), temporary_folder());
        make_database(past.path(), "then", 60);
        run_ok(past.path(), &["backup", "--to", at("then.db").to_str().unwrap()]);
        make_database(present.path(), "now", 300);
        let server = Server::start(present.path());
        for n in 0..5 {
            let body = format!(r#"{{"caffeine_mg": 80, "notes": "only in the log {n}"}}"#);
            assert_eq!(server.client().post("/coffee/", &body).status, 201);
        }
        for end in ["", "-wal"] {
            fs::copy(present.path().join(format!("coffee.db{end}")), at(&format!("now.db{end}"))).unwrap();
        }
        assert!(fs::metadata(at("now.db-wal")).unwrap().len() > 0);
        fs::write(at("next.sql"), "create table roasts (name text) strict").unwrap();
        fs::copy(at("now.db"), newer.path().join("coffee.db")).unwrap();
        fs::copy(at("now.db-wal"), newer.path().join("coffee.db-wal")).unwrap();
        Server::spawn(server_command(newer.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", at("next.sql")))
            .stop_cleanly();
        fs::copy(newer.path().join("coffee.db"), at("newer.db")).unwrap();
        for (file, aged) in [("now.db", "aged.db"), ("now.db-wal", "aged.db-wal"), ("then.db", "long-ago.db")]
        {
            fs::copy(at(file), at(aged)).unwrap();
        }
        for aged in ["aged.db", "long-ago.db"] {
            downgrade_schema(&at(aged));
        }
        let (now, then) = (state(&at("now.db")).unwrap(), state(&at("then.db")).unwrap());
        for other in ["newer.db", "aged.db"] {
            assert_eq!(Some(&now), state(&at(other)).as_ref());
        }
        assert!(now.coffees.len() == 305 && then.coffees.len() == 60);
        Self { folder: scenario, now, then }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a folder in which the operation can run.
    fn prepare(&self, operation: Operation) -> TempDir {
        let folder = temporary_folder();
        let put = |name: &str, to: &str| {
            fs::copy(self.at(name), folder.path().join(to)).unwrap();
        };
        put(if operation == Operation::RestoreOlder { "long-ago.db" } else { "then.db" }, "then.db");
        match operation {
            Operation::FirstStart => {}
            Operation::Migration => {
                put("aged.db", "coffee.db");
                put("aged.db-wal", "coffee.db-wal");
            }
            Operation::RestoreMissing => put("now.db-wal", "coffee.db-wal"),
            Operation::RestoreOlder => put("newer.db", "coffee.db"),
            _ => {
                put("now.db", "coffee.db");
                put("now.db-wal", "coffee.db-wal");
            }
        }
        if operation == Operation::Replace {
            let path = folder.path().join("coffee.db");
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().skip(4096).step_by(97).for_each(|byte| *byte ^= 0x5a);
            bytes[..100].fill(b'?');
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn command(&self, operation: Operation, folder: &Path) -> Command {
        let mut command = match operation {
            Operation::Backup | Operation::BackupWithServer => command_in(folder, &["backup", "--keep", "0"]),
            Operation::Restore
            | Operation::RestoreWithServer
            | Operation::RestoreMissing
            | Operation::RestoreOlder => command_in(folder, &["restore", "then.db", "--yes"]),
            Operation::Replace => command_in(folder, &["restore", "then.db", "--yes", "--replace"]),
            Operation::Migration | Operation::FirstStart => server_command(folder),
        };
        if matches!(operation, Operation::Migration | Operation::RestoreOlder) {
            command.env("COFFEE_TRACKER_NEXT_SCHEMA", self.at("next.sql"));
        }
        command
    }

    /// Measures the operation without a kill.
    fn measure(&self, operation: Operation) -> Duration {
        let folder = self.prepare(operation);
        let mut command = self.command(operation, folder.path());
        let start = Instant::now();
        match operation {
            Operation::Migration | Operation::FirstStart => drop(Server::spawn(&mut command)),
            _ => drop(Process::spawn(&mut command).wait()),
        }
        start.elapsed()
    }

    /// Returns the old and the new state of the database.
    fn outcomes(&self, operation: Operation) -> (Option<State>, Option<State>) {
        let nothing = State { coffees: Vec::new(), readings: Vec::new() };
        match operation {
            Operation::Backup | Operation::BackupWithServer | Operation::Migration => {
                (Some(self.now.clone()), Some(self.now.clone()))
            }
            Operation::Restore | Operation::RestoreWithServer | Operation::RestoreOlder => {
                (Some(self.now.clone()), Some(self.then.clone()))
            }
            Operation::RestoreMissing | Operation::Replace => (None, Some(self.then.clone())),
            Operation::FirstStart => (None, Some(nothing)),
        }
    }
}

/// Moment of a kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    AtStep(&'static str, Expected),
    AfterDelay(Duration),
}

/// Runs a command and kills it. Returns a description of the moment.
fn kill(mut command: Command, moment: Moment) -> String {
    match moment {
        Moment::AtStep(name, _) => {
            let result = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", name)).wait();
            assert_eq!(result.signal, Some(9), "the step {name} was not reached: {result:?}");
            format!("at {name}")
        }
        Moment::AfterDelay(after) => {
            let start = Instant::now();
            let running = Process::spawn(&mut command);
            std::thread::sleep(after);
            // Fails when the process has already exited.
            let _ = kill_process(running.pid(), Signal::KILL);
            let took = start.elapsed();
            let result = running.wait();
            assert!(result.code == Some(0) || result.signal == Some(9), "{result:?}");
            format!("after {took:?}{}", if result.code == Some(0) { " (too late)" } else { "" })
        }
    }
}

/// An operation that is killed and repeated.
struct KilledOperation<'a> {
    scenario: &'a Scenario,
    operation: Operation,
    folder: TempDir,
}

impl KilledOperation<'_> {
    fn command(&self) -> Command {
        self.scenario.command(self.operation, self.folder.path())
    }

    /// Kills the operation, checks the state, repeats the operation and checks again. Returns a description.
    fn run(&self, moment: Moment) -> String {
        let expected = match moment {
            Moment::AtStep(_, expected) => expected,
            Moment::AfterDelay(_) => Either,
        };
        match self.operation {
            Operation::BackupWithServer | Operation::RestoreWithServer => {
                self.run_with_server(moment, expected)
            }
            Operation::Replace => self.run_replacing(moment, expected),
            _ => {
                let how = kill(self.command(), moment);
                let found = self.check_state(expected);
                self.repeat();
                assert!(
                    self.state() == self.scenario.outcomes(self.operation).1,
                    "the repeated command did not succeed"
                );
                format!("{how}: {found}")
            }
        }
    }

    fn state(&self) -> Option<State> {
        state(&self.folder.path().join("coffee.db"))
    }

    /// Asserts that the database is in the old or the new state, and returns which one.
    fn check_state(&self, expected: Expected) -> &'static str {
        let (old, new) = self.scenario.outcomes(self.operation);
        let state = self.state();
        assert!(state == old || state == new, "neither old nor new");
        let is_new = match self.operation {
            // The rows are the same, only the schema differs.
            Operation::Migration => self.version() == 8,
            _ => old != new && state == new,
        };
        self.check_last_ids();
        assert_expected(is_new, expected)
    }

    fn version(&self) -> i64 {
        let (_folder, copy) = open_copy(&self.folder.path().join("coffee.db"));
        let version = number(&copy, "pragma user_version");
        let tables = number(&copy, "select count(*) from sqlite_schema where name = 'roasts'");
        assert!(matches!((version, tables), (1, 0) | (8, 1)), "schema {version}");
        version
    }

    /// Asserts that no id can be assigned a second time.
    fn check_last_ids(&self) {
        if !matches!(self.operation, Operation::Restore | Operation::RestoreOlder) {
            return;
        }
        let (_folder, copy) = open_copy(&self.folder.path().join("coffee.db"));
        for (table, last) in [("coffee_logs", 305), ("heart_rate_logs", 3000)] {
            let query = format!("select seq from sqlite_sequence where name = '{table}'");
            assert_eq!(number(&copy, &query), last, "the last id of {table}");
        }
    }

    /// Repeats the command and asserts that it succeeds and leaves nothing unfinished.
    fn repeat(&self) {
        match self.operation {
            Operation::Migration | Operation::FirstStart => {
                let server = Server::spawn(&mut self.command());
                assert_eq!(server.get("/coffee/today").status, 200);
                server.stop_cleanly();
            }
            _ => {
                let result = Process::spawn(&mut self.command()).wait();
                assert_eq!(result.code, Some(0), "{result:?}");
            }
        }
        self.check_last_ids();
        let next = self.scenario.at("next.sql");
        let is_newer = matches!(self.operation, Operation::Migration | Operation::RestoreOlder);
        let variables = [("COFFEE_TRACKER_NEXT_SCHEMA", next.as_path())];
        assert_no_leftovers_with(self.folder.path(), if is_newer { &variables } else { &[] });
    }

    fn run_with_server(&self, moment: Moment, expected: Expected) -> String {
        let server = Server::start(self.folder.path());
        let (how, written) = while_writing(&server, "", || {
            wait_for_writes(self.folder.path());
            kill(self.command(), moment)
        });
        let found = self.check_state_with_writes(expected, &written);
        assert_eq!(server.get("/coffee/today").status, 200);
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 2}"#).status, 201);
        self.repeat();
        assert_eq!(server.get("/health").json()["database"]["state"], "ok");
        server.stop_cleanly();
        assert_no_leftovers(self.folder.path());
        format!("{how}: {found}, {} concurrent writes", written.len())
    }

    /// Asserts that the database has the old rows with every acknowledged write, or the new rows with those after the restore.
    fn check_state_with_writes(&self, expected: Expected, written: &[(String, i64)]) -> &'static str {
        let mut ids: Vec<i64> = written.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), written.len(), "an id was assigned twice");
        assert!(ids.first().is_none_or(|id| *id > 305));
        let database = database(self.folder.path());
        assert_integrity(&database);
        let mut state = State::of(&database);
        state.coffees.retain(|row| !row.contains("meanwhile-"));
        let meanwhile = "select notes, id from coffee_logs where notes like 'meanwhile-%' order by id";
        let stored = rows(&database, meanwhile).len();
        let last = &written[written.len() - stored..];
        for (note, id) in last {
            let query = format!("select count(*) from coffee_logs where id = {id} and notes = '{note}'");
            assert_eq!(number(&database, &query), 1, "{note} was acknowledged but is not stored");
        }
        let is_new = state == self.scenario.then;
        assert!(is_new || state == self.scenario.now, "neither old nor new");
        assert!(is_new || stored == written.len(), "{stored} of {} writes", written.len());
        assert_expected(is_new, expected)
    }

    fn run_replacing(&self, moment: Moment, expected: Expected) -> String {
        let folder = self.folder.path();
        let before = files(folder);
        let how = kill(self.command(), moment);
        let is_new = files(folder)["coffee.db"] != before["coffee.db"];
        let has_then = || self.state().as_ref() == Some(&self.scenario.then);
        assert!(!is_new || has_then());
        let found = assert_expected(is_new, expected);
        self.repeat();
        assert!(has_then(), "the repeated command did not succeed");
        // The damaged files are kept unchanged, exactly once.
        let broken: Vec<String> =
            names(folder).into_iter().filter(|n| n.starts_with("coffee.db.broken-")).collect();
        let bytes = |end: &str| {
            let is_it = |name: &&String| match end {
                "" => !["-wal", "-shm"].iter().any(|end| name.ends_with(end)),
                end => name.ends_with(end),
            };
            let found: Vec<_> = broken.iter().filter(is_it).collect();
            assert_eq!(found.len(), 1, "{broken:?}");
            fs::read(folder.join(found[0])).unwrap()
        };
        assert!(bytes("") == before["coffee.db"], "the damaged file has changed");
        assert!(bytes("-wal") == before["coffee.db-wal"], "its WAL has changed");
        format!("{how}: {found}")
    }
}

/// Asserts that the state is the expected one, and returns its name.
#[track_caller]
fn assert_expected(is_new: bool, expected: Expected) -> &'static str {
    assert!(
        expected == Either || (expected == New) == is_new,
        "expected {expected:?}, found {}",
        if is_new { "new" } else { "old" }
    );
    if is_new { "new" } else { "old" }
}

#[test]
fn after_sigkill_at_any_step_the_old_or_the_new_state_exists_and_the_next_run_recovers() {
    let scenario = Scenario::create();
    let named: Vec<(Operation, Moment)> = OPERATIONS
        .into_iter()
        .flat_map(|operation| {
            steps(operation)
                .into_iter()
                .map(move |(name, expected)| (operation, Moment::AtStep(name, expected)))
        })
        .collect();
    let wanted = usize::try_from(number_from_env("KILLS").unwrap_or(80)).unwrap().max(named.len());
    println!("{wanted} kills, {} of them at named steps", named.len());
    let usual = OPERATIONS.map(|operation| scenario.measure(operation));
    let mut random = fastrand::Rng::with_seed(test_seed());
    let at_random = std::iter::repeat_with(|| {
        let n = random.usize(..OPERATIONS.len());
        (OPERATIONS[n], Moment::AfterDelay(usual[n].mul_f64(random.f64())))
    });
    let (mut killed, mut late) = (0, 0);
    for (operation, moment) in named.into_iter().chain(at_random) {
        let one = KilledOperation { scenario: &scenario, operation, folder: scenario.prepare(operation) };
        let how = one.run(moment);
        // An operation that finished before its kill does not count.
        let is_late = how.contains("(too late)");
        (killed, late) = if is_late { (killed, late + 1) } else { (killed + 1, late) };
        println!("{killed}: {operation:?} {how}");
        assert!(late < 10 + wanted, "most kills came too late");
        if killed == wanted {
            break;
        }
    }
}
