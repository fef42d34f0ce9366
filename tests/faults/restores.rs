//! Power cuts during a restore: the database is entirely in the old state or entirely in the restored one, and has every write
//! acknowledged since.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::backups::{backups_in, check_backups};
use crate::contents::{DatabaseContents, check_reopen};
use crate::helpers::{Server, program, run, temporary_folder};
use crate::recorder::Recorder;
use crate::replay::{Cuts, Failure, cut_power};
use crate::trace::{Span, Trace};
use crate::traffic::{Coffee, History, Traffic, Workload, send_batch};
use crate::wal::Wal;

/// A trace with a restore, and the states before and after it.
struct RecordedRestore {
    trace: Trace,
    /// Requests that apply without the restore, and with it.
    old: History,
    new: History,
    restore: Span,
    /// Earliest position at which the restored state can exist.
    earliest: usize,
    /// The backups in order, including the safety backup.
    backups: Vec<Span>,
}

impl RecordedRestore {
    fn check(&self, database: &Path, cut: usize) -> Result<(), String> {
        let contents = DatabaseContents::read(database)?;
        let is_old = contents.check_against(&self.old, cut, cut);
        let is_new = contents.check_against(&self.new, cut, cut);
        if self.first_report() < cut {
            is_new.map_err(|reason| format!("not the restored state: {reason}"))
        } else if self.earliest >= cut {
            is_old.map_err(|reason| format!("not the old state: {reason}"))
        } else {
            is_old.or_else(|old| {
                is_new.map_err(|new| format!("neither the old state ({old}) nor the restored one ({new})"))
            })
        }
    }

    /// Returns the position where the restored state was first reported: by the command, or by a response.
    fn first_report(&self) -> usize {
        let old: HashSet<&str> = self.old.coffees.iter().map(|coffee| coffee.name.as_str()).collect();
        let only_new = self.new.coffees.iter().filter(|coffee| !old.contains(coffee.name.as_str()));
        let responses = only_new.map(|coffee| coffee.steps[0].response_at);
        responses
            .filter(|position| *position > self.restore.started)
            .min()
            .unwrap_or(usize::MAX)
            .min(self.restore.finished)
    }

    /// Checks that the database has the restored state and the writes since.
    fn check_new(&self, database: &Path, cut: usize) -> Result<(), String> {
        DatabaseContents::read(database)?.check_against(&self.new, cut, cut)
    }

    /// Checks that the safety backup of a finished restore has all of the old state, up to the last write before the restore.
    fn check_safety_backup(&self, backups: &Path, cut: usize) -> Result<(), String> {
        match backups_in(backups).last() {
            Some(saved) if cut > self.restore.finished && !self.backups.is_empty() => {
                DatabaseContents::read(saved)
                    .and_then(|contents| contents.check_against(&self.old, cut, cut))
                    .map_err(|reason| format!("{}: {reason}", saved.display()))
            }
            _ => Ok(()),
        }
    }

    fn cut_power(&self, cuts: Cuts) -> Result<(), Failure> {
        cut_power(&self.trace, cuts, |disk, cut| {
            self.check(&disk.join("coffee.db"), cut)?;
            check_backups(disk, &self.old, &self.backups, cut)?;
            self.check_safety_backup(&disk.join("backups"), cut)?;
            if cut % 8 == 0 { check_reopen(disk) } else { Ok(()) }
        })
    }
}

/// Returns the path of the only backup, relative to the recorded folder.
fn only_backup(recorder: &Recorder) -> String {
    let entries = std::fs::read_dir(recorder.folder().join("backups")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    format!("backups/{}", names[0])
}

/// Runs a server until `number` coffees are logged, and stops it cleanly.
fn log_coffees(recorder: &Recorder, name: &str, number: usize) -> Vec<Coffee> {
    let server = Server::spawn(&mut recorder.server());
    let traffic = Traffic::start(server.address, name, Workload::InsertsOnly);
    traffic.wait_for(number);
    let coffees = traffic.stop();
    server.stop_cleanly();
    coffees
}

impl RecordedRestore {
    /// Reads the trace and sorts the requests that are not in the backup (`base`): before or after the restore in the WAL.
    fn into_existing(recorder: &Recorder, base: &History, later: Vec<Coffee>) -> Self {
        let trace = recorder.trace();
        let mut all = base.clone();
        all.coffees.extend(later);
        all.locate_responses(&trace);
        let restore = trace.command("restore");
        let restorer = trace.events[restore.finished].process;
        let wal = Wal::parse(&trace);
        let commit =
            wal.commits.iter().find(|commit| commit.process == restorer).expect("the restore is in the WAL");
        let (mut old, mut new) = (all.clone(), all);
        let is_base = |coffee: &Coffee| base.coffees.iter().any(|other| other.name == coffee.name);
        let is_before = |coffee: &Coffee| {
            let (notes, _) = coffee.steps[0].result.as_ref().expect("the first request is an insert");
            wal.commit_of(notes).expect("every insert is in the WAL").last < commit.first
        };
        old.coffees.retain(|coffee| is_base(coffee) || is_before(coffee));
        new.coffees.retain(|coffee| is_base(coffee) || !is_before(coffee));
        println!("{} coffees in the backup", base.coffees.len());
        println!(
            "{} in the old state, {} in the restored state and since",
            old.coffees.len(),
            new.coffees.len()
        );
        assert!(old.coffees.len() > base.coffees.len() && new.coffees.len() > base.coffees.len());
        let earliest = commit.last;
        let backups = vec![trace.command("backup"), restore];
        Self { trace, old, new, restore, earliest, backups }
    }
}

impl RecordedRestore {
    /// Reads the trace of a restore of `backed_up` where no usable database existed.
    fn without_database(recorder: &Recorder, backed_up: History, since: Vec<Coffee>) -> Self {
        let trace = recorder.trace();
        let mut new = History { coffees: since, batches: Vec::new() };
        new.locate_responses(&trace);
        new.coffees.extend(backed_up.coffees);
        let restore = trace.command("restore");
        let (old, earliest, backups) = (History::default(), restore.started, Vec::new());
        Self { trace, old, new, restore, earliest, backups }
    }
}

#[test]
fn a_power_cut_during_a_restore_into_a_running_server_leaves_the_old_state_or_the_new() {
    let recorder = Recorder::new();
    let server = Server::spawn(&mut recorder.server());
    let before = Traffic::start(server.address, "a", Workload::InsertsOnly);
    before.wait_for(40);
    let base =
        History { coffees: before.stop(), batches: vec![send_batch(&mut server.client(), "b0.", 500)] };
    recorder.run("backup", &["backup"]);
    let file = only_backup(&recorder);
    let traffic = Traffic::start(server.address, "b", Workload::InsertsOnly);
    traffic.wait_for(60);
    recorder.run("restore", &["restore", &file, "--yes"]);
    traffic.wait_for(60);
    let later = traffic.stop();
    server.stop_cleanly();
    let recorded = RecordedRestore::into_existing(&recorder, &base, later);
    recorded.cut_power(Cuts::share(20)).unwrap_or_else(|failure| failure.panic());
}

#[test]
fn a_power_cut_during_a_restore_without_a_server_leaves_the_old_state_or_the_new() {
    let recorder = Recorder::new();
    let base = History { coffees: log_coffees(&recorder, "a", 40), batches: Vec::new() };
    recorder.run("backup", &["backup"]);
    let file = only_backup(&recorder);
    let mut later = log_coffees(&recorder, "b", 40);
    recorder.run("restore", &["restore", &file, "--yes"]);
    later.extend(log_coffees(&recorder, "c", 40));
    let recorded = RecordedRestore::into_existing(&recorder, &base, later);
    recorded.cut_power(Cuts::share(10)).unwrap_or_else(|failure| failure.panic());
}

/// Makes a backup outside the recorded folder, and returns it with its contents.
fn backup_elsewhere(folder: &Path) -> (PathBuf, History) {
    let server = Server::start(folder);
    let traffic = Traffic::start(server.address, "a", Workload::InsertsOnly);
    traffic.wait_for(40);
    let mut history = History { coffees: traffic.stop(), batches: Vec::new() };
    server.stop_cleanly();
    let kept = folder.join("kept.db");
    let mut backup = program(folder);
    backup.args(["backup", "--quiet", "--to"]).arg(&kept).env("DATABASE_URL", "coffee.db");
    assert_eq!(run(&mut backup).code, Some(0));
    let steps = history.coffees.iter_mut().flat_map(|coffee| &mut coffee.steps);
    steps.for_each(|step| step.response_at = 0);
    (kept, history)
}

#[test]
fn a_power_cut_during_a_restore_onto_no_file_leaves_nothing_or_the_backup() {
    let elsewhere = temporary_folder();
    let (kept, backed_up) = backup_elsewhere(elsewhere.path());
    let recorder = Recorder::new();
    recorder.run("restore", &["restore", kept.to_str().unwrap(), "--yes"]);
    let since = log_coffees(&recorder, "c", 40);
    let recorded = RecordedRestore::without_database(&recorder, backed_up, since);
    recorded.cut_power(Cuts::share(5)).unwrap_or_else(|failure| failure.panic());
}

/// Makes a damaged database with the WAL of a server that was killed.
fn damage_database(recorder: &Recorder) {
    let server = Server::spawn(&mut recorder.server());
    send_batch(&mut server.client(), "b0.", 500);
    server.stop_cleanly();
    let server = Server::spawn(&mut recorder.server());
    for _ in 0..3 {
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1, "notes": "lost"}"#).status, 201);
    }
    server.signal(Signal::KILL);
    server.process.wait();
    recorder.wipe("coffee.db");
    let log = std::fs::metadata(recorder.folder().join("coffee.db-wal")).unwrap();
    assert!(log.len() > 10_000, "the WAL is not empty");
}

#[test]
fn a_power_cut_during_a_replacement_never_applies_the_old_wal_to_the_new_file() {
    let elsewhere = temporary_folder();
    let (kept, backed_up) = backup_elsewhere(elsewhere.path());
    let recorder = Recorder::new();
    damage_database(&recorder);
    recorder.run("restore", &["restore", kept.to_str().unwrap(), "--yes", "--replace", "--force"]);
    let names = std::fs::read_dir(recorder.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_old_log = |name: &OsString| {
        name.to_string_lossy().starts_with("coffee.db.broken-") && name.to_string_lossy().ends_with("-wal")
    };
    assert!(names.into_iter().any(|name| is_old_log(&name)), "the WAL of the damaged file was moved aside");
    let since = log_coffees(&recorder, "c", 40);
    let recorded = RecordedRestore::without_database(&recorder, backed_up, since);
    let cuts = Cuts::share(10).from(recorded.restore.started);
    let checked = cut_power(&recorded.trace, cuts, |disk, cut| {
        let database = disk.join("coffee.db");
        // Until the restore has finished, the database may still be damaged or missing.
        let text = std::fs::read(&database).unwrap_or_default();
        let is_new = text.windows(9).any(|name| name == b"a0-00000.");
        if is_new || recorded.restore.finished < cut { recorded.check_new(&database, cut) } else { Ok(()) }
    });
    checked.unwrap_or_else(|failure| failure.panic());
}
