//! Exports by the server and by the command: equal bytes, complete or visibly aborted, and no resources held for clients that
//! stop reading.

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
    CommandResult, DEADLINE, IGNORE_FILE_SIZE_SIGNAL, Process, Server, from_bash, number, peak_memory_kib,
    program, run, server_command, temporary_folder, wait_until,
};

/// Adds readings with notes of 500 bytes.
fn add_large_readings(folder: &Path, count: u32) {
    let fill = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
         insert into heart_rate_logs (timestamp, bpm, context, notes)
         select 1700000000000000 + i * 1000000, 60 + i % 40, 'resting', printf('%.500c', 'x') from n"
    );
    Connection::open(folder.join("coffee.db")).unwrap().execute_batch(&fill).unwrap();
}

/// Starts a server whose export of readings (22 MB) exceeds every socket buffer.
fn start_with_large_export(folder: &Path, idle_seconds: &str) -> Server {
    let started = Server::spawn(server_command(folder).args(["--idle-timeout-seconds", idle_seconds]));
    add_large_readings(folder, 40_000);
    started
}

/// Requests the export of readings and reads the head of the response.
fn request_export(server: &Server) -> Client {
    let mut client = server.client();
    client.send_request("GET", "/export/heartrate", "", "").unwrap();
    let head = client.read_response_head().unwrap();
    assert_eq!((head.status, head.header("Transfer-Encoding")), (200, Some("chunked")));
    client
}

/// Requests a path with HTTP/1.0, where the end of the connection ends the body, and reads the head of the response.
fn request_http_1_0(server: &Server, path: &str) -> Client {
    let mut client = server.client();
    client.send(request("GET", path, "", "").replace("HTTP/1.1", "HTTP/1.0")).unwrap();
    let head = client.read_response_head().unwrap();
    assert_eq!((head.status, head.header("Transfer-Encoding")), (200, None));
    client
}

/// Reads to the end, and asserts that the connection is reset: a regular end would look like the end of the body.
#[track_caller]
fn assert_reset(client: &Client) {
    let result = client.socket().read_to_end(&mut Vec::new()).map_err(|e| e.kind());
    assert_eq!(result, Err(ErrorKind::ConnectionReset));
}

/// Reports whether a chunked body is complete.
fn is_complete(received: &[u8]) -> bool {
    received.ends_with(b"\r\n0\r\n\r\n")
}

fn export(folder: &Path, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["export", "--database-url", "coffee.db"]).args(args).env("TZ", "UTC");
    run(&mut command)
}

/// Returns the names in a folder that do not belong to the database.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("coffee.db")).collect();
    names.sort();
    names
}

/// Reports whether a read transaction is open that is older than the newest commit.
fn has_open_reader(folder: &Path) -> bool {
    let connection = Connection::open(folder.join("coffee.db")).unwrap();
    connection.busy_timeout(Duration::from_millis(50)).unwrap();
    connection.execute("insert into coffee_logs (timestamp, caffeine_mg) values (1, 1)", []).unwrap();
    number(&connection, "pragma wal_checkpoint(truncate)") == 1
}

#[test]
fn command_and_route_export_the_same_bytes_with_and_without_a_server() {
    let folder = temporary_folder();
    let started = Server::start(folder.path());
    for n in 0..50 {
        let body = format!(
            r#"{{"caffeine_mg": {n}.5, "coffee_type": "t\"{n}", "notes": "line\n{n}, ü", "timestamp": "2026-01-{:02}T08:00:00Z"}}"#,
            1 + n % 28
        );
        assert_eq!(started.client().post("/coffee/", &body).status, 201);
    }
    add_large_readings(folder.path(), 300);
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
    let by_http_1_0 = request_http_1_0(&started, "/export/coffee").read_to_end().unwrap();
    assert!(by_http_1_0 == streamed[0].as_bytes(), "HTTP/1.0");
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
    let folder = temporary_folder();
    let server = start_with_large_export(folder.path(), "4");
    let mut socket = server.client().socket().try_clone().unwrap();
    socket.write_all(request("GET", "/export/heartrate", "", "").as_bytes()).unwrap();
    let (mut received, mut piece, start) = (Vec::new(), vec![0; 200 << 10], Instant::now());
    while !is_complete(&received) {
        socket.read_exact(&mut piece[..1]).expect("the export continues");
        let n = 1 + socket.read(&mut piece[1..]).expect("the export continues");
        received.extend_from_slice(&piece[..n]);
        // A slow client: about 3.5 MB per second.
        std::thread::sleep(Duration::from_secs_f64(n as f64 / 3.5e6));
    }
    assert!(start.elapsed() > Duration::from_secs(5), "the client was too fast: {:?}", start.elapsed());
    let lines = received.windows(12).filter(|w| w.starts_with(b",resting,xxx")).count();
    // A line that is split across two chunks may be missed. None is counted twice.
    assert!((39_000..=40_000).contains(&lines), "{lines}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_stalled_reader_is_closed_and_its_resources_are_freed() {
    let folder = temporary_folder();
    let server = start_with_large_export(folder.path(), "2");
    assert_eq!(server.get("/health").status, 200);
    // SQLite keeps one descriptor of each connection that was closed, for the next.
    let at_most = server.descriptors() + 2;
    let stalled = [request_export(&server), request_http_1_0(&server, "/export/heartrate")];
    assert!(server.descriptors() > at_most);
    assert!(has_open_reader(folder.path()), "the exports have open read transactions");
    wait_until("descriptors and read transactions are released", || {
        server.descriptors() <= at_most && !has_open_reader(folder.path())
    });
    stalled.iter().for_each(assert_reset);
    for _ in 0..3 {
        let whole = server.get("/export/heartrate");
        assert_eq!(whole.body.iter().filter(|byte| **byte == b'\n').count(), 40_001);
    }
}

#[test]
fn a_third_export_waits_and_then_gets_503() {
    let folder = temporary_folder();
    let server = start_with_large_export(folder.path(), "60");
    let stalled = [request_export(&server), request_export(&server)];
    let third = server.get("/export/coffee");
    third.assert_problem(503);
    assert_eq!(third.header("Retry-After"), Some("2"));
    // Slow queries have their own limit.
    assert_eq!(server.get("/heartrate/stats?days=3650").status, 200);
    drop(stalled);
    assert_eq!(server.get("/export/coffee").status, 200);
}

#[test]
fn an_export_is_a_consistent_snapshot() {
    let folder = temporary_folder();
    let server = start_with_large_export(folder.path(), "60");
    let client = request_export(&server);
    let connection = Connection::open(folder.path().join("coffee.db")).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch("delete from heart_rate_logs").unwrap();
    assert_eq!(server.get("/heartrate/?limit=1").json(), serde_json::json!([]));
    let received = {
        let mut received = Vec::new();
        let mut piece = vec![0; 1 << 20];
        while !is_complete(&received) {
            let n = client.socket().read(&mut piece).unwrap();
            assert!(n > 0, "the export ended early");
            received.extend_from_slice(&piece[..n]);
        }
        received
    };
    assert!(String::from_utf8_lossy(&received).contains("\n40000,"), "the last reading is missing");
    assert_eq!(server.get("/export/heartrate").body, b"id,timestamp,bpm,context,notes,source\n");
}

#[test]
fn a_stopping_server_aborts_exports() {
    let folder = temporary_folder();
    let server = start_with_large_export(folder.path(), "60");
    let stalled = [request_export(&server), request_http_1_0(&server, "/export/heartrate")];
    let result = server.stop_cleanly();
    assert!(!result.err.contains("panic"), "{}", result.err);
    stalled.iter().for_each(assert_reset);
}

/// Damages pages in the middle of the database.
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
    let folder = temporary_folder();
    let first = start_with_large_export(folder.path(), "60");
    first.stop_cleanly();
    damage(folder.path());
    let server = Server::start(folder.path());
    for path in ["/export/heartrate", "/export/heartrate?format=jsonl"] {
        let mut client = server.client();
        client.send_request("GET", path, "", "").unwrap();
        assert_eq!(client.read_response_head().unwrap().status, 200);
        assert_reset(&client);
        assert_reset(&request_http_1_0(&server, path));
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
    let folder = temporary_folder();
    start_with_large_export(folder.path(), "60").stop_cleanly();
    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db", "-o", "out.csv"]);
    let killed = Process::spawn(&mut command);
    let has_started = || files(folder.path()).iter().any(|name| name.ends_with(".tmp"));
    wait_until("the export has started", has_started);
    kill_process(killed.pid(), Signal::KILL).unwrap();
    assert_eq!(killed.wait().signal, Some(9));
    let left = files(folder.path());
    assert!(left.len() == 1 && left[0].starts_with(".coffee-"), "{left:?}");

    let whole = export(folder.path(), &["heartrate", "-o", "out.csv"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert_eq!(files(folder.path()), ["out.csv"], "the temporary file of the killed export was removed");
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
    let folder = temporary_folder();
    start_with_large_export(folder.path(), "60").stop_cleanly();
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
    let folder = temporary_folder();
    start_with_large_export(folder.path(), "60").stop_cleanly();
    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let result = command.stdout(full).output().unwrap();
    let reason = "coffee-tracker: the export cannot be written: No space left on device (os error 28)\n";
    assert_eq!(
        (result.status.code(), String::from_utf8(result.stderr).unwrap().as_str()),
        (Some(75), reason)
    );

    let mut command = program(folder.path());
    command.args(["export", "heartrate", "--database-url", "coffee.db", "-o", "out.csv"]);
    let result = run(&mut from_bash(&format!("{IGNORE_FILE_SIZE_SIGNAL}; ulimit -f 5000"), &command));
    assert_eq!(result.code, Some(1), "{result:?}");
    let reason = "coffee-tracker: the export cannot be written: File too large (os error 27)\n";
    assert_eq!(result.err, reason);
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_foreign_or_missing_database_is_rejected_and_none_is_created() {
    let folder = temporary_folder();
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
    fs::write(folder.path().join("coffee.db"), "not a database, but longer than the header of one").unwrap();
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
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let fill = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
        insert into heart_rate_logs (timestamp, bpm, context)
        select 1700000000000000 + i * 1000000, 60 + i % 40, 'resting' from n";
    Connection::open(folder.path().join("coffee.db")).unwrap().execute_batch(fill).unwrap();
    let peak_kib = || peak_memory_kib(&server.process).unwrap();
    assert_eq!(server.get("/export/coffee").status, 200);
    let before = peak_kib();
    let client = request_export(&server);
    let (mut lines, mut end, mut piece) = (0, Vec::new(), vec![0; 1 << 20]);
    while !is_complete(&end) {
        match client.socket().read(&mut piece) {
            Ok(0) => panic!("the export ended early"),
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
    println!("{lines} lines, peak memory {grown} KiB higher");
    // The lines that arrived with the head are not counted.
    assert!((995_000..=1_000_000).contains(&lines), "{lines}");
    assert!(grown < 16 << 10, "peak memory {grown} KiB higher");
}

#[test]
#[ignore = "requires root"]
fn an_export_by_root_leaves_no_files_of_root_beside_the_database() {
    // In folders that other users may enter.
    let (data, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Server::start(data.path()).stop_cleanly();
    add_large_readings(data.path(), 1000);
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
