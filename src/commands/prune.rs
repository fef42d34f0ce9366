//! `prune`: says what is older than a date, and removes it when told to, after a backup.

use std::time::SystemTime;

use clap::Args;

use crate::backup::snapshot::{BackupTarget, no_progress, snapshot};
use crate::commands::export::instant;
use crate::commands::{Failure, print, without_backup};
use crate::config::RawPlace;
use crate::db::prune::{OldEntries, PruneError, Pruner};
use crate::domain::entry::EntryKind;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

/// What to remove.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Remove entries before this day or time, such as 2024-01-01 or 2024-01-01T00:00:00Z
    #[arg(long, value_name = "DATE")]
    before: String,

    /// Coffees (without --heartrate: these alone)
    #[arg(long)]
    coffee: bool,

    /// Heart rates (without --coffee: these alone)
    #[arg(long)]
    heartrate: bool,

    /// Do it: without this nothing is removed
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    place: RawPlace,
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Open(e) => e.into(),
            PruneError::Store(e) if e.is_transient() => Self::Busy(e.to_string()),
            PruneError::Store(e) => Self::Failed(e.to_string()),
        }
    }
}

/// Looks, and removes.
///
/// # Errors
/// Why it does not.
pub fn run(args: PruneArgs) -> Result<(), Failure> {
    let both = args.coffee == args.heartrate;
    let kinds = [(EntryKind::Coffee, both || args.coffee), (EntryKind::HeartRate, both || args.heartrate)];
    let kinds: Vec<EntryKind> =
        kinds.into_iter().filter_map(|(kind, wanted)| wanted.then_some(kind)).collect();
    let place = args.place.check()?;
    let Some(before) = instant("--before", Some(&args.before), &place.zone)? else { return Ok(()) };
    if before > Timestamp::from(SystemTime::now()) {
        return Err(Failure::Usage(format!("--before must not lie in the future (got {:?})", args.before)));
    }
    let identity = Identity::of_owner(&place.database).map_err(|e| {
        Failure::Failed(format!("cannot act as the owner of {}: {e}", place.database.display()))
    })?;
    let mut pruner = Pruner::open(&place.database, args.yes)?;
    let mut old = 0;
    for kind in &kinds {
        let found = pruner.look(*kind, before)?;
        old += found.count;
        print(&outlook(*kind, &found, before))?;
    }
    if old == 0 {
        return print("There is nothing to remove.");
    }
    if !args.yes {
        return print("Nothing was removed: --yes does it, after a backup.");
    }
    let target = BackupTarget::Folder(place.backups);
    let backup = snapshot(&place.database, &target, &identity, &no_progress)
        .map_err(|e| without_backup("nothing was removed, for there is no backup", e))?;
    print(&format!("Backup: {}", backup.path.display()))?;
    for kind in &kinds {
        let removed = pruner.remove(*kind, before)?;
        print(&format!("Removed {}.", counted(*kind, removed)))?;
    }
    print("Later entries use the room; the file does not shrink.")
}

fn outlook(kind: EntryKind, found: &OldEntries, before: Timestamp) -> String {
    let (count, others) = (counted(kind, found.count), found.others);
    match found.span {
        Some((oldest, newest)) => {
            format!("{count} before {before}: the oldest of {oldest}, the newest of {newest}; {others} stay.")
        }
        None => format!("{count} before {before}; {others} stay."),
    }
}

fn counted(kind: EntryKind, count: u64) -> String {
    match (kind, count) {
        (EntryKind::Coffee, 1) => "1 coffee".to_owned(),
        (EntryKind::Coffee, n) => format!("{n} coffees"),
        (EntryKind::HeartRate, 1) => "1 reading".to_owned(),
        (EntryKind::HeartRate, n) => format!("{n} readings"),
    }
}
