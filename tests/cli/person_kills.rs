//! SIGKILL at every step of `person add`, `rename`, `remove` and `adopt`. Afterwards a person exists wholly or not at
//! all, and the same command succeeds and leaves nothing unfinished.
//!
//! Every step is killed once, then commands at random moments, until there were `KILLS` kills (30). `TEST_SEED` repeats
//! the moments of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::fixtures::{State, add_entries, command_in, make_database, names, run_ok, state};
use crate::helpers::{Process, number_from_env, temporary_folder, test_seed};

/// Commands that are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Add,
    Rename,
    Remove,
    AdoptArchive,
    AdoptFolder,
}

const COMMANDS: [Killed; 5] =
    [Killed::Add, Killed::Rename, Killed::Remove, Killed::AdoptArchive, Killed::AdoptFolder];

/// Failpoints of `person adopt` with an archive, in their order; the last one follows the rename.
pub const ADOPT_FAILPOINTS: &[&str] = &[
    "person.begun",
    "person.unpacked",
    "restore.begun",
    "restore.saved",
    "restore.prepared",
    "restore.done",
    "person.database",
    "person.key",
    "person.frozen",
    "person.synced",
    "person.unmoved",
    "person.moved",
];

/// Place of a person with all of their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    People(&'static str),
    Removed,
}

impl Killed {
    /// Failpoints before the rename, and those after it.
    fn steps(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Add => (
                &["person.begun", "person.database", "person.key", "person.synced", "person.unmoved"],
                &["person.moved"],
            ),
            Self::Rename => {
                (&["person.closed", "person.unmoved"], &["person.moved", "person.backups-renamed"])
            }
            Self::Remove => (
                &[
                    "person.closed",
                    "backup.begun",
                    "backup.copied",
                    "backup.checked",
                    "backup.named",
                    "backup.noted",
                    "person.unmoved",
                ],
                &["person.moved"],
            ),
            Self::AdoptArchive => ADOPT_FAILPOINTS.split_at(ADOPT_FAILPOINTS.len() - 1),
            Self::AdoptFolder => (&["person.begun", "person.unmoved"], &["person.moved"]),
        }
    }

    fn before_and_after(self) -> (Place, Place) {
        match self {
            Self::Add | Self::AdoptArchive => (Place::Nowhere, Place::People("anna")),
            Self::Rename => (Place::People("anna"), Place::People("lisa")),
            Self::Remove => (Place::People("anna"), Place::Removed),
            Self::AdoptFolder => (Place::Removed, Place::People("anna")),
        }
    }
}

/// Folders that the commands start from, created once.
struct Scenario {
    folder: TempDir,
    owner: State,
    anna: State,
}

impl Scenario {
    fn create() -> Self {
        let scenario = Self {
            folder: temporary_folder(),
            owner: State { coffees: Vec::new(), readings: Vec::new() },
            anna: State { coffees: Vec::new(), readings: Vec::new() },
        };
        let nobody = scenario.at("nobody");
        fs::create_dir(&nobody).unwrap();
        make_database(&nobody, "owner", 20);
        copy(&nobody, &scenario.at("anna"));
        let anna = scenario.at("anna");
        run_ok(&anna, &["person", "add", "anna", "--display-name", "Anna"]);
        let database = anna.join("people/anna/coffee.db");
        add_entries(&database, "anna", 60);
        run_ok(&anna, &["backup", "--person", "anna"]);
        copy(&anna, &scenario.at("removed"));
        let archive = scenario.at("anna.zip");
        run_ok(&anna, &["person", "archive", "anna", archive.to_str().unwrap()]);
        run_ok(&anna, &["person", "release", "anna", "--undo", "--yes"]);
        run_ok(&scenario.at("removed"), &["person", "remove", "anna", "--yes"]);
        Self {
            owner: state(&nobody.join("coffee.db")).unwrap(),
            anna: state(&database).unwrap(),
            folder: scenario.folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a folder in which the command can run.
    fn prepare(&self, killed: Killed) -> TempDir {
        let folder = temporary_folder();
        let from = match killed {
            Killed::Add | Killed::AdoptArchive => "nobody",
            Killed::Rename | Killed::Remove => "anna",
            Killed::AdoptFolder => "removed",
        };
        copy(&self.at(from).join("."), folder.path());
        folder
    }

    fn command(&self, killed: Killed, folder: &Path) -> Command {
        match killed {
            Killed::Add => command_in(folder, &["person", "add", "anna", "--display-name", "Anna"]),
            Killed::Rename => command_in(folder, &["person", "rename", "anna", "lisa"]),
            Killed::Remove => command_in(folder, &["person", "remove", "anna", "--yes"]),
            Killed::AdoptArchive => {
                command_in(folder, &["person", "adopt", self.at("anna.zip").to_str().unwrap()])
            }
            Killed::AdoptFolder => {
                let removed = names(&self.at("removed/removed")).remove(0);
                command_in(folder, &["person", "adopt", &format!("removed/{removed}")])
            }
        }
    }

    /// Returns where the person is, and asserts that all of their data is there.
    #[track_caller]
    fn place(&self, killed: Killed, folder: &Path) -> Place {
        assert_eq!(state(&folder.join("coffee.db")).as_ref(), Some(&self.owner), "the owner's data");
        let is_person = |name: &String| !name.starts_with('.');
        let people: Vec<String> = names(&folder.join("people")).into_iter().filter(is_person).collect();
        let removed = names(&folder.join("removed"));
        let (place, person) = match (&people[..], &removed[..]) {
            ([], []) => return Place::Nowhere,
            ([name], []) if name == "anna" => (Place::People("anna"), folder.join("people/anna")),
            ([name], []) if name == "lisa" => (Place::People("lisa"), folder.join("people/lisa")),
            ([], [name]) => (Place::Removed, folder.join("removed").join(name)),
            other => panic!("the person is in several places: {other:?}"),
        };
        let found = state(&person.join("coffee.db")).expect("a database");
        if killed == Killed::Add {
            assert!(found.coffees.is_empty() && found.readings.is_empty());
        } else {
            assert!(found == self.anna, "the person's data");
        }
        let read = |name: &str| fs::read_to_string(person.join(name)).unwrap();
        let keys: serde_json::Value = serde_json::from_str(&read("coffee.db.keys")).unwrap();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
        assert_eq!(read("coffee.db.person.json"), r#"{"display_name":"Anna"}"#);
        place
    }

    /// Checks the state after a kill, repeats the command and checks again. Returns where the person was.
    fn check(&self, killed: Killed, folder: &Path) -> Place {
        let (before, after) = killed.before_and_after();
        let found = self.place(killed, folder);
        assert!(found == before || found == after, "{found:?}");
        let repeated = Process::spawn(&mut self.command(killed, folder)).wait();
        // A command that was killed after its rename is refused, as it is already done. An archive is recognized.
        let is_refused = found == after && killed != Killed::AdoptArchive;
        assert_eq!(repeated.code, Some(i32::from(is_refused)), "{repeated:?}");
        assert_eq!(self.place(killed, folder), after);
        let hidden = names(&folder.join("people")).into_iter().filter(|name| name.starts_with('.'));
        assert_eq!(hidden.collect::<Vec<_>>(), [".lock"]);
        let backups = names(&folder.join("backups"));
        match killed {
            Killed::Rename => assert_eq!(backups, ["lisa"]),
            Killed::Remove | Killed::AdoptFolder => assert_eq!(backups, ["anna"]),
            Killed::Add | Killed::AdoptArchive => {}
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn after_sigkill_at_any_step_a_person_exists_wholly_or_not_at_all() {
    let scenario = Scenario::create();
    let mut kills = 0;
    for killed in COMMANDS {
        let (first, last) = killed.steps();
        let (before, after) = killed.before_and_after();
        let steps = first.iter().map(|step| (step, before)).chain(last.iter().map(|step| (step, after)));
        for (step, expected) in steps {
            let folder = scenario.prepare(killed);
            let mut command = scenario.command(killed, folder.path());
            let result = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", step)).wait();
            assert_eq!(result.signal, Some(9), "{killed:?}: {step} was not reached: {result:?}");
            let found = scenario.check(killed, folder.path());
            assert_eq!(found, expected, "{killed:?} at {step}");
            kills += 1;
            println!("{kills}: {killed:?} at {step}: {found:?}");
        }
    }
    let wanted = usize::try_from(number_from_env("KILLS").unwrap_or(30)).unwrap();
    let usual = COMMANDS.map(|killed| {
        let folder = scenario.prepare(killed);
        let start = Instant::now();
        Process::spawn(&mut scenario.command(killed, folder.path())).wait();
        start.elapsed()
    });
    let mut random = fastrand::Rng::with_seed(test_seed());
    let mut late = 0;
    while kills < wanted {
        let n = random.usize(..COMMANDS.len());
        let (killed, moment) = (COMMANDS[n], usual[n].mul_f64(random.f64()));
        let folder = scenario.prepare(killed);
        let running = Process::spawn(&mut scenario.command(killed, folder.path()));
        std::thread::sleep(moment.max(Duration::from_millis(1)));
        // Fails when the process has already exited.
        let _ = kill_process(running.pid(), Signal::KILL);
        let result = running.wait();
        assert!(result.code == Some(0) || result.signal == Some(9), "{result:?}");
        let found = scenario.check(killed, folder.path());
        // A command that finished before its kill does not count.
        let is_late = result.code == Some(0);
        (kills, late) = if is_late { (kills, late + 1) } else { (kills + 1, late) };
        println!("{kills}: {killed:?} after {moment:?}: {found:?}");
        assert!(late < 10 + wanted, "most kills came too late");
    }
}
