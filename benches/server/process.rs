//! A child process that prints its address when it is ready, and is killed with its handle.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time until the address must be printed.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time until a process must exit after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Text before the address on standard output.
const ADDRESS_PREFIX: &str = "Listening on http://";

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    /// Kept open, so that the child can keep printing.
    _output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a command and waits until it prints `Listening on http://ADDRESS`.
    ///
    /// # Errors
    /// The command cannot be started, exits, or does not print an address within 30 seconds.
    pub fn listening(command: &mut Command) -> Result<(Self, SocketAddr)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take();
        let mut process = Self { child, _output: None };
        let mut output = BufReader::new(output.context("the child has no standard output")?);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let address = read_address(&mut output);
            // Fails after the timeout, when the receiver is gone.
            let _ = sender.send((address, output));
        });
        let Ok((address, output)) = receiver.recv_timeout(START_TIMEOUT) else {
            bail!("{name} printed no address within {} s", START_TIMEOUT.as_secs());
        };
        process._output = Some(output);
        match address? {
            Some(address) => Ok((process, address)),
            None => {
                let status = process.wait(STOP_TIMEOUT)?;
                bail!("{name} exited before it printed an address ({status}); --server-log FILE shows why")
            }
        }
    }

    /// Returns the resident memory in bytes (Linux only).
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Returns the peak resident memory in bytes (Linux only).
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Reads a size in KiB from `/proc/PID/status` and returns it in bytes.
    fn memory(&self, name: &'static str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()).context(name)?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Returns the number of open file descriptors (Linux only).
    pub fn descriptors(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.child.id());
        Ok(std::fs::read_dir(&path).with_context(|| path.clone())?.count())
    }

    /// Sends SIGTERM and returns the exit status.
    ///
    /// # Errors
    /// The process is still running after 10 seconds.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )?;
        self.wait(STOP_TIMEOUT)
    }

    /// Waits for the process to exit.
    fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("process {} did not exit within {} s", self.child.id(), timeout.as_secs());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the first printed address, or `None` when the output ends without one.
fn read_address(output: &mut impl BufRead) -> Result<Option<SocketAddr>> {
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        if let Some(address) = line.trim().strip_prefix(ADDRESS_PREFIX) {
            return Ok(Some(address.trim_end_matches('/').parse()?));
        }
        line.clear();
    }
    Ok(None)
}
