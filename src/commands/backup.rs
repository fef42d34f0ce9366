//! `backup`: makes a verified copy of the database and removes old backups.

use std::io;
use std::io::{Error, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::backup::catalog;
use crate::backup::origin::BackupOrigin;
use crate::backup::retention::{Retention, RetentionResult, remove_old};
use crate::backup::snapshot::{BackupTarget, Snapshot, SnapshotError, snapshot};
use crate::commands::{
    Failure, act_as_owner, counted, counted_entries, everyone, for_each_person, print, progress,
};
use crate::config::{CommonSettings, PersonArgs};
use crate::db::error::require_database;
use crate::db::health::{BackupRecord, record_failed_backup};
use crate::domain::time::Timestamp;
use crate::fs::paths::folder_of;
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;

/// Default of `--keep`.
const DEFAULT_KEEP: u32 = 14;

#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Write the backup to this new file or into this folder [default: BACKUP_DIR]
    #[arg(long, value_name = "FILE|DIR")]
    to: Option<PathBuf>,

    /// Create the folder of --to if it is missing
    ///
    /// Without it, a missing folder is an error, because its disk may not be mounted.
    #[arg(long, requires = "to")]
    create_dir: bool,

    /// Keep the newest N backups of this database and remove older ones; 0 keeps all [default: 14]
    #[arg(long, value_name = "N")]
    keep: Option<u32>,

    /// Keep the backups of the last N days and remove older ones; with --keep, keep those that match either
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,

    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,

    /// Print nothing but errors and warnings
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    #[command(flatten)]
    common: PersonArgs,
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Open(e) => e.into(),
            e => Self::busy_if(e.is_transient(), &e),
        }
    }
}

/// Makes a backup of everyone's database and removes old ones. `/health` reports a failure too.
pub fn run(args: &BackupArgs) -> Result<(), Failure> {
    let people = everyone(&args.common)?;
    let names_file = args.to.as_deref().is_some_and(|to| matches!(target(to), BackupTarget::File(_)));
    if names_file && people.len() > 1 {
        return Err(Failure::Usage(
            "--to names a file, but several people have databases: name a folder, or add --person".to_owned(),
        ));
    }
    if names_file && (args.keep.is_some() || args.keep_days.is_some()) {
        return Err(Failure::Usage(
            "--keep and --keep-days apply to a folder, but --to names a file".to_owned(),
        ));
    }
    let owner = people.first().map_or(Path::new("."), |settings| &settings.owner_database);
    let identity = act_as_owner(owner)?;
    // Requests to the server take precedence.
    let _ = rustix::process::nice(10);
    for_each_person(&people, |settings| back_up(args, settings, &identity))
}

fn back_up(args: &BackupArgs, settings: &CommonSettings, identity: &Identity) -> Result<(), Failure> {
    let to = match &args.to {
        // Like BACKUP_DIR, it contains a folder for each person except the owner.
        Some(to) if !settings.person.is_owner() && args.common.person.is_none() => {
            to.join(settings.person.as_str())
        }
        Some(to) => to.clone(),
        None => settings.backups.clone(),
    };
    ensure_not_protected(&settings.database, &to)?;
    let target = target(&to);
    // The failure of a backup is recorded beside the database.
    require_database(&settings.database)?;
    if args.to.is_some() && !args.create_dir {
        let missing =
            identity.as_caller(|| missing_folder(args, &target)).context("cannot act as the caller")?;
        if let Some(folder) = missing {
            let why = format!(
                "the folder {} does not exist: mount its disk, or add --create-dir to create it",
                folder.display()
            );
            record_failed_backup(&settings.database, &why);
            return Err(Failure::Failed(why));
        }
    }
    let bar = progress::of_copy(args.quiet || args.json);
    let made = snapshot(&settings.database, &target, identity, &|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let made = made?;
    let is_manual = progress::is_run_by_server() || io::stderr().is_terminal();
    let recorded = catalog::record(&settings.database, &made.path, |entry| {
        (entry.is_manual, entry.verified_at) = (is_manual, Some(Timestamp::from(SystemTime::now())));
    });
    if let Err(e) = recorded {
        tracing::warn!("the backup could not be added to the list of verified ones: {e}");
    }
    let without = || format!("{} was created, but old backups could not be removed", made.path.display());
    let cleared = match &target {
        BackupTarget::File(_) | BackupTarget::Safety(_) => RetentionResult::default(),
        BackupTarget::Folder(folder) => {
            clear_out(folder, &settings.database, args.retention(), identity).with_context(without)?
        }
    };
    report(args, settings, &made, &cleared.removed)?;
    warn_of_unattributed(&to, &settings.database, &cleared.unattributed);
    if let Some(first) = cleared.ahead.first() {
        tracing::warn!(
            "ignored {} with a date in the future, such as {}: check the clock, and remove or rename such files",
            counted(cleared.ahead.len() as u64, "backup"),
            first.display()
        );
    }
    match cleared.failed.into_iter().next() {
        None => Ok(()),
        Some((path, e)) => Err(Error::other(format!("{}: {e}", path.display()))).with_context(without)?,
    }
}

impl BackupArgs {
    fn retention(&self) -> Retention {
        let newest = match (self.keep, self.keep_days) {
            (Some(0), _) => return Retention { newest: None, days: None },
            (None, None) => Some(DEFAULT_KEEP),
            (keep, _) => keep,
        };
        Retention { newest, days: self.keep_days }
    }
}

/// Returns a folder if one exists at this path or the path has the form of one, otherwise a file.
fn target(path: &Path) -> BackupTarget {
    let text = path.to_string_lossy();
    if path.is_dir() || text.ends_with('/') || path.extension().is_none() {
        BackupTarget::Folder(path.to_owned())
    } else {
        BackupTarget::File(path.to_owned())
    }
}

/// Returns the folder of `--to` if it is missing. The folders of people in it are created.
fn missing_folder(args: &BackupArgs, target: &BackupTarget) -> Option<PathBuf> {
    let folder = match target {
        BackupTarget::Folder(folder) | BackupTarget::Safety(folder) => args.to.as_deref().unwrap_or(folder),
        BackupTarget::File(file) => folder_of(file),
    };
    let is_missing = std::fs::metadata(folder).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    is_missing.then(|| folder.to_owned())
}

/// Warns about backups that retention never removes, once per folder.
fn warn_of_unattributed(folder: &Path, database: &Path, files: &[PathBuf]) {
    let Some(first) = files.first() else { return };
    let mut record = BackupRecord::read(database);
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    if record.unattributed_in.contains(&absolute) {
        return;
    }
    tracing::warn!(
        "found {} without a database id in {}, such as {}: an older version made such a file, or it cannot be read; delete it by hand when you no longer need it, retention never does (this warning is logged once)",
        counted(files.len() as u64, "backup"),
        folder.display(),
        first.display()
    );
    record.unattributed_in.push(absolute);
    if let Err(e) = record.write(database) {
        tracing::warn!("cannot record the result of the backup: {e}");
    }
}

fn clear_out(
    folder: &Path,
    database: &Path,
    retention: Retention,
    identity: &Identity,
) -> io::Result<RetentionResult> {
    let now = Timestamp::from(SystemTime::now());
    let owner = BackupOrigin::of_database(database);
    let remove = || remove_old(folder, database, &owner, retention, now);
    let is_denied = |e: &Error| e.kind() == ErrorKind::PermissionDenied;
    let cleared = remove();
    let is_refused = match &cleared {
        // The caller may read files that the owner cannot.
        Ok(cleared) => cleared.failed.iter().any(|(_, e)| is_denied(e)) || !cleared.unattributed.is_empty(),
        Err(e) => is_denied(e),
    };
    if !is_refused {
        return cleared;
    }
    let mut done = identity.as_caller(remove)??;
    done.removed.splice(0..0, cleared.map(|first| first.removed).unwrap_or_default());
    Ok(done)
}

fn report(
    args: &BackupArgs,
    settings: &CommonSettings,
    made: &Snapshot,
    removed: &[PathBuf],
) -> Result<(), Failure> {
    let seconds = made.took.as_secs_f64();
    if args.json {
        let report = json!({
            "person": settings.person,
            "path": made.path,
            "size_bytes": made.size_bytes,
            "coffees": made.contents.coffees,
            "readings": made.contents.readings,
            "newest_entry": made.contents.newest,
            "sha256": made.sha256,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "removed": removed,
        });
        return print(&report.to_string());
    }
    if args.quiet {
        return Ok(());
    }
    for path in removed {
        print(&format!("removed {}", path.display()))?;
    }
    print(&format!(
        "{}: {}, {}, SHA-256 {}, {seconds:.1} s",
        made.path.display(),
        indicatif::DecimalBytes(made.size_bytes),
        counted_entries(&made.contents),
        made.sha256,
    ))
}
