//! Power cuts during a backup: a published backup is complete, and a reported one exists.

use std::path::{Path, PathBuf};

use crate::contents::DatabaseContents;
use crate::helpers::Server;
use crate::recorder::Recorder;
use crate::replay::{Cuts, cut_power};
use crate::trace::Span;
use crate::traffic::{History, Traffic, Workload, send_batch};

/// Returns the backups in a folder, oldest first.
pub fn backups_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_backup = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("coffee_") && name.ends_with(".db")
    };
    let mut backups: Vec<PathBuf> = entries.filter(is_backup).collect();
    backups.sort_by_cached_key(|path| age_order(&path.file_name().unwrap().to_string_lossy()));
    backups
}

/// Sort key of a backup's name: time, kind, and number within both. `coffee_YYYYMMDD_HHMMSS_2_before-restore.db` is the
/// second of its kind in that second. A restore makes its safety backup after all others.
fn age_order(name: &str) -> (String, bool, u32) {
    let (second, rest) = name["coffee_".len()..].split_at(15);
    let digits: String = rest.trim_start_matches('_').chars().take_while(char::is_ascii_digit).collect();
    (second.to_owned(), rest.contains("before-restore"), digits.parse().unwrap_or(1))
}

/// Checks every backup on a disk. Each must contain the writes acknowledged before it started, and none that were sent after
/// it finished. A restore into a running server may have made two more: the final pages, and their verified backup.
///
/// # Errors
/// Returns the first problem.
pub fn check_backups(disk: &Path, history: &History, spans: &[Span], cut: usize) -> Result<(), String> {
    let found = backups_in(&disk.join("backups"));
    let reported = spans.iter().filter(|backup| backup.finished < cut).count();
    if found.len() < reported || found.len() > spans.len() + 2 {
        return Err(format!("{reported} backups were reported, found {found:?}"));
    }
    for (path, backup) in found.iter().zip(spans.iter().chain(spans.last()).chain(spans.last())) {
        let compared = DatabaseContents::read(path).and_then(|contents| {
            contents.check_against(history, backup.started.min(cut), backup.finished.min(cut))
        });
        compared.map_err(|reason| format!("{}: {reason}", path.display()))?;
    }
    // The record of the last backup is valid JSON or missing.
    match std::fs::read(disk.join("coffee.db.backup.json")) {
        Ok(record) => serde_json::from_slice::<serde_json::Value>(&record)
            .map(drop)
            .map_err(|e| format!("the record of the last backup: {e}")),
        Err(_) => Ok(()),
    }
}

#[test]
fn a_power_cut_during_a_backup_leaves_a_complete_backup_or_none() {
    let recorder = Recorder::new();
    let server = Server::spawn(&mut recorder.server());
    let mut history = History::default();
    history.batches.push(send_batch(&mut server.client(), "b0.", 500));
    let traffic = Traffic::start(server.address, "c", Workload::Mixed);
    let names = ["first", "second", "third"];
    for name in names {
        traffic.wait_for(30);
        recorder.run(name, &["backup"]);
    }
    traffic.wait_for(30);
    history.coffees = traffic.stop();
    server.stop_cleanly();
    let trace = recorder.trace();
    history.locate_responses(&trace);
    let spans = names.map(|name| trace.command(name));
    println!("{} coffees and {} backups", history.coffees.len(), spans.len());
    let checked = cut_power(&trace, Cuts::share(20), |disk, cut| {
        DatabaseContents::read(&disk.join("coffee.db"))?.check_against(&history, cut, cut)?;
        check_backups(disk, &history, &spans, cut)
    });
    checked.unwrap_or_else(|failure| failure.panic());
}
