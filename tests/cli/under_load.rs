//! Backups and restores while clients read and write at full speed: their contents, and every response. The benchmark measures
//! their speed.
//!
//! `FIRE_BACKUPS` and `FIRE_RESTORES` set the number of backups (6) and restores (4).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::client::Client;
use crate::helpers::{CommandResult, Server, number, program, rows, run, temporary_folder, wait_until};
use crate::writers::StopOnDrop;

const WRITERS: usize = 8;
const READERS: usize = 4;

fn rounds(setting: &str, default: usize) -> usize {
    std::env::var(setting).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a subcommand on `coffee.db` in `folder` and asserts that it succeeds.
fn command(folder: &Path, arguments: &[&str]) -> CommandResult {
    let result = run(program(folder).args(arguments).env("DATABASE_URL", "coffee.db").env("TZ", "UTC"));
    assert_eq!(result.code, Some(0), "{arguments:?}: {result:?}");
    result
}

/// Clients that post coffees with unique notes, and the number of acknowledged coffees of each.
struct Writers {
    stop: AtomicBool,
    acknowledged: [AtomicUsize; WRITERS],
}

impl Writers {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), acknowledged: Default::default() }
    }

    fn write(&self, address: SocketAddr, writer: usize) {
        let mut client = Client::connect(address);
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = format!(r#"{{"caffeine_mg": 1, "notes": "w{writer}-{n}"}}"#);
            let response = client.post("/coffee/", &body);
            assert_eq!(response.status, 201, "{:?}", String::from_utf8_lossy(&response.body));
            self.acknowledged[writer].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Stops the writers when dropped.
    fn guard(&self) -> StopOnDrop<'_> {
        StopOnDrop(&self.stop)
    }

    fn acknowledged(&self) -> [usize; WRITERS] {
        std::array::from_fn(|writer| self.acknowledged[writer].load(Ordering::SeqCst))
    }
}

/// Returns the notes of the writers in a database as (writer, number), in the order of the ids.
fn notes(path: &Path) -> Vec<(usize, usize)> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = file.prepare("select notes from coffee_logs where notes like 'w%' order by id").unwrap();
    let note = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let notes = query.query_map([], note).unwrap().map(|note| {
        let note = note.unwrap();
        let (writer, n) = note[1..].split_once('-').unwrap();
        (writer.parse().unwrap(), n.parse().unwrap())
    });
    notes.collect()
}

#[test]
fn a_backup_under_load_contains_every_write_acknowledged_before_it_started() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let writers = Writers::new();
    std::thread::scope(|scope| {
        let _stop = writers.guard();
        for writer in 0..WRITERS {
            let (writers, address) = (&writers, server.address);
            scope.spawn(move || writers.write(address, writer));
        }
        for round in 0..rounds("FIRE_BACKUPS", 6) {
            let before = writers.acknowledged();
            let name = format!("backups/round-{round}.db");
            let result = command(folder.path(), &["backup", "--to", &name, "--create-dir"]);
            assert!(result.out.starts_with(&format!("{name}: ")), "{}", result.out);
            command(folder.path(), &["verify", &name]);
            let kept: HashSet<_> = notes(&folder.path().join(&name)).into_iter().collect();
            for (writer, acknowledged) in before.into_iter().enumerate() {
                let lost: Vec<_> = (0..acknowledged).filter(|n| !kept.contains(&(writer, *n))).collect();
                assert_eq!(lost, [0; 0], "round {round}: writer {writer}");
            }
        }
    });
    let health = server.get("/health").json();
    assert_eq!(health["backup"]["status"], "ok");
    assert!(health["backup"]["age_seconds"].as_i64().is_some_and(|age| age < 60), "{health}");
    server.stop_cleanly();
    let written: usize = writers.acknowledged().iter().sum();
    println!("{written} coffees written during the backups");
    assert_eq!(notes(&folder.path().join("coffee.db")).len(), written);
}

/// Paths of queries about the time before the test. Each response must match one of the two states, never a mixture.
fn query_paths() -> Vec<String> {
    let until = "2026-06-01T00:00:00Z";
    vec![
        format!("/coffee/?limit=500&until={until}"),
        format!("/heartrate/?limit=500&until={until}"),
        format!("/heartrate/range?start=2020-01-01T00:00:00Z&end={until}&buckets=40"),
        format!("/heartrate/?limit=20&offset=4000&until={until}"),
    ]
}

fn query(client: &mut Client) -> Vec<Value> {
    let get = |path: String| {
        let response = client.get(&path);
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
        response.json()
    };
    query_paths().into_iter().map(get).collect()
}

/// Creates a database with readings around `bpm` and a coffee for every tenth, all before the test.
fn fill(folder: &Path, readings: u32, bpm: u32, kind: &str) {
    Server::start(folder).stop_cleanly();
    let file = Connection::open(folder.join("coffee.db")).unwrap();
    let insert = format!(
        "with recursive n(n) as (select 0 union all select n + 1 from n where n < {readings} - 1)
         insert into heart_rate_logs (timestamp, bpm, context)
         select 1700000000000000 + n * 60000000, {bpm} + n % 20, '{kind}' from n;
         insert into coffee_logs (timestamp, caffeine_mg, coffee_type)
         select timestamp, 80, '{kind}' from heart_rate_logs where id % 10 = 0"
    );
    file.execute_batch(&insert).unwrap();
}

/// Creates two states and a backup of each. The first is also the database of the server.
fn two_states(folder: &Path) -> [PathBuf; 2] {
    let other = folder.join("other");
    std::fs::create_dir(&other).unwrap();
    fill(folder, 60_000, 60, "first");
    fill(&other, 45_000, 130, "second");
    [(folder, "first.db"), (&other, "second.db")].map(|(location, name)| {
        command(location, &["backup", "--to", name]);
        location.join(name)
    })
}

/// Queries until `stop` is set, and asserts that every response matches one of the two states.
fn read(address: SocketAddr, stop: &AtomicBool, states: &[Vec<Value>; 2], seen: &[AtomicUsize; 2]) {
    let mut client = Client::connect(address);
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if round % 10 == 0 {
            client = Client::connect(address);
        }
        for (n, response) in query(&mut client).into_iter().enumerate() {
            let state = states.iter().position(|state| state[n] == response);
            let state =
                state.unwrap_or_else(|| panic!("{} matches neither state: {response}", query_paths()[n]));
            seen[state].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_restore_under_load_is_atomic_rejects_no_request_and_keeps_later_writes() {
    let folder = temporary_folder();
    let files = two_states(folder.path());
    let server = Server::start(folder.path());
    let mut client = server.client();
    let file = |n: usize| files[n].to_str().unwrap().to_owned();
    let states: [Vec<Value>; 2] = [1, 0].map(|n| {
        command(folder.path(), &["restore", &file(n), "--yes", "--force"]);
        query(&mut client)
    });
    let states = {
        let [second, first] = states;
        [first, second]
    };
    assert_ne!(states[0], states[1]);
    let (writers, stop) = (Writers::new(), AtomicBool::new(false));
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let last = Mutex::new([0; WRITERS]);
    std::thread::scope(|scope| {
        let _stop = (writers.guard(), StopOnDrop(&stop));
        let (writers, stop, states, seen, address) = (&writers, &stop, &states, &seen, server.address);
        (0..WRITERS).for_each(|writer| drop(scope.spawn(move || writers.write(address, writer))));
        (0..READERS).for_each(|_| drop(scope.spawn(move || read(address, stop, states, seen))));
        for round in 0..rounds("FIRE_RESTORES", 4) {
            let to = (round + 1) % 2;
            command(folder.path(), &["restore", &file(to), "--yes", "--force", "--backup-dir", "safety"]);
            *last.lock().unwrap() = writers.acknowledged();
            let current = format!("{}", if to == 0 { 60 + 19 } else { 130 + 19 });
            let metric = format!("\nheartrate_bpm_current {current}\n");
            wait_until("the metrics have the restored state", || {
                String::from_utf8_lossy(&client.get("/metrics").body).contains(&metric)
            });
        }
    });
    assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) > 0), "not every state was read: {seen:?}");
    server.stop_cleanly();
    assert_later_writes_kept(folder.path(), &last.into_inner().unwrap(), writers.acknowledged());
}

/// Asserts that every write acknowledged after the last restore is stored, and of the earlier ones at most the newest.
fn assert_later_writes_kept(folder: &Path, after_restore: &[usize; WRITERS], acknowledged: [usize; WRITERS]) {
    let path = folder.join("coffee.db");
    let kept = notes(&path);
    for writer in 0..WRITERS {
        let stored: Vec<usize> = kept.iter().filter(|(w, _)| *w == writer).map(|(_, n)| *n).collect();
        let first = stored.first().copied().unwrap_or(acknowledged[writer]);
        assert!(first <= after_restore[writer], "writer {writer} lost writes: {first} of {after_restore:?}");
        assert_eq!(stored, (first..acknowledged[writer]).collect::<Vec<_>>(), "writer {writer}");
    }
    let file = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert_eq!(rows(&file, "pragma integrity_check"), [r#"Text("ok")"#]);
    let kinds = "select count(distinct context) from heart_rate_logs";
    assert_eq!(number(&file, kinds), 1, "a mixture of both states");
}
