//! Clients that say nothing, half of what they mean, or very slowly: they are closed in
//! time, and whoever talks properly never notices.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::helpers::{DEADLINE, KEY, Server, folder, server_command, wait_until};

/// Hundreds of sockets at once need their descriptors here too.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A connection that has sent this and will never send more.
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

    /// Listens to a client from now on.
    fn from(client: &Client) -> Self {
        let socket = client.socket().try_clone().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, received: Vec::new(), closed: false }
    }

    /// Has the server closed it? Keeps what it said before.
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

    /// It heard nothing, or one whole 408 as a problem document.
    fn assert_told_why_or_nothing(&self) {
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
        assert_eq!(problem["status"], 408, "one answer and no more: {text}");
    }
}

fn closed(silent: &mut [Silent]) -> usize {
    silent.iter_mut().filter_map(|one| one.is_closed().then_some(())).count()
}

fn halves() -> [String; 5] {
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
    let folder = folder();
    let server = Server::spawn(server_command(folder.path()).args([
        "--idle-timeout-seconds",
        "2",
        "--request-timeout-seconds",
        "2",
    ]));
    let mut normal = server.client();
    assert_eq!(normal.get("/health").status, 200);
    let at_first = server.descriptors();
    let kinds = halves();
    let mut silent = Vec::with_capacity(500);
    for n in 0..500 {
        silent.push(Silent::open(&server, &kinds[n % kinds.len()]));
        // However long that takes, this one is not silent.
        assert_eq!(normal.get("/health").status, 200);
    }
    for _ in 0..200 {
        assert_eq!(normal.get("/health").status, 200);
    }

    wait_until("all silent connections are closed", || {
        assert_eq!(normal.get("/coffee/today").status, 200, "a client in use is never closed");
        closed(&mut silent) == silent.len()
    });
    silent.iter().for_each(Silent::assert_told_why_or_nothing);
    let told = silent.iter().filter(|one| !one.received.is_empty()).count();
    assert!(told >= 100, "only {told} heard why: those with half a body should all");
    wait_until("its descriptors are back", || server.descriptors() <= at_first);
    assert_eq!(normal.get("/coffee/today").json()["coffee_count"], 0, "half a coffee is none");
    assert_eq!(server.get("/health").status, 200);
    let stopped = server.stop_cleanly();
    assert!(!stopped.err.contains("panic"), "{}", stopped.err);
}

#[test]
fn a_keep_alive_connection_is_closed_only_after_the_idle_timeout() {
    let folder = folder();
    let server = Server::spawn(server_command(folder.path()).args(["--idle-timeout-seconds", "2"]));
    let mut used = server.client();
    let mut left = server.client();
    assert_eq!(left.get("/health").status, 200);
    let mut left = Silent::from(&left);
    wait_until("the one that was left is closed", || {
        assert_eq!(used.get("/health").status, 200);
        left.is_closed()
    });
    assert!(left.received.is_empty(), "a keep-alive connection ends without a word");
    assert_eq!(used.get("/health").status, 200);
}

#[test]
fn a_body_that_never_ends_gets_408_and_the_connection_is_closed() {
    let folder = folder();
    let server = Server::spawn(server_command(folder.path()).args(["--request-timeout-seconds", "2"]));
    let mut client = server.client();
    client
        .send(format!("POST /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .unwrap();
    client.send("10\r\n{\"caffeine_mg\": \r\n").unwrap();
    let mut reader = Silent::from(&client);
    let start = Instant::now();
    while !reader.is_closed() {
        assert!(start.elapsed() < DEADLINE, "the connection is never closed");
        // Fails once the server has closed; what it said is still to be read.
        drop(client.send("1\r\n1\r\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() >= Duration::from_millis(1500), "it had its time: {:?}", start.elapsed());
    assert!(!reader.received.is_empty(), "it hears why");
    reader.assert_told_why_or_nothing();
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 0);
    let log = server.stop_cleanly().err;
    assert_eq!(log.matches("status=408").count(), 1, "{log}");
}
