//! `backups`: lists the backups in a folder, or prints the newest one.

use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::backup::catalog::{Catalog, CatalogEntry};
use crate::backup::origin::{BackupOrigin, count_backup};
use crate::backup::retention::{BackupFile, BackupKind, list_backups, newest_backup};
use crate::backup::verify::Contents;
use crate::commands::{Failure, act_as_owner, counted, counted_entries, newest_entry, print};
use crate::config::{CommonSettings, PersonArgs};
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

#[derive(Args, Debug)]
pub struct BackupsArgs {
    #[command(subcommand)]
    action: BackupsCommand,
}

#[derive(Debug, Subcommand)]
enum BackupsCommand {
    /// List all backups, newest first
    ///
    /// Shows time, size, entries, kind and database of each, but does not verify them: see `coffee-tracker verify`.
    List {
        /// Print a JSON object
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        common: PersonArgs,
    },
    /// Print the path of the newest backup of this database
    ///
    /// Backups of other databases and safety copies made by `restore` are left out.
    Newest {
        #[command(flatten)]
        common: PersonArgs,
    },
}

pub fn run(args: BackupsArgs) -> Result<(), Failure> {
    match args.action {
        BackupsCommand::List { json, common } => list(&common.validate()?, json),
        BackupsCommand::Newest { common } => {
            let settings = common.validate()?;
            let identity = act_as_owner(&settings.database)?;
            print(&newest(&settings, &identity, newest_backup)?.display().to_string())
        }
    }
}

/// Returns the newest backup that `pick` selects. The error counts the files that are not backups of this database.
pub fn newest(
    settings: &CommonSettings,
    identity: &Identity,
    pick: fn(Vec<BackupFile>) -> Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    let folder = settings.backups.display();
    match all(settings, identity) {
        Ok(files) => {
            let others = other_backups(&files);
            pick(files).ok_or_else(|| {
                Failure::Failed(format!(
                    "there is no backup of {} in {folder}{others}",
                    settings.database.display()
                ))
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Failure::Failed(format!("there is no backup: the folder {folder} does not exist")))
        }
        Err(e) => Err(Failure::Failed(format!("cannot list {folder}: {e}"))),
    }
}

/// Lists the backups of a folder as the owner of the database, or as the caller if the owner may not read it.
pub fn all(settings: &CommonSettings, identity: &Identity) -> io::Result<Vec<BackupFile>> {
    let owner = BackupOrigin::of_database(&settings.database);
    let look =
        || list_backups(&settings.backups, &settings.database, &owner, Timestamp::from(SystemTime::now()));
    look().or_else(|_| identity.as_caller(look).and_then(|found| found))
}

/// Describes the backups that do not belong to the database, or returns an empty string if there are none.
pub fn other_backups(files: &[BackupFile]) -> String {
    let not_own = files.iter().filter(|file| !file.is_own);
    let (others, unknown): (Vec<_>, Vec<_>) =
        not_own.partition(|file| matches!(file.origin, BackupOrigin::Known(_)));
    let parts: Vec<String> = [(others, "of another database"), (unknown, "without a database id")]
        .into_iter()
        .filter(|(files, _)| !files.is_empty())
        .map(|(files, what)| format!("{} {what}", counted(files.len() as u64, "file")))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" (found {}; see `coffee-tracker backups list`)", parts.join(", "))
    }
}

fn list(settings: &CommonSettings, json: bool) -> Result<(), Failure> {
    let identity = act_as_owner(&settings.database)?;
    let files = match all(settings, &identity) {
        Err(e) if e.kind() == ErrorKind::NotFound && !json => {
            let folder = settings.backups.display();
            return print(&format!("the folder {folder} does not exist: no backup has been made"));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        files => files.with_context(|| format!("cannot list {}", settings.backups.display()))?,
    };
    let catalog = Catalog::read(&settings.database);
    let contents = |path: &Path| {
        let found = count_backup(path).ok();
        found.or_else(|| identity.as_caller(|| count_backup(path).ok()).ok().flatten())
    };
    if json {
        let backups: Vec<Value> = files
            .iter()
            .map(|file| as_json(file, &catalog.entry(&file.path), contents(&file.path)))
            .collect();
        return print(&json!({ "backups": backups }).to_string());
    }
    if files.is_empty() {
        return print(&format!("there are no backups in {}", settings.backups.display()));
    }
    files.iter().try_for_each(|file| print(&as_text(file, &catalog.entry(&file.path), contents(&file.path))))
}

fn size(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |file| file.len())
}

fn as_text(file: &BackupFile, record: &CatalogEntry, contents: Option<Contents>) -> String {
    let holds = contents.map_or_else(
        || "unreadable".to_owned(),
        |contents| format!("{}, newest entry {}", counted_entries(&contents), newest_entry(&contents)),
    );
    let kind = match file.kind {
        BackupKind::Regular if record.is_manual => "backup made by hand",
        BackupKind::Regular => "backup",
        BackupKind::Safety => "safety copy (before a restore)",
    };
    let whose = match &file.origin {
        _ if file.is_own => "of this database".to_owned(),
        BackupOrigin::Known(id) => format!("of another database ({id})"),
        BackupOrigin::Unmarked => "without a database id (made by an older version)".to_owned(),
        BackupOrigin::Unknown => "of an unknown database".to_owned(),
    };
    let ahead = if file.is_ahead { ", dated in the future" } else { "" };
    format!(
        "{}\n  {}, {}, {holds}\n  {kind} {whose}{ahead}",
        file.path.display(),
        file.made_at(),
        DecimalBytes(size(&file.path)),
    )
}

fn as_json(file: &BackupFile, record: &CatalogEntry, contents: Option<Contents>) -> Value {
    let (database, id) = match &file.origin {
        _ if file.is_own => ("this", None),
        BackupOrigin::Known(id) => ("other", Some(id.to_string())),
        BackupOrigin::Unmarked | BackupOrigin::Unknown => ("unknown", None),
    };
    json!({
        "file": file.path,
        "created_at": file.made_at(),
        "size_bytes": size(&file.path),
        "coffees": contents.map(|c| c.coffees),
        "readings": contents.map(|c| c.readings),
        "newest_entry_at": contents.and_then(|c| c.newest),
        "kind": match file.kind { BackupKind::Regular => "backup", BackupKind::Safety => "safety" },
        "is_manual": record.is_manual,
        "verified_at": record.verified_at,
        "database": database,
        "other_database_id": id,
    })
}
