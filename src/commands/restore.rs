//! `restore`: brings a backup back, after saying what that changes.

use std::io;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::backup::restore::{RestoreError, RestorePlan};
use crate::backup::verify::Contents;
use crate::commands::{Failure, counted, grouped, print, progress, without_backup};
use crate::config::{Place, RawPlace};
use crate::fs::privileges::Identity;

/// What to restore.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Say what would change, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Put the backup in the place of a database that is damaged or not ours, which is moved aside;
    /// only while no server runs
    #[arg(long)]
    replace: bool,

    /// Restore a backup of another database, which --yes alone refuses
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    place: RawPlace,
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Open(e) => e.into(),
            RestoreError::Safety(e) => without_backup("the present state could not be backed up", e),
            e if e.is_transient() => Self::Busy(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}

/// Restores a backup.
///
/// # Errors
/// Why nothing was restored.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let place = args.place.clone().check()?;
    // A slip in the name is the first thing to correct, whoever is asked.
    if let Err(e) = args.file.metadata()
        && e.kind() == io::ErrorKind::NotFound
    {
        let reasons = vec!["there is no such file".to_owned()];
        return Err(RestoreError::Unfit { path: args.file.clone(), reasons }.into());
    }
    if !(args.yes || args.dry_run || io::stdin().is_terminal()) {
        return Err(Failure::Usage(
            "a restore asks before it changes anything, and there is no terminal to ask on: add --yes".into(),
        ));
    }
    let identity = Identity::of_owner(&place.database).context("the rights of the database's owner")?;
    let plan = RestorePlan::plan(&args.file, &place.database, &place.backups, identity, args.replace)?;
    if args.yes && plan.is_foreign() && !args.force {
        return Err(Failure::Failed(format!(
            "{} is a backup of another database than {}: add --force to restore it all the same",
            args.file.display(),
            place.database.display()
        )));
    }
    if !args.yes {
        print(&what_changes(args, &place, &plan))?;
    }
    if args.dry_run {
        return print("Nothing was changed.");
    }
    let question =
        if plan.is_foreign() { "Restore a backup of another database? [y/N] " } else { "Restore it? [y/N] " };
    if !(args.yes || asked(question)?) {
        return print("Nothing was changed.");
    }
    let bar = progress::of_copy(false);
    let done = plan.execute(&|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let done = done?;
    for path in &done.aside {
        print(&format!("moved aside: {}", path.display()))?;
    }
    if let Some(path) = &done.safety {
        print(&format!("the state before is in {}", path.display()))?;
    }
    print(&format!(
        "restored {} into {}: {}, {}, {:.1} s",
        args.file.display(),
        place.database.display(),
        counted(done.contents.coffees, "coffee"),
        counted(done.contents.readings, "reading"),
        done.took.as_secs_f64()
    ))
}

fn what_changes(args: &RestoreArgs, place: &Place, plan: &RestorePlan) -> String {
    let after = plan.after();
    let newest = |contents: &Contents| contents.newest.map_or_else(|| "none".to_owned(), |at| at.to_string());
    let row = |name: &str, now: Option<String>, then: String| {
        format!("  {name:<14}{:>28}{then:>28}\n", now.unwrap_or_else(|| "unknown".to_owned()))
    };
    let before = plan.before();
    let mut text = format!("Restoring {} into {}:\n", args.file.display(), place.database.display());
    text += &format!("  {:<14}{:>28}{:>28}\n", "", "now", "then");
    text += &row("coffees", before.map(|c| grouped(c.coffees)), grouped(after.coffees));
    text += &row("readings", before.map(|c| grouped(c.readings)), grouped(after.readings));
    text += &row("newest entry", before.as_ref().map(newest), newest(&after));
    text += &match plan.broken() {
        Some(why) => format!("The present file is moved aside: {why}."),
        None if !plan.has_present() => "There is no database yet: it is made.".to_owned(),
        None => format!("The present state is backed up first, into {}.", place.backups.display()),
    };
    if plan.is_foreign() {
        text += "\nWARNING: this is a backup of another database. All entries of the present one are replaced by its entries.";
    } else if plan.is_of_unknown_origin() {
        text += "\nThe backup was made by an older version and carries no database id: see that it is of this database.";
    }
    if plan.is_served() {
        text += " A server runs: it goes on answering, and writes wait for the end.";
    }
    text
}

fn asked(question: &str) -> Result<bool, Failure> {
    let mut answer = String::new();
    let read = write!(io::stderr(), "{question}")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.context("the answer could not be read")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
