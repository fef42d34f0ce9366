//! Runs the program on the recording layer, and keeps what it recorded.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::helpers::{folder, program, run, server};
use crate::trace::{Trace, mark};

/// The layer, compiled.
fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/recorder.c");
        let layer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorder.so");
        // Under another name first: another run may have this one loaded.
        let fresh = layer.with_extension(format!("{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&fresh).arg(source);
        let compiled = compiler
            .output()
            .unwrap_or_else(|e| panic!("this project needs a C compiler, and `cc` cannot be run: {e}"));
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(fresh, &layer).unwrap();
        layer
    })
}

/// A folder on which everything is recorded.
pub struct Recorder {
    home: TempDir,
}

impl Recorder {
    pub fn new() -> Self {
        let recorder = Self { home: folder() };
        std::fs::create_dir(recorder.folder()).unwrap();
        recorder
    }

    /// The folder of the program.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    fn trace_file(&self) -> PathBuf {
        self.home.path().join("trace")
    }

    fn record(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", layer());
        command.env("RECORDER_FOLDER", self.folder()).env("RECORDER_TRACE", self.trace_file());
        command
    }

    /// The program as a server; see [`server`].
    pub fn server(&self) -> Command {
        self.record(server(&self.folder()))
    }

    /// Runs the program with these arguments on the server's database, after a mark of that name.
    pub fn run(&self, name: &str, arguments: &[&str]) {
        self.mark(name);
        let mut command = program(&self.folder());
        command.args(arguments).envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]);
        let ended = run(&mut self.record(command));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Overwrites a file with zeros, as a dying disk would, and makes that durable.
    pub fn wipe(&self, file: &str) {
        let length = std::fs::metadata(self.folder().join(file)).unwrap().len();
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "conv=notrunc,fsync", "bs=512"]).current_dir(self.folder());
        dd.args([format!("of={file}"), format!("count={}", length / 512)]);
        assert!(self.record(dd).output().unwrap().status.success());
    }

    /// Notes in the trace that this is now.
    fn mark(&self, text: &str) {
        let mut trace: File = OpenOptions::new().append(true).create(true).open(self.trace_file()).unwrap();
        trace.write_all(&mark(text)).unwrap();
    }

    /// What was recorded so far.
    pub fn trace(&self) -> Trace {
        Trace::parse(&std::fs::read(self.trace_file()).unwrap(), &self.folder())
    }
}
