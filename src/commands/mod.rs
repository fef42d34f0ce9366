//! What the subcommands do, and how they fail.

pub mod backup;
pub mod backups;
pub mod check;
pub mod demo;
pub mod export;
pub mod import;
pub mod key;
mod progress;
pub mod prune;
pub mod recount;
mod rejected;
pub mod restore;
pub mod serve;
pub mod sql;
mod systemd;
mod table;
pub mod verify;

use std::io::Write;
use std::{fmt, io};

use crate::backup::snapshot::SnapshotError;
use crate::config::SettingError;
use crate::db::error::OpenError;
use crate::fs::protected_paths::ProtectedFile;
use crate::http::LaunchError;

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// 78: settings, or what they point to, must be changed first.
    Configuration(Vec<String>),
    /// 75: trying again later may help.
    Busy(String),
    /// 2: the command line asks for what cannot be done.
    Usage(String),
    /// 1: it failed.
    Failed(String),
}

impl Failure {
    /// The exit code, of sysexits.h where it has one.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 78,
            Self::Busy(_) => 75,
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
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
        let heading = match errors.len() {
            1 => "a setting does not fit:".to_owned(),
            n => format!("{n} settings do not fit:"),
        };
        Self::Configuration(std::iter::once(heading).chain(errors.iter().map(ToString::to_string)).collect())
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

/// Why nothing was done, for the backup before it failed; `what` says so.
fn without_backup(what: &str, error: SnapshotError) -> Failure {
    match Failure::from(error) {
        Failure::Busy(why) => Failure::Busy(format!("{what}: {why}")),
        other => Failure::Failed(format!("{what}: {other}")),
    }
}

/// What could not be written, and why. Room may be there later.
fn unwritten(what: &str, error: &io::Error) -> Failure {
    let sentence = format!("{what} cannot be written: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Busy(sentence),
        _ => Failure::Failed(sentence),
    }
}

/// 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 coffee`, `2 coffees`.
fn counted(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {one}{ending}", grouped(number))
}

/// Writes a line to standard output. Whoever reads it may have gone: that is no failure.
///
/// # Errors
/// Any other.
pub fn print(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!("cannot print: {e}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_may_pass_as_a_full_disk_does_and_a_limit_on_files_does_not() {
        // EDQUOT, ENOSPC, EFBIG and EACCES of Linux.
        for (number, code) in [(122, 75), (28, 75), (27, 1), (13, 1)] {
            let failure = unwritten("the export", &io::Error::from_raw_os_error(number));
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }
}
