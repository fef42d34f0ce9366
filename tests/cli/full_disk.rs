//! A disk without room: writes are refused, reads go on, and when there is room again
//! everything works. Nothing that was refused is stored, nothing that was stored is lost.

use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::helpers::{
    CommandResult, Server, database, folder, limit_file_size, number, report_skipped, run, server_command,
};

const COFFEE: &str = r#"{"caffeine_mg": 90, "notes": "room for one more"}"#;

const FULL: &str = "The disk is full: nothing was stored";
/// A limit on a file's size looks like a fault of the disk.
const UNWRITABLE: &str = "The disk is not writable (quota, limit or fault): nothing was stored";

/// Writes until one is refused; how many were stored.
fn fill(client: &mut Client, reason: &str) -> i64 {
    for stored in 0..100_000 {
        let answer = client.post("/coffee/", COFFEE);
        if answer.status != 201 {
            answer.assert_problem(503);
            assert!(answer.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)));
            assert_eq!(answer.json()["detail"], reason);
            return stored;
        }
    }
    panic!("the disk never filled up");
}

/// Asserts that reads go on and that health tells full from dead.
fn assert_full_but_alive(client: &mut Client, stored: i64, state: &str) {
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], stored);
    let health = client.get("/health");
    assert_eq!(health.status, 200, "full is not dead");
    let health = health.json();
    assert_eq!(health["status"], "alive");
    assert_eq!(health["database"]["state"], state);
}

fn assert_sound(folder: &Path, coffees: i64) {
    let database = database(folder);
    assert_eq!(number(&database, "select count(*) from coffee_logs"), coffees);
    let verdict: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn writes_fail_while_a_file_size_limit_applies() {
    let folder = folder();
    let plain = server_command(folder.path());
    // Beyond the limit a write fails and the process is signalled, unless it ignores that, as under systemd.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().current_dir(folder.path());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::spawn(&mut command);
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);

    let log = std::fs::metadata(folder.path().join("coffee.db-wal")).unwrap().len();
    limit_file_size(&server, Some(log + 20_000));
    let stored = 1 + fill(&mut client, UNWRITABLE);
    assert_full_but_alive(&mut client, stored, "unwritable");
    client.post("/heartrate/", r#"{"bpm": 70}"#).assert_problem(503);

    limit_file_size(&server, None);
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    assert_eq!(client.get("/health").json()["database"]["state"], "ok");
    server.stop_cleanly();
    assert_sound(folder.path(), stored + 1);
}

/// A small file system in memory, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at);
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

/// Not 78, which stops systemd from trying again: there may be room later.
fn assert_says_no_room(result: &CommandResult) {
    assert_eq!(result.code, Some(75), "{result:?}");
    let message = "coffee-tracker: no space left on the disk that holds coffee.db\n";
    assert!(result.err.ends_with(message), "{}", result.err);
}

#[test]
fn a_full_file_system_rejects_writes_until_there_is_space_again() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let Some(_mounted) = Tmpfs::mount(&disk) else {
        report_skipped("mounting a file system requires root");
        return;
    };
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 512 << 10]).unwrap();
    let first = Server::start(&disk);
    let mut client = first.client();
    let stored = fill(&mut client, FULL);
    assert!(stored > 0);
    assert_full_but_alive(&mut client, stored, "full");
    first.stop_cleanly();

    // What the stop gave back is taken too.
    drop(std::fs::write(disk.join("more-ballast"), vec![1; 1 << 20]));
    // With room for the index of its log, which may be there already, it starts, and what is stored
    // can be read.
    std::fs::File::options().write(true).open(&ballast).unwrap().set_len(448 << 10).unwrap();
    let second = Server::start(&disk);
    let mut client = second.client();
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], stored);
    fill(&mut client, FULL);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    let counted = client.get("/coffee/today").json()["coffee_count"].as_i64().unwrap();
    second.stop_cleanly();
    assert_sound(&disk, counted);
}

#[test]
fn a_first_start_without_disk_space_reports_it() {
    let folder = folder();
    let disk = folder.path().join("disk");
    let Some(_mounted) = Tmpfs::mount(&disk) else {
        report_skipped("mounting a file system requires root");
        return;
    };
    drop(std::fs::write(disk.join("ballast"), vec![1; 1 << 20]));
    assert_says_no_room(&run(&mut server_command(&disk)));
}
