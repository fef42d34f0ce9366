//! Log lines: contents, formats, and private data that is never logged.

use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use crate::helpers::{
    CommandResult, KEY, Server, from_bash, program, run, server_command, temporary_folder, wait_until,
};

const SECRET_NOTE: &str = "private-note";

/// Runs a server through successful and rejected requests, and stops it.
fn run_server_with_requests(folder: &Path, settings: &[(&str, &str)]) -> CommandResult {
    let server = Server::spawn(server_command(folder).envs(settings.iter().copied()));
    let mut client = server.client();
    let note = |mg: &str| {
        format!(r#"{{"caffeine_mg": {mg}, "notes": "{SECRET_NOTE}", "coffee_type": "{SECRET_NOTE}"}}"#)
    };
    let request = |client: &mut crate::client::Client, id: &str, method: &str, path: &str, body: &str| {
        let headers = format!("X-Request-ID: {id}\r\n");
        client.try_request(method, path, &headers, body).unwrap().status
    };
    assert_eq!(request(&mut client, "id-stored", "POST", "/coffee/", &note("95")), 201);
    assert_eq!(request(&mut client, "id-unfit", "POST", "/coffee/", &note("-95")), 422);
    assert_eq!(request(&mut client, "id-broken", "POST", "/coffee/", &note("95}{")), 422);
    assert_eq!(
        request(&mut client, "id-read", "GET", &format!("/coffee/?coffee_type={SECRET_NOTE}"), ""),
        200
    );
    assert_eq!(request(&mut client, "id-missing", "DELETE", "/coffee/77", ""), 404);
    assert_eq!(request(&mut client, "id-nowhere", "GET", &format!("/{SECRET_NOTE}"), ""), 404);
    assert_eq!(request(&mut client, "id-health", "GET", "/health", ""), 200);
    let mut unauthorized = server.client();
    unauthorized
        .send("GET /coffee/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: id-key\r\nAuthorization: Bearer wrong-key-of-a-client\r\n\r\n")
        .unwrap();
    assert_eq!(unauthorized.read_response().unwrap().status, 401);
    server.stop_cleanly()
}

/// Asserts that the output contains no private data.
fn assert_no_private_data(result: &CommandResult) {
    for text in [&result.out, &result.err] {
        for private in [KEY, SECRET_NOTE, "wrong-key-of-a-client"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
}

#[test]
fn every_request_is_logged_in_one_line_without_private_data() {
    let folder = temporary_folder();
    let result = run_server_with_requests(folder.path(), &[("LOG_LEVEL", "debug")]);
    assert_no_private_data(&result);
    for (id, method, route, status) in [
        ("id-stored", "POST", "/coffee/", 201),
        ("id-unfit", "POST", "/coffee/", 422),
        ("id-broken", "POST", "/coffee/", 422),
        ("id-read", "GET", "/coffee/", 200),
        ("id-missing", "DELETE", "/coffee/<id>", 404),
        ("id-nowhere", "GET", "unmatched", 404),
        ("id-health", "GET", "/health", 200),
        ("id-key", "GET", "/coffee/", 401),
    ] {
        let lines: Vec<&str> = result.err.lines().filter(|line| line.contains(id)).collect();
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        let fields: Vec<&str> = lines[0].split_whitespace().collect();
        for expected in [
            format!("id={id}"),
            format!("method={method}"),
            format!("route={route}"),
            format!("status={status}"),
            "client=127.0.0.1".to_owned(),
        ] {
            assert!(fields.contains(&expected.as_str()), "{expected} in {}", lines[0]);
        }
        let number = |name: &str| {
            let field = fields.iter().find_map(|field| field.strip_prefix(name)).unwrap_or_default();
            field.parse::<f64>().unwrap_or_else(|e| panic!("{name}{field}: {e} in {}", lines[0]))
        };
        assert!(number("ms=") > 0.0 && number("bytes=") > 0.0, "{}", lines[0]);
        assert_eq!(fields[1], "INFO");
    }
}

#[test]
fn every_json_line_is_valid_json() {
    let folder = temporary_folder();
    let result = run_server_with_requests(folder.path(), &[("LOG_FORMAT", "json")]);
    assert_no_private_data(&result);
    let lines: Vec<Value> = result
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let line = lines.iter().find(|line| line["id"] == "id-stored").expect("the request is logged");
    assert_eq!((&line["method"], &line["route"]), (&Value::from("POST"), &Value::from("/coffee/")));
    assert_eq!((&line["status"], &line["level"]), (&Value::from(201), &Value::from("INFO")));
    assert!(line["ms"].is_number() && line["bytes"].is_number() && line["timestamp"].is_string(), "{line}");
    assert_eq!(line["client"], "127.0.0.1");
}

#[test]
fn journald_lines_begin_with_their_priority() {
    let folder = temporary_folder();
    let settings = [("LOG_FORMAT", "journald"), ("REDIS_URL", "redis://x")];
    let result = run_server_with_requests(folder.path(), &settings);
    assert_no_private_data(&result);
    let priority = |text: &str| result.err.lines().find(|l| l.contains(text)).and_then(|l| l.get(..3));
    assert_eq!(priority("id-stored"), Some("<6>"));
    assert_eq!(priority("REDIS_URL"), Some("<4>"));
    assert!(result.err.lines().all(|line| line.starts_with('<')), "{}", result.err);
}

#[test]
fn lines_below_the_minimum_level_are_not_logged() {
    let folder = temporary_folder();
    let settings = [("LOG_LEVEL", "warning"), ("REDIS_URL", "redis://x")];
    let result = run_server_with_requests(folder.path(), &settings);
    assert_eq!(result.err.lines().count(), 1, "more than the warning: {}", result.err);
    assert!(result.err.contains("WARNING"));
    let result =
        run_server_with_requests(folder.path(), &[("LOG_LEVEL", "CRITICAL"), ("REDIS_URL", "redis://x")]);
    assert_eq!(result.err, "");
}

#[test]
fn lines_for_systemd_have_priorities_and_the_key_is_not_in_the_journal() {
    let folder = temporary_folder();
    let mut command = program(folder.path());
    command.args(["serve", "--port", "0"]);
    // systemd sets JOURNAL_STREAM to the stream of the journal; here, it is the pipe that the test reads.
    let setup = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
    let server = Server::spawn(&mut from_bash(setup, &command));
    assert_eq!(server.get("/health").status, 200);
    let result = server.stop_cleanly();
    let key = std::fs::read_to_string(folder.path().join("data/coffee.key")).unwrap();
    assert!(!result.out.contains(key.trim()) && !result.err.contains(key.trim()));
    assert!(result.err.lines().all(|line| line.starts_with('<')), "{}", result.err);
}

#[test]
fn an_internal_error_is_logged_without_private_data_and_not_described_in_the_response() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    Connection::open(folder.path().join("coffee.db"))
        .unwrap()
        .execute_batch("alter table coffee_logs rename column notes to scribbles")
        .unwrap();
    let body = format!(r#"{{"caffeine_mg": 95, "notes": "{SECRET_NOTE}"}}"#);
    let mut client = server.client();
    let response = client.try_request("POST", "/coffee/", "X-Request-ID: id-fault\r\n", &body).unwrap();
    response.assert_problem(500);
    let text = String::from_utf8(response.body).unwrap();
    assert!(
        !text.contains("notes") && !text.contains("coffee_logs") && !text.contains(SECRET_NOTE),
        "{text}"
    );
    let result = server.stop_cleanly();
    assert_no_private_data(&result);
    let fault = result.err.lines().find(|line| line.contains("ERROR")).expect("the error is logged");
    assert!(fault.contains("id-fault"), "{fault}");
}

#[test]
fn a_slow_query_is_logged_as_a_warning_with_its_name() {
    let folder = temporary_folder();
    let mut demo = program(folder.path());
    demo.args(["demo", "--days", "60", "--database-url", "coffee.db"]);
    assert_eq!(run(&mut demo).code, Some(0));
    let server = Server::spawn(server_command(folder.path()).args(["--slow-query-ms", "1"]));
    assert_eq!(server.get("/heartrate/correlation?days=90").status, 200);
    wait_until("the query is logged", || server.process.err.text().contains("slow query"));
    let log = server.process.err.text();
    let line = log.lines().find(|line| line.contains("slow query")).unwrap();
    assert!(line.contains("WARNING") && line.contains("query=") && line.contains("milliseconds="), "{line}");
}
