//! Repeated SIGKILL of a server under load: every acknowledged write is stored exactly once, also
//! while the databases of several people are opened and closed.
//!
//! `CRASH_ROUNDS` sets the number of rounds (10). `TEST_SEED` repeats the moments of a run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, request};
use crate::fixtures::{make_database, run_ok};
use crate::helpers::{KEY, Server, database, number_from_env, server_command, temporary_folder, test_seed};

const WRITERS: usize = 8;

/// A person to whom the writers send coffees.
#[derive(Clone, Debug)]
struct Person {
    key: String,
    /// Folder of the database.
    folder: PathBuf,
}

/// A write and its outcome for the client.
#[derive(Debug)]
struct Write {
    /// Index of the person.
    person: usize,
    note: String,
    /// The write is sent with an `Idempotency-Key`, its note. Every fourth one is.
    keyed: bool,
    acknowledged: bool,
}

impl Write {
    fn send(&self, client: &mut Client, people: &[Person]) -> std::io::Result<u16> {
        let once = if self.keyed { format!("Idempotency-Key: {}\r\n", self.note) } else { String::new() };
        let body = format!(r#"{{"caffeine_mg": 42, "notes": "{}"}}"#, self.note);
        client.send(request("POST", "/coffee/", &once, &body).replacen(KEY, &people[self.person].key, 1))?;
        client.read_response().map(|response| response.status)
    }
}

/// Server that is killed again and again, and the people who use it.
struct Crashes {
    folder: TempDir,
    people: Vec<Person>,
    /// Maximum number of open databases besides the owner's.
    max_open: usize,
}

impl Crashes {
    fn start(&self) -> Server {
        let mut command = server_command(self.folder.path());
        Server::spawn(command.env("MAX_OPEN_PEOPLE", self.max_open.to_string()))
    }

    /// Writes at full speed until the connection fails.
    fn write_until_killed(&self, address: SocketAddr, writer: usize, name: &str) -> Vec<Write> {
        let mut writes = Vec::new();
        let Ok(mut client) = Client::try_connect(address) else { return writes };
        for n in 0.. {
            // Two writes to a person, then two to the next one.
            let person = (writer + n / 2) % self.people.len();
            let note = format!("{name}-w{writer}-{n}");
            let mut write = Write { person, note, keyed: n % 4 == 0, acknowledged: false };
            match write.send(&mut client, &self.people) {
                Ok(status) => assert_eq!(status, 201, "{write:?}"),
                Err(_) => {
                    writes.push(write);
                    break;
                }
            }
            write.acknowledged = true;
            writes.push(write);
        }
        writes
    }

    /// Kills a server while eight clients write, and returns their writes.
    fn crash(&self, round: usize, after: Duration) -> Vec<Write> {
        let server = self.start();
        let address = server.address;
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|n| scope.spawn(move || self.write_until_killed(address, n, &format!("r{round}"))))
                .collect();
            std::thread::sleep(after);
            server.signal(Signal::KILL);
            assert_eq!(server.process.wait().signal, Some(9));
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        })
    }

    /// Restarts the server, repeats every write with a key, and stops cleanly.
    fn recover(&self, writes: &[Write]) -> usize {
        let server = self.start();
        let mut client = server.client();
        let mut repeated = 0;
        for write in writes.iter().filter(|write| write.keyed) {
            assert_eq!(write.send(&mut client, &self.people).unwrap(), 201, "the first response again");
            repeated += 1;
        }
        let result = server.stop_cleanly();
        assert!(result.err.contains("the last stop was not clean"), "{}", result.err);
        assert!(!result.err.contains("ERROR"), "{}", result.err);
        repeated
    }

    /// Compares the databases with the writes of all rounds so far.
    fn compare(&self, writes: &[Write]) -> usize {
        let stored = self.people.iter().map(|person| stored_notes(&person.folder));
        let mut stored: Vec<HashMap<String, u32>> = stored.collect();
        let mut unacknowledged = 0;
        for write in writes {
            let times = stored[write.person].remove(&write.note).unwrap_or(0);
            if write.acknowledged || write.keyed {
                assert_eq!(times, 1, "{write:?} is stored {times} times");
            } else {
                assert!(times <= 1, "{write:?} is stored {times} times");
                unacknowledged += times as usize;
            }
        }
        assert!(stored.iter().all(HashMap::is_empty), "unexpected entries: {stored:?}");
        unacknowledged
    }

    /// Runs every round.
    fn run(&self) {
        let rounds = number_from_env("CRASH_ROUNDS").unwrap_or(10);
        println!("{rounds} rounds, {} people", self.people.len());
        let mut random = fastrand::Rng::with_seed(test_seed());
        let mut all: Vec<Write> = Vec::new();
        let (mut repeated, mut unacknowledged) = (0, 0);
        for round in 0..usize::try_from(rounds).unwrap() {
            let after = Duration::from_millis(random.u64(50..=400));
            let writes = self.crash(round, after);
            let again = self.recover(&writes);
            let acknowledged = writes.iter().filter(|write| write.acknowledged).count();
            all.extend(writes);
            unacknowledged = self.compare(&all);
            repeated += again;
            println!("round {round}: killed after {after:?}, {acknowledged} acknowledged, {again} repeated");
        }
        let acknowledged = all.iter().filter(|write| write.acknowledged).count();
        println!(
            "{acknowledged} acknowledged writes are stored once, {repeated} repeated writes added nothing, \
             {unacknowledged} unacknowledged writes are stored"
        );
        assert!(acknowledged > 0, "no round lasted long enough for a write");
    }
}

/// Returns how often every note is stored in the database of a folder.
fn stored_notes(folder: &Path) -> HashMap<String, u32> {
    let database = database(folder);
    let verdict: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut statement = database.prepare("select notes, count(*) from coffee_logs group by notes").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn after_sigkill_every_acknowledged_write_is_stored_exactly_once() {
    let folder = temporary_folder();
    let owner = Person { key: KEY.to_owned(), folder: folder.path().to_owned() };
    Crashes { folder, people: vec![owner], max_open: 1 }.run();
}

#[test]
fn after_sigkill_every_write_of_every_person_is_stored_although_databases_open_and_close_meanwhile() {
    let folder = temporary_folder();
    make_database(folder.path(), "owner", 0);
    let person = |name: &&str| Person {
        key: run_ok(folder.path(), &["person", "add", name]).out.trim_end().to_owned(),
        folder: folder.path().join("people").join(name),
    };
    let people = ["anna", "bert", "carla", "dora", "emil"].iter().map(person).collect();
    Crashes { folder, people, max_open: 2 }.run();
}
