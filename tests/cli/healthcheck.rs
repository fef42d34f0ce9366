//! `healthcheck`: its sentence and its exit code.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::fixtures::assert_fails_with;
use crate::helpers::{
    CommandResult, Server, program, report_skipped, run, server_command, temporary_folder, wait_until,
};

/// Runs `healthcheck` with these arguments and settings, without a key.
fn healthcheck(folder: &Path, args: &[&str], settings: &[(&str, &str)]) -> CommandResult {
    run(program(folder).arg("healthcheck").args(args).envs(settings.iter().copied()))
}

/// Returns the result for a program that answers a single request with these bytes and then waits.
fn asked_about(answer: &'static str) -> CommandResult {
    let folder = temporary_folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        // Closing a connection with unread bytes would reset it.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
        if answer.is_empty() {
            std::thread::sleep(Duration::from_secs(60));
        }
    };
    std::thread::spawn(serve);
    healthcheck(folder.path(), &["--url", &url], &[])
}

#[test]
fn a_server_is_alive_on_every_kind_of_address() {
    let folder = temporary_folder();
    let version = env!("CARGO_PKG_VERSION");
    for (host, here) in
        [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")]
    {
        if here == "[::1]" && TcpListener::bind("[::1]:0").is_err() {
            report_skipped("this machine has no IPv6");
            continue;
        }
        let mut command = server_command(folder.path());
        let server = Server::spawn(command.args(["--host", host]).env("ALLOWED_HOSTS", "coffee.example"));
        let port = server.address.port().to_string();
        let expected = format!("http://{here}:{port} is alive: Coffee Tracker {version}, database ok\n");
        let (url, settings) = (format!("http://{here}:{port}"), [("HOST", host), ("PORT", port.as_str())]);
        for result in
            [healthcheck(folder.path(), &[], &settings), healthcheck(folder.path(), &["--url", &url], &[])]
        {
            assert_eq!(
                (result.code, result.out.as_str(), result.err.as_str()),
                (Some(0), expected.as_str(), "")
            );
        }
        fs::write(folder.path().join("other.env"), format!("HOST={host}\nPORT={port}\n")).unwrap();
        assert_eq!(healthcheck(folder.path(), &["--config", "other.env"], &[]).out, expected);
        server.stop_cleanly();
    }
}

#[test]
fn a_degraded_server_fails_with_the_reason() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 95}"#).status, 201);
    fs::rename(folder.path().join("coffee.db"), folder.path().join("moved.db")).unwrap();
    wait_until("the server is degraded", || server.get("/health").status == 503);
    let url = format!("http://{}", server.address);
    let result = healthcheck(folder.path(), &["--url", &url], &[]);
    assert_fails_with(&result, 1, &format!("{url} is degraded: Coffee Tracker "));
    assert!(result.err.contains(", database failed, "), "{}", result.err);
    assert_eq!((result.out.as_str(), result.err.lines().count()), ("", 1), "{result:?}");
}

#[test]
fn an_unreachable_server_and_another_program_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let folder = temporary_folder();
    let result = healthcheck(folder.path(), &[], &[("PORT", &address.port().to_string())]);
    assert_fails_with(&result, 1, &format!("http://{address} is not reachable: "));
    for (answer, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "is not a Coffee Tracker"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "is not a Coffee Tracker"),
        ("HTTP/1.1 200 OK\r\n\r\n{\"status\": \"UP\"}", "is not a Coffee Tracker"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "is not a Coffee Tracker: it responds with status 404"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "rejects the host name of the URL: add it to ALLOWED_HOSTS"),
        ("HTTP/1.1 429 Too Many Requests\r\n\r\n", "limits requests"),
        ("", "has not responded within 10 seconds"),
    ] {
        assert_fails_with(&asked_about(answer), 1, expected);
    }
}

#[test]
fn an_invalid_url_is_a_usage_error() {
    let folder = temporary_folder();
    for (url, reason) in [
        ("https://coffee.example", "https is not supported"),
        ("ftp://coffee.example", "must be an address such as http://"),
        ("http://coffee.example:99999", "must be an address such as http://"),
    ] {
        assert_fails_with(&healthcheck(folder.path(), &["--url", url], &[]), 2, reason);
    }
    assert_eq!(healthcheck(folder.path(), &["--host"], &[]).code, Some(2));
    assert_fails_with(&healthcheck(folder.path(), &[], &[("PORT", "0")]), 2, "use --url");
    assert_eq!(healthcheck(folder.path(), &[], &[("PORT", "many")]).code, Some(78));
}
