//! The power fails while clients write: what was acknowledged is there, and no file is damaged.
//! Every answer follows a sync, and a trace without those syncs does not pass.

use std::sync::OnceLock;

use crate::helpers::{Server, wait_until};
use crate::log::Log;
use crate::recorder::Recorder;
use crate::replay::{Cuts, Loss, cut_power};
use crate::stored::{Stored, reopens};
use crate::trace::{Event, Trace, What};
use crate::traffic::{Habits, History, Traffic, send_batch};

/// What was recorded and what was sent.
struct Recorded {
    trace: Trace,
    history: History,
}

/// Eight clients from the database's creation over a checkpoint to a clean stop.
fn writes() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let recorder = Recorder::new();
        let server = Server::spawn(&mut recorder.server());
        let traffic = Traffic::start(server.address, "c", Habits::Changing);
        traffic.wait_for(50);
        let mut history = History::default();
        let mut client = server.client();
        let database = recorder.folder().join("coffee.db");
        wait_until("the log is carried over", || {
            let name = format!("b{}.", history.batches.len());
            history.batches.push(send_batch(&mut client, &name, 200));
            std::fs::metadata(&database).unwrap().len() > 100_000
        });
        traffic.wait_for(100);
        history.coffees = traffic.stop();
        server.stop_cleanly();
        let trace = recorder.trace();
        history.find_answers(&trace);
        Recorded { trace, history }
    })
}

/// Cuts the power in a trace of writes.
fn cut_while_writing(trace: &Trace, cuts: Cuts) -> Result<(), Loss> {
    cut_power(trace, cuts, |disk, cut| {
        let stored = Stored::read(&disk.join("coffee.db"))?;
        stored.agrees_with(&writes().history, cut, cut)?;
        // The program's own start takes longer: now and then.
        if cut % 8 == 0 { reopens(disk) } else { Ok(()) }
    })
}

#[test]
fn a_power_cut_while_clients_write_loses_nothing_acknowledged() {
    let Recorded { trace, history } = writes();
    println!("{} coffees and {} batches", history.coffees.len(), history.batches.len());
    cut_while_writing(trace, Cuts::share(35)).unwrap_or_else(|loss| loss.panic());
}

#[test]
fn every_answer_follows_a_sync_of_the_log_that_began_after_its_commit() {
    let Recorded { trace, history } = writes();
    let log = Log::of(trace);
    let mut proven = 0;
    for step in history.coffees.iter().flat_map(|coffee| &coffee.steps) {
        let Some((notes, _)) = &step.leaves else { continue };
        let commit = log.commit_of(notes).unwrap_or_else(|| panic!("{notes} is not in the log"));
        let synced = commit.synced.expect("every commit was synced");
        assert!(commit.last < synced && synced < step.answered, "{step:?} came before its sync: {commit:?}");
        proven += 1;
    }
    println!("{proven} answers follow the syncs of {} commits", log.commits.len());
    assert!(log.commits.len() > 50, "{} commits", log.commits.len());
}

#[test]
fn the_recorded_run_contains_a_checkpoint() {
    let Recorded { trace, history } = writes();
    let clients_write = history.first_answer()..history.last_answer();
    let database = trace.events_of("coffee.db");
    let mut written = database.iter().filter(|(_, event)| matches!(event.what, What::Written { .. }));
    assert!(written.any(|(position, _)| clients_write.contains(position)));
}

#[test]
fn missing_wal_syncs_are_detected() {
    let lazy = writes().trace.without_syncs_of("coffee.db-wal", 0);
    let loss = cut_while_writing(&lazy, Cuts::fixed(100)).expect_err("acknowledged writes are lost");
    println!("kept {:?}: {}", loss.keep, loss.reason);
}

#[test]
fn missing_checkpoint_syncs_are_detected() {
    let Recorded { trace, history } = writes();
    let written = |event: &Event| matches!(event.what, What::Written { .. });
    let database = trace.events_of("coffee.db").into_iter().filter(|(_, event)| written(event));
    let checkpoint =
        database.map(|(position, _)| position).find(|position| *position > history.first_answer());
    let checkpoint = checkpoint.expect("the log was carried over");
    let lazy = trace.without_syncs_of("coffee.db", checkpoint);
    let loss = cut_while_writing(&lazy, Cuts::fixed(100).from(checkpoint));
    let loss = loss.expect_err("the file is damaged or lacks something");
    println!("kept {:?}: {}", loss.keep, loss.reason);
}
