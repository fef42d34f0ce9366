//! Power cuts while clients write: no acknowledged write is lost and no file is damaged.
//!
//! Every response follows a sync. A trace without those syncs fails the checks.

use std::sync::OnceLock;

use crate::contents::{DatabaseContents, check_reopen};
use crate::helpers::{Server, wait_until};
use crate::recorder::Recorder;
use crate::replay::{Cuts, Failure, cut_power};
use crate::trace::{Event, EventKind, Trace};
use crate::traffic::{History, Traffic, Workload, send_batch};
use crate::wal::Wal;

/// A trace and the requests of the clients.
struct Recorded {
    trace: Trace,
    history: History,
}

/// Records eight clients from the creation of the database through a checkpoint to a clean stop.
fn writes() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let recorder = Recorder::new();
        let server = Server::spawn(&mut recorder.server());
        let traffic = Traffic::start(server.address, "c", Workload::Mixed);
        traffic.wait_for(50);
        let mut history = History::default();
        let mut client = server.client();
        let database = recorder.folder().join("coffee.db");
        wait_until("a checkpoint has started", || {
            let name = format!("b{}.", history.batches.len());
            history.batches.push(send_batch(&mut client, &name, 200));
            std::fs::metadata(&database).unwrap().len() > 100_000
        });
        traffic.wait_for(100);
        history.coffees = traffic.stop();
        server.stop_cleanly();
        let trace = recorder.trace();
        history.locate_responses(&trace);
        Recorded { trace, history }
    })
}

/// Simulates power cuts in a trace of [`writes`].
fn cut_while_writing(trace: &Trace, cuts: Cuts) -> Result<(), Failure> {
    cut_power(trace, cuts, |disk, cut| {
        let stored = DatabaseContents::read(&disk.join("coffee.db"))?;
        stored.check_against(&writes().history, cut, cut)?;
        // Opening the store is slow, so only some disks are opened.
        if cut % 8 == 0 { check_reopen(disk) } else { Ok(()) }
    })
}

#[test]
fn a_power_cut_while_clients_write_loses_nothing_acknowledged() {
    let Recorded { trace, history } = writes();
    println!("{} coffees and {} batches", history.coffees.len(), history.batches.len());
    cut_while_writing(trace, Cuts::share(35)).unwrap_or_else(|failure| failure.panic());
}

#[test]
fn every_response_follows_a_wal_sync_that_started_after_its_commit() {
    let Recorded { trace, history } = writes();
    let wal = Wal::parse(trace);
    let mut checked = 0;
    for step in history.coffees.iter().flat_map(|coffee| &coffee.steps) {
        let Some((notes, _)) = &step.result else { continue };
        let commit = wal.commit_of(notes).unwrap_or_else(|| panic!("{notes} is not in the WAL"));
        let synced = commit.synced.expect("every commit was synced");
        assert!(
            commit.last < synced && synced < step.response_at,
            "{step:?} was sent before the sync of {commit:?}"
        );
        checked += 1;
    }
    println!("{checked} responses follow the syncs of {} commits", wal.commits.len());
    assert!(wal.commits.len() > 50, "{} commits", wal.commits.len());
}

#[test]
fn the_recorded_run_contains_a_checkpoint() {
    let Recorded { trace, history } = writes();
    let clients_write = history.first_response()..history.last_response();
    let database = trace.events_of("coffee.db");
    let mut written = database.iter().filter(|(_, event)| matches!(event.kind, EventKind::Written { .. }));
    assert!(written.any(|(position, _)| clients_write.contains(position)));
}

#[test]
fn missing_wal_syncs_are_detected() {
    let unsynced = writes().trace.without_syncs_of("coffee.db-wal", 0);
    let failure =
        cut_while_writing(&unsynced, Cuts::fixed(100)).expect_err("acknowledged writes must be lost");
    println!("kept {:?}: {}", failure.keep, failure.reason);
}

#[test]
fn missing_checkpoint_syncs_are_detected() {
    let Recorded { trace, history } = writes();
    let written = |event: &Event| matches!(event.kind, EventKind::Written { .. });
    let database = trace.events_of("coffee.db").into_iter().filter(|(_, event)| written(event));
    let checkpoint =
        database.map(|(position, _)| position).find(|position| *position > history.first_response());
    let checkpoint = checkpoint.expect("the trace contains a checkpoint");
    let unsynced = trace.without_syncs_of("coffee.db", checkpoint);
    let failure = cut_while_writing(&unsynced, Cuts::fixed(100).from(checkpoint));
    let failure = failure.expect_err("the database must be damaged or incomplete");
    println!("kept {:?}: {}", failure.keep, failure.reason);
}
