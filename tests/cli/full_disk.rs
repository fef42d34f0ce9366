//! Disks without free space, file size limits and read-only disks. The server and every command report the problem, nothing
//! acknowledged is lost, nothing is half done, and everything works again once there is space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::Client;
use crate::fixtures::{
    State, assert_fails_with, assert_no_leftovers, backups, command_in, files, make_database, open_copy,
    run_in, run_ok, state,
};
use crate::helpers::{
    CommandResult, IGNORE_FILE_SIZE_SIGNAL, Server, database, from_bash, limit_file_size, number,
    report_skipped, run, server_command, temporary_folder,
};

/// File system in memory, unmounted when dropped.
struct Tmpfs(TempDir);

impl Tmpfs {
    /// Returns `None` and reports a skipped test without permission to mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = temporary_folder();
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

    /// Fills the disk except for `kilobytes`.
    fn fill_except(&self, kilobytes: u64) {
        drop(fs::remove_file(self.path().join("ballast")));
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let ballast = (free.f_bavail * free.f_frsize).saturating_sub(kilobytes << 10);
        fs::write(self.path().join("ballast"), vec![1; usize::try_from(ballast).unwrap()]).unwrap();
    }

    fn free_space(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", &format!("remount,{options}")]).arg(self.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

const COFFEE: &str = r#"{"caffeine_mg": 90, "notes": "room for one more"}"#;

const FULL: &str = "The disk is full: nothing was stored";
/// A file size limit cannot be distinguished from a faulty disk.
const UNWRITABLE: &str = "The disk is not writable (quota, limit or fault): nothing was stored";

/// Writes until a write is rejected with `reason`, and returns the number of stored coffees.
fn write_until_rejected(client: &mut Client, reason: &str) -> i64 {
    for stored in 0..100_000 {
        let response = client.post("/coffee/", COFFEE);
        if response.status != 201 {
            response.assert_problem(503);
            assert!(response.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)));
            assert_eq!(response.json()["detail"], reason);
            return stored;
        }
    }
    panic!("no write was rejected");
}

/// Asserts that reads succeed and that the server is alive in this database state.
fn assert_reads_work(client: &mut Client, stored: i64, state: &str) {
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], stored);
    let health = client.get("/health");
    assert_eq!(health.status, 200, "a full disk is not a failure of the server");
    let health = health.json();
    assert_eq!(health["status"], "alive");
    assert_eq!(health["database"]["state"], state);
}

fn assert_intact(folder: &Path, coffees: i64) {
    let database = database(folder);
    assert_eq!(number(&database, "select count(*) from coffee_logs"), coffees);
    let verdict: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn writes_fail_while_a_file_size_limit_applies() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut from_bash(IGNORE_FILE_SIZE_SIGNAL, &server_command(folder.path())));
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);

    let wal_size = fs::metadata(folder.path().join("coffee.db-wal")).unwrap().len();
    limit_file_size(&server, Some(wal_size + 20_000));
    let stored = 1 + write_until_rejected(&mut client, UNWRITABLE);
    assert_reads_work(&mut client, stored, "unwritable");
    client.post("/heartrate/", r#"{"bpm": 70}"#).assert_problem(503);

    limit_file_size(&server, None);
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    assert_eq!(client.get("/health").json()["database"]["state"], "ok");
    server.stop_cleanly();
    assert_intact(folder.path(), stored + 1);
}

/// Asserts the exit code 75: systemd tries again, as there may be space later.
fn assert_reports_full_disk(result: &CommandResult) {
    assert_eq!(result.code, Some(75), "{result:?}");
    let message = "coffee-tracker: no space left on the disk that holds coffee.db\n";
    assert!(result.err.ends_with(message), "{}", result.err);
}

#[test]
fn a_full_file_system_rejects_writes_until_there_is_space_again() {
    let Some(tmpfs) = Tmpfs::mount(1) else { return };
    let disk = tmpfs.path();
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 512 << 10]).unwrap();
    let first = Server::start(disk);
    let mut client = first.client();
    let stored = write_until_rejected(&mut client, FULL);
    assert!(stored > 0);
    assert_reads_work(&mut client, stored, "full");
    first.stop_cleanly();

    // Also fills the space that the stop has freed.
    drop(fs::write(disk.join("more-ballast"), vec![1; 1 << 20]));
    // With enough space for the WAL index, the server starts and reads succeed.
    fs::File::options().write(true).open(&ballast).unwrap().set_len(448 << 10).unwrap();
    let second = Server::start(disk);
    let mut client = second.client();
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], stored);
    write_until_rejected(&mut client, FULL);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    let counted = client.get("/coffee/today").json()["coffee_count"].as_i64().unwrap();
    second.stop_cleanly();
    assert_intact(disk, counted);
}

#[test]
fn a_first_start_without_disk_space_reports_it() {
    let Some(tmpfs) = Tmpfs::mount(1) else { return };
    let disk = tmpfs.path();
    drop(fs::write(disk.join("ballast"), vec![1; 1 << 20]));
    assert_reports_full_disk(&run(&mut server_command(disk)));
}

/// Creates a database of about 500 kB on `disk`, and a backup of another one in a temporary folder.
fn create_databases(disk: &Path) -> (TempDir, PathBuf) {
    let past = temporary_folder();
    make_database(past.path(), "then", 300);
    let backup = past.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", backup.to_str().unwrap()]);
    make_database(disk, "now", 400);
    (past, backup)
}

fn present(folder: &Path) -> State {
    state(&folder.join("coffee.db")).unwrap()
}

/// Asserts that a command failed with exit code 75 and changed nothing.
#[track_caller]
fn assert_rejected_and_unchanged(folder: &Path, before: &State, result: &CommandResult, message: &str) {
    assert_fails_with(result, 75, message);
    assert!(present(folder) == *before, "the database has changed");
    assert_no_leftovers(folder);
}

/// Returns the command with a limit on the size of the files that it writes.
fn limited(command: &Command, kilobytes: u64) -> Command {
    from_bash(&format!("{IGNORE_FILE_SIZE_SIGNAL}; ulimit -f {kilobytes}"), command)
}

#[test]
fn a_backup_without_space_leaves_nothing_and_the_next_one_succeeds() {
    let Some(disk) = Tmpfs::mount(4) else { return };
    let (_past, _) = create_databases(disk.path());
    let before = present(disk.path());
    let server = Server::start(disk.path());
    disk.fill_except(200);
    let refused = run_in(disk.path(), &["backup"]);
    assert_rejected_and_unchanged(
        disk.path(),
        &before,
        &refused,
        "no space left on the disk that holds backups",
    );
    assert_eq!(backups(disk.path()).len(), 0);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    disk.free_space();
    run_ok(disk.path(), &["backup"]);
    server.stop_cleanly();
}

#[test]
fn an_export_without_space_leaves_nothing_and_the_next_one_succeeds() {
    let Some(disk) = Tmpfs::mount(4) else { return };
    let (_past, _) = create_databases(disk.path());
    let export = ["export", "heartrate", "-o", "heart.csv"];
    disk.fill_except(40);
    let refused = run_in(disk.path(), &export);
    assert_fails_with(&refused, 75, "the export cannot be written: No space left on device (os error 28)");
    let left: Vec<String> = files(disk.path()).into_keys().filter(|name| name.contains("heart")).collect();
    assert_eq!(left, [""; 0]);
    disk.free_space();
    run_ok(disk.path(), &export);
    assert_eq!(fs::read_to_string(disk.path().join("heart.csv")).unwrap().lines().count(), 4001);
}

#[test]
fn a_restore_checks_for_space_first_and_changes_nothing_when_it_runs_out() {
    let Some(disk) = Tmpfs::mount(8) else { return };
    let (_past, backup) = create_databases(disk.path());
    let backup = backup.to_str().unwrap();
    let before = present(disk.path());
    let server = Server::start(disk.path());
    disk.fill_except(900);
    let refused = run_in(disk.path(), &["restore", backup, "--yes"]);
    assert_rejected_and_unchanged(disk.path(), &before, &refused, "of free space are needed in");
    assert_eq!(server.client().post("/heartrate/", r#"{"bpm": 60}"#).status, 201);
    let before = State { readings: State::of(&database(disk.path())).readings, ..before };
    disk.free_space();
    // Space that runs out in the middle of the restore: a limit on the size of its files.
    for kilobytes in [60, 200, 330, 400] {
        let command = command_in(disk.path(), &["restore", backup, "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        if refused.code == Some(0) {
            break;
        }
        assert_rejected_and_unchanged(disk.path(), &before, &refused, "");
        assert_eq!(server.get("/health").json()["database"]["state"], "ok", "{kilobytes}");
    }
    run_ok(disk.path(), &["restore", backup, "--yes"]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    assert_eq!(present(disk.path()).coffees.len(), 301);
}

#[test]
fn a_file_size_limit_leaves_no_partial_backup_or_restore() {
    let folder = temporary_folder();
    let (_past, backup) = create_databases(folder.path());
    let before = present(folder.path());
    for kilobytes in [40, 100, 200, 300] {
        let refused = run(&mut limited(&command_in(folder.path(), &["backup"]), kilobytes));
        assert_rejected_and_unchanged(
            folder.path(),
            &before,
            &refused,
            "the copy could not be written: the disk rejects writes",
        );
        assert_eq!(backups(folder.path()).len(), 0);
        let command = command_in(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        assert_rejected_and_unchanged(
            folder.path(),
            &before,
            &refused,
            "nothing was restored, because the safety copy failed",
        );
    }
}

#[test]
fn a_file_size_limit_that_only_the_wal_exceeds_leaves_the_old_state() {
    let folder = temporary_folder();
    let past = temporary_folder();
    // The frame headers of the WAL take more than 2 KiB.
    make_database(past.path(), "then", 1000);
    let backup = past.path().join("then.db");
    run_ok(past.path(), &["backup", "--to", backup.to_str().unwrap()]);
    // The current database is small, so that only its backup fits.
    make_database(folder.path(), "now", 3);
    let before = present(folder.path());
    let size = fs::metadata(&backup).unwrap().len() >> 10;
    for kilobytes in [size / 2, size + 2] {
        let command = command_in(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
        let refused = run(&mut limited(&command, kilobytes));
        assert_rejected_and_unchanged(folder.path(), &before, &refused, "the disk rejects writes");
    }
    run_ok(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_migration_without_space_for_its_backup_or_its_changes_leaves_the_old_schema() {
    let Some(disk) = Tmpfs::mount(4) else { return };
    let (_past, _) = create_databases(disk.path());
    let next = disk.path().join("next.sql");
    let migration =
        "create table roasts (name text) strict; create index more on heart_rate_logs (bpm, notes)";
    fs::write(&next, migration).unwrap();
    let before = present(disk.path());
    let size = fs::metadata(disk.path().join("coffee.db")).unwrap().len() >> 10;
    for free in [size / 2, size + 40] {
        disk.fill_except(free);
        let refused = run(server_command(disk.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", &next));
        assert_rejected_and_unchanged(disk.path(), &before, &refused, "space left on the disk");
        let version = "select user_version from pragma_user_version";
        let (_folder, copy) = open_copy(&disk.path().join("coffee.db"));
        assert_eq!(number(&copy, version), 7);
        fs::remove_dir_all(disk.path().join("backups")).unwrap();
    }
    disk.free_space();
    Server::spawn(server_command(disk.path()).env("COFFEE_TRACKER_NEXT_SCHEMA", &next)).stop_cleanly();
    assert!(present(disk.path()) == before);
}

#[test]
fn a_read_only_disk_is_reported() {
    let Some(disk) = Tmpfs::mount(4) else { return };
    let (away, backup) = create_databases(disk.path());
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
    let copy = away.path().join("rescued.db");
    run_ok(disk.path(), &["backup", "--to", copy.to_str().unwrap()]);
    assert!(state(&copy).unwrap() == present(disk.path()));
    assert!(files(disk.path()) == before);
    disk.remount("rw");
    run_ok(disk.path(), &["backup"]);
}

#[test]
fn a_restore_creates_the_folder_of_the_database() {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 3);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);
    let mut command = command_in(folder.path(), &["restore", "then.db", "--yes"]);
    let result = run(command.env("DATABASE_URL", "new/folder/coffee.db"));
    assert_eq!(result.code, Some(0), "{result:?}");
    assert!(state(&folder.path().join("new/folder/coffee.db")) == state(&folder.path().join("then.db")));
}
