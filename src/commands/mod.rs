//! Subcommands, one file each, and the error type that sets the exit code.

pub mod backup;
pub mod backups;
pub mod check;
pub mod config;
pub mod demo;
pub mod export;
pub mod healthcheck;
pub mod import;
mod import_report;
pub mod key;
pub mod person;
pub mod profile;
mod progress;
pub mod prune;
pub mod recount;
mod rejected;
mod reload;
pub mod restore;
pub mod serve;
pub mod sql;
mod systemd;
mod table;
pub mod verify;

pub use progress::end_with_server;

use std::io::{BufRead, Write};
use std::path::Path;
use std::{fmt, io};

use anyhow::Context;
use indicatif::HumanCount;

use crate::backup::snapshot::SnapshotError;
use crate::backup::verify::Contents;
use crate::config::{CommonSettings, PersonArgs, SettingError};
use crate::db::error::{OpenError, StoreError, require_database};
use crate::db::store::Options;
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ProtectedFile;
use crate::http::LaunchError;
use crate::people::folder::list;

/// Error of a command.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 78: a setting, or the file it refers to, is invalid.
    Configuration(Vec<String>),
    /// Exit code 75: the command may succeed later.
    Busy(String),
    /// Exit code 2: invalid command line.
    Usage(String),
    /// Exit code 1: any other failure.
    Failed(String),
}

impl Failure {
    /// Returns the exit code, from sysexits.h where possible.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 78,
            Self::Busy(_) => 75,
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// Creates a busy failure for a transient error, otherwise a general one.
    fn busy_if(is_transient: bool, error: &impl fmt::Display) -> Self {
        if is_transient { Self::Busy(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(reasons) => f.write_str(&reasons.join("\n  ")),
            Self::Busy(reason) | Self::Usage(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl From<Vec<SettingError>> for Failure {
    fn from(errors: Vec<SettingError>) -> Self {
        let heading = format!("{}:", counted(errors.len() as u64, "invalid setting"));
        Self::Configuration(std::iter::once(heading).chain(errors.iter().map(ToString::to_string)).collect())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::busy_if(error.is_transient(), &error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        if error.is_transient() {
            Self::Busy(error.to_string())
        } else {
            Self::Configuration(vec![error.to_string()])
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::PortTaken(_) | LaunchError::NoSuchAddress(_) => Self::Busy(error.to_string()),
            LaunchError::Bind(..) => Self::Configuration(vec![error.to_string()]),
            LaunchError::Other(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<ProtectedFile> for Failure {
    fn from(error: ProtectedFile) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// Switches to the user who owns the database.
fn act_as_owner(database: &Path) -> Result<Identity, Failure> {
    Ok(Identity::of_owner(database).context("cannot act as the owner of the database")?)
}

/// Returns the settings of the person that the arguments name, or of everyone, the owner first.
fn everyone(args: &PersonArgs) -> Result<Vec<CommonSettings>, Failure> {
    let settings = args.validate()?;
    if args.person.is_some() {
        return Ok(vec![settings]);
    }
    let others = list(&settings).or_else(|e| {
        // A user without permission for the folder of the database gets the message of every other command.
        require_database(&settings.database)?;
        let people = settings.people_folder();
        Err(Failure::Failed(format!("cannot list the people in {}: {e}", people.display())))
    })?;
    let others: Vec<_> = others.iter().map(|person| settings.of_person(person)).collect();
    Ok(std::iter::once(settings).chain(others).collect())
}

/// Runs `work` for each person and logs who failed. Fails with the only failure, or with the number of them.
fn for_each_person(
    people: &[CommonSettings],
    mut work: impl FnMut(&CommonSettings) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if let [only] = people {
        return work(only);
    }
    let mut failures = Vec::new();
    for settings in people {
        if let Err(failure) = work(settings) {
            tracing::error!("{}: {failure}", settings.person);
            failures.push(failure);
        }
    }
    let failed = format!("failed for {} of {} people", failures.len(), people.len());
    match failures.as_slice() {
        [] => Ok(()),
        // A retry helps only where it helps everyone who failed.
        failures if failures.iter().all(|failure| matches!(failure, Failure::Busy(_))) => {
            Err(Failure::Busy(failed))
        }
        _ => Err(Failure::Failed(failed)),
    }
}

/// Returns the options of a store that no server uses.
fn store_options(settings: &CommonSettings) -> Options {
    Options::of_command(settings.database.clone(), settings.backups.clone())
}

/// Converts the failure of the backup before a change; `what` describes what was not done.
fn without_backup(what: &str, error: SnapshotError) -> Failure {
    match Failure::from(error) {
        Failure::Busy(why) => Failure::Busy(format!("{what}: {why}")),
        other => Failure::Failed(format!("{what}: {other}")),
    }
}

/// Converts a failed write. A full disk or quota is temporary.
fn unwritten(what: &str, error: &io::Error) -> Failure {
    let sentence = format!("{what} cannot be written: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Busy(sentence),
        _ => Failure::Failed(sentence),
    }
}

/// Formats a count with its noun: `1 coffee`, `2 coffees`.
fn counted(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", HumanCount(number))
}

/// Formats the number of entries: `1 coffee, 2 readings`.
fn counted_entries(contents: &Contents) -> String {
    format!("{}, {}", counted(contents.coffees, "coffee"), counted(contents.readings, "reading"))
}

/// Formats the time of the newest entry.
fn newest_entry(contents: &Contents) -> String {
    contents.newest.map_or_else(|| "none".to_owned(), |at| at.to_string())
}

/// Prints a question to standard error and reads the answer; anything but yes is no.
fn confirm(question: &str) -> Result<bool, Failure> {
    Ok(matches!(ask(question)?.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Prints a question to standard error and reads the answer, which is empty at the end of the input.
fn ask(question: &str) -> Result<String, Failure> {
    let mut answer = String::new();
    let read = write!(io::stderr(), "{question}")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.context("cannot read the answer")?;
    Ok(answer)
}

/// Writes a line to standard output. A closed pipe is not an error.
pub fn print(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_quota_are_temporary_but_a_file_size_limit_is_not() {
        // EDQUOT, ENOSPC, EFBIG and EACCES of Linux.
        for (number, code) in [(122, 75), (28, 75), (27, 1), (13, 1)] {
            let failure = unwritten("the export", &io::Error::from_raw_os_error(number));
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }
}
