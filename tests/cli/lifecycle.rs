//! First start, later starts, and stop of the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::client::Client;
use crate::helpers;
use crate::helpers::{KEY, Server, database, number, temporary_folder, wait_until};

/// Starts a server without a configured key: it generates one.
fn start_without_key(folder: &Path) -> Server {
    let mut command = helpers::program(folder);
    Server::spawn(command.args(["serve", "--port", "0"]))
}

/// Request of the curl command that the server prints.
struct CurlLine {
    header: String,
    body: String,
    address: SocketAddr,
    path: String,
}

fn curl_line(out: &str) -> CurlLine {
    let line = out.lines().map(str::trim).find(|line| line.starts_with("curl ")).expect("a curl line");
    let header = line.split("-H \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let body = line.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    let url = line.rsplit("http://").next().unwrap();
    let (address, path) = url.split_once('/').unwrap();
    CurlLine {
        header: header.to_owned(),
        body: body.to_owned(),
        address: address.parse().unwrap(),
        path: format!("/{path}"),
    }
}

impl CurlLine {
    fn run(&self) -> crate::client::Response {
        let mut client = Client::connect(self.address);
        client
            .send(format!(
                "POST {} HTTP/1.1\r\nHost: {}\r\n{}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\n\r\n{}",
                self.path,
                self.address,
                self.header,
                self.body.len(),
                self.body
            ))
            .unwrap();
        client.read_response().unwrap()
    }
}

#[test]
fn the_first_start_prints_url_key_and_a_working_curl_command() {
    let folder = temporary_folder();
    let server = start_without_key(folder.path());
    wait_until("the curl line is printed", || server.process.out.text().contains("/coffee/\n"));
    let out = server.process.out.text();
    let key_file = folder.path().join("data/coffee.key");
    let key = std::fs::read_to_string(&key_file).unwrap().trim().to_owned();
    assert!(key.len() >= 32, "{key}");
    assert_eq!(helpers::mode(&key_file), 0o600);
    assert!(out.contains(&format!("API key: {key}\n")), "{out}");
    let curl = curl_line(&out);
    assert_eq!(curl.header, format!("Authorization: Bearer {key}"));
    assert_eq!(curl.address, server.address);
    let logged = curl.run();
    assert_eq!(logged.status, 201);
    assert_eq!(logged.header("Location"), Some("/coffee/1"));
    assert_eq!(logged.json()["caffeine_mg"], 95.0);
    assert_eq!(logged.json()["coffee_type"], "espresso");
    let result = server.stop_cleanly();
    assert!(!result.err.contains(&key), "the key is in the log");
}

#[test]
fn the_key_is_printed_once_and_stays_valid() {
    let folder = temporary_folder();
    start_without_key(folder.path()).stop_cleanly();
    let key_file = folder.path().join("data/coffee.key");
    let key = std::fs::read_to_string(&key_file).unwrap().trim().to_owned();

    let second = start_without_key(folder.path());
    wait_until("the curl line is printed", || second.process.out.text().contains("/coffee/\n"));
    let out = second.process.out.text();
    let mut curl = curl_line(&out);
    assert_eq!(
        curl.header, "Authorization: Bearer $(cat data/coffee.key)",
        "the shell reads the key from its file"
    );
    curl.header = format!("Authorization: Bearer {key}");
    assert_eq!(curl.run().status, 201);
    let result = second.stop_cleanly();
    assert!(!result.out.contains(&key) && !result.err.contains(&key));
    assert_eq!(std::fs::read_to_string(&key_file).unwrap().trim(), key);
}

#[test]
fn a_failed_start_does_not_prevent_printing_the_key_later() {
    let folder = temporary_folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut failing = helpers::program(folder.path());
    assert_eq!(helpers::run(failing.args(["serve", "--port", &port])).code, Some(75));
    let server = start_without_key(folder.path());
    wait_until("the key is printed", || server.process.out.text().contains("API key: ct_"));
}

#[test]
fn an_empty_key_file_after_a_power_cut_gets_a_new_key() {
    let folder = temporary_folder();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let key_file = folder.path().join("data/coffee.key");
    std::fs::write(&key_file, "").unwrap();
    let server = start_without_key(folder.path());
    wait_until("the key is printed", || server.process.out.text().contains("API key: ct_"));
    assert_eq!(helpers::mode(&key_file), 0o600);
}

#[test]
fn all_entries_are_stored_after_sigterm_and_after_sigint() {
    let folder = temporary_folder();
    for (round, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let server = Server::start(folder.path());
        let mut client = server.client();
        assert_eq!(client.post("/coffee/", r#"{"caffeine_mg": 80, "notes": "kept"}"#).status, 201);
        assert_eq!(client.post("/heartrate/", r#"{"bpm": 61}"#).status, 201);
        let seen = client.get("/coffee/").body;
        server.signal(signal);
        let result = server.process.wait();
        assert_eq!(result.code, Some(0), "{result:?}");

        let again = Server::start(folder.path());
        let mut client = again.client();
        assert_eq!(client.get("/coffee/").body, seen);
        assert_eq!(client.get("/coffee/").json().as_array().unwrap().len(), round + 1);
        assert_eq!(client.get("/heartrate/current").json()["bpm"], 61);
        let result = again.stop_cleanly();
        assert!(!result.err.contains("not clean"), "{}", result.err);
    }
}

/// Asserts that the WAL is empty or missing, as after a clean stop.
fn assert_checkpointed(folder: &Path) {
    let log = std::fs::metadata(folder.join("coffee.db-wal")).map_or(0, |m| m.len());
    assert_eq!(log, 0, "the WAL was not checkpointed");
}

#[test]
fn a_stop_refuses_new_connections_completes_running_requests_and_checkpoints() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let body = r#"{"caffeine_mg": 120, "notes": "arrived while the server was stopping"}"#;
    let mut slow = server.client();
    let more = "Expect: 100-continue\r\n";
    let whole = crate::client::request("POST", "/coffee/", more, body);
    let (head, _) = whole.split_at(whole.len() - body.len());
    slow.send(head).unwrap();
    assert_eq!(slow.read_response_head().unwrap().status, 100, "the server reads the body");
    let (first, last) = body.split_at(40);
    slow.send(first).unwrap();

    server.signal(Signal::TERM);
    wait_until("new connections are refused", || Client::try_connect(server.address).is_err());
    for byte in last.as_bytes() {
        slow.send([*byte]).unwrap_or_else(|e| panic!("{e}; {}", server.process.err.text()));
    }
    let response = slow.read_response().unwrap();
    assert_eq!(response.status, 201, "a running request gets its response");
    assert_eq!(response.json()["caffeine_mg"], 120.0);

    let result = server.process.wait();
    assert_eq!(result.code, Some(0), "{result:?}");
    let order = ["SIGTERM received: completing running requests", "status=201", "stopped"]
        .map(|part| result.err.find(part));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?} in {}", result.err);
    assert_checkpointed(folder.path());
    let query = "select count(*) from coffee_logs where caffeine_mg = 120";
    assert_eq!(number(&database(folder.path()), query), 1);
}

#[test]
fn a_stop_during_a_burst_of_writes_loses_no_acknowledged_write() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let (acknowledged, address) = (AtomicUsize::new(0), server.address);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while let Ok(response) = client.try_request("POST", "/coffee/", "", r#"{"caffeine_mg": 1}"#) {
                    assert!(matches!(response.status, 201 | 503), "{}", response.status);
                    acknowledged.fetch_add(usize::from(response.status == 201), Ordering::Relaxed);
                }
            });
        }
        wait_until("the burst runs", || acknowledged.load(Ordering::Relaxed) > 40);
        let result = server.stop_cleanly();
        assert!(!result.err.contains("ERROR"), "{}", result.err);
    });
    assert_checkpointed(folder.path());
    let stored = number(&database(folder.path()), "select count(*) from coffee_logs");
    assert_eq!(
        stored,
        i64::try_from(acknowledged.into_inner()).unwrap(),
        "every acknowledged write and no other is stored"
    );
}

#[test]
fn idle_connections_and_incomplete_bodies_do_not_delay_a_stop() {
    let folder = temporary_folder();
    // Only the stop can close these connections.
    let server = Server::spawn(&mut helpers::server_without_timeouts(folder.path()));
    let mut idle: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/coffee/today").status, 200);
    }
    let silent: Vec<Client> = (0..20).map(|_| server.client()).collect();
    let mut endless = server.client();
    endless
        .send(format!(
            "POST /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Length: 500\r\n\r\n{{\"caffeine_mg\": 1"
        ))
        .unwrap();
    server.stop_cleanly();
    assert_checkpointed(folder.path());
    drop((idle, silent, endless));
}
