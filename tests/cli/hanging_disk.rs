//! A disk that hangs: requests that need it wait, all others succeed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::Client;
use crate::fixtures::add_entries;
use crate::helpers::{DEADLINE, KEY, Server, server_command, temporary_folder, wait_until};

/// Preloaded library that simulates a hanging disk.
pub struct HangingDisk {
    folder: TempDir,
}

impl HangingDisk {
    /// Adds the library to a command. Its files are those below its working directory.
    pub fn preload(command: &mut Command) -> Self {
        let disk = Self { folder: temporary_folder() };
        let on_disk = command.get_current_dir().map(|path| path.canonicalize().unwrap()).unwrap();
        command.env("LD_PRELOAD", disk.compile_library()).env("DISK", on_disk);
        command.env("DISK_HANGS", disk.syncs_flag()).env("DISK_READS_HANG", disk.reads_flag());
        disk
    }

    fn compile_library(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/hanging_disk.c");
        let library = self.folder.path().join("hanging_disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        let compiled = compiler
            .output()
            .unwrap_or_else(|e| panic!("the tests need a C compiler, but `cc` cannot be run: {e}"));
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        library
    }

    fn syncs_flag(&self) -> PathBuf {
        self.folder.path().join("syncs hang")
    }

    fn reads_flag(&self) -> PathBuf {
        self.folder.path().join("reads hang")
    }

    /// Blocks every sync until [`Self::resume`].
    pub fn hang(&self) {
        fs::write(self.syncs_flag(), "").unwrap();
    }

    /// Blocks every sync and every read until [`Self::resume`].
    pub fn hang_with_reads(&self) {
        fs::write(self.reads_flag(), "").unwrap();
        self.hang();
    }

    /// Unblocks the disk.
    pub fn resume(&self) {
        for flag in [self.syncs_flag(), self.reads_flag()] {
            drop(fs::remove_file(flag));
        }
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        // A server that waits for the disk cannot be stopped.
        self.resume();
    }
}

const COFFEE: &str = r#"{"caffeine_mg": 90}"#;

/// Requests a path that needs no disk access, and returns the status.
fn get(server: &Server, path: &str, authorization: &str) -> u16 {
    let mut client = Client::connect(server.address);
    client.socket().set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")).unwrap();
    client.read_response().unwrap_or_else(|e| panic!("{path}: {e}")).status
}

#[test]
fn while_the_disk_hangs_health_reports_it_and_requests_without_disk_access_succeed() {
    let folder = temporary_folder();
    let mut command = server_command(folder.path());
    let disk = HangingDisk::preload(&mut command);
    let server = Server::spawn(&mut command);
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    let before = server.get("/health").json();
    assert_eq!(before["database"]["state"], "ok");

    disk.hang_with_reads();
    // Invalidates the cache of every connection.
    add_entries(&folder.path().join("coffee.db"), "meanwhile", 1);
    // More requests that read from the disk than there are threads. None can complete.
    let key = format!("Authorization: Bearer {}\r\n", KEY);
    let waiting: Vec<Client> = (0..24)
        .map(|n| {
            let mut client = Client::connect(server.address);
            let path = ["/coffee/today", "/coffee/?limit=50", "/coffee/stats", "/metrics"][n % 4];
            client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n")).unwrap();
            client
        })
        .collect();
    wait_until("the hanging disk is detected", || get(&server, "/health", "") == 503);
    for _ in 0..3 {
        for path in ["/", "/static/icon.svg", "/info", "/docs", "/openapi.json"] {
            assert_eq!(get(&server, path, ""), 200, "{path}");
        }
        assert_eq!(get(&server, "/coffee/", ""), 401);
        assert_eq!(get(&server, "/coffee/", "Authorization: Bearer wrong\r\n"), 401);
        assert_eq!(get(&server, "/nowhere", ""), 404);
        assert_eq!(get(&server, "/health", ""), 503);
        assert_eq!(get(&server, "/metrics", &key), 200);
    }
    let health = server.get("/health").json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["database"]["status"], "unhealthy");
    assert_eq!(health["database"]["state"], "hangs");
    assert_eq!(health["database"]["error"], "the disk does not answer");
    assert_eq!(health["database"]["size_bytes"], before["database"]["size_bytes"], "the last known value");
    assert_eq!(health["disk"]["status"], "unknown");
    assert_eq!(health["disk"]["free_bytes"], before["disk"]["free_bytes"], "the last known value");
    assert_eq!(health["backup"]["status"], "unknown");

    disk.resume();
    wait_until("the database state is ok again", || {
        server.get("/health").json()["database"]["state"] == "ok"
    });
    for mut client in waiting {
        let status = client.read_response().unwrap().status;
        assert!([200, 503].contains(&status), "{status}");
    }
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    server.stop_cleanly();
}
