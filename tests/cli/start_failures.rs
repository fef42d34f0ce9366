//! Failed starts: the exit code, and an error message with the next step.

use std::net::TcpListener;
use std::path::Path;

use rusqlite::Connection;

use crate::fixtures::assert_fails_with;
use crate::helpers::{CommandResult, Server, program, run, server_command, temporary_folder};

/// Asserts that a start failed with this exit code and error message, and printed nothing else.
#[track_caller]
fn assert_start_fails(result: &CommandResult, code: i32, message: &str) {
    assert_fails_with(result, code, message);
    for noise in ["RUST_BACKTRACE", "Error:"] {
        assert!(!result.err.contains(noise), "{noise} in {}", result.err);
    }
    assert_eq!(result.out, "", "standard output is empty");
}

/// Creates a database with SQL statements.
fn foreign_database(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_port_in_use_is_reported_as_temporary() {
    let folder = temporary_folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let result =
        run(server_command(folder.path()).env("PORT", "1").args(["--port", &address.port().to_string()]));
    assert_eq!(result.code, Some(2), "a repeated flag is a usage error");
    let mut command = program(folder.path());
    let result = run(command.args(["serve", "--port", &address.port().to_string()]));
    assert_start_fails(
        &result,
        75,
        &format!("port {} is already in use by another program; set PORT", address.port()),
    );
}

#[test]
fn an_address_of_another_machine_is_reported_as_temporary() {
    let folder = temporary_folder();
    let result = run(server_command(folder.path()).args(["--host", "192.0.2.1"]));
    assert_start_fails(&result, 75, "cannot listen on 192.0.2.1:0: this machine has no such address");
}

#[test]
fn a_second_server_on_the_same_database_is_rejected_and_the_first_keeps_running() {
    let folder = temporary_folder();
    let first = Server::start(folder.path());
    let mut client = first.client();
    assert_eq!(client.post("/coffee/", r#"{"caffeine_mg": 64}"#).status, 201);
    let result = run(&mut server_command(folder.path()));
    assert_start_fails(&result, 75, "coffee.db is in use by another coffee-tracker server");
    assert_eq!(client.post("/coffee/", r#"{"caffeine_mg": 64}"#).status, 201);
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], 2);
    let stopped = first.stop_cleanly();
    assert!(!stopped.err.contains("WARNING"), "{}", stopped.err);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_folder_that_cannot_be_created_is_reported() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("file"), "not a folder").unwrap();
    let mut command = program(folder.path());
    let result =
        run(command.arg("serve").env("DATABASE_URL", "sqlite:///file/below/coffee.db").env("PORT", "0"));
    assert_start_fails(&result, 78, "file/below");
}

#[test]
fn a_folder_in_place_of_the_database_is_reported() {
    let folder = temporary_folder();
    std::fs::create_dir(folder.path().join("coffee.db")).unwrap();
    assert_start_fails(
        &run(&mut server_command(folder.path())),
        78,
        "coffee.db is a folder, not a database file",
    );
}

#[test]
fn a_file_that_is_not_a_database_is_reported_and_unchanged() {
    let folder = temporary_folder();
    let text = "espresso, flat white, ristretto\n".repeat(400);
    std::fs::write(folder.path().join("coffee.db"), &text).unwrap();
    let result = run(&mut server_command(folder.path()));
    assert_start_fails(&result, 78, "coffee.db is not a SQLite database");
    assert_eq!(std::fs::read_to_string(folder.path().join("coffee.db")).unwrap(), text);
}

#[test]
fn a_newer_schema_is_rejected_with_both_versions() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    foreign_database(&folder.path().join("coffee.db"), "pragma user_version = 51");
    let result = run(&mut server_command(folder.path()));
    assert_start_fails(&result, 78, "schema version 51, but this program knows versions up to 7");
}

#[test]
fn a_database_of_another_program_is_rejected_and_unchanged() {
    let folder = temporary_folder();
    let path = folder.path().join("coffee.db");
    foreign_database(&path, "create table recipes (name text); insert into recipes values ('tiramisu')");
    let before = std::fs::read(&path).unwrap();
    let result = run(&mut server_command(folder.path()));
    assert_start_fails(&result, 78, "coffee.db is a SQLite database of another program");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_docker_stack_database_is_rejected_with_the_import_command() {
    let folder = temporary_folder();
    let path = folder.path().join("coffee.db");
    foreign_database(
        &path,
        "create table coffee_logs (id integer not null primary key, timestamp datetime, \
             caffeine_mg float not null, coffee_type varchar(100), notes text);
         create table heart_rate_logs (id integer not null primary key, timestamp datetime, \
             bpm integer not null, context varchar(50), notes text);
         create index ix_coffee_logs_timestamp on coffee_logs (timestamp);
         create index ix_heart_rate_logs_context_timestamp on heart_rate_logs (context, timestamp);
         insert into coffee_logs values (1, '2025-10-02 10:30:15.123456', 95.0, 'espresso', null);
         insert into heart_rate_logs values (1, '2025-10-02 10:45:00', 72, 'resting', null);",
    );
    let before = std::fs::read(&path).unwrap();
    let result = run(&mut server_command(folder.path()));
    assert_start_fails(&result, 78, "coffee-tracker import coffee.db");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn weak_and_published_keys_are_rejected_unless_debug_is_set() {
    let folder = temporary_folder();
    for (key, message) in [
        ("coffee-addict-secret-key-2025", "published default"),
        ("short", "the API key has 5 characters; it needs at least 16"),
    ] {
        let result = run(server_command(folder.path()).env("API_KEY", key));
        assert_start_fails(&result, 78, message);
        assert!(key.len() < 6 || !result.err.contains(key), "the key is not in the message");
        let with_debug =
            Server::spawn(server_command(folder.path()).envs([("API_KEY", key), ("DEBUG", "true")]));
        let mut client = with_debug.client();
        client
            .send(format!(
                "GET /coffee/today HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
            ))
            .unwrap();
        assert_eq!(client.read_response().unwrap().status, 200);
        with_debug.stop_cleanly();
    }
    assert_start_fails(
        &run(server_command(folder.path()).env("API_KEY", "a key with spaces in it")),
        78,
        "visible ASCII",
    );
}

#[test]
fn a_key_file_is_used_and_a_missing_one_is_reported() {
    let folder = temporary_folder();
    let mut command = server_command(folder.path());
    command.env_remove("API_KEY").env("API_KEY_FILE", "my.key");
    assert_start_fails(&run(&mut command), 78, "the API key in my.key cannot be read");
    std::fs::write(folder.path().join("my.key"), format!("{}\n", crate::helpers::KEY)).unwrap();
    let with_file = Server::spawn(&mut command);
    assert_eq!(with_file.get("/coffee/today").status, 200);
}
