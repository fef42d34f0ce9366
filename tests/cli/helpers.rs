//! Starts the real program in a folder of its own, with nothing of the environment, and
//! ends it whatever happens.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
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

use crate::client::{Answer, Client};

/// The key of every server that was not told otherwise.
pub const KEY: &str = "a-key-for-the-tests-0123456789";
/// A start, a stop, anything: longer means that it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A folder that vanishes with the test.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// The program under test: what was built for these tests, or the one that `COFFEE_TRACKER` names.
pub fn program_path() -> OsString {
    std::env::var_os("COFFEE_TRACKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_coffee-tracker").into())
}

/// The program in `folder`, with an empty environment.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(program_path());
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

/// The program as a server on a free port, with [`KEY`] and without limits.
pub fn server(folder: &Path) -> Command {
    let mut command = program(folder);
    command.args(["--port", "0", "--database-url", "coffee.db"]);
    command.envs([("API_KEY", KEY), ("RATE_LIMIT_ENABLED", "false"), ("TZ", "UTC")]);
    command
}

/// Waits until `holds`, looking again and again; panics with `what` when it takes too long.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < deadline, "after {deadline:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a program writes, gathered while it runs.
#[derive(Clone, Default)]
pub struct Text(Arc<Mutex<String>>);

impl Text {
    fn gather(source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let text = Self::default();
        let written = text.clone();
        let gather = move || {
            let mut lines = BufReader::new(source);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                written.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        (text, std::thread::spawn(gather))
    }

    pub fn now(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// How a program ended and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
    /// From the wish that it end.
    pub took: Duration,
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    pub out: Text,
    pub err: Text,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (out, read_out) = Text::gather(child.stdout.take().unwrap());
        let (err, read_err) = Text::gather(child.stderr.take().unwrap());
        Self { child, out, err, readers: vec![read_out, read_err] }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let began = Instant::now();
        wait_until("the program has ended", DEADLINE, || self.has_ended());
        let took = began.elapsed();
        let status = self.child.wait().unwrap();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Ended { code: status.code(), signal: status.signal(), out: self.out.now(), err: self.err.now(), took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    Running::spawn(command).end()
}

/// The address in the first whole line that begins so.
fn listens_at(text: &str, start: &str) -> Option<SocketAddr> {
    let line = text.split_inclusive('\n').find(|line| line.ends_with('\n') && line.starts_with(start))?;
    line.trim_end().strip_prefix(start)?.strip_prefix("http://")?.parse().ok()
}

/// A server that answers.
pub struct Server {
    pub running: Running,
    pub address: SocketAddr,
}

impl Server {
    /// Starts one in `folder`, as [`server`] has it.
    pub fn start(folder: &Path) -> Self {
        Self::of(&mut server(folder))
    }

    /// Starts this one and waits until it says where it listens.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let mut running = Running::spawn(command);
        let mut address = None;
        wait_until("the server has started", DEADLINE, || {
            address = listens_at(&running.out.now(), "Listening on ");
            // Under systemd the journal has it from the log alone.
            address = address.or_else(|| listens_at(&running.err.now(), "<6>listening on "));
            let ended = running.has_ended();
            assert!(!ended, "it ended: {}", running.err.now());
            address.is_some()
        });
        Self { running, address: address.unwrap() }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Asks over a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.running.pid(), signal).expect("it is ours and runs");
    }

    /// SIGTERM, and its end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.running.end()
    }

    /// SIGTERM; it must end well and in time.
    #[track_caller]
    pub fn stop_well(self) -> Ended {
        let ended = self.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
        ended
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.running.pid().as_raw_nonzero());
        std::fs::read_dir(path).expect("it runs").count()
    }
}

/// The server may write files up to this size, bytes.
pub fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.running.pid()), Resource::Fsize, limit).expect("its limit can be set");
}

/// The database of a server that was started in `folder`, to look into.
pub fn database(folder: &Path) -> Connection {
    Connection::open_with_flags(folder.join("coffee.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The one number that a query gives.
pub fn number(connection: &Connection, query: &str) -> i64 {
    connection.query_row(query, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// Every row of a query, as text.
pub fn rows(connection: &Connection, query: &str) -> Vec<String> {
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let line = |row: &rusqlite::Row<'_>| {
        let values = (0..columns).map(|n| format!("{:?}", row.get::<_, Value>(n).unwrap()));
        Ok(values.collect::<Vec<_>>().join("|"))
    };
    statement.query_map([], line).unwrap().map(Result::unwrap).collect()
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
