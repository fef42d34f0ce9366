//! Exports of the real server and the real command: the same bytes, whole or broken off,
//! and nothing held for a client that does not take them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Signal, kill_process};

use crate::client::{Client, request};
use crate::helpers::{
    CommandResult, DEADLINE, Process, Server, folder, number, program, program_path, run, server_command,
    wait_until,
};

/// Adds readings, each with some 500 bytes to say.
fn talkative_readings(folder: &Path, count: u32) {
    let fill = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
         insert into heart_rate_logs (timestamp, bpm, context, notes)
         select 1700000000000000 + i * 1000000, 60 + i % 40, 'resting', printf('%.500c', 'x') from n"
    );
    Connection::open(folder.join("coffee.db")).unwrap().execute_batch(&fill).unwrap();
}

/// A server in `folder` with more readings than any socket takes in at once: 22 MB.
fn talkative_server(folder: &Path, idle_seconds: &str) -> Server {
    let started = Server::spawn(server_command(folder).args(["--idle-timeout-seconds", idle_seconds]));
    talkative_readings(folder, 40_000);
    started
}

/// A client that has asked for all readings, and has heard that they come.
fn asked(server: &Server) -> Client {
    let mut client = server.client();
    client.send_request("GET", "/export/heartrate", "", "").unwrap();
    let head = client.read_response_head().unwrap();
    assert_eq!((head.status, head.header("Transfer-Encoding")), (200, Some("chunked")));
    client
}

/// A client of HTTP/1.0, which knows the end of a body by the connection's, has asked.
fn asked_in_http_1_0(server: &Server, path: &str) -> Client {
    let mut client = server.client();
    client.send(request("GET", path, "", "").replace("HTTP/1.1", "HTTP/1.0")).unwrap();
    let head = client.read_response_head().unwrap();
    assert_eq!((head.status, head.header("Transfer-Encoding")), (200, None));
    client
}

/// Reads to the end; it must be none that could be taken for the end of the body.
#[track_caller]
fn assert_reset(client: &Client) {
    let result = client.socket().read_to_end(&mut Vec::new()).map_err(|e| e.kind());
    assert_eq!(result, Err(ErrorKind::ConnectionReset));
}

/// Does what a client heard end as a whole answer does?
fn is_whole(received: &[u8]) -> bool {
    received.ends_with(b"\r\n0\r\n\r\n")
}

fn export(folder: &Path, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["export", "--database-url", "coffee.db"]).args(args).env("TZ", "UTC");
    run(&mut command)
}

/// The names in a folder that are not the database's.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("coffee.db")).collect();
    names.sort();
    names
}

/// Is a read transaction open that is older than the newest commit?
fn is_read_from(folder: &Path) -> bool {
    let connection = Connection::open(folder.join("coffee.db")).unwrap();
    connection.busy_timeout(Duration::from_millis(50)).unwrap();
    connection.execute("insert into coffee_logs (timestamp, caffeine_mg) values (1, 1)", []).unwrap();
    number(&connection, "pragma wal_checkpoint(truncate)") == 1
}

#[test]
fn command_and_route_export_the_same_bytes_with_and_without_a_server() {
    let folder = folder();
    let started = Server::start(folder.path());
    for n in 0..50 {
        let body = format!(
            r#"{{"caffeine_mg": {n}.5, "coffee_type": "t\"{n}", "notes": "line\n{n}, ü", "timestamp": "2026-01-{:02}T08:00:00Z"}}"#,
            1 + n % 28
        );
        assert_eq!(started.client().post("/coffee/", &body).status, 201);
    }
    talkative_readings(folder.path(), 300);
    let cases: Vec<(&[&str], &str)> = vec![
        (&["coffee"], "/export/coffee"),
        (&["coffee", "--format", "jsonl"], "/export/coffee?format=jsonl"),
        (
            &["coffee", "--since", "2026-01-05", "--until", "2026-01-07T08:00:00Z"],
            "/export/coffee?since=2026-01-05&until=2026-01-07T08:00:00Z",
        ),
        (&["heartrate", "--format", "csv"], "/export/heartrate"),
        (&["heartrate", "--format", "jsonl"], "/export/heartrate?format=jsonl"),
    ];
    let streamed: Vec<String> =
        cases.iter().map(|(_, path)| String::from_utf8(started.get(path).body).unwrap()).collect();
    let oldest = asked_in_http_1_0(&started, "/export/coffee").read_to_end().unwrap();
    assert!(oldest == streamed[0].as_bytes(), "HTTP/1.0");
    let same = |when: &str| {
        for ((args, _), expected) in cases.iter().zip(&streamed) {
            let result = export(folder.path(), args);
            assert_eq!(result.code, Some(0), "{result:?}");
            assert!(result.out == *expected, "{when}: {args:?}");
            let bytes = expected.len();
            let bytes = match bytes / 1000 {
                0 => bytes.to_string(),
                thousands => format!("{thousands},{:03}", bytes % 1000),
            };
            let summary = format!("{bytes} bytes, to standard output (");
            assert!(result.err.contains(&summary), "{}", result.err);
            let file = export(folder.path(), &[args, &["-o", "out", "--force", "-q"][..]].concat());
            assert_eq!((file.code, file.out.as_str(), file.err.as_str()), (Some(0), "", ""));
            assert!(fs::read_to_string(folder.path().join("out")).unwrap() == *expected, "{when}: {args:?}");
        }
        assert_eq!(files(folder.path()), ["out"]);
    };
    same("while the server runs");
    started.stop_cleanly();
    same("without a server");
}

#[test]
fn a_slow_reader_is_not_closed_by_the_idle_timeout() {
    let folder = folder();
    let server = talkative_server(folder.path(), "2");
    let mut socket = server.client().socket().try_clone().unwrap();
    socket.write_all(request("GET", "/export/heartrate", "", "").as_bytes()).unwrap();
    let (mut received, mut piece, start) = (Vec::new(), vec![0; 200 << 10], Instant::now());
    while !is_whole(&received) {
        socket.read_exact(&mut piece[..1]).expect("it goes on");
        let n = 1 + socket.read(&mut piece[1..]).expect("it goes on");
        received.extend_from_slice(&piece[..n]);
        // The slowness that is meant: some 3.5 MB a second.
        std::thread::sleep(Duration::from_secs_f64(n as f64 / 3.5e6));
    }
    assert!(start.elapsed() > Duration::from_secs(5), "slow enough: {:?}", start.elapsed());
    let lines = received.windows(12).filter(|w| w.starts_with(b",resting,xxx")).count();
    // A line that lies across two chunks may be missed here, and none is counted twice.
    assert!((39_000..=40_000).contains(&lines), "{lines}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_stalled_reader_is_closed_and_its_resources_are_freed() {
    let folder = folder();
    let server = talkative_server(folder.path(), "2");
    assert_eq!(server.get("/health").status, 200);
    // SQLite keeps one descriptor of each connection that was closed, for the next.
    let at_most = server.descriptors() + 2;
    let stalled = [asked(&server), asked_in_http_1_0(&server, "/export/heartrate")];
    assert!(server.descriptors() > at_most);
    assert!(is_read_from(folder.path()), "they read from the state that was when they asked");
    wait_until("what they held is given back", || {
        server.descriptors() <= at_most && !is_read_from(folder.path())
    });
    stalled.iter().for_each(assert_reset);
    for _ in 0..3 {
        let whole = server.get("/export/heartrate");
        assert_eq!(whole.body.iter().filter(|byte| **byte == b'\n').count(), 40_001);
    }
}

#[test]
fn a_third_export_waits_and_then_gets_503() {
    let folder = folder();
    let server = talkative_server(folder.path(), "60");
    let stalled = [asked(&server), asked(&server)];
    let third = server.get("/export/coffee");
    third.assert_problem(503);
    assert_eq!(third.header("Retry-After"), Some("2"));
    // Dear reads have places of their own.
    assert_eq!(server.get("/heartrate/stats?days=3650").status, 200);
    drop(stalled);
    assert_eq!(server.get("/export/coffee").status, 200);
}

#[test]
fn an_export_is_a_consistent_snapshot() {
    let folder = folder();
    let server = talkative_server(folder.path(), "60");
    let client = asked(&server);
    let connection = Connection::open(folder.path().join("coffee.db")).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch("delete from heart_rate_logs").unwrap();
    assert_eq!(server.get("/heartrate/?limit=1").json(), serde_json::json!([]));
    let received = {
        let mut received = Vec::new();
        let mut piece = vec![0; 1 << 20];
        while !is_whole(&received) {
            let n = client.socket().read(&mut piece).unwrap();
            assert!(n > 0, "it ended early");
            received.extend_from_slice(&piece[..n]);
        }
        received
    };
    assert!(String::from_utf8_lossy(&received).contains("\n40000,"), "the last one came too");
    assert_eq!(server.get("/export/heartrate").body, b"id,timestamp,bpm,context,notes,source\n");
}

#[test]
fn a_stopping_server_aborts_exports() {
    let folder = folder();
    let server = talkative_server(folder.path(), "60");
    let stalled = [asked(&server), asked_in_http_1_0(&server, "/export/heartrate")];
    let result = server.stop_cleanly();
    assert!(!result.err.contains("panic"), "{}", result.err);
    stalled.iter().for_each(assert_reset);
}

/// Makes the pages in the middle of the database unreadable.
fn damage(folder: &Path) {
    let path = folder.join("coffee.db");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(number(&connection, "pragma wal_checkpoint(truncate)"), 0);
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + (64 << 10)].fill(0xee);
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_read_error_during_an_export_resets_the_connection_and_fails_the_command() {
    let folder = folder();
    let first = talkative_server(folder.path(), "60");
    first.stop_cleanly();
    damage(folder.path());
    let server = Server::start(folder.path());
    for path in ["/export/heartrate", "/export/heartrate?format=jsonl"] {
        let mut client = server.client();
        client.send_request("GET", path, "", "").unwrap();
        assert_eq!(client.read_response_head().unwrap().status, 200);
        assert_reset(&client);
        assert_reset(&asked_in_http_1_0(&server, path));
    }
    let log = server.process.err.text();
    assert!(log.contains("export aborted: the database file is damaged"), "{log}");
    let result = export(folder.path(), &["heartrate", "-o", "out.csv"]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.err.starts_with("coffee-tracker: the database file is damaged"), "{}", result.err);
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn an_exported_file_is_created_atomically() {
    let folder = folder();
    talkative_server(folder.path(), "60").stop_cleanly();
    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db", "-o", "out.csv"]);
    let killed = Process::spawn(&mut command);
    let is_begun = || files(folder.path()).iter().any(|name| name.ends_with(".tmp"));
    wait_until("it has begun", is_begun);
    kill_process(killed.pid(), Signal::KILL).unwrap();
    assert_eq!(killed.wait().signal, Some(9));
    let left = files(folder.path());
    assert!(left.len() == 1 && left[0].starts_with(".coffee-"), "{left:?}");

    let whole = export(folder.path(), &["heartrate", "-o", "out.csv"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert_eq!(files(folder.path()), ["out.csv"], "what the killed one left is gone");
    assert!(whole.err.starts_with("40,000 readings, "), "{}", whole.err);

    let again = export(folder.path(), &["coffee", "-o", "out.csv"]);
    assert_eq!(again.code, Some(1));
    assert_eq!(again.err, "coffee-tracker: out.csv already exists: use --force to replace it\n");
    let lines = |folder: &Path| fs::read_to_string(folder.join("out.csv")).unwrap().lines().count();
    assert_eq!(lines(folder.path()), 40_001);
    assert_eq!(export(folder.path(), &["coffee", "-o", "out.csv", "--force"]).code, Some(0));
    assert_eq!(lines(folder.path()), 1);
    for (target, reason) in [
        (".", "coffee-tracker: . is a folder\n"),
        ("/dev/null", "coffee-tracker: /dev/null is not a regular file: write to standard output instead\n"),
        (
            "nowhere/out.csv",
            "coffee-tracker: nowhere/out.csv cannot be written: No such file or directory (os error 2)\n",
        ),
    ] {
        let refused = export(folder.path(), &["coffee", "-o", target, "--force"]);
        assert_eq!((refused.code, refused.err.as_str()), (Some(1), reason));
    }
    assert_eq!(files(folder.path()), ["out.csv"]);
}

#[test]
fn export_to_a_closed_pipe_is_not_an_error() {
    let folder = folder();
    talkative_server(folder.path(), "60").stop_cleanly();
    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let result = child.wait_with_output().unwrap();
    assert_eq!((result.status.code(), result.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn an_export_without_disk_space_fails_and_leaves_no_file() {
    let folder = folder();
    talkative_server(folder.path(), "60").stop_cleanly();
    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let result = command.stdout(full).output().unwrap();
    let reason = "coffee-tracker: the export cannot be written: No space left on device (os error 28)\n";
    assert_eq!(
        (result.status.code(), String::from_utf8(result.stderr).unwrap().as_str()),
        (Some(75), reason)
    );

    // Beyond the limit a write fails and the process is signalled, unless it ignores that.
    let mut command = std::process::Command::new("/bin/sh");
    let limited =
        "trap '' XFSZ; ulimit -f 10000; exec \"$0\" export heartrate --database-url coffee.db -o out.csv";
    command.args(["-c", limited]).arg(program_path());
    let result = run(command.env_clear().current_dir(folder.path()));
    assert_eq!(result.code, Some(1), "{result:?}");
    let reason = "coffee-tracker: the export cannot be written: File too large (os error 27)\n";
    assert_eq!(result.err, reason);
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_foreign_or_missing_database_is_rejected_and_none_is_created() {
    let folder = folder();
    let missing = export(folder.path(), &["coffee"]);
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (
            Some(78),
            "coffee-tracker: there is no database at coffee.db: start the server once to create it, or set DATABASE_URL\n"
        )
    );
    assert!(!folder.path().join("coffee.db").exists());
    for (make, reason) in [
        ("pragma user_version = 5; create table t (a)", "coffee.db is a SQLite database of another program"),
        ("create table coffee_logs (id)", "coffee.db is the Docker stack's database"),
        ("pragma application_id = 0x436f6666; pragma user_version = 99", "coffee.db has schema version 99"),
    ] {
        let path = folder.path().join("coffee.db");
        Connection::open(&path).unwrap().execute_batch(make).unwrap();
        let refused = export(folder.path(), &["coffee", "-o", "out"]);
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(refused.err.starts_with(&format!("coffee-tracker: {reason}")), "{}", refused.err);
        fs::remove_file(path).unwrap();
    }
    fs::write(folder.path().join("coffee.db"), "no database at all, but long enough to be looked into")
        .unwrap();
    let refused = export(folder.path(), &["coffee"]);
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (Some(78), "coffee-tracker: coffee.db is not a SQLite database\n")
    );
    for (args, reason) in [
        (&["coffee", "--since", "noon"][..], "--since must be a date or a time"),
        (&["coffee", "--until", "noon"], "--until must be a date or a time"),
        (&["coffee", "--since", "2026-02-01", "--until", "2026-01-01"], "--until must not be before --since"),
        (&["tea"], "invalid value 'tea'"),
        (&["coffee", "--format", "xml"], "invalid value 'xml'"),
        (&["coffee", "--force"], "--output <FILE>"),
    ] {
        let refused = export(folder.path(), args);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains(reason), "{}", refused.err);
    }
}

#[test]
fn a_million_readings_are_exported_in_constant_memory() {
    let folder = folder();
    let server = Server::start(folder.path());
    let fill = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
        insert into heart_rate_logs (timestamp, bpm, context)
        select 1700000000000000 + i * 1000000, 60 + i % 40, 'resting' from n";
    Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(fill).unwrap();
    let peak_kib = || {
        let status = format!("/proc/{}/status", server.process.pid().as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert_eq!(server.get("/export/coffee").status, 200);
    let before = peak_kib();
    let client = asked(&server);
    let (mut lines, mut end, mut piece) = (0, Vec::new(), vec![0; 1 << 20]);
    while !is_whole(&end) {
        match client.socket().read(&mut piece) {
            Ok(0) => panic!("it ended early"),
            Ok(n) => {
                lines += piece[..n].iter().filter(|byte| **byte == b'Z').count();
                end.extend_from_slice(&piece[..n]);
                end.drain(..end.len().saturating_sub(8));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("{e}"),
        }
    }
    let grown = peak_kib() - before;
    println!("{lines} lines, {grown} KiB more at the peak");
    // What came with the head is not counted.
    assert!((995_000..=1_000_000).contains(&lines), "{lines}");
    assert!(grown < 16 << 10, "{grown} KiB more than before");
}

#[test]
#[ignore = "requires root"]
fn an_export_by_root_leaves_no_files_of_root_beside_the_database() {
    // Where another user can go.
    let (data, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Server::start(data.path()).stop_cleanly();
    talkative_readings(data.path(), 1000);
    const OTHER: u32 = 65_534;
    let entries = || fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path());
    for path in entries().chain([data.path().to_owned()]) {
        chown(path, Some(OTHER), Some(OTHER)).unwrap();
    }
    let file = output.path().join("heart.csv");
    let result = export(data.path(), &["heartrate", "-o", file.to_str().unwrap()]);
    assert_eq!(result.code, Some(0), "{result:?}");
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    let mut prune = program(data.path());
    prune.args(["prune", "--database-url", "coffee.db", "--before", "2024-01-01", "--yes"]);
    let result = run(&mut prune);
    assert_eq!(result.code, Some(0), "{result:?}");
    for path in entries() {
        assert_eq!(fs::metadata(&path).unwrap().uid(), OTHER, "{}", path.display());
    }
}
