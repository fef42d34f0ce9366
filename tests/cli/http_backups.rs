//! Backups over HTTP on real connections: interrupted downloads and uploads, and a server that is killed meanwhile.

use std::fs;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixtures::make_database;
use crate::helpers::{Server, peak_memory_kib, server_command, temporary_folder, wait_until};

/// Returns the job after its end.
fn finished(server: &Server, path: &str) -> Value {
    loop {
        let job = server.get(path).json();
        if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
            return job;
        }
        sleep(Duration::from_millis(20));
    }
}

/// Makes a backup and returns its path.
fn back_up(server: &Server, folder: &Path) -> PathBuf {
    let accepted = server.client().post("/backups", "");
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let job = finished(server, accepted.header("Location").unwrap());
    assert_eq!(job["state"], "succeeded", "{job}");
    folder.join("backups").join(job["result"]["file"].as_str().unwrap())
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns the names of the temporary files in the folder of backups.
fn temporary_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("backups")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp")).collect()
}

#[test]
fn a_download_survives_the_removal_of_the_file_and_resumes_where_it_was_cut_off() {
    let folder = temporary_folder();
    make_database(folder.path(), "coffee.db", 5_000);
    let server = Server::start(folder.path());
    let path = back_up(&server, folder.path());
    let content = fs::read(&path).unwrap();
    let url = format!("/backups/{}", name_of(&path));

    let mut cut_off = server.client();
    cut_off.send_request("GET", &url, "", "").unwrap();
    let head = cut_off.read_response_head().unwrap();
    assert_eq!(head.header("Content-Length"), Some(content.len().to_string().as_str()));
    let tag = head.header("ETag").unwrap().to_owned();
    cut_off.socket().shutdown(Shutdown::Both).unwrap();

    let range = format!("Range: bytes=100000-\r\nIf-Range: {tag}\r\n");
    let rest = server.client().try_request("GET", &url, &range, "").unwrap();
    assert_eq!((rest.status, rest.body.as_slice()), (206, &content[100_000..]));

    let mut slow = server.client();
    slow.send_request("GET", &url, "Connection: close\r\n", "").unwrap();
    assert_eq!(slow.read_response_head().unwrap().status, 200);
    fs::remove_file(&path).unwrap();
    assert_eq!(slow.read_to_end().unwrap(), content);
    server.get(&url).assert_problem(404);
    server.stop_cleanly();
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing() {
    let folder = temporary_folder();
    make_database(folder.path(), "coffee.db", 10);
    let server = Server::start(folder.path());
    back_up(&server, folder.path());
    let mut client = server.client();
    let head = format!(
        "POST /backups/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 10000000\r\n\r\n",
        crate::helpers::KEY
    );
    client.send(head).unwrap();
    client.send(vec![0; 2_000_000]).unwrap();
    wait_until("the upload has begun", || !temporary_files(folder.path()).is_empty());
    client.socket().shutdown(Shutdown::Both).unwrap();
    wait_until("the upload is removed", || temporary_files(folder.path()).is_empty());
    let jobs = server.get("/jobs").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1);
    server.stop_cleanly();
}

#[test]
fn a_backup_is_uploaded_to_another_server_and_restored_while_clients_write() {
    let (here, there) = (temporary_folder(), temporary_folder());
    make_database(here.path(), "coffee.db", 10_000);
    let first = Server::start(here.path());
    let path = back_up(&first, here.path());
    let content = first.get(&format!("/backups/{}", name_of(&path))).body;
    assert_eq!(content, fs::read(&path).unwrap());
    let second = Server::start(there.path());
    let mut client = second.client();
    let head = format!(
        "POST /backups/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        crate::helpers::KEY,
        content.len()
    );
    client.send(head).unwrap();
    client.send(&content).unwrap();
    let accepted = client.read_response().unwrap();
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let uploaded = finished(&second, accepted.header("Location").unwrap());
    assert_eq!(uploaded["state"], "succeeded", "{uploaded}");
    let file = uploaded["result"]["file"].as_str().unwrap().to_owned();
    assert_eq!(fs::read(there.path().join("backups").join(&file)).unwrap(), content);

    let accepted = second.client().post(&format!("/backups/{file}/restore"), r#"{"force": true}"#);
    let location = accepted.header("Location").unwrap().to_owned();
    let mut writer = second.client();
    let job = loop {
        assert_eq!(writer.post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
        let job = second.get(&location).json();
        if job["finished_at"].is_string() {
            break job;
        }
    };
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"]["coffees"], 10_000);
    let stats = second.get("/coffee/stats?days=3650").json();
    assert!(stats["total_coffees"].as_u64().unwrap() >= 10_000, "{stats}");
    second.stop_cleanly();
}

#[test]
fn a_job_is_interrupted_when_the_server_is_killed_and_its_command_ends_too() {
    let folder = temporary_folder();
    make_database(folder.path(), "coffee.db", 40_000);
    let server = Server::spawn(&mut server_command(folder.path()));
    let accepted = server.client().post("/backups", "");
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let location = accepted.header("Location").unwrap().to_owned();
    server.signal(Signal::KILL);
    drop(server);
    wait_until("the command has ended", || commands_in(folder.path()).is_empty());
    let server = Server::start(folder.path());
    let job = server.get(&location).json();
    assert_eq!((&job["state"], &job["result"]), (&"interrupted".into(), &Value::Null), "{job}");
    back_up(&server, folder.path());
    assert_eq!(temporary_files(folder.path()), Vec::<String>::new());
    server.stop_cleanly();
}

/// Returns the ids of the processes that run a backup in this folder.
fn commands_in(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_command = |process: &Path| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder)
            && fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"coffee-tracker\0backup"))
    };
    let ids = processes.map(|process| process.path()).filter(|process| is_command(process));
    ids.map(|process| process.display().to_string()).collect()
}

#[test]
fn a_backup_needs_little_memory_of_the_server() {
    let folder = temporary_folder();
    make_database(folder.path(), "coffee.db", 30_000);
    let server = Server::start(folder.path());
    let path = back_up(&server, folder.path());
    let body = server.get(&format!("/backups/{}", name_of(&path))).body;
    assert_eq!(body.len() as u64, fs::metadata(&path).unwrap().len());
    if let Some(peak) = peak_memory_kib(&server.process) {
        assert!(peak < 40 << 10, "{peak} KiB");
    }
    server.stop_cleanly();
}
