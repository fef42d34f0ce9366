//! Lock files: one server per database, and one maintenance command at a time.
//!
//! The server's lock file also records whether there is a database and how its last server ended, in one line:
//!
//! | line | state |
//! | --- | --- |
//! | `none` | no database was created yet |
//! | `stopped ID` | the last server stopped cleanly; ID is the id of the database |
//! | (empty) | like `stopped`, written by versions without ids |
//! | `PID ID` | a server runs, or has crashed |
//! | `PID ID moved FILE LOG` | the database or its log was moved, deleted or replaced while a server ran; their stamps |

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use crate::db::database_id::DatabaseId;
use crate::db::error::{OpenError, is_exhausted};
use crate::fs::freeze_marker::is_frozen;
use crate::fs::paths::{folder_of, with_suffix};
use crate::fs::privileges::Identity;
use crate::fs::temp_file::{TempFile, is_at};

/// Lock of the server on a database. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct ServerLock {
    file: File,
    record: LockRecord,
}

/// State of a database between two runs of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// A database was never created.
    NeverCreated,
    /// The last server stopped cleanly.
    Stopped,
    /// A server runs, or has crashed.
    Running,
    /// The database or its log was moved, deleted or replaced while a server ran.
    Moved { database: FileStamp, log: FileStamp },
}

/// Inode and creation time, nanoseconds since 1970; 0 where the file system does not record it. Inodes are
/// reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    born: u64,
}

impl FileStamp {
    pub fn of(file: &fs::Metadata) -> Self {
        let born = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: file.ino(), born: born.and_then(|at| u64::try_from(at.as_nanos()).ok()).unwrap_or(0) }
    }

    fn parse(text: &str) -> Self {
        let (inode, born) = text.split_once('.').unwrap_or((text, ""));
        Self { inode: inode.parse().unwrap_or(0), born: born.parse().unwrap_or(0) }
    }
}

impl std::fmt::Display for FileStamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.inode, self.born)
    }
}

/// Content of a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRecord {
    pub state: LockState,
    /// Id of the database, if it has one.
    pub id: Option<DatabaseId>,
}

impl LockRecord {
    /// Reads the record of `database` without acquiring the lock. A missing file counts as [`LockState::NeverCreated`].
    pub fn read(database: &Path) -> Self {
        fs::read_to_string(with_suffix(database, ".lock"))
            .map_or(Self { state: LockState::NeverCreated, id: None }, |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let state = match *words.as_slice() {
            ["none"] => LockState::NeverCreated,
            [] | ["stopped", ..] => LockState::Stopped,
            [_, _, "moved", database, log] => {
                LockState::Moved { database: FileStamp::parse(database), log: FileStamp::parse(log) }
            }
            _ => LockState::Running,
        };
        Self { state, id: words.get(1).and_then(|id| DatabaseId::parse(id)) }
    }

    /// Reports whether a database existed.
    pub fn had_database(&self) -> bool {
        self.state != LockState::NeverCreated
    }
}

impl std::fmt::Display for LockRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pid, id) = (std::process::id(), self.id.as_ref().map_or("-".to_owned(), ToString::to_string));
        match self.state {
            LockState::NeverCreated => writeln!(f, "none"),
            LockState::Stopped => writeln!(f, "stopped {id}"),
            LockState::Running => writeln!(f, "{pid} {id}"),
            LockState::Moved { database, log } => writeln!(f, "{pid} {id} moved {database} {log}"),
        }
    }
}

/// Returns the id of the last database at this path.
pub fn recorded_id(database: &Path) -> Option<DatabaseId> {
    LockRecord::read(database).id
}

/// Creates the lock file if it is missing. It gets its name together with its content: an empty one means that
/// there was a database.
fn make_lock_file(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    // Not the folder: a person who was just removed must not appear again.
    let temp = TempFile::create_in_existing(folder_of(path), Identity::CALLER)?;
    temp.file().write_all(LockRecord { state: LockState::NeverCreated, id: None }.to_string().as_bytes())?;
    match temp.publish(std::iter::once(path.to_owned())) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Opens and locks the file at `path`. Returns `None` when another process holds the lock, or has just moved the
/// file, as when a person is renamed.
fn lock_file(database: &Path, path: &Path) -> Result<Option<File>, OpenError> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).read(true).write(true).open(path);
    let locked = opened.and_then(|file| match file.try_lock() {
        Ok(()) => Ok(is_at(&file, path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    });
    locked.map_err(|e| unwritable(database, path, &e))
}

fn unwritable(database: &Path, path: &Path, error: &io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::StorageFull => OpenError::Full { path: database.to_owned() },
        _ if is_exhausted(error) => {
            OpenError::Exhausted { path: database.to_owned(), why: error.to_string() }
        }
        _ => OpenError::Folder {
            path: folder_of(database).to_owned(),
            why: format!("{} cannot be written ({error})", path.display()),
        },
    }
}

/// Lock of commands that change the database as a whole, such as restore, import and prune: a restore in the
/// middle of an import would leave half of each.
#[derive(Debug)]
pub struct MaintenanceLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl MaintenanceLock {
    /// Acquires the lock for a command that changes the database.
    ///
    /// # Errors
    /// [`OpenError::Maintained`] when another command holds it, [`OpenError::Frozen`] when the person is being moved to
    /// another machine.
    pub fn acquire(database: &Path) -> Result<Self, OpenError> {
        let lock = Self::acquire_even_if_frozen(database)?;
        if is_frozen(database) { Err(OpenError::Frozen { path: database.to_owned() }) } else { Ok(lock) }
    }

    /// Acquires the lock for a command that changes no entry.
    ///
    /// # Errors
    /// [`OpenError::Maintained`] when another command holds it.
    pub fn acquire_even_if_frozen(database: &Path) -> Result<Self, OpenError> {
        let lock = lock_file(database, &with_suffix(database, ".maintenance.lock"))?;
        lock.map(Self).ok_or_else(|| OpenError::Maintained { path: database.to_owned() })
    }
}

impl ServerLock {
    /// Acquires the lock.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another server holds it.
    pub fn acquire(database: &Path) -> Result<Self, OpenError> {
        let path = with_suffix(database, ".lock");
        make_lock_file(&path).map_err(|e| unwritable(database, &path, &e))?;
        let Some(mut file) = lock_file(database, &path)? else {
            return Err(OpenError::InUse { path: database.to_owned(), lock: path });
        };
        let mut holder = String::new();
        let record = match file.read_to_string(&mut holder) {
            Ok(_) => LockRecord::parse(&holder),
            Err(_) => LockRecord { state: LockState::Running, id: None },
        };
        Ok(Self { file, record })
    }

    /// Acquires the lock. Returns `None` when another process, usually a server, holds it.
    pub fn try_acquire(database: &Path) -> Result<Option<Self>, OpenError> {
        match Self::acquire(database) {
            Ok(lock) => Ok(Some(lock)),
            Err(OpenError::InUse { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns the time at which the server that holds the lock has started; `None` when no process holds it.
    pub fn held_since(database: &Path) -> Option<SystemTime> {
        let file = File::open(with_suffix(database, ".lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => file.metadata().ok()?.modified().ok(),
            _ => None,
        }
    }

    /// Reports whether the last server stopped cleanly, or there was none.
    pub fn was_clean(&self) -> bool {
        matches!(self.record.state, LockState::NeverCreated | LockState::Stopped)
    }

    /// Sets the id that is recorded with the next state.
    pub fn set_id(&mut self, id: Option<DatabaseId>) {
        self.record.id = id;
    }

    /// Records a state. A start after [`LockState::Running`] checks the database.
    pub fn mark(&mut self, state: LockState) -> io::Result<()> {
        self.record.state = state;
        let text = self.record.to_string();
        self.file.rewind()?;
        // Overwritten, then truncated: on a full disk the file keeps its block.
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a command that is being started briefly holds a copy of the descriptor.
        drop(self.file.unlock());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_lock_never_creates_the_folder_of_its_database() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let refused = ServerLock::acquire(&gone.join("coffee.db"));
        assert!(matches!(refused, Err(OpenError::Folder { .. })), "{refused:?}");
        assert!(!gone.exists());
    }

    #[test]
    fn every_state_is_read_as_it_was_written_and_those_of_older_versions_too() {
        let id = DatabaseId::parse("0123456789abcdef0123456789abcdef");
        for id in [None, id] {
            for state in [
                LockState::Stopped,
                LockState::Running,
                LockState::Moved { database: FileStamp { inode: 4711, born: 1 }, log: FileStamp::default() },
            ] {
                let record = LockRecord { state, id: id.clone() };
                assert_eq!(LockRecord::parse(&record.to_string()), record);
            }
        }
        for (text, state, had_database) in [
            ("none\n", LockState::NeverCreated, false),
            ("", LockState::Stopped, true),
            ("4711\n", LockState::Running, true),
        ] {
            let record = LockRecord::parse(text);
            assert_eq!((record.state, record.id.clone(), record.had_database()), (state, None, had_database));
        }
    }
}
