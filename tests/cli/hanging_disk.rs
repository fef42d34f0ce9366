//! A disk that hangs: what needs it waits, and everything else is answered all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::Client;
use crate::fixtures::add_entries;
use crate::helpers::{DEADLINE, KEY, Server, folder, server_command, wait_until};

/// A disk that hangs when it is told to.
pub struct HangingDisk {
    folder: TempDir,
}

impl HangingDisk {
    /// Puts such a disk under the program that `command` starts.
    pub fn under(command: &mut Command) -> Self {
        let disk = Self { folder: folder() };
        let on_disk = command.get_current_dir().map(|path| path.canonicalize().unwrap()).unwrap();
        command.env("LD_PRELOAD", disk.compiled()).env("DISK", on_disk);
        command.env("DISK_HANGS", disk.sign()).env("DISK_READS_HANG", disk.sign_of_reads());
        disk
    }

    fn compiled(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/hanging_disk.c");
        let layer = self.folder.path().join("hanging_disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&layer).arg(source);
        let compiled = compiler.output().unwrap_or_else(|e| panic!("a C compiler is needed: {e}"));
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        layer
    }

    fn sign(&self) -> PathBuf {
        self.folder.path().join("it hangs")
    }

    fn sign_of_reads(&self) -> PathBuf {
        self.folder.path().join("reads hang")
    }

    /// Lets no sync come to an end from now on.
    pub fn hang(&self) {
        fs::write(self.sign(), "").unwrap();
    }

    /// Lets nothing come to an end from now on that needs the disk.
    pub fn hang_with_reads(&self) {
        fs::write(self.sign_of_reads(), "").unwrap();
        self.hang();
    }

    /// Lets the disk go on.
    pub fn go_on(&self) {
        for sign in [self.sign(), self.sign_of_reads()] {
            drop(fs::remove_file(sign));
        }
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        // A server that waits for its disk could not be stopped.
        self.go_on();
    }
}

const COFFEE: &str = r#"{"caffeine_mg": 90}"#;

/// The status of an answer that needs no disk.
fn get(server: &Server, path: &str, authorization: &str) -> u16 {
    let mut client = Client::connect(server.address);
    client.socket().set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")).unwrap();
    client.read_response().unwrap_or_else(|e| panic!("{path}: {e}")).status
}

#[test]
fn while_the_disk_hangs_health_reports_it_and_requests_without_disk_access_succeed() {
    let folder = folder();
    let mut command = server_command(folder.path());
    let disk = HangingDisk::under(&mut command);
    let server = Server::spawn(&mut command);
    let mut client = server.client();
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    let well = server.get("/health").json();
    assert_eq!(well["database"]["state"], "ok");

    disk.hang_with_reads();
    // What every connection has in its cache no longer holds.
    add_entries(&folder.path().join("coffee.db"), "meanwhile", 1);
    // More requests that read from the disk than there are threads; none can be answered.
    let key = format!("Authorization: Bearer {}\r\n", KEY);
    let waiting: Vec<Client> = (0..24)
        .map(|n| {
            let mut client = Client::connect(server.address);
            let path = ["/coffee/today", "/coffee/?limit=50", "/coffee/stats", "/metrics"][n % 4];
            client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n")).unwrap();
            client
        })
        .collect();
    wait_until("it is found out", || get(&server, "/health", "") == 503);
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
    assert_eq!(health["database"]["size_bytes"], well["database"]["size_bytes"], "the last that was known");
    assert_eq!(health["disk"]["status"], "unknown");
    assert_eq!(health["disk"]["free_bytes"], well["disk"]["free_bytes"], "the last that was known");
    assert_eq!(health["backup"]["status"], "unknown");

    disk.go_on();
    wait_until("it is well again", || server.get("/health").json()["database"]["state"] == "ok");
    for mut client in waiting {
        let status = client.read_response().unwrap().status;
        assert!([200, 503].contains(&status), "{status}");
    }
    assert_eq!(client.post("/coffee/", COFFEE).status, 201);
    server.stop_cleanly();
}
