//! The power fails while a backup is restored: the database is wholly the old state or wholly the
//! restored one, and what was acknowledged since is there.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::backups::{are_whole, backups_in};
use crate::helpers::{Server, folder, program, run};
use crate::log::Log;
use crate::recorder::Recorder;
use crate::replay::{Cuts, Loss, cut_power};
use crate::stored::{Stored, reopens};
use crate::trace::{Span, Trace};
use crate::traffic::{Coffee, Habits, History, Traffic, send_batch};

/// A trace with a restore in it.
struct RestoreResult {
    trace: Trace,
    /// What there is without the restore, and what there is with it.
    old: History,
    new: History,
    restore: Span,
    /// When the restored state can be there at the earliest: after so many events.
    earliest: usize,
    /// The backups made one after the other, the safety copy among them.
    backups: Vec<Span>,
}

impl RestoreResult {
    fn check(&self, database: &Path, cut: usize) -> Result<(), String> {
        let stored = Stored::read(database)?;
        let is_old = stored.agrees_with(&self.old, cut, cut);
        let is_new = stored.agrees_with(&self.new, cut, cut);
        if self.since() < cut {
            is_new.map_err(|why| format!("it is not the restored state: {why}"))
        } else if self.earliest >= cut {
            is_old.map_err(|why| format!("it is not the old state: {why}"))
        } else {
            is_old.or_else(|old| {
                is_new.map_err(|new| format!("neither the old state ({old}) nor the restored ({new})"))
            })
        }
    }

    /// When somebody was first told of the restored state: by the command, or by an answer.
    fn since(&self) -> usize {
        let old: HashSet<&str> = self.old.coffees.iter().map(|coffee| coffee.name.as_str()).collect();
        let only_new = self.new.coffees.iter().filter(|coffee| !old.contains(coffee.name.as_str()));
        let answers = only_new.map(|coffee| coffee.steps[0].answered);
        answers
            .filter(|answer| *answer > self.restore.began)
            .min()
            .unwrap_or(usize::MAX)
            .min(self.restore.done)
    }

    /// Does the database hold the restored state and what came since?
    fn check_new(&self, database: &Path, cut: usize) -> Result<(), String> {
        Stored::read(database)?.agrees_with(&self.new, cut, cut)
    }

    /// Once it is done, does its backup hold all of the old state, to the last coffee before the switch?
    fn check_saved(&self, backups: &Path, cut: usize) -> Result<(), String> {
        match backups_in(backups).last() {
            Some(saved) if cut > self.restore.done && !self.backups.is_empty() => Stored::read(saved)
                .and_then(|stored| stored.agrees_with(&self.old, cut, cut))
                .map_err(|why| format!("{}: {why}", saved.display())),
            _ => Ok(()),
        }
    }

    fn cut_power(&self, cuts: Cuts) -> Result<(), Loss> {
        cut_power(&self.trace, cuts, |disk, cut| {
            self.check(&disk.join("coffee.db"), cut)?;
            are_whole(disk, &self.old, &self.backups, cut)?;
            self.check_saved(&disk.join("backups"), cut)?;
            if cut % 8 == 0 { reopens(disk) } else { Ok(()) }
        })
    }
}

/// The one backup in the recorded folder, as the program is told of it.
fn only_backup(recorder: &Recorder) -> String {
    let entries = std::fs::read_dir(recorder.folder().join("backups")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    format!("backups/{}", names[0])
}

/// Serves until so many coffees are logged, and stops cleanly.
fn log_coffees(recorder: &Recorder, name: &str, number: usize) -> Vec<Coffee> {
    let server = Server::spawn(&mut recorder.server());
    let traffic = Traffic::start(server.address, name, Habits::OnlyNew);
    traffic.wait_for(number);
    let coffees = traffic.stop();
    server.stop_cleanly();
    coffees
}

impl RestoreResult {
    /// Sorts what was sent besides `base`, which is in the backup, into what came before the
    /// restore in the log and what came after it.
    fn of(recorder: &Recorder, base: &History, later: Vec<Coffee>) -> Self {
        let trace = recorder.trace();
        let mut all = base.clone();
        all.coffees.extend(later);
        all.find_answers(&trace);
        let restore = trace.command("restore");
        let restorer = trace.events[restore.done].process;
        let log = Log::of(&trace);
        let commit = log.commits.iter().find(|commit| commit.process == restorer).expect("it is in the log");
        let (mut old, mut new) = (all.clone(), all);
        let is_base = |coffee: &Coffee| base.coffees.iter().any(|other| other.name == coffee.name);
        let is_before = |coffee: &Coffee| {
            let (notes, _) = coffee.steps[0].leaves.as_ref().expect("it is new");
            log.commit_of(notes).expect("it is in the log").last < commit.first
        };
        old.coffees.retain(|coffee| is_base(coffee) || is_before(coffee));
        new.coffees.retain(|coffee| is_base(coffee) || !is_before(coffee));
        println!("{} coffees in the backup", base.coffees.len());
        println!("{} in the old state, {} in the restored and since", old.coffees.len(), new.coffees.len());
        assert!(old.coffees.len() > base.coffees.len() && new.coffees.len() > base.coffees.len());
        let earliest = commit.last;
        let backups = vec![trace.command("backup"), restore];
        Self { trace, old, new, restore, earliest, backups }
    }
}

impl RestoreResult {
    /// Where there was nothing that counts, and `backed_up` was restored.
    fn onto_nothing(recorder: &Recorder, backed_up: History, since: Vec<Coffee>) -> Self {
        let trace = recorder.trace();
        let mut new = History { coffees: since, batches: Vec::new() };
        new.find_answers(&trace);
        new.coffees.extend(backed_up.coffees);
        let restore = trace.command("restore");
        let (old, earliest, backups) = (History::default(), restore.began, Vec::new());
        Self { trace, old, new, restore, earliest, backups }
    }
}

#[test]
fn a_power_cut_during_a_restore_into_a_running_server_leaves_the_old_state_or_the_new() {
    let recorder = Recorder::new();
    let server = Server::spawn(&mut recorder.server());
    let before = Traffic::start(server.address, "a", Habits::OnlyNew);
    before.wait_for(40);
    let base =
        History { coffees: before.stop(), batches: vec![send_batch(&mut server.client(), "b0.", 500)] };
    recorder.run("backup", &["backup"]);
    let file = only_backup(&recorder);
    let traffic = Traffic::start(server.address, "b", Habits::OnlyNew);
    traffic.wait_for(60);
    recorder.run("restore", &["restore", &file, "--yes"]);
    traffic.wait_for(60);
    let later = traffic.stop();
    server.stop_cleanly();
    let restored = RestoreResult::of(&recorder, &base, later);
    restored.cut_power(Cuts::share(20)).unwrap_or_else(|loss| loss.panic());
}

#[test]
fn a_power_cut_during_a_restore_into_a_resting_file_leaves_the_old_state_or_the_new() {
    let recorder = Recorder::new();
    let base = History { coffees: log_coffees(&recorder, "a", 40), batches: Vec::new() };
    recorder.run("backup", &["backup"]);
    let file = only_backup(&recorder);
    let mut later = log_coffees(&recorder, "b", 40);
    recorder.run("restore", &["restore", &file, "--yes"]);
    later.extend(log_coffees(&recorder, "c", 40));
    let restored = RestoreResult::of(&recorder, &base, later);
    restored.cut_power(Cuts::share(10)).unwrap_or_else(|loss| loss.panic());
}

/// A backup that lies outside of every recorded folder, and what it holds.
fn backup_elsewhere(folder: &Path) -> (PathBuf, History) {
    let server = Server::start(folder);
    let traffic = Traffic::start(server.address, "a", Habits::OnlyNew);
    traffic.wait_for(40);
    let mut history = History { coffees: traffic.stop(), batches: Vec::new() };
    server.stop_cleanly();
    let kept = folder.join("kept.db");
    let mut backup = program(folder);
    backup.args(["backup", "--quiet", "--to"]).arg(&kept).env("DATABASE_URL", "coffee.db");
    assert_eq!(run(&mut backup).code, Some(0));
    let steps = history.coffees.iter_mut().flat_map(|coffee| &mut coffee.steps);
    steps.for_each(|step| step.answered = 0);
    (kept, history)
}

#[test]
fn a_power_cut_during_a_restore_onto_no_file_leaves_nothing_or_the_backup() {
    let elsewhere = folder();
    let (kept, backed_up) = backup_elsewhere(elsewhere.path());
    let recorder = Recorder::new();
    recorder.run("restore", &["restore", kept.to_str().unwrap(), "--yes"]);
    let since = log_coffees(&recorder, "c", 40);
    let restored = RestoreResult::onto_nothing(&recorder, backed_up, since);
    restored.cut_power(Cuts::share(5)).unwrap_or_else(|loss| loss.panic());
}

/// A broken database with the log of a server that was killed.
fn break_database(recorder: &Recorder) {
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
    assert!(log.len() > 10_000, "it has a log");
}

#[test]
fn a_power_cut_during_a_replacement_never_applies_the_old_wal_to_the_new_file() {
    let elsewhere = folder();
    let (kept, backed_up) = backup_elsewhere(elsewhere.path());
    let recorder = Recorder::new();
    break_database(&recorder);
    recorder.run("restore", &["restore", kept.to_str().unwrap(), "--yes", "--replace"]);
    let names = std::fs::read_dir(recorder.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_old_log = |name: &OsString| {
        name.to_string_lossy().starts_with("coffee.db.broken-") && name.to_string_lossy().ends_with("-wal")
    };
    assert!(names.into_iter().any(|name| is_old_log(&name)), "the broken file's log lies aside");
    let since = log_coffees(&recorder, "c", 40);
    let restored = RestoreResult::onto_nothing(&recorder, backed_up, since);
    let cuts = Cuts::share(10).from(restored.restore.began);
    let looked_over = cut_power(&restored.trace, cuts, |disk, cut| {
        let database = disk.join("coffee.db");
        // As long as the restore is not done it may be the broken one still, or none.
        let text = std::fs::read(&database).unwrap_or_default();
        let is_new = text.windows(9).any(|name| name == b"a0-00000.");
        if is_new || restored.restore.done < cut { restored.check_new(&database, cut) } else { Ok(()) }
    });
    looked_over.unwrap_or_else(|loss| loss.panic());
}
