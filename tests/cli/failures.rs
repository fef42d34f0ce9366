//! What stops a start: the exit code, and one clear sentence that says what to do.

use std::net::TcpListener;
use std::path::Path;

use rusqlite::Connection;

use crate::helpers::{CommandResult, Server, folder, program, run, server_command};

/// Asserts the code and that the last words are one sentence for people.
#[track_caller]
fn assert_fails(result: &CommandResult, code: i32, message: &str) {
    assert_eq!(result.code, Some(code), "{result:?}");
    let last: Vec<&str> = result.err.lines().filter(|line| line.starts_with("coffee-tracker: ")).collect();
    assert_eq!(last.len(), 1, "one sentence: {}", result.err);
    assert!(last[0].contains(message), "{:?} lacks {message:?}", last[0]);
    for noise in ["panicked", "RUST_BACKTRACE", "Error:", "Error {", "Some(", "SqliteFailure"] {
        assert!(!result.err.contains(noise), "{noise} in {}", result.err);
    }
    assert_eq!(result.out, "", "nothing on standard output");
}

/// Makes a file with SQL of the test's own.
fn foreign_database(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_port_that_is_taken_is_named_and_worth_another_try() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let result = run(server_command(folder.path()).env("PORT", "1").args(["--port", &address.port().to_string()]));
    assert_eq!(result.code, Some(2), "a flag given twice is the command line's fault");
    let mut command = program(folder.path());
    let result = run(command.args(["serve", "--port", &address.port().to_string()]));
    assert_fails(
        &result,
        75,
        &format!("port {} is already in use by another program; set PORT", address.port()),
    );
}

#[test]
fn an_address_that_is_not_ours_is_named_and_worth_another_try_for_the_network_may_come_up_later() {
    let folder = folder();
    let result = run(server_command(folder.path()).args(["--host", "192.0.2.1"]));
    assert_fails(&result, 75, "cannot listen on 192.0.2.1:0: this machine has no such address");
}

#[test]
fn a_second_server_on_the_same_file_is_refused_and_the_first_goes_on() {
    let folder = folder();
    let first = Server::start(folder.path());
    let mut client = first.client();
    assert_eq!(client.post("/coffee/", r#"{"caffeine_mg": 64}"#).status, 201);
    let result = run(&mut server_command(folder.path()));
    assert_fails(&result, 75, "coffee.db is in use by another coffee-tracker server");
    assert_eq!(client.post("/coffee/", r#"{"caffeine_mg": 64}"#).status, 201);
    assert_eq!(client.get("/coffee/today").json()["coffee_count"], 2);
    let stopped = first.stop_cleanly();
    assert!(!stopped.err.contains("WARNING"), "{}", stopped.err);
    Server::start(folder.path()).stop_cleanly();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), "not a folder").unwrap();
    let mut command = program(folder.path());
    let result =
        run(command.arg("serve").env("DATABASE_URL", "sqlite:///file/below/coffee.db").env("PORT", "0"));
    assert_fails(&result, 78, "file/below");
}

#[test]
fn a_folder_in_place_of_the_database_is_named() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("coffee.db")).unwrap();
    assert_fails(&run(&mut server_command(folder.path())), 78, "coffee.db is a folder, not a database file");
}

#[test]
fn a_file_that_is_no_database_is_named_and_left_alone() {
    let folder = folder();
    let text = "espresso, flat white, ristretto\n".repeat(400);
    std::fs::write(folder.path().join("coffee.db"), &text).unwrap();
    let result = run(&mut server_command(folder.path()));
    assert_fails(&result, 78, "coffee.db is not a SQLite database");
    assert_eq!(std::fs::read_to_string(folder.path().join("coffee.db")).unwrap(), text);
}

#[test]
fn a_newer_schema_is_refused_with_both_numbers() {
    let folder = folder();
    Server::start(folder.path()).stop_cleanly();
    foreign_database(&folder.path().join("coffee.db"), "pragma user_version = 41");
    let result = run(&mut server_command(folder.path()));
    assert_fails(&result, 78, "schema version 41, but this program knows versions up to 4");
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("coffee.db");
    foreign_database(&path, "create table recipes (name text); insert into recipes values ('tiramisu')");
    let before = std::fs::read(&path).unwrap();
    let result = run(&mut server_command(folder.path()));
    assert_fails(&result, 78, "coffee.db is a SQLite database of another program");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn the_docker_stacks_own_file_is_recognised_and_import_is_named() {
    let folder = folder();
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
    assert_fails(&result, 78, "coffee-tracker import coffee.db");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn weak_and_published_keys_are_refused_unless_debugging() {
    let folder = folder();
    for (key, message) in [
        ("coffee-addict-secret-key-2025", "published default"),
        ("short", "the API key has 5 characters; it needs at least 16"),
    ] {
        let result = run(server_command(folder.path()).env("API_KEY", key));
        assert_fails(&result, 78, message);
        assert!(key.len() < 6 || !result.err.contains(key), "the key itself is not repeated");
        let debugging = Server::spawn(server_command(folder.path()).envs([("API_KEY", key), ("DEBUG", "true")]));
        let mut client = debugging.client();
        client
            .send(format!(
                "GET /coffee/today HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
            ))
            .unwrap();
        assert_eq!(client.read_response().unwrap().status, 200);
        debugging.stop_cleanly();
    }
    assert_fails(&run(server_command(folder.path()).env("API_KEY", "a key with spaces in it")), 78, "visible ASCII");
}

#[test]
fn a_key_file_is_used_and_a_missing_one_is_named() {
    let folder = folder();
    let mut command = server_command(folder.path());
    command.env_remove("API_KEY").env("API_KEY_FILE", "my.key");
    assert_fails(&run(&mut command), 78, "the API key in my.key cannot be read");
    std::fs::write(folder.path().join("my.key"), format!("{}\n", crate::helpers::KEY)).unwrap();
    let with_file = Server::spawn(&mut command);
    assert_eq!(with_file.get("/coffee/today").status, 200);
}
