//! `restore`: restores a backup, after it shows what will change.

use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::HumanCount;
use serde_json::{Value, json};

use crate::backup::origin::BackupOrigin;
use crate::backup::restore::{RestoreError, RestorePlan, RestoreTarget};
use crate::backup::verify::Contents;
use crate::commands::{
    Failure, act_as_owner, confirm, counted_entries, newest_entry, print, progress, without_backup,
};
use crate::config::{CommonSettings, PersonArgs};
use crate::domain::person::PersonName;
use crate::people::folder::list;

#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Backup to restore
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Skip the confirmation prompt
    #[arg(long, short)]
    yes: bool,

    /// Show what would change without changing the database
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Replace a database that is damaged or belongs to another program (only while the server is stopped)
    ///
    /// The previous file and its write-ahead log are kept as NAME.broken-TIME.
    #[arg(long)]
    replace: bool,

    /// Together with --yes, allow a backup of another database
    ///
    /// Without --yes, the confirmation prompt shows a warning instead.
    #[arg(long)]
    force: bool,

    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    common: PersonArgs,
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Open(e) => e.into(),
            RestoreError::Safety(e) => {
                without_backup("nothing was restored, because the safety copy failed", e)
            }
            e => Self::busy_if(e.is_transient(), &e),
        }
    }
}

pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let settings = args.common.validate()?;
    // A mistyped name is reported before a missing terminal.
    if let Err(e) = args.file.metadata()
        && e.kind() == io::ErrorKind::NotFound
    {
        let reasons = vec!["there is no such file".to_owned()];
        return Err(RestoreError::Unfit { path: args.file.clone(), reasons }.into());
    }
    if !(args.yes || args.dry_run || io::stdin().is_terminal()) {
        return Err(Failure::Usage(
            "a restore needs confirmation, and standard input is not a terminal: add --yes".into(),
        ));
    }
    let identity = act_as_owner(&settings.database)?;
    let mut plan =
        RestorePlan::plan(&args.file, &settings.database, &settings.backups, identity, args.replace)?;
    let other_person = other_person(&settings, plan.origin())?;
    if other_person.is_some() {
        plan.set_of_other_person();
    }
    let of_whom =
        other_person.map_or_else(|| "another database".to_owned(), |name| format!("the person {name}"));
    if args.yes && plan.is_of_other_database() && !args.force {
        return Err(Failure::Failed(format!(
            "{} is not a backup of {} but of {of_whom}: add --force to restore it anyway",
            args.file.display(),
            settings.database.display()
        )));
    }
    if args.dry_run && args.json {
        return print(&preview(args, &plan)?.to_string());
    }
    if !args.yes {
        print(&what_changes(args, &settings, &plan, &of_whom))?;
    }
    if args.dry_run {
        return print("nothing was changed");
    }
    let question = if plan.is_of_other_database() {
        format!("Restore a backup of {of_whom}? [y/N] ")
    } else {
        "Restore this backup? [y/N] ".to_owned()
    };
    if !(args.yes || confirm(&question)?) {
        return print("nothing was changed");
    }
    carry_out(args, &settings, plan)
}

fn carry_out(args: &RestoreArgs, settings: &CommonSettings, plan: RestorePlan) -> Result<(), Failure> {
    let bar = progress::of_copy(false);
    let done = plan.execute(&|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let done = done?;
    if args.json {
        let result = json!({
            "file": args.file,
            "person": settings.person,
            "safety": done.safety,
            "kept_files": done.kept_files,
            "coffees": done.contents.coffees,
            "readings": done.contents.readings,
        });
        return print(&result.to_string());
    }
    for path in &done.kept_files {
        print(&format!("moved the old file to {}", path.display()))?;
    }
    if let Some(path) = &done.safety {
        print(&format!("saved the previous state as the safety copy {}", path.display()))?;
    }
    print(&format!(
        "restored {} into {}: {}, {:.1} s",
        args.file.display(),
        settings.database.display(),
        counted_entries(&done.contents),
        done.took.as_secs_f64()
    ))
}

/// Describes what would change, for programs.
fn preview(args: &RestoreArgs, plan: &RestorePlan) -> Result<Value, Failure> {
    let entries = |contents: Contents| {
        json!({
            "coffees": contents.coffees,
            "readings": contents.readings,
            "newest_entry_at": contents.newest,
        })
    };
    let origin = match () {
        () if plan.is_of_other_database() => "other",
        () if plan.is_of_unknown_origin() => "unknown",
        () => "own",
    };
    let lost = plan.lost_entries()?;
    Ok(json!({
        "file": args.file,
        "before": plan.before().map(entries),
        "after": entries(plan.after()),
        "loses": {"coffees": lost.coffees, "readings": lost.readings, "since": lost.since},
        "origin": origin,
        "is_served": plan.is_served(),
    }))
}

/// Returns the person on this server whose database the backup was made of, unless it is the one of `settings`.
fn other_person(settings: &CommonSettings, origin: &BackupOrigin) -> Result<Option<PersonName>, Failure> {
    let BackupOrigin::Known(_) = origin else { return Ok(None) };
    let others = list(settings).context("cannot list the people")?;
    let mut everyone = std::iter::once(PersonName::owner()).chain(others);
    Ok(everyone.find(|person| {
        *person != settings.person
            && BackupOrigin::of_database(&settings.of_person(person).database) == *origin
    }))
}

fn what_changes(args: &RestoreArgs, settings: &CommonSettings, plan: &RestorePlan, of_whom: &str) -> String {
    let after = plan.after();
    let row = |name: &str, now: Option<String>, then: String| {
        format!("  {name:<14}{:>28}{then:>28}\n", now.unwrap_or_else(|| "unknown".to_owned()))
    };
    let before = plan.before();
    let mut text = format!("Restoring {} into {}:\n", args.file.display(), settings.database.display());
    text += &format!("  {:<14}{:>28}{:>28}\n", "", "current", "after");
    let number = |count| HumanCount(count).to_string();
    text += &row("coffees", before.map(|c| number(c.coffees)), number(after.coffees));
    text += &row("readings", before.map(|c| number(c.readings)), number(after.readings));
    text += &row("newest entry", before.as_ref().map(newest_entry), newest_entry(&after));
    text += &match &plan.target {
        RestoreTarget::Broken(why) => format!(
            "The current file cannot be used ({why}). It will be renamed to {}.broken-TIME.",
            settings.database.display()
        ),
        RestoreTarget::Nothing => "There is no database yet; it will be created.".to_owned(),
        RestoreTarget::Ours { .. } => {
            format!(
                "A safety copy of the current state will be made in {} first.",
                settings.backups.display()
            )
        }
    };
    if plan.is_served() {
        text +=
            " The server keeps running; writes wait until the restore is complete, at most 25 seconds each.";
    }
    if plan.is_of_other_database() {
        text += &format!(
            "\nWARNING: this is a backup of {of_whom}. Its entries will replace all current entries."
        );
    } else if plan.is_of_unknown_origin() {
        text += "\nThe backup was made by an older version and has no database id: make sure that it is of this database.";
    }
    text
}
