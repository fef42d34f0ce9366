//! `prune`: deletes the entries of a period, after a backup.

use std::time::SystemTime;

use clap::Args;
use indicatif::HumanCount;
use serde_json::json;

use crate::backup::snapshot::{BackupTarget, snapshot};
use crate::commands::export::instant;
use crate::commands::{Failure, act_as_owner, counted, print, progress, without_backup};
use crate::config::PersonArgs;
use crate::db::prune::{PruneError, PrunedEntries, PrunedPeriod, Pruner};
use crate::domain::entry::EntryKind;
use crate::domain::limits::MAX_CLOCK_LEAD;
use crate::domain::time::{DAY, Timestamp};

#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Delete entries before this date or time, such as 2024-01-01 or 2024-01-01T00:00:00Z
    #[arg(long, value_name = "DATE")]
    before: String,

    /// Keep entries before this date or time [default: delete from the beginning]
    #[arg(long, value_name = "DATE")]
    since: Option<String>,

    /// Delete only coffees
    #[arg(long)]
    coffee: bool,

    /// Delete only heart rates
    #[arg(long)]
    heartrate: bool,

    /// Delete the entries instead of showing them
    #[arg(long, short)]
    yes: bool,

    /// Print the result as a JSON object
    #[arg(long, requires = "yes")]
    json: bool,

    #[command(flatten)]
    common: PersonArgs,
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Open(e) => e.into(),
            PruneError::Store(e) => e.into(),
        }
    }
}

/// Age of the oldest samples that apps usually send again; a full export by hand may have older ones.
const MAX_PUSHED_AGE: i64 = 30 * DAY;

/// Shows what would be deleted, and deletes it with `--yes`.
pub fn run(args: &PruneArgs) -> Result<(), Failure> {
    let both = args.coffee == args.heartrate;
    let kinds = [(EntryKind::Coffee, both || args.coffee), (EntryKind::HeartRate, both || args.heartrate)];
    let kinds: Vec<EntryKind> =
        kinds.into_iter().filter_map(|(kind, wanted)| wanted.then_some(kind)).collect();
    let settings = args.common.validate()?;
    let Some(before) = instant("--before", Some(&args.before), &settings.zone)? else { return Ok(()) };
    let since = instant("--since", args.since.as_deref(), &settings.zone)?;
    let now = Timestamp::from(SystemTime::now());
    // A client's clock may be ahead, and so may the newest entry.
    if before > now.plus(MAX_CLOCK_LEAD) {
        return Err(Failure::Usage(format!("--before must not be in the future (got {:?})", args.before)));
    }
    if since.is_some_and(|since| before < since) {
        return Err(Failure::Usage("--before must not be before --since".into()));
    }
    let period = PrunedPeriod { since, before };
    let identity = act_as_owner(&settings.database)?;
    let mut pruner = Pruner::open(&settings.database, args.yes)?;
    let mut count = 0;
    for kind in &kinds {
        let found = pruner.look(*kind, period)?;
        count += found.count;
        if !args.json {
            print(&summary(*kind, &found, period))?;
        }
    }
    if count == 0 && args.json {
        return print(&json!({"backup": null, "coffees": 0, "readings": 0}).to_string());
    }
    if count == 0 {
        return print("nothing to delete");
    }
    if !args.yes {
        return print("nothing was deleted: add --yes to delete these entries, after a backup");
    }
    let pushed_since = now.minus(MAX_PUSHED_AGE);
    let target = BackupTarget::Folder(settings.backups);
    let bar = progress::of_copy(args.json);
    let backup = snapshot(&settings.database, &target, &identity, &|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let backup = backup.map_err(|e| without_backup("nothing was deleted, because the backup failed", e))?;
    if args.json {
        let mut removed = |wanted| -> Result<u64, Failure> {
            if kinds.contains(&wanted) { Ok(pruner.remove(wanted, period, pushed_since)?) } else { Ok(0) }
        };
        let (coffees, readings) = (removed(EntryKind::Coffee)?, removed(EntryKind::HeartRate)?);
        let result = json!({"backup": backup.path, "coffees": coffees, "readings": readings});
        return print(&result.to_string());
    }
    print(&format!("backup: {}", backup.path.display()))?;
    for kind in &kinds {
        let removed = pruner.remove(*kind, period, pushed_since)?;
        print(&format!("deleted {}", counted(removed, kind_name(*kind))))?;
    }
    print("the freed space is reused for later entries; the file does not shrink")
}

fn summary(kind: EntryKind, found: &PrunedEntries, period: PrunedPeriod) -> String {
    let PrunedPeriod { since, before } = period;
    let since = since.map_or_else(String::new, |since| format!(" since {since} and"));
    let count = counted(found.count, kind_name(kind));
    let span =
        found.span.map_or_else(String::new, |(oldest, newest)| format!(" (from {oldest} to {newest})"));
    format!("{count}{since} before {before}{span}, {} to keep", HumanCount(found.others))
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Coffee => "coffee",
        EntryKind::HeartRate => "reading",
    }
}
