//! Errors of the store, distinguished by SQLite's extended result codes, never by messages.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::ffi;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Error of a single read or write.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The queue is full, or another process holds the database: retry later.
    #[error("the store is busy")]
    Busy,
    /// The disk is full. Nothing was stored.
    #[error("no space left on the disk")]
    Full,
    /// A write failed because of a quota, a limit or an I/O error. Nothing was stored.
    #[error("the disk rejects writes: {0}")]
    Unwritable(String),
    /// The file system is read-only.
    #[error("the database is read-only")]
    ReadOnly,
    /// The database file is damaged.
    #[error("the database file is damaged: {0}")]
    Corrupt(String),
    /// The disk or the file system failed.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The database file or its log was moved, deleted or replaced while it was open.
    #[error("the database file or its log was moved, deleted or replaced while the server runs")]
    Displaced,
    /// The person is being moved to another machine. Nothing was stored.
    #[error("the person is being moved to another machine: nothing may change")]
    Frozen,
    /// The store is closed: the server stops, or the writer thread has ended after a panic.
    #[error("the store is closed")]
    Closed,
    /// Any other error: a bug.
    #[error("{0}")]
    Internal(String),
}

impl StoreError {
    /// Returns the label of the metric that counts this error.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Unwritable(_) => "unwritable",
            Self::ReadOnly => "read_only",
            Self::Corrupt(_) => "corrupt",
            Self::Io(_) => "io",
            Self::Displaced => "displaced",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
            Self::Internal(_) => "internal",
        }
    }

    /// All labels. A rejected change of a person who is being moved is not an error of the database.
    pub const KINDS: [&'static str; 9] =
        ["busy", "full", "unwritable", "read_only", "corrupt", "io", "displaced", "closed", "internal"];

    /// Reports whether a retry may succeed without anything being repaired.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Full | Self::Unwritable(_) | Self::Frozen | Self::Closed)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&rusqlite::Error> for StoreError {
    fn from(error: &rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error().map(|e| e.extended_code) else {
            return Self::Internal(error.to_string());
        };
        match (code & 0xff, code) {
            (ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED, _) => Self::Busy,
            (ffi::SQLITE_FULL, _) => Self::Full,
            (ffi::SQLITE_READONLY, _) => Self::ReadOnly,
            (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => Self::Corrupt(error.to_string()),
            // The -shm file could not grow.
            (_, ffi::SQLITE_IOERR_SHMSIZE) => Self::Full,
            // Quotas and limits appear as I/O errors; both may be temporary.
            (_, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE) => Self::Unwritable(error.to_string()),
            (ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN, _) => Self::Io(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

/// Failure of the backup that a migration makes first.
#[derive(Debug)]
pub struct FailedBackup {
    pub why: String,
    /// A retry may succeed.
    pub is_transient: bool,
}

/// Reason why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is in use by another coffee-tracker server, or by a restore (its lock file {lock} is locked)"
    )]
    InUse { path: PathBuf, lock: PathBuf },
    #[error(
        "another restore, import, prune or server start is working on {path}: wait until it has finished"
    )]
    Maintained { path: PathBuf },
    #[error(
        "the person of {path} is being moved to another machine, so changes are rejected: see `coffee-tracker person list`"
    )]
    Frozen { path: PathBuf },
    #[error("the folder {path} cannot be used: {why}")]
    Folder { path: PathBuf, why: String },
    #[error("{path} cannot be opened: {why}")]
    File { path: PathBuf, why: String },
    #[error("{path} cannot be opened at the moment: {why}")]
    Exhausted { path: PathBuf, why: String },
    #[error("{path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("{path} is locked by another program")]
    Held { path: PathBuf },
    #[error(
        "{path} is missing, but its log {log} exists: restore a backup with `coffee-tracker restore`, or start with an empty database with `coffee-tracker serve --new`, which keeps the log under another name"
    )]
    Lost { path: PathBuf, log: PathBuf },
    #[error("there is no database at {path}: start the server once to create it, or set DATABASE_URL")]
    Missing { path: PathBuf },
    #[error("{path} is a folder, not a database file: set DATABASE_URL to the file")]
    IsFolder { path: PathBuf },
    #[error("{path} cannot be opened: permission denied; run the command as its owner or with sudo")]
    Denied { path: PathBuf },
    #[error("{path} is empty: start the server once to create its tables, or restore a backup")]
    Empty { path: PathBuf },
    #[error(
        "{path} is missing: a database existed when a server last ran. Restore a backup with `coffee-tracker restore`, or start with an empty database with `coffee-tracker serve --new`"
    )]
    Gone { path: PathBuf },
    #[error(
        "the log {log} may belong to another file than {path}, as one of them was replaced while a server ran: put the former file back, or move the log away to use {path} without it"
    )]
    StrangeLog { path: PathBuf, log: PathBuf },
    #[error("{0} exists: --new makes a database only where there is none; leave it out")]
    Present(PathBuf),
    #[error("{path} is not a SQLite database")]
    NotADatabase { path: PathBuf },
    #[error(
        "{path} is damaged ({why}): stop the server and restore a backup with `coffee-tracker restore FILE --replace`"
    )]
    Damaged { path: PathBuf, why: String },
    #[error("{path} is a SQLite database of another program")]
    Foreign { path: PathBuf },
    #[error(
        "{path} is the Docker stack's database: bring it over with `coffee-tracker import {path}`, into a new file"
    )]
    DockerStack { path: PathBuf },
    #[error(
        "{path} has schema version {found}, but this program knows versions up to {known}: install a newer one"
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("no space left on the disk that holds {path}")]
    Full { path: PathBuf },
    #[error("SQLite {found} is too old: 3.51.3 or newer is needed (older ones can lose commits)")]
    OldSqlite { found: &'static str },
    #[error("{path} could not be migrated to schema version {to}: {why}")]
    Migration { path: PathBuf, to: i64, why: String, is_transient: bool },
}

impl OpenError {
    /// Reports whether a retry may succeed without anybody changing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::InUse { .. }
            | Self::Maintained { .. }
            | Self::Held { .. }
            | Self::Frozen { .. }
            | Self::Full { .. }
            | Self::Exhausted { .. } => true,
            Self::Migration { is_transient, .. } => *is_transient,
            _ => false,
        }
    }

    /// Returns the error of a file that SQLite could not open; it does not report the limit on open files.
    pub fn unopened(path: PathBuf, why: String) -> Self {
        match fs::File::open("/dev/null") {
            Err(e) if is_exhausted(&e) => Self::Exhausted { path, why: e.to_string() },
            _ => Self::File { path, why },
        }
    }

    /// Returns the cause without the advice on what to do.
    pub fn cause(&self) -> String {
        match self {
            Self::Damaged { path, why } => format!("{} is damaged ({why})", path.display()),
            other => other.to_string(),
        }
    }

    /// Reports whether the file itself is the cause, so that replacing it would help.
    pub fn concerns_file(&self) -> bool {
        matches!(
            self,
            Self::NotADatabase { .. }
                | Self::Damaged { .. }
                | Self::Foreign { .. }
                | Self::DockerStack { .. }
                | Self::NewerSchema { .. }
                | Self::Unreadable { .. }
        )
    }
}

/// Conversion of an error at the file of a database.
pub trait AtPath<T> {
    /// Converts the error into one that names the file.
    fn at(self, path: &Path) -> Result<T, OpenError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, OpenError> {
        let path = path.to_owned();
        self.map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => OpenError::Full { path },
            _ if is_exhausted(&e) => OpenError::Exhausted { path, why: e.to_string() },
            _ => OpenError::File { path, why: e.to_string() },
        })
    }
}

/// Reports whether a limit on threads or open files is reached.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE))
}

impl<T> AtPath<T> for rusqlite::Result<T> {
    fn at(self, path: &Path) -> Result<T, OpenError> {
        let path = path.to_owned();
        self.map_err(|e| {
            let why = e.to_string();
            match StoreError::from(&e) {
                StoreError::Corrupt(_) if has_magic(&path) => OpenError::Damaged { path, why },
                StoreError::Corrupt(_) => OpenError::NotADatabase { path },
                StoreError::Full => OpenError::Full { path },
                StoreError::Busy => OpenError::Held { path },
                StoreError::Io(_) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
                    match require_database(&path) {
                        Ok(()) | Err(OpenError::Missing { .. }) => OpenError::unopened(path, why),
                        Err(found) => found,
                    }
                }
                StoreError::Io(_) | StoreError::Internal(_) => OpenError::Unreadable { path, why },
                _ => OpenError::File { path, why },
            }
        })
    }
}

/// Reports whether a file starts with SQLite's magic bytes. Only for files that could not be opened: closing a
/// file drops the locks of connections to it.
fn has_magic(path: &Path) -> bool {
    let mut head = [0; 16];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"SQLite format 3\0"
}

/// Checks that a database is there and may be read, for commands that create none.
///
/// # Errors
/// [`OpenError::Missing`], [`OpenError::IsFolder`], [`OpenError::Denied`], or [`OpenError::File`] with
/// the reason of the system.
pub fn require_database(path: &Path) -> Result<(), OpenError> {
    let path = path.to_owned();
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(OpenError::IsFolder { path }),
        // Not by opening it: closing a file drops the locks that SQLite holds on it.
        Ok(_) => match accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS) {
            Err(Errno::ACCESS) => Err(OpenError::Denied { path }),
            _ => Ok(()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(OpenError::Missing { path }),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(OpenError::Denied { path }),
        Err(e) => Err(OpenError::File { path, why: e.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_on_threads_or_open_files_is_temporary() {
        for (error, is_transient) in
            [(Errno::AGAIN, true), (Errno::MFILE, true), (Errno::NFILE, true), (Errno::ACCESS, false)]
        {
            let failed = io::Result::<()>::Err(error.into()).at(Path::new("coffee.db"));
            assert_eq!(failed.map_err(|e| e.is_transient()), Err(is_transient), "{error}");
        }
    }
}
