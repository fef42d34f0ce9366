//! Detection of database files that were moved, deleted or replaced while they are open.
//!
//! Data written to an unlinked file is lost when the server stops. Files are compared by device and inode and
//! never opened here: closing a descriptor of the database would drop SQLite's locks on it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fs, io};

use crate::db::lock_file::{FileStamp, Lock, LockState};
use crate::fs::paths::with_suffix;

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

/// File that this process has open.
#[derive(Clone, Copy, Debug)]
struct OpenedFile {
    device: u64,
    stamp: FileStamp,
}

impl OpenedFile {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), stamp: FileStamp::of(file) }
    }

    fn is(&self, other: &Metadata) -> bool {
        // Inodes are not reused while they are open.
        (self.device, self.stamp.inode()) == (other.dev(), other.ino())
    }
}

/// The database file and its write-ahead log, as they were opened.
#[derive(Debug)]
pub struct OpenFiles {
    /// Path as configured: a symbolic link that leads elsewhere now counts as a replacement.
    database: PathBuf,
    log: PathBuf,
    opened_database: OpenedFile,
    /// `None` when there was no log, as on a full disk.
    opened_log: Option<OpenedFile>,
    displacement: OnceLock<Displacement>,
    lock: Arc<Mutex<Lock>>,
}

impl OpenFiles {
    /// Records the files that this process has just opened for the database at `path`.
    pub fn of(path: &Path, lock: Arc<Mutex<Lock>>) -> io::Result<Self> {
        let resolved = fs::canonicalize(path)?;
        let log = with_suffix(&resolved, "-wal");
        Ok(Self {
            database: path.to_owned(),
            opened_database: opened_as(&resolved)?,
            opened_log: opened_as(&log).ok(),
            log,
            displacement: OnceLock::new(),
            lock,
        })
    }

    /// Returns the first displacement found. It stays until the next start: another program may have changed a
    /// file that came back.
    pub fn displacement(&self) -> Option<Displacement> {
        self.displacement.get().copied()
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
        let database = whereabouts(&self.database, self.opened_database);
        let log = self.opened_log.map_or(Whereabouts::Same, |log| whereabouts(&self.log, log));
        let found = match (database, log) {
            (Whereabouts::Missing, _) => Displacement::DatabaseMissing,
            (Whereabouts::Replaced, _) => Displacement::DatabaseReplaced,
            (_, Whereabouts::Missing) => Displacement::LogMissing,
            (_, Whereabouts::Replaced) => Displacement::LogReplaced,
            (Whereabouts::Same, Whereabouts::Same) => return None,
        };
        if self.displacement.set(found).is_ok() {
            tracing::error!("{}: {}", self.database.display(), found.sentence());
            let moved = LockState::Moved {
                database: self.opened_database.stamp,
                log: self.opened_log.map(|log| log.stamp).unwrap_or_default(),
            };
            if let Err(e) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).mark(moved) {
                tracing::error!("the lock file could not be written: {e}");
            }
        }
        Some(found)
    }
}

enum Whereabouts {
    Same,
    Missing,
    Replaced,
}

/// Errors other than absence are no displacement; SQLite reports those.
fn whereabouts(path: &Path, opened: OpenedFile) -> Whereabouts {
    match fs::metadata(path) {
        Ok(found) if opened.is(&found) => Whereabouts::Same,
        Ok(_) => Whereabouts::Replaced,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Whereabouts::Missing
        }
        Err(_) => Whereabouts::Same,
    }
}

/// Finds the open file with this resolved path in `/proc/self/fd`. Falls back to the file at the path.
fn opened_as(path: &Path) -> io::Result<OpenedFile> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let of_descriptor = descriptors
        .map(|entry| entry.path())
        .filter(|link| fs::read_link(link).is_ok_and(|target| target == path))
        // The link leads to the open file, whatever its current name.
        .find_map(|link| fs::metadata(link).ok());
    of_descriptor.map_or_else(|| fs::metadata(path), Ok).map(|found| OpenedFile::of(&found))
}
