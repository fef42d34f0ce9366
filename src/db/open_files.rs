//! Detection of database files that were moved, deleted or replaced while they are open.
//!
//! Data written to an unlinked file is lost when the server stops. Files are compared by device and inode and
//! never opened here: closing a descriptor of the database would drop SQLite's locks on it.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fs, io};

use crate::db::lock_file::{FileStamp, LockState, ServerLock};
use crate::fs::freeze_marker::{freeze_marker, is_present};
use crate::fs::paths::{file_id, with_suffix};

/// Difference between an open file and the file at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displacement {
    /// The database file was moved or deleted.
    DatabaseMissing,
    /// Another file has the name of the database.
    DatabaseReplaced,
    /// The write-ahead log was moved or deleted.
    LogMissing,
    /// Another file has the name of the write-ahead log.
    LogReplaced,
}

impl Displacement {
    /// Reports whether only the log is affected.
    pub fn is_log_only(self) -> bool {
        matches!(self, Self::LogMissing | Self::LogReplaced)
    }

    /// Returns a description for `/health`.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::DatabaseMissing => {
                "the database file was moved or deleted while the server runs: writes are refused; do not stop the server before reading docs/RUNBOOK.md, The database is gone"
            }
            Self::DatabaseReplaced => {
                "the database file was replaced while the server runs: writes are refused; do not stop the server before reading docs/RUNBOOK.md, The database is gone"
            }
            Self::LogMissing => {
                "the write-ahead log (-wal) was moved or deleted while the server runs: writes are refused; stop the server, which completes the database, and start it again"
            }
            Self::LogReplaced => {
                "the write-ahead log (-wal) was replaced while the server runs: writes are refused; stop the server, which completes the database, move the log away, and start it again"
            }
        }
    }
}

/// The database file and its write-ahead log, as they were opened.
#[derive(Debug)]
pub struct OpenFiles {
    /// Path as configured: a symbolic link that leads elsewhere now counts as a replacement.
    database: PathBuf,
    log: PathBuf,
    freeze_marker: PathBuf,
    opened_database: Metadata,
    /// `None` when there was no log, as on a full disk.
    opened_log: Option<Metadata>,
    displacement: OnceLock<Displacement>,
    lock: Arc<Mutex<ServerLock>>,
}

impl OpenFiles {
    /// Records the files that this process has just opened for the database at `path`.
    pub fn of(path: &Path, lock: Arc<Mutex<ServerLock>>) -> io::Result<Self> {
        let resolved = fs::canonicalize(path)?;
        let log = with_suffix(&resolved, "-wal");
        let (opened_database, opened_log) = opened_as(&resolved, &log);
        Ok(Self {
            database: path.to_owned(),
            opened_database: opened_database?,
            opened_log: opened_log.ok(),
            log,
            freeze_marker: freeze_marker(path),
            displacement: OnceLock::new(),
            lock,
        })
    }

    /// Returns the first displacement found. It stays until the next start: another program may have changed a
    /// file that came back.
    pub fn displacement(&self) -> Option<Displacement> {
        self.displacement.get().copied()
    }

    /// Reports whether the person is being moved to another machine. The answer to a caller with SQLite's write lock holds
    /// for as long as it has the lock.
    pub fn is_frozen(&self) -> bool {
        is_present(&self.freeze_marker)
    }

    /// Size of the write-ahead log, bytes.
    pub fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Compares the files with their paths. Returns the first displacement found, now or earlier.
    pub fn compare(&self) -> Option<Displacement> {
        if let Some(known) = self.displacement() {
            return Some(known);
        }
        let (missing, replaced) = (Displacement::DatabaseMissing, Displacement::DatabaseReplaced);
        let of_database = displaced(&self.database, &self.opened_database, missing, replaced);
        let of_log = || {
            let (missing, replaced) = (Displacement::LogMissing, Displacement::LogReplaced);
            displaced(&self.log, self.opened_log.as_ref()?, missing, replaced)
        };
        let found = of_database.or_else(of_log)?;
        if self.displacement.set(found).is_ok() {
            tracing::error!("{}: {}", self.database.display(), found.sentence());
            let moved = LockState::Moved {
                database: FileStamp::of(&self.opened_database),
                log: self.opened_log.as_ref().map(FileStamp::of).unwrap_or_default(),
            };
            if let Err(e) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).mark(moved) {
                tracing::error!("the lock file could not be written: {e}");
            }
        }
        Some(found)
    }
}

/// Compares an open file with the one at its path. Inodes are not reused while they are open.
fn displaced(
    path: &Path,
    opened: &Metadata,
    missing: Displacement,
    replaced: Displacement,
) -> Option<Displacement> {
    match fs::metadata(path) {
        Ok(found) => (file_id(&found) != file_id(opened)).then_some(replaced),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Some(missing),
        // SQLite reports other errors.
        Err(_) => None,
    }
}

/// Finds the open database and log with these resolved paths in `/proc/self/fd`, in one pass: with many open
/// databases, there are hundreds of descriptors. Falls back to the files at the paths.
fn opened_as(database: &Path, log: &Path) -> (io::Result<Metadata>, io::Result<Metadata>) {
    let (mut opened_database, mut opened_log) = (None, None);
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let link = entry.path();
        let opened = match fs::read_link(&link) {
            Ok(target) if target == database => &mut opened_database,
            Ok(target) if target == log => &mut opened_log,
            _ => continue,
        };
        // The link leads to the open file, whatever its current name.
        *opened = opened.take().or_else(|| fs::metadata(&link).ok());
        if opened_database.is_some() && opened_log.is_some() {
            break;
        }
    }
    (
        opened_database.map_or_else(|| fs::metadata(database), Ok),
        opened_log.map_or_else(|| fs::metadata(log), Ok),
    )
}
