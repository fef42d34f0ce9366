//! Notifications to systemd: readiness, watchdog, start timeout and stop. Also the journal and credentials.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fixtures::{run_in, run_ok};
use crate::hanging_disk::HangingDisk;
use crate::helpers::{
    DEADLINE, IGNORE_FILE_SIZE_SIGNAL, KEY, Process, Server, from_bash, limit_file_size, run, server_command,
    temporary_folder, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);
const COFFEE: &str = r#"{"caffeine_mg": 90}"#;

/// Notification socket of a service manager.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        // The path of a socket has at most 107 bytes.
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    /// Returns the command with the environment of a service under systemd.
    fn service(&self, command: &Command, watchdog: Duration) -> Command {
        let mut command = from_bash(&format!("{IGNORE_FILE_SIZE_SIGNAL}; export WATCHDOG_PID=$$"), command);
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command
    }

    /// Returns the lines of the next message, or `None` after the timeout.
    fn next_message(&self, timeout: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap().lines().map(str::to_owned).collect())
    }

    /// Returns the lines of all messages up to the first one with a line that starts with `prefix`.
    #[track_caller]
    fn messages_until(&self, prefix: &str) -> Vec<String> {
        let (start, mut lines) = (Instant::now(), Vec::new());
        while start.elapsed() < DEADLINE {
            lines.extend(self.next_message(SECOND).unwrap_or_default());
            if lines.iter().any(|line| line.starts_with(prefix)) {
                return lines;
            }
        }
        panic!("no message with {prefix}: {lines:?}");
    }

    /// Returns the lines of all messages that arrive within `time`.
    fn messages_within(&self, time: Duration) -> Vec<String> {
        let (start, mut lines) = (Instant::now(), Vec::new());
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            lines.extend(self.next_message(left).unwrap_or_default());
        }
        lines
    }
}

fn count(lines: &[String], expected: &str) -> usize {
    lines.iter().filter(|line| *line == expected).count()
}

#[test]
fn ready_is_sent_after_the_first_response_and_stopping_before_the_exit() {
    let (folder, manager) = (temporary_folder(), Manager::new());
    let server = Server::spawn(&mut manager.service(&server_command(folder.path()), 60 * SECOND));
    let lines = manager.messages_until("READY=1");
    assert!(lines.contains(&format!("STATUS=Listening on http://{}", server.address)), "{lines:?}");
    let log = server.process.err.text();
    assert!(log.contains("route=/health status=200"), "the server has responded to a request: {log}");
    assert_eq!(server.get("/health").status, 200);

    let mut slow = server.client();
    let whole = crate::client::request("POST", "/coffee/", "Expect: 100-continue\r\n", COFFEE);
    slow.send(&whole[..whole.len() - COFFEE.len()]).unwrap();
    assert_eq!(slow.read_response_head().unwrap().status, 100, "the server reads the body");
    server.signal(Signal::TERM);
    let lines = manager.messages_until("STOPPING=1");
    assert!(lines.contains(&"STATUS=Finishing requests".to_owned()), "{lines:?}");
    slow.send(COFFEE).unwrap();
    assert_eq!(slow.read_response().unwrap().status, 201, "STOPPING was sent before the last response");
    assert_eq!(server.process.wait().code, Some(0));
}

#[test]
fn a_reload_is_reported_from_its_begin_to_its_end() {
    let (folder, manager) = (temporary_folder(), Manager::new());
    let env_file = folder.path().join(".env");
    let server = Server::spawn(&mut manager.service(&server_command(folder.path()), 60 * SECOND));
    manager.messages_until("READY=1");
    let listening = format!("STATUS=Listening on http://{}", server.address);
    for (settings, status) in [
        ("BEDTIME=22:00\n", listening.clone()),
        ("BEDTIME=late\n", format!("{listening}; the last reload failed")),
        ("LOG_LEVEL=error\n", listening),
    ] {
        fs::write(&env_file, settings).unwrap();
        server.signal(Signal::HUP);
        let begin = manager.next_message(DEADLINE).unwrap();
        assert_eq!([&begin[0], &begin[2]], ["RELOADING=1", "STATUS=Reloading the settings"]);
        let monotonic: u64 = begin[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(monotonic > 0);
        assert_eq!(manager.next_message(DEADLINE).unwrap(), ["READY=1".to_owned(), status]);
    }
    // Logged until the level was raised, which is before the last message.
    assert_eq!(server.get("/coffee/today").status, 200);
    let log = server.stop_cleanly().err;
    assert!(
        log.contains("settings reloaded: BEDTIME, LOG_LEVEL") && !log.contains("route=/coffee/today"),
        "{log}"
    );
}

#[test]
fn the_watchdog_is_not_notified_while_the_disk_hangs() {
    let (folder, manager, watchdog) = (temporary_folder(), Manager::new(), 2 * SECOND);
    let mut command = manager.service(&server_command(folder.path()), watchdog);
    let disk = HangingDisk::preload(&mut command);
    let server = Server::spawn(&mut command);
    manager.messages_until("READY=1");
    let notified = count(&manager.messages_within(2 * watchdog), "WATCHDOG=1");
    assert!((4..=8).contains(&notified), "{notified} notifications instead of one per third of the interval");

    disk.hang();
    let mut client = server.client();
    client.send_request("POST", "/coffee/", "", COFFEE).unwrap();
    let lines = manager.messages_until("STATUS=The database does not respond");
    assert!(count(&lines, "WATCHDOG=1") > 0, "no notification while the delay is short: {lines:?}");
    assert_eq!(manager.messages_within(2 * watchdog), [""; 0], "the watchdog is not notified");
    assert_eq!(server.get("/coffee/today").status, 200, "reads succeed");

    disk.resume();
    assert_eq!(client.read_response().unwrap().status, 201);
    manager.messages_until("WATCHDOG=1");
    server.stop_cleanly();
}

#[test]
fn the_watchdog_is_notified_while_the_database_is_locked_or_unwritable_or_restored() {
    let (folder, manager, watchdog) = (temporary_folder(), Manager::new(), 2 * SECOND);
    let server = Server::spawn(&mut manager.service(&server_command(folder.path()), watchdog));
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);

    let holder = rusqlite::Connection::open(folder.path().join("coffee.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    client.send_request("POST", "/coffee/", "", COFFEE).unwrap();
    wait_until("the lock is reported", || server.get("/health").json()["database"]["state"] == "held");
    manager.messages_within(Duration::from_millis(100));
    assert!(count(&manager.messages_within(2 * watchdog), "WATCHDOG=1") >= 4, "locked");
    holder.execute_batch("rollback").unwrap();
    assert_eq!(client.read_response().unwrap().status, 201);

    limit_file_size(&server, Some(1));
    client.post("/coffee/", COFFEE).assert_problem(503);
    assert_eq!(server.get("/health").json()["database"]["state"], "unwritable");
    manager.messages_within(Duration::from_millis(100));
    assert!(count(&manager.messages_within(2 * watchdog), "WATCHDOG=1") >= 4, "unwritable");
    limit_file_size(&server, None);

    assert_eq!(run_in(folder.path(), &["restore", "then.db", "--yes"]).code, Some(0));
    manager.messages_until("WATCHDOG=1");
    let result = server.stop_cleanly();
    assert!(!result.err.contains("the watchdog is not fed"), "{}", result.err);
}

#[test]
fn a_slow_start_extends_the_timeout_and_is_not_ready() {
    let (folder, manager) = (temporary_folder(), Manager::new());
    let mut command = manager.service(&server_command(folder.path()), 60 * SECOND);
    let disk = HangingDisk::preload(&mut command);
    disk.hang();
    let mut running = Process::spawn(&mut command);
    // The commit of the migration waits for the disk.
    let lines =
        [manager.messages_until("EXTEND_TIMEOUT_USEC="), manager.messages_until("EXTEND_TIMEOUT_USEC=")];
    let expected = ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=Opening the database"];
    assert_eq!(lines, [expected, expected]);
    assert_eq!(running.out.text(), "", "the server does not listen yet");
    disk.resume();
    manager.messages_until("READY=1");
    let later = manager.messages_within(6 * SECOND);
    assert_eq!(count(&later, expected[0]), 0, "no more time is requested after the start: {later:?}");
    assert!(!running.has_ended());
}

#[test]
fn without_systemd_nothing_is_notified() {
    let folder = temporary_folder();
    let mut command = server_command(folder.path());
    let server = Server::spawn(command.env("WATCHDOG_USEC", "1000000"));
    assert_eq!(server.get("/coffee/today").status, 200);
    let result = server.stop_cleanly();
    assert!(!result.err.contains("/health") && !result.err.contains("systemd"), "{}", result.err);
}

#[test]
fn every_line_of_a_failed_start_has_error_priority_in_the_journal() {
    let folder = temporary_folder();
    let mut plain = server_command(folder.path());
    plain.env("MAX_CAFFEINE_MG", "much").env("SLOW_QUERY_MS", "perhaps");
    let result = run(&mut from_bash("export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)", &plain));
    assert_eq!(result.code, Some(78), "{result:?}");
    assert_eq!(result.err.lines().count(), 3, "{}", result.err);
    assert!(result.err.lines().all(|line| line.starts_with("<3>")), "{}", result.err);
    assert!(run(&mut plain).err.starts_with("coffee-tracker: 2 invalid settings:"));
}

#[test]
fn a_credential_is_used_as_the_key_unless_it_is_empty() {
    let folder = temporary_folder();
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let mut command = server_command(folder.path());
    command.env_remove("API_KEY").env("CREDENTIALS_DIRECTORY", &credentials);
    fs::write(credentials.join("api_key"), format!("{KEY}\n")).unwrap();
    let with_credential = Server::spawn(&mut command);
    assert_eq!(with_credential.get("/coffee/today").status, 200);
    with_credential.stop_cleanly();
    assert!(!folder.path().join("coffee.key").exists());

    fs::write(credentials.join("api_key"), "\n").unwrap();
    let with_generated_key = Server::spawn(&mut command);
    assert_eq!(with_generated_key.get("/coffee/today").status, 401);
    assert!(folder.path().join("coffee.key").exists(), "a key was generated");
    with_generated_key.stop_cleanly();
}
