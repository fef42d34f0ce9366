//! `backups`: lists the backups in a folder, and names the newest one.

use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::backup::origin::{BackupOwner, count_backup};
use crate::backup::retention::{BackupFile, BackupKind, BackupRelation, list_backups, newest_backup};
use crate::backup::verify::Contents;
use crate::commands::{Failure, counted, print};
use crate::config::{Place, RawPlace};
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

/// Backups to show.
#[derive(Args, Debug)]
pub struct BackupsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all backups, newest first: time, size, entries, kind, and whose they are
    ///
    /// Verifies nothing: see `coffee-tracker verify`.
    List(ListArgs),
    /// Print the path of the newest backup of this database
    ///
    /// The copy that a restore makes of the state before it is not offered, nor is a backup of another
    /// database.
    Newest(NewestArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: RawPlace,
}

#[derive(Args, Debug)]
struct NewestArgs {
    #[command(flatten)]
    place: RawPlace,
}

/// Lists backups.
///
/// # Errors
/// There is no newest one, or the folder cannot be listed.
pub fn run(args: BackupsArgs) -> Result<(), Failure> {
    match args.action {
        Action::List(args) => list(&args),
        Action::Newest(args) => {
            let place = args.place.check()?;
            let identity =
                Identity::of_owner(&place.database).context("the rights of the database's owner")?;
            print(&newest(&place, &identity, newest_backup)?.display().to_string())
        }
    }
}

/// Returns the newest backup of the database, as `pick` picks it.
///
/// # Errors
/// There is none; the sentence counts what is there instead.
pub fn newest(
    place: &Place,
    identity: &Identity,
    pick: fn(Vec<BackupFile>) -> Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    let folder = place.backups.display();
    match all(place, identity) {
        Ok(files) => {
            let others = other_backups(&files);
            pick(files).ok_or_else(|| {
                Failure::Failed(format!(
                    "there is no backup of {} in {folder}{others}",
                    place.database.display()
                ))
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Failure::Failed(format!("there is no backup: {folder} is missing")))
        }
        Err(e) => Err(Failure::Failed(format!("{folder} cannot be listed: {e}"))),
    }
}

/// Lists the backups of a folder as the owner of the database, or as the caller where the owner may
/// not look.
///
/// # Errors
/// The folder cannot be listed.
pub fn all(place: &Place, identity: &Identity) -> io::Result<Vec<BackupFile>> {
    let owner = BackupOwner::of(&place.database);
    let look = || list_backups(&place.backups, &place.database, &owner, Timestamp::from(SystemTime::now()));
    look().or_else(|_| identity.as_caller(look).and_then(|found| found))
}

/// Counts the backups that are not the database's own: `; there are 2 backups of other databases`.
pub fn other_backups(files: &[BackupFile]) -> String {
    let count =
        |is: fn(&BackupRelation) -> bool| files.iter().filter(|file| is(&file.belonging)).count() as u64;
    let others = count(|belonging| matches!(belonging, BackupRelation::Other(_)));
    let unknown =
        count(|belonging| matches!(belonging, BackupRelation::Unmarked | BackupRelation::Unreadable));
    let parts: Vec<String> = [(others, "of another database"), (unknown, "without a database id")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", counted(n, "file")))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" (there is: {}; see `coffee-tracker backups list`)", parts.join(", "))
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let place = args.place.clone().check()?;
    let identity = Identity::of_owner(&place.database).context("the rights of the database's owner")?;
    let files = match all(&place, &identity) {
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        files => files.with_context(|| format!("{} cannot be listed", place.backups.display()))?,
    };
    let contents = |path: &Path| {
        let found = count_backup(path).ok();
        found.or_else(|| identity.as_caller(|| count_backup(path).ok()).ok().flatten())
    };
    if args.json {
        let backups: Vec<Value> = files.iter().map(|file| as_json(file, contents(&file.path))).collect();
        return print(&json!({ "backups": backups }).to_string());
    }
    if files.is_empty() {
        return print(&format!("there are no backups in {}", place.backups.display()));
    }
    files.iter().try_for_each(|file| print(&as_text(file, contents(&file.path))))
}

fn size(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |file| file.len())
}

fn as_text(file: &BackupFile, contents: Option<Contents>) -> String {
    let holds = contents.map_or_else(
        || "cannot be read".to_owned(),
        |contents| {
            let newest = contents.newest.map_or_else(|| "none".to_owned(), |at| at.to_string());
            let (coffees, readings) =
                (counted(contents.coffees, "coffee"), counted(contents.readings, "reading"));
            format!("{coffees}, {readings}, newest entry {newest}")
        },
    );
    let kind = match file.kind {
        BackupKind::Regular => "backup",
        BackupKind::Safety => "safety copy (before a restore)",
    };
    let whose = match &file.belonging {
        BackupRelation::Own => "of this database".to_owned(),
        BackupRelation::Other(id) => format!("of another database ({id})"),
        BackupRelation::Unmarked => "without a database id (made by an older version)".to_owned(),
        BackupRelation::Unreadable => "of an unknown database".to_owned(),
    };
    let ahead = if file.is_ahead { ", named after a time to come" } else { "" };
    format!(
        "{}\n  {}, {}, {holds}\n  {kind} {whose}{ahead}",
        file.path.display(),
        file.made_at(),
        DecimalBytes(size(&file.path)),
    )
}

fn as_json(file: &BackupFile, contents: Option<Contents>) -> Value {
    let (database, id) = match &file.belonging {
        BackupRelation::Own => ("this", None),
        BackupRelation::Other(id) => ("other", Some(id.to_string())),
        BackupRelation::Unmarked | BackupRelation::Unreadable => ("unknown", None),
    };
    json!({
        "file": file.path,
        "created_at": file.made_at(),
        "size_bytes": size(&file.path),
        "coffees": contents.map(|c| c.coffees),
        "readings": contents.map(|c| c.readings),
        "newest_entry_at": contents.and_then(|c| c.newest),
        "kind": match file.kind { BackupKind::Regular => "backup", BackupKind::Safety => "safety" },
        "database": database,
        "other_database_id": id,
    })
}
