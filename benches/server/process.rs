//! A child process that announces where it listens, and that never outlives its handle.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a process may take to say where it listens.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a process may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What stands before the address on standard output.
const ANNOUNCEMENT: &str = "Listening on http://";

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    /// Held open, so that the child can go on printing.
    _output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a command and waits until it says `Listening on http://ADDRESS`.
    ///
    /// # Errors
    /// It cannot be started, ends, or says nothing of that kind for 30 seconds.
    pub fn listening(command: &mut Command) -> Result<(Self, SocketAddr)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take();
        let mut process = Self { child, _output: None };
        let mut output = BufReader::new(output.context("a child without output")?);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let address = announced(&mut output);
            // Nobody waits any more when this took too long.
            let _ = sender.send((address, output));
        });
        let Ok((address, output)) = receiver.recv_timeout(START_PATIENCE) else {
            bail!("{name} did not say where it listens within {} s", START_PATIENCE.as_secs());
        };
        process._output = Some(output);
        match address? {
            Some(address) => Ok((process, address)),
            None => {
                let status = process.wait(STOP_PATIENCE)?;
                bail!("{name} ended before it listened ({status}); --server-log FILE shows why")
            }
        }
    }

    /// Bytes of memory that are resident now.
    ///
    /// # Errors
    /// The process has ended, or this is not Linux.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// Bytes of memory that were resident at most.
    ///
    /// # Errors
    /// The process has ended, or this is not Linux.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// A line of the process's status that is a number of KiB, in bytes.
    fn status(&self, name: &'static str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()).context(name)?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Asks the process to end by SIGTERM and gives its exit status.
    ///
    /// # Errors
    /// It goes on for 10 seconds.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )?;
        self.wait(STOP_PATIENCE)
    }

    /// Waits for the process to end by itself.
    fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("process {} did not end within {} s", self.child.id(), patience.as_secs());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first announced address; `None` when the output ends without one.
fn announced(output: &mut impl BufRead) -> Result<Option<SocketAddr>> {
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        if let Some(address) = line.trim().strip_prefix(ANNOUNCEMENT) {
            return Ok(Some(address.trim_end_matches('/').parse()?));
        }
        line.clear();
    }
    Ok(None)
}
