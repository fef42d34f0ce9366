//! A person moves back and forth between two servers while devices go on writing: nothing that was acknowledged is lost or
//! stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, request};
use crate::fixtures::{make_database, run_ok, set_id};
use crate::helpers::{KEY, Server, database, number_from_env, rows, temporary_folder, wait_until};
use crate::writers::StopOnDrop;

/// Devices that write at the same time.
const WRITERS: usize = 4;
/// Moves, unless `MOVES` is set.
const DEFAULT_MOVES: u64 = 6;

/// Two machines, of which requests go to one, as a reverse proxy sends them.
struct Machines {
    folders: [TempDir; 2],
    servers: [Server; 2],
    /// Machine to which requests go.
    current: AtomicUsize,
    key: String,
}

impl Machines {
    fn start() -> Self {
        let folders = ["0", "1"].map(|id| {
            let folder = temporary_folder();
            make_database(folder.path(), "owner", 2);
            set_id(&folder.path().join("coffee.db"), &id.repeat(32));
            folder
        });
        let key = run_ok(folders[0].path(), &["person", "add", "anna"]).out.trim().to_owned();
        let servers = [0, 1].map(|n: usize| Server::start(folders[n].path()));
        Self { folders, servers, current: AtomicUsize::new(0), key }
    }

    /// Posts a coffee with an idempotency key. Returns its id, or `None` when it was not acknowledged.
    fn post(&self, connections: &mut [Option<Client>; 2], note: &str) -> Option<i64> {
        let machine = self.current.load(Ordering::Relaxed);
        let body = format!(r#"{{"caffeine_mg": 1, "notes": "{note}"}}"#);
        let once = format!("Idempotency-Key: {note}\r\n");
        let text = request("POST", "/coffee/", &once, &body).replace(KEY, &self.key);
        let address = self.servers[machine].address;
        let mut send = || -> io::Result<_> {
            let client = match &mut connections[machine] {
                Some(client) => client,
                closed => closed.insert(Client::try_connect(address)?),
            };
            client.send(&text)?;
            client.read_response()
        };
        let sent = send();
        let is_closing = sent.as_ref().map_or(true, |r| r.header("Connection") == Some("close"));
        if is_closing || sent.as_ref().is_ok_and(|response| response.status != 201) {
            connections[machine] = None;
        }
        let response = sent.ok()?;
        // A request that is on its way while she is removed from the old machine has an unknown key there.
        assert!([201, 401, 503].contains(&response.status), "{response:?}");
        (response.status == 201).then(|| response.json()["id"].as_i64().unwrap())
    }

    /// Writes until `stop` is set, and repeats each coffee until it is acknowledged. Returns the ids by note, and the longest
    /// time until an acknowledgement.
    fn write(&self, writer: usize, stop: &AtomicBool) -> (BTreeMap<String, i64>, Duration) {
        let (mut acknowledged, mut longest) = (BTreeMap::new(), Duration::ZERO);
        let mut connections = [None, None];
        while !stop.load(Ordering::Relaxed) {
            let note = format!("device-{writer}-{}", acknowledged.len());
            let start = Instant::now();
            let mut id = None;
            wait_until("the coffee is acknowledged", || {
                id = self.post(&mut connections, &note);
                id.is_some()
            });
            longest = longest.max(start.elapsed());
            // The acknowledgement may get lost: the phone sends it again, perhaps to the other machine.
            if acknowledged.len().is_multiple_of(7)
                && let Some(repeated) = self.post(&mut connections, &note)
            {
                assert_eq!(Some(repeated), id, "{note} was stored twice");
            }
            acknowledged.insert(note, id.unwrap());
        }
        (acknowledged, longest)
    }

    /// Moves the person from the current machine to the other one, by the steps of the document.
    fn relocate(&self, archive: &str) {
        let old = self.current.load(Ordering::Relaxed);
        let new = 1 - old;
        let (from, to) = (self.folders[old].path(), self.folders[new].path());
        run_ok(from, &["person", "archive", "anna", archive]);
        run_ok(to, &["person", "adopt", archive]);
        self.current.store(new, Ordering::Relaxed);
        run_ok(to, &["person", "release", "anna"]);
        run_ok(from, &["person", "remove", "anna", "--yes"]);
    }

    /// Returns the notes of the coffees that are stored on the current machine.
    fn stored(&self) -> Vec<String> {
        let folder = self.folders[self.current.load(Ordering::Relaxed)].path();
        rows(&database(&folder.join("people/anna")), "select notes from coffee_logs order by id")
    }
}

#[test]
fn devices_that_retry_lose_nothing_and_store_nothing_twice_while_a_person_moves_back_and_forth() {
    let (machines, elsewhere) = (Machines::start(), temporary_folder());
    let moves = number_from_env("MOVES").unwrap_or(DEFAULT_MOVES);
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let stop_writers = StopOnDrop(&stop);
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                scope.spawn({
                    let (machines, stop) = (&machines, &stop);
                    move || machines.write(n, stop)
                })
            })
            .collect();
        for n in 0..moves {
            let before = machines.stored().len();
            wait_until("the devices write", || machines.stored().len() >= before + 20);
            machines.relocate(elsewhere.path().join(format!("{n}.zip")).to_str().unwrap());
        }
        let before = machines.stored().len();
        wait_until("the devices write again", || machines.stored().len() >= before + 20);
        drop(stop_writers);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let longest = written.iter().map(|(_, longest)| *longest).max().unwrap();
    let acknowledged: BTreeSet<String> =
        written.iter().flat_map(|(notes, _)| notes.keys()).map(|note| format!("Text({note:?})")).collect();
    let ids: BTreeSet<i64> = written.iter().flat_map(|(notes, _)| notes.values().copied()).collect();
    assert_eq!(ids.len(), acknowledged.len(), "an id was assigned twice");
    let stored = machines.stored();
    println!("{moves} moves, {} coffees, longest pause of a device {longest:?}", stored.len());
    let distinct: BTreeSet<String> = stored.iter().cloned().collect();
    assert_eq!(distinct.len(), stored.len(), "a coffee was stored twice");
    assert_eq!(distinct, acknowledged);
    for server in machines.servers {
        server.stop_cleanly();
    }
}
