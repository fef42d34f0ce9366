//! Errors of the commands that create, move and remove people.

use std::io;
use std::path::PathBuf;

use crate::auth::key::KeyName;
use crate::auth::key_file::KeyFileError;
use crate::backup::restore::RestoreError;
use crate::backup::snapshot::SnapshotError;
use crate::db::error::OpenError;
use crate::domain::person::PersonName;

/// Reason why a person was not created, moved, removed or archived. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    #[error("owner is the person whose database DATABASE_URL names, and has no folder: choose another name")]
    Owner,
    #[error("there is no person named {0}; see `coffee-tracker person list`")]
    Unknown(PersonName),
    #[error("there is a person named {0} already: choose another name")]
    NameTaken(PersonName),
    #[error("this is the database of {0} (it has the same id), who is here already")]
    SameDatabase(PersonName),
    #[error("{0} exists already, with the backups of a former person: rename it first")]
    BackupsTaken(PathBuf),
    #[error("another `person` command is at work: try again")]
    Busy,
    #[error("the server did not close the database of {0} within {1} s: try again")]
    StillOpen(PersonName, u64),
    #[error("{0} has no database: it is not the folder of a person")]
    NoDatabase(PathBuf),
    #[error("{0} is not in the folder {1}, to which removed people are moved")]
    NotRemoved(PathBuf, PathBuf),
    #[error("the archive is of the owner, or its name is not one of a person: add --name NAME")]
    Nameless,
    #[error("{path} cannot be adopted: {reason}")]
    Archive { path: PathBuf, reason: String },
    #[error("{0} exists already and is not the archive of this move: archives never replace a file")]
    ArchiveTaken(PathBuf),
    #[error("{file} lies in the data folder {folder}: name a file outside of it")]
    InDataFolder { file: PathBuf, folder: PathBuf },
    #[error("{path} needs {needed}, and {free} are free: free some space and try again")]
    NoRoom { path: PathBuf, needed: String, free: String },
    #[error("the key {key} of the archive belongs to {person} here: revoke it there or on the old machine")]
    KeyTaken { key: KeyName, person: PersonName },
    #[error(
        "{0} is being moved to another machine, so changes are rejected: see `coffee-tracker person list`"
    )]
    Frozen(PersonName),
    #[error(
        "{0} came from another machine and is not released here: accept changes with `coffee-tracker person release {0}`, or undo the move with `coffee-tracker person remove {0} --unreleased`"
    )]
    Unreleased(PersonName),
    #[error(
        "{0} was archived for another machine: only if no other machine has released {0}, keep {0} here with `coffee-tracker person release {0} --undo`"
    )]
    Archived(PersonName),
    #[error(
        "this is the archive of {0}, who is here: adopt it on another machine, or keep {0} here with `coffee-tracker person release {0} --undo`"
    )]
    OwnArchive(PersonName),
    #[error("{0} has a job that is queued or running in the server: try again when it has finished")]
    JobActive(PersonName),
    #[error("{0} is being moved away from this machine: finish or undo that move first")]
    MoveUnfinished(PersonName),
    #[error(
        "this archive was adopted and released here before, and the person has left since (see {0}): archive them again where they are now"
    )]
    ReleasedBefore(PathBuf),
    #[error(
        "{0} was not adopted here, or was released since: the move cannot be undone, move them back instead"
    )]
    NotArriving(PersonName),
    #[error(
        "{path} is damaged: {reason}; if no other machine accepts changes of this person, end the freeze with `coffee-tracker person release NAME --undo`"
    )]
    DamagedMove { path: PathBuf, reason: String },
    #[error("the backup failed: {0}")]
    Backup(#[from] SnapshotError),
    #[error("the copy failed: {0}")]
    Restore(RestoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl PersonError {
    /// Reports whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy
            | Self::StillOpen(..)
            | Self::NoRoom { .. }
            | Self::Frozen(_)
            | Self::JobActive(_)
            | Self::Keys(KeyFileError::Busy(_) | KeyFileError::Frozen(_)) => true,
            Self::Io { error, .. } | Self::Keys(KeyFileError::Unwritable { error, .. }) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Backup(e) => e.is_transient(),
            Self::Restore(e) => e.is_transient(),
            Self::Open(e) => e.is_transient(),
            _ => false,
        }
    }

    /// Returns a conversion of errors at this path.
    pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |error| Self::Io { path, error }
    }
}
