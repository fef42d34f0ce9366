//! The measured server: the release binary with sample data in a temporary folder.
//!
//! It inherits no environment variables, so that the settings of the user have no effect, and has the default
//! log level, because logging is part of the cost.

use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::http;
use crate::process::Process;

/// API key of every server.
pub const KEY: &str = "benchmark-key-0123456789";
/// Number of coffees in the database: ten a day for ten years.
const COFFEES: i64 = 36_500;
/// Allowed deviation from that number.
const COFFEES_TOLERANCE: i64 = 365;
/// Time zone with daylight saving time, whose days are more expensive to calculate.
const ZONE: &str = "Europe/Berlin";
/// Time until `/health` must return 200 after the start.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// State of the rate limits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    On,
    Off,
}

/// Length of a run: number and duration of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Quick,
    Normal,
    Long,
}

impl Length {
    /// Returns the value for this length.
    pub fn pick<T>(self, quick: T, normal: T, long: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Normal => normal,
            Self::Long => long,
        }
    }

    pub fn is_quick(self) -> bool {
        self == Self::Quick
    }

    pub fn name(self) -> &'static str {
        self.pick("quick", "normal", "long")
    }
}

/// Ten years: 5,256,000 readings and about 100,000 coffees.
pub const TEN_YEARS: Demo = Demo { days: 3650, coffees_per_day: 28.0, readings_per_day: 1440 };

/// Contents of a sample database.
#[derive(Clone, Copy)]
pub struct Demo {
    /// Number of days, up to today.
    pub days: i64,
    /// Average number of coffees per day.
    pub coffees_per_day: f64,
    /// Number of readings per day.
    pub readings_per_day: i64,
}

/// The measured binary, options and the folder of the databases.
pub struct Setup {
    /// Binary of the server.
    pub binary: PathBuf,
    /// Earlier build for comparison.
    pub baseline: Option<PathBuf>,
    pub length: Length,
    log: Option<PathBuf>,
    folder: TempDir,
    coffees: PathBuf,
    ten_years: OnceLock<PathBuf>,
}

impl Setup {
    /// Creates the folder and the database with 36,500 coffees.
    pub fn new(
        binary: PathBuf,
        baseline: Option<PathBuf>,
        length: Length,
        log: Option<PathBuf>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let coffees = folder.path().join("coffees.db");
        let setup = Self { binary, baseline, length, log, folder, coffees, ten_years: OnceLock::new() };
        setup.make_coffees()?;
        Ok(setup)
    }

    /// Copies the database with 36,500 coffees, replacing an earlier copy of this name.
    pub fn copy_of_coffees(&self, name: &str) -> Result<PathBuf> {
        self.copy(&self.coffees, name)
    }

    /// Copies the database with ten years of readings, which the first call creates.
    pub fn copy_of_ten_years(&self, name: &str) -> Result<PathBuf> {
        let database = match self.ten_years.get() {
            Some(database) => database,
            None => {
                let created = self.make_demo("ten-years.db", TEN_YEARS)?;
                self.ten_years.get_or_init(|| created)
            }
        };
        self.copy(database, name)
    }

    /// Copies a database that is not open, replacing an earlier copy of this name.
    pub fn copy(&self, database: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.folder.path().join(name);
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (with_suffix(database, suffix), with_suffix(&copy, suffix));
            if to.exists() {
                fs::remove_file(&to)?;
            }
            // SQLite rebuilds the -shm file from the log.
            if suffix != "-shm" && from.exists() {
                fs::copy(&from, &to)?;
            }
        }
        Ok(copy)
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a database with sample data.
    pub fn make_demo(&self, name: &str, demo: Demo) -> Result<PathBuf> {
        self.make_demo_by(&self.binary, name, demo)
    }

    /// Creates a database with sample data by a build of the server.
    pub fn make_demo_by(&self, binary: &Path, name: &str, demo: Demo) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let output = self
            .command_of(binary, "demo", &path)
            .args(["--days", &demo.days.to_string()])
            .args(["--coffees-per-day", &demo.coffees_per_day.to_string()])
            .args(["--readings-per-day", &demo.readings_per_day.to_string()])
            .args(["--seed", "1"])
            .output()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "demo failed ({}): {}", output.status, message.trim());
        ensure!(path.exists(), "demo created no database");
        Ok(path)
    }

    /// Creates the database with 36,500 coffees. The simulated person skips some, so the days are adjusted
    /// until the number fits.
    fn make_coffees(&self) -> Result<()> {
        let mut days = COFFEES / 4;
        for _ in 0..4 {
            let demo = Demo { days, coffees_per_day: 4.0, readings_per_day: 24 };
            let database = self.make_demo("coffees.db", demo)?;
            let count = count_coffees(&database)?;
            if (count - COFFEES).abs() <= COFFEES_TOLERANCE {
                return Ok(());
            }
            ensure!(count > 0, "demo created no coffees");
            eprintln!("  {count} coffees in {days} days instead of {COFFEES}");
            days = days * COFFEES / count;
            self.remove(&database)?;
        }
        bail!("demo did not create {COFFEES} coffees with any number of days");
    }

    /// Removes a database and the files of SQLite and the server beside it.
    pub fn remove(&self, database: &Path) -> Result<()> {
        let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Builds a subcommand on a database, without inherited environment variables.
    pub fn command(&self, subcommand: &str, database: &Path) -> Command {
        self.command_of(&self.binary, subcommand, database)
    }

    fn command_of(&self, binary: &Path, subcommand: &str, database: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("TZ", ZONE)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .arg(subcommand)
            .arg("--database-url")
            .arg(database);
        command
    }

    /// Builds the command that starts a server of this build on a database.
    pub fn serve(&self, binary: &Path, database: &Path, limits: Limits) -> Result<Command> {
        let mut command = self.command_of(binary, "serve", database);
        command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("API_KEY", KEY)
            .env("RATE_LIMIT_ENABLED", if limits == Limits::On { "true" } else { "false" })
            .env("TRUSTED_PROXIES", "127.0.0.0/8")
            .stderr(self.log()?);
        Ok(command)
    }

    /// Returns the destination of the server's log: the file of `--server-log`, or none.
    fn log(&self) -> Result<Stdio> {
        match &self.log {
            None => Ok(Stdio::null()),
            Some(path) => Ok(File::options().create(true).append(true).open(path)?.into()),
        }
    }
}

/// A running server.
pub struct Server {
    process: Process,
    /// Address that it listens on.
    pub address: SocketAddr,
    /// Time from the start of the process to the first 200 response.
    pub started_in: Duration,
}

impl Server {
    /// Starts the server on a database and waits until `/health` returns 200.
    pub fn start(setup: &Setup, database: &Path, limits: Limits) -> Result<Self> {
        Self::spawn(&mut setup.serve(&setup.binary, database, limits)?)
    }

    /// Starts a command of [`Setup::serve`] and waits until `/health` returns 200.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let spawned_at = Instant::now();
        let (process, address) = Process::listening(command)?;
        let health = http::get("/health", KEY);
        while !http::send(address, &health).is_ok_and(|response| response.status == 200) {
            ensure!(spawned_at.elapsed() < HEALTH_TIMEOUT, "/health did not return 200 in time");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { process, address, started_in: spawned_at.elapsed() })
    }

    /// Returns the resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.process.resident_bytes()
    }

    /// Returns the peak resident memory in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.process.peak_bytes()
    }

    /// Returns the number of open file descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        self.process.descriptors()
    }

    /// Returns the value of a metric, summed over its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let response = http::send_ok(self.address, &http::get("/metrics", KEY))?;
        let values = response.body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole_name = rest.starts_with([' ', '{']);
            rest.rsplit(' ').next().filter(|_| is_whole_name)?.parse::<f64>().ok()
        });
        let values: Vec<f64> = values.collect();
        ensure!(!values.is_empty(), "/metrics has no {name}");
        Ok(values.iter().sum())
    }

    /// Ends the server with SIGKILL.
    pub fn kill(self) {
        drop(self.process);
    }

    /// Stops the server with SIGTERM. Returns an error unless it exits with code 0 within 10 seconds.
    pub fn stop(self) -> Result<()> {
        let status = self.process.terminate()?;
        ensure!(status.success(), "the server exited with {status}");
        Ok(())
    }
}

/// Starts bare Rocket with responses of `bytes` bytes.
pub fn start_bare(bytes: usize) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env_clear().args(["--bare", &bytes.to_string()]).stdin(Stdio::piped()).stderr(Stdio::inherit());
    Process::listening(&mut command)
}

fn count_coffees(database: &Path) -> Result<i64> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(connection.query_one("select count(*) from coffee_logs", [], |row| row.get(0))?)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
