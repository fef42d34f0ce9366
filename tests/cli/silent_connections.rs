//! Clients that send nothing, incomplete requests, or data very slowly: their connections are closed by timeouts, without affecting
//! other clients.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::helpers::{DEADLINE, KEY, Server, server_command, temporary_folder, wait_until};

/// Raises the descriptor limit of the test process, which opens hundreds of sockets.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// Connection of a client that sends nothing more.
struct Silent {
    socket: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Silent {
    fn open(server: &Server, sent: &str) -> Self {
        let mut client = server.client();
        client.send(sent).unwrap();
        Self::from(&client)
    }

    /// Stops sending on a client's connection.
    fn from(client: &Client) -> Self {
        let socket = client.socket().try_clone().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, received: Vec::new(), closed: false }
    }

    /// Reports whether the server has closed the connection. Collects what it sent.
    fn is_closed(&mut self) -> bool {
        let mut chunk = [0; 4096];
        while !self.closed {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(n) => self.received.extend(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
        self.closed
    }

    /// Asserts that the server sent nothing, or exactly one complete 408 problem document.
    fn assert_408_or_nothing(&self) {
        let text = String::from_utf8(self.received.clone()).unwrap();
        if text.is_empty() {
            return;
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        assert!(head.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{head}");
        let length = format!("content-length: {}", body.len());
        assert!(head.to_ascii_lowercase().contains(&length), "{length}: {text}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 408, "more than one response: {text}");
    }
}

fn closed(silent: &mut [Silent]) -> usize {
    silent.iter_mut().filter_map(|one| one.is_closed().then_some(())).count()
}

fn incomplete_requests() -> [String; 5] {
    let head = |length: usize| {
        format!(
            "POST /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    [
        String::new(),
        "GET /health HTTP/1.1\r\nHost: local".to_owned(),
        head(100),
        head(100) + "{\"caffeine",
        head(100) + "{\"caffeine_mg\": 95, \"notes\": \"to be cont",
    ]
}

#[test]
fn silent_connections_are_closed_without_affecting_other_clients() {
    raise_descriptor_limit();
    let folder = temporary_folder();
    let server = Server::spawn(server_command(folder.path()).args([
        "--idle-timeout-seconds",
        "2",
        "--request-timeout-seconds",
        "2",
    ]));
    let mut normal = server.client();
    assert_eq!(normal.get("/health").status, 200);
    let descriptors_before = server.descriptors();
    let kinds = incomplete_requests();
    let mut silent = Vec::with_capacity(500);
    for n in 0..500 {
        silent.push(Silent::open(&server, &kinds[n % kinds.len()]));
        // This client stays active however long the loop takes.
        assert_eq!(normal.get("/health").status, 200);
    }
    for _ in 0..200 {
        assert_eq!(normal.get("/health").status, 200);
    }

    wait_until("all silent connections are closed", || {
        assert_eq!(normal.get("/coffee/today").status, 200, "an active connection was closed");
        closed(&mut silent) == silent.len()
    });
    silent.iter().for_each(Silent::assert_408_or_nothing);
    let rejected = silent.iter().filter(|one| !one.received.is_empty()).count();
    assert!(rejected >= 100, "only {rejected} received a 408, but every client with an incomplete body must");
    wait_until("the descriptors are closed", || server.descriptors() <= descriptors_before);
    assert_eq!(normal.get("/coffee/today").json()["coffee_count"], 0, "an incomplete request was stored");
    assert_eq!(server.get("/health").status, 200);
    let stopped = server.stop_cleanly();
    assert!(!stopped.err.contains("panic"), "{}", stopped.err);
}

#[test]
fn a_keep_alive_connection_is_closed_only_after_the_idle_timeout() {
    let folder = temporary_folder();
    let server = Server::spawn(server_command(folder.path()).args(["--idle-timeout-seconds", "2"]));
    let mut active = server.client();
    let mut idle = server.client();
    assert_eq!(idle.get("/health").status, 200);
    let mut idle = Silent::from(&idle);
    wait_until("the idle connection is closed", || {
        assert_eq!(active.get("/health").status, 200);
        idle.is_closed()
    });
    assert!(idle.received.is_empty(), "data was sent on an idle connection");
    assert_eq!(active.get("/health").status, 200);
}

#[test]
fn a_body_that_never_ends_gets_408_and_the_connection_is_closed() {
    let folder = temporary_folder();
    let server = Server::spawn(server_command(folder.path()).args(["--request-timeout-seconds", "2"]));
    let mut client = server.client();
    client
        .send(format!("POST /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .unwrap();
    client.send("10\r\n{\"caffeine_mg\": \r\n").unwrap();
    let mut reader = Silent::from(&client);
    let start = Instant::now();
    while !reader.is_closed() {
        assert!(start.elapsed() < DEADLINE, "the connection was not closed");
        // Fails after the server has closed the connection. Its response can still be read.
        drop(client.send("1\r\n1\r\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        start.elapsed() >= Duration::from_millis(1500),
        "the connection was closed before the timeout: {:?}",
        start.elapsed()
    );
    assert!(!reader.received.is_empty(), "no 408 was sent");
    reader.assert_408_or_nothing();
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 0);
    let log = server.stop_cleanly().err;
    assert_eq!(log.matches("status=408").count(), 1, "{log}");
}
