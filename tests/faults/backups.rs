//! The power fails while a backup is made: a backup that has its name is whole, and one that was
//! announced is there.

use std::path::{Path, PathBuf};

use crate::helpers::Server;
use crate::recorder::Recorder;
use crate::replay::{Cuts, cut_power};
use crate::stored::Stored;
use crate::trace::Span;
use crate::traffic::{Habits, History, Traffic, send_batch};

/// The backups in a folder, oldest first.
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

/// Second, kind and place within it: `coffee_YYYYMMDD_HHMMSS_2_before-restore.db` is the second one of its
/// kind and second. A restore makes its own after all others.
fn age_order(name: &str) -> (String, bool, u32) {
    let (second, rest) = name["coffee_".len()..].split_at(15);
    let digits: String = rest.trim_start_matches('_').chars().take_while(char::is_ascii_digit).collect();
    (second.to_owned(), rest.contains("before-restore"), digits.parse().unwrap_or(1))
}

/// Looks every backup on a disk over. They were made one after the other; each must hold what was
/// answered before it began, and nothing that was sent after it was done. A restore into a
/// running server may have made two more: the pages at the last moment, and their verified backup.
///
/// # Errors
/// What is wrong.
pub fn are_whole(disk: &Path, history: &History, made: &[Span], cut: usize) -> Result<(), String> {
    let found = backups_in(&disk.join("backups"));
    let announced = made.iter().filter(|backup| backup.done < cut).count();
    if found.len() < announced || found.len() > made.len() + 2 {
        return Err(format!("{announced} backups were announced, and there are {found:?}"));
    }
    for (path, backup) in found.iter().zip(made.iter().chain(made.last()).chain(made.last())) {
        let stored = Stored::read(path)
            .and_then(|stored| stored.agrees_with(history, backup.began.min(cut), backup.done.min(cut)));
        stored.map_err(|why| format!("{}: {why}", path.display()))?;
    }
    // Whatever the record says, it can be read.
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
    let traffic = Traffic::start(server.address, "c", Habits::Changing);
    let names = ["first", "second", "third"];
    for name in names {
        traffic.wait_for(30);
        recorder.run(name, &["backup"]);
    }
    traffic.wait_for(30);
    history.coffees = traffic.stop();
    server.stop_cleanly();
    let trace = recorder.trace();
    history.find_answers(&trace);
    let made = names.map(|name| trace.command(name));
    println!("{} coffees and {} backups", history.coffees.len(), made.len());
    let looked_over = cut_power(&trace, Cuts::share(20), |disk, cut| {
        Stored::read(&disk.join("coffee.db"))?.agrees_with(&history, cut, cut)?;
        are_whole(disk, &history, &made, cut)
    });
    looked_over.unwrap_or_else(|loss| loss.panic());
}
