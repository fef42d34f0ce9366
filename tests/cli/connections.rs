//! Connection limits: one client cannot exhaust the connections of others.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use crate::client::{Client, request};
use crate::fixtures::command_in;
use crate::helpers::{
    DEADLINE, KEY, Server, from_bash, program_path, report_skipped, run, server_command,
    server_without_timeouts, temporary_folder, wait_until,
};

/// Connects from the loopback address 127.0.0.`host`.
fn connect_from(host: u8, server: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    connect(&socket, &server).unwrap();
    TcpStream::from(socket)
}

/// Reports whether the server has closed the connection. Discards what it sent.
fn is_closed(mut socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let mut chunk = [0; 4096];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn closed(sockets: &[TcpStream]) -> usize {
    sockets.iter().filter(|socket| is_closed(socket)).count()
}

#[test]
fn a_client_keeps_at_most_32_connections_that_have_not_completed_a_request() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut server_without_timeouts(folder.path()));
    let mut regular = server.client();
    assert_eq!(regular.get("/health").status, 200);
    let silent: Vec<TcpStream> = (0..100).map(|_| connect_from(1, server.address)).collect();
    let neighbours: Vec<TcpStream> = (0..20).map(|_| connect_from(2, server.address)).collect();
    wait_until("the connections over the limit are closed", || closed(&silent) >= 100 - 32);
    assert_eq!(closed(&silent[100 - 32..]), 0, "the oldest connections are closed first");
    assert_eq!(closed(&neighbours), 0, "the limit of one client does not affect another");
    assert_eq!(regular.get("/health").status, 200, "a connection with a completed request stays open");
}

#[test]
fn a_trusted_proxy_is_exempt_from_the_limit_per_client() {
    let folder = temporary_folder();
    let server =
        Server::spawn(server_without_timeouts(folder.path()).args(["--trusted-proxies", "127.0.0.3/32"]));
    let proxied: Vec<TcpStream> = (0..100).map(|_| connect_from(3, server.address)).collect();
    let silent: Vec<TcpStream> = (0..100).map(|_| connect_from(1, server.address)).collect();
    wait_until("the connections over the limit are closed", || closed(&silent) >= 100 - 32);
    assert_eq!(closed(&proxied), 0);
}

#[test]
fn at_the_total_limit_connections_without_a_completed_request_are_closed_first() {
    let folder = temporary_folder();
    let server = Server::spawn(server_without_timeouts(folder.path()).args(["--max-connections", "64"]));
    let mut regular: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut regular {
        assert_eq!(client.get("/coffee/today").status, 200);
    }
    let mut silent = Vec::new();
    for round in 0..30 {
        // 250 addresses, none of which exceeds the limit per client.
        silent.extend((2..=250).step_by(10).map(|host| connect_from(host, server.address)));
        for client in &mut regular {
            assert_eq!(client.get("/coffee/today").status, 200, "round {round}");
        }
        assert_eq!(server.get("/health").status, 200, "a new client in round {round}");
        silent.retain(|socket| !is_closed(socket));
    }
    wait_until("the connections over the limit are closed", || {
        silent.retain(|socket| !is_closed(socket));
        silent.len() + regular.len() <= 64
    });
}

#[test]
fn connections_with_a_completed_request_cannot_keep_newcomers_out() {
    let folder = temporary_folder();
    let server = Server::spawn(server_without_timeouts(folder.path()).args(["--max-connections", "32"]));
    let mut connections = Vec::new();
    for n in 0..100 {
        let mut client = server.client();
        assert_eq!(client.get("/health").status, 200, "newcomer {n}");
        connections.push(client);
    }
    wait_until("the connections over the limit are closed", || {
        connections.iter().filter(|client| !is_closed(client.socket())).count() <= 32
    });
}

#[test]
fn a_header_that_never_ends_is_rejected_before_it_fills_the_memory() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut server_without_timeouts(folder.path()));
    let mut client = server.client();
    let endless = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(200 << 10));
    // Fails when the server has closed the connection before reading all of it.
    drop(client.send(endless));
    wait_until("the connection is closed", || is_closed(client.socket()));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn headers_and_a_small_body_have_one_deadline() {
    let folder = temporary_folder();
    let server = Server::spawn(server_command(folder.path()).args([
        "--request-timeout-seconds",
        "2",
        "--idle-timeout-seconds",
        "3600",
    ]));
    let head = format!(
        "POST /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 20\r\n\r\n"
    );
    for sent in [head.clone(), head.clone() + "{", head + "{\"caffeine_mg\":", "GET /health HT".to_owned()] {
        let mut client = server.client();
        client.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(&sent).unwrap();
        let response = client.read_response().unwrap_or_else(|e| panic!("{e} after {sent:?}"));
        assert_eq!(response.status, 408, "after {sent:?}");
        wait_until("the connection is closed", || is_closed(client.socket()));
    }
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 0);
}

#[test]
fn large_bodies_share_a_budget_and_small_ones_need_none() {
    let folder = temporary_folder();
    let server = Server::spawn(&mut server_without_timeouts(folder.path()));
    let head = format!(
        "POST /heartrate/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n",
        8 << 20
    );
    // Four of them reserve all of the 32 MiB.
    let part = format!("{head}{{\"readings\": [{}", " ".repeat(100 << 10));
    let mut batches: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for batch in &mut batches {
        batch.send(&part).unwrap();
    }
    let mut rejected = None;
    wait_until("one of the five batches is rejected", || {
        let has_response = |client: &Client| {
            client.socket().set_nonblocking(true).unwrap();
            let found = client.socket().peek(&mut [0]).is_ok();
            client.socket().set_nonblocking(false).unwrap();
            found
        };
        rejected = batches.iter().position(has_response);
        rejected.is_some()
    });
    let response = batches.remove(rejected.unwrap()).read_response().unwrap();
    response.assert_problem(503);
    assert_eq!(response.header("Retry-After"), Some("2"));
    assert_eq!(response.json()["detail"], "Too many large requests are in progress: try again");
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201, "a small body passes");

    drop(batches);
    let readings: Vec<_> = (0..1000).map(|n| json!({"bpm": 60, "notes": format!("{n:0>100}")})).collect();
    let body = json!({ "readings": readings }).to_string();
    assert!(body.len() > 100 << 10);
    let stored = server.client().try_request("POST", "/heartrate/batch", "", &body).unwrap();
    assert_eq!((stored.status, &stored.json()["inserted"]), (201, &json!(1000)), "the budget was returned");
}

#[test]
fn silent_clients_are_closed_although_the_system_denies_access_to_other_descriptors() {
    if Command::new("strace").arg("-V").output().is_err() {
        report_skipped("strace is not installed");
        return;
    }
    let folder = temporary_folder();
    let plain = server_command(folder.path());
    let mut traced = Command::new("strace");
    // -D: the server stays the direct child, which the test ends.
    traced.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=pidfd_getfd,pidfd_open"]);
    traced.args(["-e", "inject=pidfd_getfd,pidfd_open:error=EPERM"]);
    traced.arg(program_path()).args(plain.get_args()).args(["--idle-timeout-seconds", "2"]);
    traced.env_clear().current_dir(folder.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    traced.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::spawn(&mut traced);
    let health = server.get("/health").json();
    assert_eq!(health["connections"]["protection"], "full", "{health}");
    let silent = connect_from(1, server.address);
    wait_until("the silent connection is closed", || is_closed(&silent));
}

#[test]
fn a_too_low_descriptor_limit_is_reported_and_respected() {
    let folder = temporary_folder();
    let limited = |command: &Command| from_bash("ulimit -n 160", command);
    let reason = "the file descriptor limit of 160 allows only 32 connections, fewer than MAX_CONNECTIONS; raise LimitNOFILE";
    let server = Server::spawn(&mut limited(&server_without_timeouts(folder.path())));
    let health = server.get("/health").json();
    let open = health["connections"]["open"].clone();
    let expected = json!({"protection": "reduced", "open": open, "limit": 32, "reason": reason});
    assert_eq!(health["connections"], expected);
    assert!(server.process.err.text().contains(reason), "{}", server.process.err.text());
    let silent: Vec<TcpStream> = (0..200).map(|n| connect_from(n + 1, server.address)).collect();
    assert_eq!(server.get("/health").status, 200);
    wait_until("the connections over the limit are closed", || closed(&silent) >= 200 - 32);

    let mut check = limited(&command_in(folder.path(), &["check"]));
    let found = run(check.env("API_KEY", KEY)).out;
    let line = found.lines().find(|line| line.contains(" connections ")).unwrap_or_default();
    assert!(line.starts_with("FAIL:") && line.contains(reason), "{found}");
}

#[test]
fn a_request_in_progress_is_never_closed_for_a_newcomer() {
    let folder = temporary_folder();
    let server = Server::spawn(server_without_timeouts(folder.path()).args(["--max-connections", "16"]));
    let mut slow = server.client();
    let whole = request("POST", "/coffee/", "Expect: 100-continue\r\n", r#"{"caffeine_mg": 90}"#);
    let (head, body) = whole.split_at(whole.len() - r#"{"caffeine_mg": 90}"#.len());
    slow.send(head).unwrap();
    assert_eq!(slow.read_response_head().unwrap().status, 100);
    let silent: Vec<TcpStream> = (0..200).map(|n| connect_from(n + 1, server.address)).collect();
    wait_until("the connections over the limit are closed", || closed(&silent) >= 200 - 15);
    slow.send(body).unwrap();
    assert_eq!(slow.read_response().unwrap().status, 201);
}
