//! The server under measurement: the real binary, on demonstration data, in a folder that
//! vanishes with the benchmark.
//!
//! It runs with an environment of its own, so that no setting of whoever runs the
//! benchmark slips in, and with the default log level: logging is part of the cost.

use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::http;
use crate::process::Process;

/// The key that every server of the benchmark takes.
pub const KEY: &str = "benchmark-key-0123456789";
/// How many coffees the file holds: ten years of ten a day.
const COFFEES: i64 = 36_500;
/// How far from that the demonstration may be.
const COFFEES_TOLERANCE: i64 = 365;
/// A zone with daylight saving time, so that days cost what they cost at home.
const ZONE: &str = "Europe/Berlin";
/// How long the first good answer may take after the server said that it listens.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the server limits its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    On,
    Off,
}

/// What a demonstration database shall hold.
#[derive(Clone, Copy)]
pub struct Demo {
    /// Days up to today.
    pub days: i64,
    /// Coffees a day, on average.
    pub coffees_per_day: f64,
    /// Heart rates a day.
    pub readings_per_day: i64,
}

/// What is measured, and where its files lie.
pub struct Setup {
    /// The server's binary.
    pub binary: PathBuf,
    /// Fewer and shorter rounds.
    pub quick: bool,
    log: Option<PathBuf>,
    folder: TempDir,
    coffees: PathBuf,
}

impl Setup {
    /// Makes the folder and the database with 36,500 coffees.
    ///
    /// # Errors
    /// The demonstration cannot be made.
    pub fn new(binary: PathBuf, quick: bool, log: Option<PathBuf>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let coffees = folder.path().join("coffees.db");
        let setup = Self { binary, quick, log, folder, coffees };
        setup.make_coffees()?;
        Ok(setup)
    }

    /// A fresh copy of the database with 36,500 coffees; whatever was copied under this name is replaced.
    ///
    /// # Errors
    /// The file cannot be copied.
    pub fn copy_of_coffees(&self, name: &str) -> Result<PathBuf> {
        self.copy(&self.coffees, name)
    }

    /// The same of any database that nobody has open.
    ///
    /// # Errors
    /// The file cannot be copied.
    pub fn copy(&self, database: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.folder.path().join(name);
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (with_suffix(database, suffix), with_suffix(&copy, suffix));
            if to.exists() {
                fs::remove_file(&to)?;
            }
            // The index of the log is rebuilt from the log.
            if suffix != "-shm" && from.exists() {
                fs::copy(&from, &to)?;
            }
        }
        Ok(copy)
    }

    /// A file in the folder of the run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a demonstration database.
    ///
    /// # Errors
    /// The command fails.
    pub fn make_demo(&self, name: &str, demo: Demo) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let output = self
            .command("demo", &path)
            .args(["--days", &demo.days.to_string()])
            .args(["--coffees-per-day", &demo.coffees_per_day.to_string()])
            .args(["--readings-per-day", &demo.readings_per_day.to_string()])
            .args(["--seed", "1"])
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "demo failed ({}): {}", output.status, said.trim());
        ensure!(path.exists(), "demo made no database");
        Ok(path)
    }

    /// The database of 36,500 coffees: people skip a cup, so days are added until it is that many.
    fn make_coffees(&self) -> Result<()> {
        let mut days = COFFEES / 4;
        for _ in 0..4 {
            let demo = Demo { days, coffees_per_day: 4.0, readings_per_day: 24 };
            let made = self.make_demo("coffees.db", demo)?;
            let count = count_coffees(&made)?;
            if (count - COFFEES).abs() <= COFFEES_TOLERANCE {
                return Ok(());
            }
            ensure!(count > 0, "demo made no coffees");
            eprintln!("  {count} coffees in {days} days, wanted {COFFEES}");
            days = days * COFFEES / count;
            self.remove(&made)?;
        }
        bail!("demo does not give {COFFEES} coffees, whatever the days");
    }

    /// Removes a database and what SQLite and the server left beside it.
    ///
    /// # Errors
    /// A file cannot be removed.
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

    /// One of the binary's subcommands on a database, with nothing inherited.
    pub fn command(&self, subcommand: &str, database: &Path) -> Command {
        let mut command = Command::new(&self.binary);
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

    /// Where a server's log goes: nowhere, unless somebody wants to read it.
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
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to the first good answer.
    pub started_in: Duration,
}

impl Server {
    /// Starts the server on a database and waits for its first good answer.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(setup: &Setup, database: &Path, limits: Limits) -> Result<Self> {
        let mut command = setup.command("serve", database);
        command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("API_KEY", KEY)
            .env("RATE_LIMIT_ENABLED", if limits == Limits::On { "true" } else { "false" })
            .env("TRUSTED_PROXIES", "127.0.0.0/8")
            .stderr(setup.log()?);
        let spawned_at = Instant::now();
        let (process, address) = Process::listening(&mut command)?;
        let health = http::get("/health", KEY);
        while !http::ask(address, &health).is_ok_and(|answer| answer.status == 200) {
            ensure!(spawned_at.elapsed() < ANSWER_PATIENCE, "/health does not become 200");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { process, address, started_in: spawned_at.elapsed() })
    }

    /// Bytes of memory that are resident now.
    ///
    /// # Errors
    /// The server has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.process.resident_bytes()
    }

    /// Bytes of memory that were resident at most.
    ///
    /// # Errors
    /// The server has ended.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.process.peak_bytes()
    }

    /// The present value of a metric, summed over its labels.
    ///
    /// # Errors
    /// `/metrics` does not answer, or does not know the name.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = http::ask_well(self.address, &http::get("/metrics", KEY))?;
        let values = answer.body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labelled = rest.starts_with([' ', '{']);
            rest.rsplit(' ').next().filter(|_| labelled)?.parse::<f64>().ok()
        });
        let values: Vec<f64> = values.collect();
        ensure!(!values.is_empty(), "/metrics has no {name}");
        Ok(values.iter().sum())
    }

    /// Stops the server as systemd does.
    ///
    /// # Errors
    /// It does not end within 10 seconds, or not with exit code 0.
    pub fn stop(self) -> Result<()> {
        let status = self.process.terminate()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Starts bare, answering with so many bytes.
///
/// # Errors
/// It does not come up.
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
