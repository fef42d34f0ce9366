//! What systemd hears by its socket: ready, alive, more time, stopping; and when it hears nothing.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fixtures::{run_in, run_ok};
use crate::hanging_disk::HangingDisk;
use crate::helpers::{KEY, Process, Server, folder, limit_file_size, run, server_command, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const COFFEE: &str = r#"{"caffeine_mg": 90}"#;

/// Listens as systemd does.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        // The name of a socket has at most 107 bytes.
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    /// The program as systemd starts it.
    fn starts(&self, plain: &Command, watchdog: Duration) -> Command {
        let mut command = Command::new("/bin/sh");
        // Files may become too large without killing it.
        let script = "trap '' XFSZ; export WATCHDOG_PID=$$; exec \"$0\" \"$@\"";
        command.args(["-c", script]).arg(plain.get_program()).args(plain.get_args()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(plain.get_current_dir().unwrap());
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command
    }

    /// The next message, line by line, if one comes within that time.
    fn hears(&self, patience: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap().lines().map(str::to_owned).collect())
    }

    /// Everything said until a message has a line that begins like this, which is the last.
    #[track_caller]
    fn hears_until(&self, start: &str) -> Vec<String> {
        let (began, mut said) = (Instant::now(), Vec::new());
        while began.elapsed() < 20 * SECOND {
            said.extend(self.hears(SECOND).unwrap_or_default());
            if said.iter().any(|line| line.starts_with(start)) {
                return said;
            }
        }
        panic!("no {start}, but {said:?}");
    }

    /// Everything said within that time.
    fn hears_for(&self, time: Duration) -> Vec<String> {
        let (began, mut said) = (Instant::now(), Vec::new());
        while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            said.extend(self.hears(left).unwrap_or_default());
        }
        said
    }
}

fn count(said: &[String], line: &str) -> usize {
    said.iter().filter(|said| *said == line).count()
}

#[test]
fn ready_is_sent_after_the_first_response_and_stopping_before_the_exit() {
    let (folder, manager) = (folder(), Manager::new());
    let server = Server::spawn(&mut manager.starts(&server_command(folder.path()), 60 * SECOND));
    let said = manager.hears_until("READY=1");
    assert!(said.contains(&format!("STATUS=Listening on http://{}", server.address)), "{said:?}");
    let log = server.process.err.text();
    assert!(log.contains("route=/health status=200"), "it has answered a request: {log}");
    assert_eq!(server.get("/health").status, 200);

    let mut slow = server.client();
    let whole = crate::client::request("POST", "/coffee/", "Expect: 100-continue\r\n", COFFEE);
    slow.send(&whole[..whole.len() - COFFEE.len()]).unwrap();
    assert_eq!(slow.read_response_head().unwrap().status, 100, "it has begun");
    server.signal(Signal::TERM);
    let said = manager.hears_until("STOPPING=1");
    assert!(said.contains(&"STATUS=Finishing requests".to_owned()), "{said:?}");
    slow.send(COFFEE).unwrap();
    assert_eq!(slow.read_response().unwrap().status, 201, "it was told before the last request was done");
    assert_eq!(server.process.wait().code, Some(0));
}

#[test]
fn the_watchdog_is_not_notified_while_the_disk_hangs() {
    let (folder, manager, watchdog) = (folder(), Manager::new(), 2 * SECOND);
    let mut command = manager.starts(&server_command(folder.path()), watchdog);
    let disk = HangingDisk::under(&mut command);
    let server = Server::spawn(&mut command);
    manager.hears_until("READY=1");
    let fed = count(&manager.hears_for(2 * watchdog), "WATCHDOG=1");
    assert!((4..=8).contains(&fed), "a meal each third of the time, not {fed}");

    disk.hang();
    let mut client = server.client();
    client.send_request("POST", "/coffee/", "", COFFEE).unwrap();
    let said = manager.hears_until("STATUS=The database does not respond");
    assert!(count(&said, "WATCHDOG=1") > 0, "a short silence is none: {said:?}");
    assert_eq!(manager.hears_for(2 * watchdog), [""; 0], "it starves");
    assert_eq!(server.get("/coffee/today").status, 200, "and yet reads are answered");

    disk.go_on();
    assert_eq!(client.read_response().unwrap().status, 201);
    manager.hears_until("WATCHDOG=1");
    server.stop_cleanly();
}

#[test]
fn the_watchdog_is_notified_while_the_database_is_locked_or_unwritable_or_restored() {
    let (folder, manager, watchdog) = (folder(), Manager::new(), 2 * SECOND);
    let server = Server::spawn(&mut manager.starts(&server_command(folder.path()), watchdog));
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    run_ok(folder.path(), &["backup", "--to", "then.db"]);

    let holder = rusqlite::Connection::open(folder.path().join("coffee.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    client.send_request("POST", "/coffee/", "", COFFEE).unwrap();
    wait_until("it knows", || server.get("/health").json()["database"]["state"] == "held");
    manager.hears_for(Duration::from_millis(100));
    assert!(count(&manager.hears_for(2 * watchdog), "WATCHDOG=1") >= 4, "held");
    holder.execute_batch("rollback").unwrap();
    assert_eq!(client.read_response().unwrap().status, 201);

    limit_file_size(&server, Some(1));
    client.post("/coffee/", COFFEE).assert_problem(503);
    assert_eq!(server.get("/health").json()["database"]["state"], "unwritable");
    manager.hears_for(Duration::from_millis(100));
    assert!(count(&manager.hears_for(2 * watchdog), "WATCHDOG=1") >= 4, "unwritable");
    limit_file_size(&server, None);

    assert_eq!(run_in(folder.path(), &["restore", "then.db", "--yes"]).code, Some(0));
    manager.hears_until("WATCHDOG=1");
    let result = server.stop_cleanly();
    assert!(!result.err.contains("the watchdog is not fed"), "{}", result.err);
}

#[test]
fn a_slow_start_extends_the_timeout_and_is_not_ready() {
    let (folder, manager) = (folder(), Manager::new());
    let mut command = manager.starts(&server_command(folder.path()), 60 * SECOND);
    let disk = HangingDisk::under(&mut command);
    disk.hang();
    let mut running = Process::spawn(&mut command);
    // The tables are made, and their commit waits for the disk.
    let said = [manager.hears_until("EXTEND_TIMEOUT_USEC="), manager.hears_until("EXTEND_TIMEOUT_USEC=")];
    let expected = ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=Opening the database"];
    assert_eq!(said, [expected, expected]);
    assert_eq!(running.out.text(), "", "nobody listens yet");
    disk.go_on();
    manager.hears_until("READY=1");
    let silence = manager.hears_for(6 * SECOND);
    assert_eq!(count(&silence, expected[0]), 0, "it has all the time it needs: {silence:?}");
    assert!(!running.has_ended());
}

#[test]
fn without_systemd_nothing_is_notified() {
    let folder = folder();
    let mut command = server_command(folder.path());
    let server = Server::spawn(command.env("WATCHDOG_USEC", "1000000"));
    assert_eq!(server.get("/coffee/today").status, 200);
    let result = server.stop_cleanly();
    assert!(!result.err.contains("/health") && !result.err.contains("systemd"), "{}", result.err);
}

#[test]
fn the_journal_gets_a_failure_as_an_error_on_every_line() {
    let folder = folder();
    let mut plain = server_command(folder.path());
    plain.env("MAX_CAFFEINE_MG", "much").env("SLOW_QUERY_MS", "perhaps");
    let mut shell = Command::new("/bin/sh");
    let script = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec \"$0\" \"$@\"";
    shell.args(["-c", script]).arg(plain.get_program()).args(plain.get_args()).env_clear();
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let result = run(shell.current_dir(folder.path()));
    assert_eq!(result.code, Some(78), "{result:?}");
    assert_eq!(result.err.lines().count(), 3, "{}", result.err);
    assert!(result.err.lines().all(|line| line.starts_with("<3>")), "{}", result.err);
    assert!(run(&mut plain).err.starts_with("coffee-tracker: 2 invalid settings:"));
}

#[test]
fn an_empty_credential_is_ignored_and_another_is_the_key() {
    let folder = folder();
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let mut command = server_command(folder.path());
    command.env_remove("API_KEY").env("CREDENTIALS_DIRECTORY", &credentials);
    fs::write(credentials.join("api_key"), format!("{KEY}\n")).unwrap();
    let given = Server::spawn(&mut command);
    assert_eq!(given.get("/coffee/today").status, 200);
    given.stop_cleanly();
    assert!(!folder.path().join("coffee.key").exists());

    fs::write(credentials.join("api_key"), "\n").unwrap();
    let made = Server::spawn(&mut command);
    assert_eq!(made.get("/coffee/today").status, 401);
    assert!(folder.path().join("coffee.key").exists(), "it has made one of its own");
    made.stop_cleanly();
}
