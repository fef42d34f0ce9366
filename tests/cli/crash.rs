//! Repeated SIGKILL of a server under load: every acknowledged write is stored exactly once.
//!
//! `CRASH_ROUNDS` sets the number of rounds (10). `TEST_SEED` repeats the moments of a run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::Client;
use crate::helpers::{Server, database, number_from_env, temporary_folder, test_seed};

const WRITERS: usize = 8;

/// A write and its outcome for the client.
#[derive(Debug)]
struct Write {
    note: String,
    /// The write is sent with an `Idempotency-Key`, its note. Every fourth one is.
    keyed: bool,
    acknowledged: bool,
}

impl Write {
    fn send(&self, client: &mut Client) -> std::io::Result<u16> {
        let key = if self.keyed { format!("Idempotency-Key: {}\r\n", self.note) } else { String::new() };
        let body = format!(r#"{{"caffeine_mg": 42, "notes": "{}"}}"#, self.note);
        client.try_request("POST", "/coffee/", &key, &body).map(|response| response.status)
    }
}

/// Writes at full speed until the connection fails.
fn write_until_killed(address: SocketAddr, name: &str) -> Vec<Write> {
    let mut writes = Vec::new();
    let Ok(mut client) = Client::try_connect(address) else { return writes };
    for n in 0.. {
        let mut write = Write { note: format!("{name}-{n}"), keyed: n % 4 == 0, acknowledged: false };
        match write.send(&mut client) {
            Ok(status) => assert_eq!(status, 201),
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
fn crash(folder: &Path, round: usize, after: Duration) -> Vec<Write> {
    let server = Server::start(folder);
    let address = server.address;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write_until_killed(address, &format!("r{round}-w{n}"))))
            .collect();
        std::thread::sleep(after);
        server.signal(Signal::KILL);
        assert_eq!(server.process.wait().signal, Some(9));
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

/// Restarts the server, repeats every write with a key, and stops cleanly.
fn recover(folder: &Path, writes: &[Write]) -> usize {
    let server = Server::start(folder);
    let mut client = server.client();
    let mut repeated = 0;
    for write in writes.iter().filter(|write| write.keyed) {
        assert_eq!(write.send(&mut client).unwrap(), 201, "the first response again");
        repeated += 1;
    }
    let result = server.stop_cleanly();
    assert!(result.err.contains("the last stop was not clean"), "{}", result.err);
    assert!(!result.err.contains("ERROR"), "{}", result.err);
    repeated
}

/// Compares the database with the writes of all rounds so far.
fn compare(folder: &Path, writes: &[Write]) -> usize {
    let database = database(folder);
    let verdict: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut statement = database.prepare("select notes, count(*) from coffee_logs group by notes").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))).unwrap();
    let mut stored: HashMap<String, u32> = rows.map(Result::unwrap).collect();
    let mut unacknowledged = 0;
    for write in writes {
        let times = stored.remove(&write.note).unwrap_or(0);
        if write.acknowledged || write.keyed {
            assert_eq!(times, 1, "{write:?} is stored {times} times");
        } else {
            assert!(times <= 1, "{write:?} is stored {times} times");
            unacknowledged += times as usize;
        }
    }
    assert!(stored.is_empty(), "unexpected entries: {stored:?}");
    unacknowledged
}

#[test]
fn after_sigkill_every_acknowledged_write_is_stored_exactly_once() {
    let rounds = number_from_env("CRASH_ROUNDS").unwrap_or(10);
    println!("{rounds} rounds");
    let mut random = fastrand::Rng::with_seed(test_seed());
    let folder = temporary_folder();
    let mut all: Vec<Write> = Vec::new();
    let (mut repeated, mut unacknowledged) = (0, 0);
    for round in 0..usize::try_from(rounds).unwrap() {
        let after = Duration::from_millis(random.u64(50..=400));
        let writes = crash(folder.path(), round, after);
        let again = recover(folder.path(), &writes);
        let acknowledged = writes.iter().filter(|write| write.acknowledged).count();
        all.extend(writes);
        unacknowledged = compare(folder.path(), &all);
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
