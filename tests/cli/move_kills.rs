//! SIGKILL at every step of a move to another machine. Afterwards at most one machine accepts changes of the person, each
//! has all of their data or nothing, and the move can be continued and, before `release`, undone.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixtures::{State, add_entries, command_in, make_database, names, run_in, run_ok, set_id, state};
use crate::helpers::{Process, temporary_folder};
use crate::person_kills::ADOPT_FAILPOINTS;

/// Commands of a move, in their order. `Undo` takes the place of those after `Archive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Archive,
    Adopt,
    Release,
    Remove,
    Undo,
}

const MOVE: [Step; 4] = [Step::Archive, Step::Adopt, Step::Release, Step::Remove];

impl Step {
    /// Failpoints, in the order in which the command reaches them.
    fn failpoints(self) -> &'static [&'static str] {
        match self {
            Self::Archive => &[
                "person.unfrozen",
                "person.frozen",
                "backup.begun",
                "backup.copied",
                "backup.checked",
                "backup.named",
                "person.archived",
                "person.marked",
                "person.published",
            ],
            Self::Adopt => ADOPT_FAILPOINTS,
            Self::Release | Self::Undo => &["person.unreleased", "person.released"],
            Self::Remove => &["person.closed", "backup.checked", "person.unmoved", "person.moved"],
        }
    }

    fn command(self, machines: &Path) -> Command {
        let (machine, args): (&str, &[&str]) = match self {
            Self::Archive => ("old", &["archive", "anna", "../elsewhere/anna.zip"]),
            Self::Adopt => ("new", &["adopt", "../elsewhere/anna.zip"]),
            Self::Release => ("new", &["release", "anna"]),
            Self::Remove => ("old", &["remove", "anna", "--yes"]),
            Self::Undo => ("old", &["release", "anna", "--undo", "--yes"]),
        };
        command_in(&machines.join(machine), &[&["person"], args].concat())
    }

    /// Runs the command, and asserts that it succeeds.
    #[track_caller]
    fn run(self, machines: &Path) {
        let result = Process::spawn(&mut self.command(machines)).wait();
        assert_eq!(result.code, Some(0), "{self:?}: {result:?}");
    }
}

/// Returns whether a machine has the person, asserts that all of their data is there, and returns whether it accepts
/// changes.
#[track_caller]
fn accepts_changes(machine: &Path, expected: &State) -> Option<bool> {
    let database = machine.join("people/anna/coffee.db");
    if !database.parent().unwrap().exists() {
        return None;
    }
    assert!(state(&database).as_ref() == Some(expected), "the data in {}", machine.display());
    // It changes no entry, and is refused like every change.
    match run_in(machine, &["recount", "--person", "anna"]).code {
        Some(0) => Some(true),
        Some(75) => Some(false),
        other => panic!("{other:?}"),
    }
}

/// Asserts that at most one machine accepts changes, and that one has the person.
#[track_caller]
fn check(machines: &Path, expected: &State) -> [Option<bool>; 2] {
    let found = ["old", "new"].map(|name| accepts_changes(&machines.join(name), expected));
    assert!(found != [None, None], "nobody has the person");
    assert!(found != [Some(true), Some(true)], "two machines accept changes");
    found
}

/// Asserts that no file of an unfinished command is left.
#[track_caller]
fn assert_nothing_unfinished(machines: &Path) {
    for name in ["old", "new"] {
        let hidden =
            names(&machines.join(name).join("people")).into_iter().filter(|name| name.starts_with('.'));
        assert!(hidden.clone().all(|name| name == ".lock"), "{:?}", hidden.collect::<Vec<_>>());
    }
    assert!(names(&machines.join("elsewhere")).iter().all(|name| name == "anna.zip"));
}

fn copy(from: &Path) -> TempDir {
    let to = temporary_folder();
    assert!(Command::new("cp").arg("-a").arg(from.join(".")).arg(to.path()).status().unwrap().success());
    to
}

/// Folders before each command of a move, created once.
struct Scenario {
    before: Vec<(Step, TempDir)>,
    anna: State,
}

impl Scenario {
    fn create() -> Self {
        let machines = temporary_folder();
        let at = |name: &str| -> PathBuf { machines.path().join(name) };
        for (name, id) in [("old", "0"), ("new", "1")] {
            std::fs::create_dir(at(name)).unwrap();
            make_database(&at(name), name, 5);
            set_id(&at(name).join("coffee.db"), &id.repeat(32));
        }
        std::fs::create_dir(at("elsewhere")).unwrap();
        run_ok(&at("old"), &["person", "add", "anna", "--display-name", "Anna"]);
        let database = at("old").join("people/anna/coffee.db");
        add_entries(&database, "anna", 60);
        let anna = state(&database).unwrap();
        let mut before = Vec::new();
        for step in MOVE {
            before.push((step, copy(machines.path())));
            if step == Step::Adopt {
                before.push((Step::Undo, copy(machines.path())));
            }
            step.run(machines.path());
        }
        Self { before, anna }
    }

    /// Continues a move with this command, and asserts that the new machine has the person in the end.
    fn continue_with(&self, step: Step, killed: &Path) {
        let machines = copy(killed);
        if step == Step::Undo {
            step.run(machines.path());
            assert_eq!(check(machines.path(), &self.anna), [Some(true), None]);
            return;
        }
        for next in MOVE.into_iter().skip_while(|next| *next != step) {
            let is_done = next == Step::Remove && !machines.path().join("old/people/anna").exists();
            if !is_done {
                next.run(machines.path());
            }
            check(machines.path(), &self.anna);
        }
        assert_eq!(check(machines.path(), &self.anna), [None, Some(true)]);
        assert_nothing_unfinished(machines.path());
    }

    /// Undoes a move before `release`, and asserts that the old machine has the person in the end.
    fn undo(&self, killed: &Path) {
        let machines = copy(killed);
        let new = machines.path().join("new");
        run_ok(&new, &["person", "remove", "anna", "--unreleased"]);
        Step::Undo.run(machines.path());
        assert_eq!(check(machines.path(), &self.anna), [Some(true), None]);
        // What is left of the archive does not stand in the way of the next move.
        drop(std::fs::remove_file(machines.path().join("elsewhere/anna.zip")));
        Step::Archive.run(machines.path());
        Step::Adopt.run(machines.path());
        assert_nothing_unfinished(machines.path());
    }
}

#[test]
fn after_sigkill_at_any_step_a_move_can_be_continued_and_undone_and_one_machine_accepts_changes() {
    let scenario = Scenario::create();
    for (step, before) in &scenario.before {
        for failpoint in step.failpoints() {
            let machines = copy(before.path());
            let mut command = step.command(machines.path());
            let result = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", failpoint)).wait();
            assert_eq!(result.signal, Some(9), "{step:?}: {failpoint} was not reached: {result:?}");
            let found = check(machines.path(), &scenario.anna);
            println!("{step:?} at {failpoint}: {found:?}");
            scenario.continue_with(*step, machines.path());
            if found[1] != Some(true) {
                scenario.undo(machines.path());
            }
        }
    }
}
