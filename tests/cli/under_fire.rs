//! Backups and restores while clients read and write at full speed. What they cost in time
//! is for the benchmark; here it is about what is in them, and about every single answer.
//!
//! `FIRE_BACKUPS` and `FIRE_RESTORES` set how many in a row (6 and 4).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::client::Client;
use crate::helpers::{CommandResult, Server, folder, number, program, rows, run, wait_until};

const WRITERS: usize = 8;
const READERS: usize = 4;

fn rounds(setting: &str, default: usize) -> usize {
    std::env::var(setting).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A subcommand on the database of a server in `folder`.
fn command(folder: &Path, arguments: &[&str]) -> CommandResult {
    let result = run(program(folder).args(arguments).env("DATABASE_URL", "coffee.db").env("TZ", "UTC"));
    assert_eq!(result.code, Some(0), "{arguments:?}: {result:?}");
    result
}

/// Writers that post one coffee after the other, each with a note of its own, and how many
/// of each were answered.
struct Writers {
    stop: AtomicBool,
    answered: [AtomicUsize; WRITERS],
}

impl Writers {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), answered: Default::default() }
    }

    fn write(&self, address: SocketAddr, writer: usize) {
        let mut client = Client::connect(address);
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = format!(r#"{{"caffeine_mg": 1, "notes": "w{writer}-{n}"}}"#);
            let answer = client.post("/coffee/", &body);
            assert_eq!(answer.status, 201, "{:?}", String::from_utf8_lossy(&answer.body));
            self.answered[writer].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Stops them when dropped: also when an assertion fails, or the scope would wait for ever.
    fn guard(&self) -> StopOnDrop<'_> {
        StopOnDrop(&self.stop)
    }

    fn answered(&self) -> [usize; WRITERS] {
        std::array::from_fn(|writer| self.answered[writer].load(Ordering::SeqCst))
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The notes of the writers in a file, as (writer, number), in the order of their ids.
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
    let folder = folder();
    let server = Server::start(folder.path());
    let writers = Writers::new();
    std::thread::scope(|scope| {
        let _stop = writers.guard();
        for writer in 0..WRITERS {
            let (writers, address) = (&writers, server.address);
            scope.spawn(move || writers.write(address, writer));
        }
        for round in 0..rounds("FIRE_BACKUPS", 6) {
            let before = writers.answered();
            let name = format!("backups/round-{round}.db");
            let result = command(folder.path(), &["backup", "--to", &name, "--create-dir"]);
            assert!(result.out.starts_with(&format!("{name}: ")), "{}", result.out);
            command(folder.path(), &["verify", &name]);
            let kept: HashSet<_> = notes(&folder.path().join(&name)).into_iter().collect();
            for (writer, answered) in before.into_iter().enumerate() {
                let lost: Vec<_> = (0..answered).filter(|n| !kept.contains(&(writer, *n))).collect();
                assert_eq!(lost, [0; 0], "round {round}: writer {writer}");
            }
        }
    });
    let health = server.get("/health").json();
    assert_eq!(health["backup"]["status"], "ok");
    assert!(health["backup"]["age_seconds"].as_i64().is_some_and(|age| age < 60), "{health}");
    server.stop_cleanly();
    let written: usize = writers.answered().iter().sum();
    println!("{written} coffees written meanwhile");
    assert_eq!(notes(&folder.path().join("coffee.db")).len(), written);
}

/// Answers about the time before the test: of one state or of the other, never of both.
fn questions() -> Vec<String> {
    let until = "2026-06-01T00:00:00Z";
    vec![
        format!("/coffee/?limit=500&until={until}"),
        format!("/heartrate/?limit=500&until={until}"),
        format!("/heartrate/range?start=2020-01-01T00:00:00Z&end={until}&buckets=40"),
        format!("/heartrate/?limit=20&offset=4000&until={until}"),
    ]
}

fn answers(client: &mut Client) -> Vec<Value> {
    let ask = |question: String| {
        let answer = client.get(&question);
        assert_eq!(answer.status, 200, "{question}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    questions().into_iter().map(ask).collect()
}

/// A database with this many readings of this pulse and a coffee for every tenth, all before
/// the test; the last reading is the newest.
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

/// Two states as backups, the first of which the server's own folder has.
fn two_states(folder: &Path) -> [PathBuf; 2] {
    let other = folder.join("other");
    std::fs::create_dir(&other).unwrap();
    fill(folder, 60_000, 60, "first");
    fill(&other, 45_000, 130, "second");
    [(folder, "first.db"), (&other, "second.db")].map(|(place, name)| {
        command(place, &["backup", "--to", name]);
        place.join(name)
    })
}

/// Asks until told to stop; every answer must be of one of the two states.
fn read(address: SocketAddr, stop: &AtomicBool, states: &[Vec<Value>; 2], seen: &[AtomicUsize; 2]) {
    let mut client = Client::connect(address);
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if round % 10 == 0 {
            client = Client::connect(address);
        }
        for (n, answer) in answers(&mut client).into_iter().enumerate() {
            let of = states.iter().position(|state| state[n] == answer);
            let of = of.unwrap_or_else(|| panic!("{} is of neither state: {answer}", questions()[n]));
            seen[of].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_restore_under_load_is_atomic_rejects_no_request_and_keeps_later_writes() {
    let folder = folder();
    let files = two_states(folder.path());
    let server = Server::start(folder.path());
    let mut client = server.client();
    let file = |n: usize| files[n].to_str().unwrap().to_owned();
    let states: [Vec<Value>; 2] = [1, 0].map(|n| {
        command(folder.path(), &["restore", &file(n), "--yes", "--force"]);
        answers(&mut client)
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
            *last.lock().unwrap() = writers.answered();
            let current = format!("{}", if to == 0 { 60 + 19 } else { 130 + 19 });
            let metric = format!("\nheartrate_bpm_current {current}\n");
            wait_until("the metrics follow", || {
                String::from_utf8_lossy(&client.get("/metrics").body).contains(&metric)
            });
        }
    });
    assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) > 0), "both states were seen: {seen:?}");
    server.stop_cleanly();
    assert_survivors(folder.path(), &last.into_inner().unwrap(), writers.answered());
}

/// What was answered after the last restore is there; of what came before it, the newest at most.
fn assert_survivors(folder: &Path, after_restore: &[usize; WRITERS], answered: [usize; WRITERS]) {
    let path = folder.join("coffee.db");
    let kept = notes(&path);
    for writer in 0..WRITERS {
        let mine: Vec<usize> = kept.iter().filter(|(w, _)| *w == writer).map(|(_, n)| *n).collect();
        let first = mine.first().copied().unwrap_or(answered[writer]);
        assert!(first <= after_restore[writer], "writer {writer} lost some: {first} of {after_restore:?}");
        assert_eq!(mine, (first..answered[writer]).collect::<Vec<_>>(), "writer {writer}");
    }
    let file = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert_eq!(rows(&file, "pragma integrity_check"), [r#"Text("ok")"#]);
    let kinds = "select count(distinct context) from heart_rate_logs";
    assert_eq!(number(&file, kinds), 1, "one state, not both");
}
