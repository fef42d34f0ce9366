//! Runs the program with the recording library preloaded, and keeps the trace.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::helpers::{program, run, server_command, temporary_folder};
use crate::trace::{Trace, mark};

/// Compiles `recorder.c` once and returns the path of the library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/recorder.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorder.so");
        // Renamed when complete: another test run may have the current one loaded.
        let temporary = library.with_extension(format!("{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&temporary).arg(source);
        let compiled = compiler
            .output()
            .unwrap_or_else(|e| panic!("the tests need a C compiler, but `cc` cannot be run: {e}"));
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(temporary, &library).unwrap();
        library
    })
}

/// A folder with recorded changes.
pub struct Recorder {
    home: TempDir,
}

impl Recorder {
    pub fn new() -> Self {
        let recorder = Self { home: temporary_folder() };
        std::fs::create_dir(recorder.folder()).unwrap();
        recorder
    }

    /// Returns the working directory of the program.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    fn trace_file(&self) -> PathBuf {
        self.home.path().join("trace")
    }

    fn record(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", library());
        command.env("RECORDER_FOLDER", self.folder()).env("RECORDER_TRACE", self.trace_file());
        command
    }

    /// Returns a command that starts a recorded server; see [`server_command`].
    pub fn server(&self) -> Command {
        self.record(server_command(&self.folder()))
    }

    /// Writes the marker `name`, then runs the program with these arguments on the server's database.
    pub fn run(&self, name: &str, arguments: &[&str]) {
        self.mark(name);
        let mut command = program(&self.folder());
        command.args(arguments).envs([("DATABASE_URL", "coffee.db"), ("TZ", "UTC")]);
        let result = run(&mut self.record(command));
        assert_eq!(result.code, Some(0), "{result:?}");
    }

    /// Overwrites a file with zeros and syncs it, as on a failing disk.
    pub fn wipe(&self, file: &str) {
        let length = std::fs::metadata(self.folder().join(file)).unwrap().len();
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "conv=notrunc,fsync", "bs=512"]).current_dir(self.folder());
        dd.args([format!("of={file}"), format!("count={}", length / 512)]);
        assert!(self.record(dd).output().unwrap().status.success());
    }

    /// Appends a marker to the trace.
    fn mark(&self, text: &str) {
        let mut trace: File = OpenOptions::new().append(true).create(true).open(self.trace_file()).unwrap();
        trace.write_all(&mark(text)).unwrap();
    }

    /// Parses the trace recorded so far.
    pub fn trace(&self) -> Trace {
        Trace::parse(&std::fs::read(self.trace_file()).unwrap(), &self.folder())
    }
}
