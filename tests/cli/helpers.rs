//! Starts the real program in a temporary folder with an empty environment, and kills it when the test ends.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::client::{Client, Response};

/// API key of every server that is not configured otherwise.
pub const KEY: &str = "a-key-for-the-tests-0123456789";
/// Deadline of every wait. It only guards against a hang.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Creates a temporary folder.
pub fn temporary_folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// Returns the path of the program under test: `COFFEE_TRACKER`, or the one that Cargo built for these tests.
pub fn program_path() -> OsString {
    std::env::var_os("COFFEE_TRACKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_coffee-tracker").into())
}

/// Returns a command that runs the program in `folder` with an empty environment.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(program_path());
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

/// Returns a command that starts a server on a free port, with [`KEY`] and without rate limits.
pub fn server_command(folder: &Path) -> Command {
    let mut command = program(folder);
    command.args(["serve", "--port", "0", "--database-url", "coffee.db"]);
    command.envs([("API_KEY", KEY), ("RATE_LIMIT_ENABLED", "false"), ("TZ", "UTC")]);
    command
}

/// Returns a command that starts a server with timeouts that no test exceeds.
pub fn server_without_timeouts(folder: &Path) -> Command {
    let mut command = server_command(folder);
    for timeout in ["header", "request", "idle"] {
        command.args([format!("--{timeout}-timeout-seconds"), "3600".to_owned()]);
    }
    command
}

/// Shell command that ignores the signal for too large files, as systemd does: otherwise it kills the program.
pub const IGNORE_FILE_SIZE_SIGNAL: &str = "trap '' XFSZ";

/// Returns a command that runs `setup` in Bash, which sets limits or variables, and then `command`.
pub fn from_bash(setup: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/bash");
    shell
        .args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    shell
}

/// Polls `condition` until it holds; panics with its description after [`DEADLINE`].
#[track_caller]
pub fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "timed out after {DEADLINE:?}: {description}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the number in an environment variable, or `None` when it is not set.
pub fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Returns the seed of a random test: `TEST_SEED`, or a fixed one. Cargo shows the printed line when the test fails.
pub fn test_seed() -> u64 {
    let seed = number_from_env("TEST_SEED").unwrap_or(20_261_126);
    println!("TEST_SEED={seed}");
    seed
}

/// Reports on standard error that this test was skipped. Cargo does not capture this line, unlike that of `println!`.
pub fn report_skipped(reason: &str) {
    let thread = std::thread::current();
    drop(writeln!(std::io::stderr(), "test {} ... skipped: {reason}", thread.name().unwrap_or_default()));
}

/// Output of a process, captured while it runs.
#[derive(Clone, Default)]
pub struct CapturedText(Arc<Mutex<String>>);

impl CapturedText {
    fn capture(source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let text = Self::default();
        let written = text.clone();
        let capture = move || {
            let mut lines = BufReader::new(source);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                written.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        (text, std::thread::spawn(capture))
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Exit code and output of a finished process.
#[derive(Debug)]
pub struct CommandResult {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    pub out: CapturedText,
    pub err: CapturedText,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (out, read_out) = CapturedText::capture(child.stdout.take().unwrap());
        let (err, read_err) = CapturedText::capture(child.stderr.take().unwrap());
        Self { child, out, err, readers: vec![read_out, read_err] }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the process to exit.
    pub fn wait(mut self) -> CommandResult {
        wait_until("the program exits", || self.has_ended());
        let status = self.child.wait().unwrap();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        CommandResult {
            code: status.code(),
            signal: status.signal(),
            out: self.out.text(),
            err: self.err.text(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when the process has exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command and waits for it to exit.
pub fn run(command: &mut Command) -> CommandResult {
    Process::spawn(command).wait()
}

/// Parses the address in the first complete line that starts with `start`.
fn listening_address(text: &str, start: &str) -> Option<SocketAddr> {
    let line = text.split_inclusive('\n').find(|line| line.ends_with('\n') && line.starts_with(start))?;
    line.trim_end().strip_prefix(start)?.strip_prefix("http://")?.parse().ok()
}

/// A server that accepts connections.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
}

impl Server {
    /// Starts the command that [`server_command`] returns for `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::spawn(&mut server_command(folder))
    }

    /// Starts a command and waits until it prints its address.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = Process::spawn(command);
        let mut address = None;
        wait_until("the server has started", || {
            address = listening_address(&process.out.text(), "Listening on ");
            // Under systemd the address is only logged.
            address = address.or_else(|| listening_address(&process.err.text(), "<6>listening on "));
            let result = process.has_ended();
            assert!(!result, "the server exited: {}", process.err.text());
            address.is_some()
        });
        Self { process, address: address.unwrap() }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends a `GET` request on a new connection.
    pub fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process.pid(), signal).expect("the server is running");
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(self) -> CommandResult {
        self.signal(Signal::TERM);
        self.process.wait()
    }

    /// Sends SIGTERM and asserts that the server exits with code 0.
    #[track_caller]
    pub fn stop_cleanly(self) -> CommandResult {
        let result = self.stop();
        assert_eq!(result.code, Some(0), "{result:?}");
        result
    }

    /// Counts the open file descriptors of the server.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.pid().as_raw_nonzero());
        std::fs::read_dir(path).expect("the server is running").count()
    }
}

/// Returns the peak resident memory of a process in KiB, or `None` when it has exited.
pub fn peak_memory_kib(process: &Process) -> Option<u64> {
    let status = format!("/proc/{}/status", process.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Limits the size of the files that the server may write, in bytes.
pub fn limit_file_size(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.process.pid()), Resource::Fsize, limit).expect("the limit can be set");
}

/// Opens the database in `folder` read-only.
pub fn database(folder: &Path) -> Connection {
    Connection::open_with_flags(folder.join("coffee.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Returns the single number that a query selects.
pub fn number(connection: &Connection, query: &str) -> i64 {
    connection.query_row(query, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// Returns every row of a query as text.
pub fn rows(connection: &Connection, query: &str) -> Vec<String> {
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let line = |row: &rusqlite::Row<'_>| {
        let values = (0..columns).map(|n| format!("{:?}", row.get::<_, Value>(n).unwrap()));
        Ok(values.collect::<Vec<_>>().join("|"))
    };
    statement.query_map([], line).unwrap().map(Result::unwrap).collect()
}

/// Returns the permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
