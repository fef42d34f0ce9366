//! Kill -9 at every step of a backup, a restore, a migration and a first start: afterwards
//! the database is exactly as it was or exactly as it was to be, and the same command, given
//! again, does its work and leaves nothing unfinished.
//!
//! Every named step is killed once, then moments at random until there were `KILLS` of them
//! (80); `TEST_SEED` repeats the moments of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::fixtures::{
    State, assert_integrity, assert_no_leftovers, assert_no_leftovers_with, command_in, downgrade_schema,
    files, make_database, names, open_copy, run_ok, state,
};
use crate::helpers::{
    Process, Server, database, folder, number, number_from_env, rows, server_command, test_seed,
};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Backup,
    BackupServed,
    Restore,
    RestoreServed,
    /// Onto a missing file, beside which a log of another database lies.
    RestoreMissing,
    /// In place of a broken file.
    Replace,
    /// A backup of the first schema.
    RestoreOlder,
    /// Of the first schema.
    Migration,
    FirstStart,
}

/// What must be there after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Old,
    New,
    /// After a kill at any moment.
    Either,
}

use After::{Either, New, Old};

const SAFETY: [(&str, After); 5] = [
    ("backup.begun", Old),
    ("backup.copied", Old),
    ("backup.checked", Old),
    ("backup.named", Old),
    ("backup.noted", Old),
];

const WRITTEN: [(&str, After); 7] = [
    ("restore.begun", Old),
    ("restore.saved", Old),
    ("restore.prepared", Old),
    ("restore.numbered", Old),
    ("restore.half", Old),
    ("restore.written", New),
    ("restore.done", New),
];

const MIGRATED: [(&str, After); 5] = [
    ("migration.step", Old),
    ("migration.step:2", Old),
    ("migration.counted", Old),
    ("migration.commit", Old),
    ("migration.done", Old),
];

/// The steps of each deed. A later command adds its own here.
fn steps(deed: Deed) -> Vec<(&'static str, After)> {
    match deed {
        Deed::Backup | Deed::BackupServed => SAFETY.to_vec(),
        Deed::Restore | Deed::RestoreServed => [&SAFETY[..], &WRITTEN].concat(),
        Deed::RestoreOlder => [&MIGRATED[..], &WRITTEN[2..]].concat(),
        Deed::RestoreMissing => vec![
            ("restore.begun", Old),
            ("restore.saved", Old),
            ("restore.prepared", Old),
            ("restore.moved", Old),
            ("restore.done", New),
        ],
        Deed::Replace => vec![
            ("restore.begun", Old),
            ("restore.prepared", Old),
            ("restore.linked", Old),
            ("restore.moved", Old),
            ("restore.done", New),
        ],
        Deed::Migration => {
            let first = [&SAFETY[..], &MIGRATED[..4]].concat();
            [&first[..], &[("migration.done", New)]].concat()
        }
        Deed::FirstStart => vec![("migration.step", Old), ("migration.commit", Old), ("migration.done", New)],
    }
}

const DEEDS: [Deed; 9] = [
    Deed::Backup,
    Deed::BackupServed,
    Deed::Restore,
    Deed::RestoreServed,
    Deed::RestoreMissing,
    Deed::Replace,
    Deed::RestoreOlder,
    Deed::Migration,
    Deed::FirstStart,
];

/// Files to begin with, made once.
struct Ground {
    folder: TempDir,
    /// What `now.db` holds together with `now.db-wal`.
    now: State,
    /// What the backup `then.db` holds.
    then: State,
}

impl Ground {
    fn lay() -> Self {
        let ground = folder();
        let at = |name: &str| ground.path().join(name);
        let (present, past, newer) = (folder(), folder(), folder());
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
        Self { folder: ground, now, then }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder in which the deed can be done.
    fn prepare(&self, deed: Deed) -> TempDir {
        let folder = folder();
        let put = |name: &str, to: &str| {
            fs::copy(self.at(name), folder.path().join(to)).unwrap();
        };
        put(if deed == Deed::RestoreOlder { "long-ago.db" } else { "then.db" }, "then.db");
        match deed {
            Deed::FirstStart => {}
            Deed::Migration => {
                put("aged.db", "coffee.db");
                put("aged.db-wal", "coffee.db-wal");
            }
            Deed::RestoreMissing => put("now.db-wal", "coffee.db-wal"),
            Deed::RestoreOlder => put("newer.db", "coffee.db"),
            _ => {
                put("now.db", "coffee.db");
                put("now.db-wal", "coffee.db-wal");
            }
        }
        if deed == Deed::Replace {
            let path = folder.path().join("coffee.db");
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().skip(4096).step_by(97).for_each(|byte| *byte ^= 0x5a);
            bytes[..100].fill(b'?');
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn command(&self, deed: Deed, folder: &Path) -> Command {
        let mut command = match deed {
            Deed::Backup | Deed::BackupServed => command_in(folder, &["backup", "--keep", "0"]),
            Deed::Restore | Deed::RestoreServed | Deed::RestoreMissing | Deed::RestoreOlder => {
                command_in(folder, &["restore", "then.db", "--yes"])
            }
            Deed::Replace => command_in(folder, &["restore", "then.db", "--yes", "--replace"]),
            Deed::Migration | Deed::FirstStart => server_command(folder),
        };
        if matches!(deed, Deed::Migration | Deed::RestoreOlder) {
            command.env("COFFEE_TRACKER_NEXT_SCHEMA", self.at("next.sql"));
        }
        command
    }

    /// How long the deed takes when nobody kills it.
    fn time(&self, deed: Deed) -> Duration {
        let folder = self.prepare(deed);
        let mut command = self.command(deed, folder.path());
        let start = Instant::now();
        match deed {
            Deed::Migration | Deed::FirstStart => drop(Server::spawn(&mut command)),
            _ => drop(Process::spawn(&mut command).wait()),
        }
        start.elapsed()
    }

    /// What the database may hold afterwards: as it was, as it was to be.
    fn outcomes(&self, deed: Deed) -> (Option<State>, Option<State>) {
        let nothing = State { coffees: Vec::new(), readings: Vec::new() };
        match deed {
            Deed::Backup | Deed::BackupServed | Deed::Migration => {
                (Some(self.now.clone()), Some(self.now.clone()))
            }
            Deed::Restore | Deed::RestoreServed | Deed::RestoreOlder => {
                (Some(self.now.clone()), Some(self.then.clone()))
            }
            Deed::RestoreMissing | Deed::Replace => (None, Some(self.then.clone())),
            Deed::FirstStart => (None, Some(nothing)),
        }
    }
}

/// When a kill comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Step(&'static str, After),
    Later(Duration),
}

/// Does the deed and kills it; how it had ended.
fn kill(mut command: Command, moment: Moment) -> String {
    match moment {
        Moment::Step(name, _) => {
            let result = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", name)).wait();
            assert_eq!(result.signal, Some(9), "it never came to {name}: {result:?}");
            format!("at {name}")
        }
        Moment::Later(after) => {
            let start = Instant::now();
            let running = Process::spawn(&mut command);
            std::thread::sleep(after);
            // It fails when it has ended.
            let _ = kill_process(running.pid(), Signal::KILL);
            let took = start.elapsed();
            let result = running.wait();
            assert!(result.code == Some(0) || result.signal == Some(9), "{result:?}");
            format!("after {took:?}{}", if result.code == Some(0) { " (too late)" } else { "" })
        }
    }
}

/// Writes to a server until told to stop; the notes that were acknowledged, each with its id.
fn write_until(server: &Server, enough: &AtomicBool) -> Vec<(String, i64)> {
    let mut client = server.client();
    let mut written = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let note = format!("meanwhile-{}", written.len());
        let response = client.post("/coffee/", &format!(r#"{{"caffeine_mg": 1, "notes": "{note}"}}"#));
        assert_eq!(response.status, 201);
        written.push((note, response.json()["id"].as_i64().unwrap()));
    }
    written
}

/// One deed, killed.
struct Kill<'a> {
    ground: &'a Ground,
    deed: Deed,
    folder: TempDir,
}

impl Kill<'_> {
    fn command(&self) -> Command {
        self.ground.command(self.deed, self.folder.path())
    }

    /// Kills it at that moment, looks, does it again, looks again. Says how it went.
    fn run(&self, moment: Moment) -> String {
        let after = match moment {
            Moment::Step(_, after) => after,
            Moment::Later(_) => Either,
        };
        match self.deed {
            Deed::BackupServed | Deed::RestoreServed => self.run_served(moment, after),
            Deed::Replace => self.run_replacing(moment, after),
            _ => {
                let how = kill(self.command(), moment);
                let found = self.look(after);
                self.again();
                assert!(self.state() == self.ground.outcomes(self.deed).1, "the second run did it");
                format!("{how}: {found}")
            }
        }
    }

    fn state(&self) -> Option<State> {
        state(&self.folder.path().join("coffee.db"))
    }

    /// Asserts that the database is as it was or as it was to be; says which.
    fn look(&self, after: After) -> &'static str {
        let (old, new) = self.ground.outcomes(self.deed);
        let state = self.state();
        assert!(state == old || state == new, "neither old nor new");
        let is_new = match self.deed {
            // The same rows: the schema alone tells.
            Deed::Migration => self.version() == 5,
            _ => old != new && state == new,
        };
        self.look_at_ids();
        said(is_new, after)
    }

    fn version(&self) -> i64 {
        let (_folder, copy) = open_copy(&self.folder.path().join("coffee.db"));
        let version = number(&copy, "pragma user_version");
        let tables = number(&copy, "select count(*) from sqlite_schema where name = 'roasts'");
        assert!(matches!((version, tables), (1, 0) | (5, 1)), "schema {version}");
        version
    }

    /// No id that was given may be given again.
    fn look_at_ids(&self) {
        if !matches!(self.deed, Deed::Restore | Deed::RestoreOlder) {
            return;
        }
        let (_folder, copy) = open_copy(&self.folder.path().join("coffee.db"));
        for (table, last) in [("coffee_logs", 305), ("heart_rate_logs", 3000)] {
            let query = format!("select seq from sqlite_sequence where name = '{table}'");
            assert_eq!(number(&copy, &query), last, "the last id of {table}");
        }
    }

    /// The same command once more.
    fn again(&self) {
        match self.deed {
            Deed::Migration | Deed::FirstStart => {
                let server = Server::spawn(&mut self.command());
                assert_eq!(server.get("/coffee/today").status, 200);
                server.stop_cleanly();
            }
            _ => {
                let result = Process::spawn(&mut self.command()).wait();
                assert_eq!(result.code, Some(0), "{result:?}");
            }
        }
        self.look_at_ids();
        let next = self.ground.at("next.sql");
        let is_newer = matches!(self.deed, Deed::Migration | Deed::RestoreOlder);
        let variables = [("COFFEE_TRACKER_NEXT_SCHEMA", next.as_path())];
        assert_no_leftovers_with(self.folder.path(), if is_newer { &variables } else { &[] });
    }

    fn run_served(&self, moment: Moment, after: After) -> String {
        let server = Server::start(self.folder.path());
        let enough = AtomicBool::new(false);
        let (how, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_until(&server, &enough));
            let how = kill(self.command(), moment);
            enough.store(true, Ordering::Relaxed);
            (how, writer.join().unwrap())
        });
        let found = self.look_served(after, &written);
        assert_eq!(server.get("/coffee/today").status, 200);
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 2}"#).status, 201);
        self.again();
        assert_eq!(server.get("/health").json()["database"]["state"], "ok");
        server.stop_cleanly();
        assert_no_leftovers(self.folder.path());
        format!("{how}: {found}, {} writes meanwhile", written.len())
    }

    /// The old rows with every write that was answered, or the new ones with those after the switch.
    fn look_served(&self, after: After, written: &[(String, i64)]) -> &'static str {
        let mut ids: Vec<i64> = written.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), written.len(), "an id was given twice");
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
            assert_eq!(number(&database, &query), 1, "{note} was answered");
        }
        let is_new = state == self.ground.then;
        assert!(is_new || state == self.ground.now, "neither old nor new");
        assert!(is_new || stored == written.len(), "{stored} of {} writes", written.len());
        said(is_new, after)
    }

    fn run_replacing(&self, moment: Moment, after: After) -> String {
        let folder = self.folder.path();
        let before = files(folder);
        let how = kill(self.command(), moment);
        let is_new = files(folder)["coffee.db"] != before["coffee.db"];
        let has_then = || self.state().as_ref() == Some(&self.ground.then);
        assert!(!is_new || has_then());
        let found = said(is_new, after);
        self.again();
        assert!(has_then(), "the second run did it");
        // Everything broken is there, bit for bit, once.
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
        assert!(bytes("") == before["coffee.db"], "the broken file as it was");
        assert!(bytes("-wal") == before["coffee.db-wal"], "its log as it was");
        format!("{how}: {found}")
    }
}

/// Says what was found, which must be what was to be found.
#[track_caller]
fn said(is_new: bool, after: After) -> &'static str {
    assert!(after == Either || (after == New) == is_new, "{after:?} was to be found, and new is {is_new}");
    if is_new { "new" } else { "old" }
}

#[test]
fn after_sigkill_at_any_step_the_old_or_the_new_state_exists_and_the_next_run_recovers() {
    let ground = Ground::lay();
    let named: Vec<(Deed, Moment)> = DEEDS
        .into_iter()
        .flat_map(|deed| steps(deed).into_iter().map(move |(s, after)| (deed, Moment::Step(s, after))))
        .collect();
    let wanted = usize::try_from(number_from_env("KILLS").unwrap_or(80)).unwrap().max(named.len());
    println!("{wanted} kills, {} of them at named steps", named.len());
    let usual = DEEDS.map(|deed| ground.time(deed));
    let mut random = fastrand::Rng::with_seed(test_seed());
    let at_random = std::iter::repeat_with(|| {
        let n = random.usize(..DEEDS.len());
        (DEEDS[n], Moment::Later(usual[n].mul_f64(random.f64())))
    });
    let (mut killed, mut late) = (0, 0);
    for (deed, moment) in named.into_iter().chain(at_random) {
        let one = Kill { ground: &ground, deed, folder: ground.prepare(deed) };
        let how = one.run(moment);
        // A deed that was done before its kill came does not count.
        let is_late = how.contains("(too late)");
        (killed, late) = if is_late { (killed, late + 1) } else { (killed + 1, late) };
        println!("{killed}: {deed:?} {how}");
        assert!(late < 10 + wanted, "most kills come too late");
        if killed == wanted {
            break;
        }
    }
}
