//! A disk without room, or that takes no writes, under a backup, an export, a restore and a migration:
//! a sentence and a code, nothing half-done, and all works when there is room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixtures::{
    State, assert_no_leftovers, assert_fails_with, backups, command_in, files, make_database, run_in, run_ok, state,
};
use crate::helpers::{CommandResult, Server, folder, report_skipped, run, server_command};

/// A file system in memory, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    /// `None` without the right to mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(folder.path());
        if mount.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        report_skipped("mounting a file system requires root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room but so many kilobytes.
    fn leave(&self, kilobytes: u64) {
        drop(fs::remove_file(self.path().join("ballast")));
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let ballast = (free.f_bavail * free.f_frsize).saturating_sub(kilobytes << 10);
        fs::write(self.path().join("ballast"), vec![1; usize::try_from(ballast).unwrap()]).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }

    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", &format!("remount,{how}")]).arg(self.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// On `disk` a database of some 500 kB, elsewhere a backup of another.
fn fill(disk: &Path) -> (TempDir, PathBuf) {
    let past = folder();
    make_database(past.path(), "then", 300);
    let backup = past.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", backup.to_str().unwrap()]);
    make_database(disk, "now", 400);
    (past, backup)
}

fn present(folder: &Path) -> State {
    state(&folder.join("coffee.db")).unwrap()
}

/// Asserts that it was refused for want of room, and that all is as it was.
#[track_caller]
fn assert_refused(folder: &Path, before: &State, result: &CommandResult, message: &str) {
    assert_fails_with(result, 75, message);
    assert!(present(folder) == *before, "the state is the old one");
    assert_no_leftovers(folder);
}

/// The same command, with files of at most so many kilobytes.
fn limited(command: &Command, kilobytes: u64) -> Command {
    let mut shell = Command::new("/bin/bash");
    let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

#[test]
fn a_backup_without_room_leaves_nothing_and_the_next_goes_well() {
    let Some(disk) = Disk::mount(4) else { return };
    let (_past, _) = fill(disk.path());
    let before = present(disk.path());
    let server = Server::start(disk.path());
    disk.leave(200);
    let refused = run_in(disk.path(), &["backup"]);
    assert_refused(disk.path(), &before, &refused, "no space left on the disk that holds backups");
    assert_eq!(backups(disk.path()).len(), 0);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    disk.make_room();
    run_ok(disk.path(), &["backup"]);
    server.stop_cleanly();
}

#[test]
fn an_export_without_room_leaves_nothing_and_the_next_goes_well() {
    let Some(disk) = Disk::mount(4) else { return };
    let (_past, _) = fill(disk.path());
    let export = ["export", "heartrate", "-o", "heart.csv"];
    disk.leave(40);
    let refused = run_in(disk.path(), &export);
    assert_fails_with(&refused, 75, "the export cannot be written: No space left on device (os error 28)");
    let left: Vec<String> = files(disk.path()).into_keys().filter(|name| name.contains("heart")).collect();
    assert_eq!(left, [""; 0]);
    disk.make_room();
    run_ok(disk.path(), &export);
    assert_eq!(fs::read_to_string(disk.path().join("heart.csv")).unwrap().lines().count(), 4001);
}

#[test]
fn a_restore_asks_for_room_before_it_begins_and_one_that_runs_out_changes_nothing() {
    let Some(disk) = Disk::mount(8) else { return };
    let (_past, backup) = fill(disk.path());
    let backup = backup.to_str().unwrap();
    let before = present(disk.path());
    let server = Server::start(disk.path());
    disk.leave(900);
    let refused = run_in(disk.path(), &["restore", backup, "--yes"]);
    assert_refused(disk.path(), &before, &refused, "bytes of free space are needed in");
    assert_eq!(server.client().post("/heartrate/", r#"{"bpm": 60}"#).status, 201);
    let before = State { readings: State::of(&crate::helpers::database(disk.path())).readings, ..before };
    disk.make_room();
    // Room that goes away in the middle: no file may grow beyond these.
    for kilobytes in [60, 200, 330, 400] {
        let command = command_in(disk.path(), &["restore", backup, "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        if refused.code == Some(0) {
            break;
        }
        assert_refused(disk.path(), &before, &refused, "");
        assert_eq!(server.get("/health").json()["database"]["state"], "ok", "{kilobytes}");
    }
    run_ok(disk.path(), &["restore", backup, "--yes"]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    assert_eq!(present(disk.path()).coffees.len(), 301);
}

#[test]
fn a_limit_on_files_is_no_half_backup_and_no_half_restore() {
    let folder = folder();
    let (_past, backup) = fill(folder.path());
    let before = present(folder.path());
    for kilobytes in [40, 100, 200, 300] {
        let refused = run(&mut limited(&command_in(folder.path(), &["backup"]), kilobytes));
        assert_refused(
            folder.path(),
            &before,
            &refused,
            "the copy could not be written: the disk rejects writes",
        );
        assert_eq!(backups(folder.path()).len(), 0);
        let command = command_in(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        assert_refused(folder.path(), &before, &refused, "the backup of the current database failed");
    }
}

#[test]
fn a_limit_that_the_log_alone_exceeds_leaves_the_old_state() {
    let folder = folder();
    let past = crate::helpers::folder();
    // The frame headers of the log take more than 2 KiB.
    make_database(past.path(), "then", 1000);
    let backup = past.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", backup.to_str().unwrap()]);
    // The present is small: its backup fits, and so does nothing else.
    make_database(folder.path(), "now", 3);
    let before = present(folder.path());
    let size = fs::metadata(&backup).unwrap().len() >> 10;
    for kilobytes in [size / 2, size + 2] {
        let command = command_in(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        assert_refused(folder.path(), &before, &refused, "the disk rejects writes");
    }
    run_ok(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_migration_without_room_for_its_backup_or_itself_leaves_the_old_schema() {
    let Some(disk) = Disk::mount(4) else { return };
    let (_past, _) = fill(disk.path());
    let next = disk.path().join("next.sql");
    let copied = "create table roasts (name text) strict; create index more on heart_rate_logs (bpm, notes)";
    fs::write(&next, copied).unwrap();
    let before = present(disk.path());
    let size = fs::metadata(disk.path().join("coffee.db")).unwrap().len() >> 10;
    for left in [size / 2, size + 40] {
        disk.leave(left);
        let refused = run(server_command(disk.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", &next));
        assert_refused(disk.path(), &before, &refused, "space left on the disk");
        let version = "select user_version from pragma_user_version";
        let (_folder, copy) = crate::fixtures::open_copy(&disk.path().join("coffee.db"));
        assert_eq!(crate::helpers::number(&copy, version), 4);
        fs::remove_dir_all(disk.path().join("backups")).unwrap();
    }
    disk.make_room();
    Server::spawn(server_command(disk.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", &next)).stop_cleanly();
    assert!(present(disk.path()) == before);
}

#[test]
fn a_disk_that_is_read_only_is_named() {
    let Some(disk) = Disk::mount(4) else { return };
    let (away, backup) = fill(disk.path());
    let backup = backup.to_str().unwrap();
    disk.remount("ro");
    let before = files(disk.path());
    assert_fails_with(
        &run_in(disk.path(), &["backup"]),
        1,
        "the folder backups cannot be used: Read-only file system",
    );
    assert_fails_with(&run_in(disk.path(), &["restore", backup, "--yes"]), 78, "Read-only file system");
    assert_fails_with(&run(&mut server_command(disk.path())), 78, "Read-only file system");
    run_ok(disk.path(), &["verify", "coffee.db"]);
    // Elsewhere there is room, whoever mounted it.
    let copy = away.path().join("rescued.db");
    run_ok(disk.path(), &["backup", "--to", copy.to_str().unwrap()]);
    assert!(state(&copy).unwrap() == present(disk.path()));
    assert!(files(disk.path()) == before);
    disk.remount("rw");
    run_ok(disk.path(), &["backup"]);
}

#[test]
fn a_restore_into_a_folder_that_is_not_there_makes_it() {
    let folder = folder();
    make_database(folder.path(), "now", 3);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let mut command = command_in(folder.path(), &["restore", "then.db", "--yes"]);
    let result = run(command.env("DATABASE_URL", "new/place/coffee.db"));
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(state(&folder.path().join("new/place/coffee.db")) == state(&folder.path().join("then.db")));
}
