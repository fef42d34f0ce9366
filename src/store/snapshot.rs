//! One consistent, verified copy of a database that may be in use.
//!
//! The copy is written under a temporary name, checked as a restore would check it, made
//! durable, and only then given its name. A failure leaves nothing behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, params};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::overview::BackupRecord;
use super::schema::{self, Found};
use crate::model::time::Timestamp;

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub path: PathBuf,
    pub size_bytes: u64,
    pub coffees: u64,
    pub readings: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the folder {path} cannot be used: {why}")]
    Folder { path: PathBuf, why: io::Error },
    #[error("the copy could not be written: {0}")]
    Copy(#[from] rusqlite::Error),
    #[error("the copy could not be written: {0}")]
    Io(#[from] io::Error),
    #[error("the copy did not pass its check: {0}")]
    Unsound(String),
}

/// Removes an unfinished copy, whatever ends the attempt.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when the copy got its name.
        drop(fs::remove_file(&self.0));
    }
}

/// Copies `database` into `folder` as `coffee_YYYYMMDD_HHMMSS.db` (UTC; never overwrites),
/// and notes the outcome beside the database.
///
/// # Errors
/// Why there is no backup; nothing of it is left then.
pub fn snapshot(database: &Path, folder: &Path) -> Result<Snapshot, SnapshotError> {
    let made = copy(database, folder);
    let mut record = BackupRecord::read(database);
    match &made {
        Ok(snapshot) => {
            record.last_success = Some(Timestamp::from(SystemTime::now()).micros());
            record.size_bytes = Some(snapshot.size_bytes);
            record.error = None;
        }
        Err(e) => record.error = Some(e.to_string()),
    }
    if let Err(e) = record.write(database) {
        tracing::warn!("the outcome of the backup could not be noted: {e}");
    }
    made
}

fn copy(database: &Path, folder: &Path) -> Result<Snapshot, SnapshotError> {
    fs::create_dir_all(folder).map_err(|why| SnapshotError::Folder { path: folder.to_owned(), why })?;
    let draft = Draft(folder.join(format!(".coffee-{}.tmp", std::process::id())));
    drop(fs::remove_file(&draft.0));
    // A connection of its own: VACUUM INTO works neither on a query-only one nor in a transaction.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(database, flags)?;
    source.busy_timeout(std::time::Duration::from_secs(10))?;
    let expected = recognised(&source, database)?;
    source.execute("vacuum into ?", params![draft.0.to_string_lossy()])?;
    let (coffees, readings) = verify(&draft.0, &expected)?;
    File::open(&draft.0)?.sync_all()?;
    let size_bytes = fs::metadata(&draft.0)?.len();
    let path = publish(&draft.0, folder)?;
    File::open(folder)?.sync_all()?;
    Ok(Snapshot { path, size_bytes, coffees, readings })
}

fn recognised(connection: &Connection, path: &Path) -> Result<Found, SnapshotError> {
    schema::recognise(connection, path).map_err(|e| SnapshotError::Unsound(e.to_string()))
}

/// Checks a copy and counts its rows.
fn verify(copy: &Path, expected: &Found) -> Result<(u64, u64), SnapshotError> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verdict: String = connection.query_row("pragma integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(SnapshotError::Unsound(verdict));
    }
    let found = recognised(&connection, copy)?;
    if found != *expected {
        return Err(SnapshotError::Unsound(format!("it is {found:?} where {expected:?} was copied")));
    }
    Ok(schema::count_rows(&connection)?)
}

/// Gives a finished copy the first free name.
fn publish(draft: &Path, folder: &Path) -> io::Result<PathBuf> {
    let now = Timestamp::from(SystemTime::now()).to_string();
    let digits: String = now.chars().filter(char::is_ascii_digit).collect();
    let (date, time) = (digits.get(..8).unwrap_or("00000000"), digits.get(8..14).unwrap_or("000000"));
    for n in 1_u32.. {
        let suffix = if n == 1 { String::new() } else { format!("_{n}") };
        let path = folder.join(format!("coffee_{date}_{time}{suffix}.db"));
        match renameat_with(CWD, draft, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(path),
            Err(rustix::io::Errno::EXIST) => {}
            // File systems such as FAT know no such rename.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if path.exists() => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                return fs::rename(draft, &path).map(|()| path);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use super::super::{OpenError, Options, Store};
    use super::*;

    fn options(folder: &Path) -> Options {
        Options {
            path: folder.join("coffee.db"),
            backups: folder.join("backups"),
            quick_readers: 1,
            dear_readers: 1,
            slow_query: std::time::Duration::from_secs(9),
        }
    }

    #[test]
    fn a_migration_backs_up_first_and_a_failing_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        Store::open(&options).unwrap().close();
        let seed = Connection::open(&options.path).unwrap();
        seed.execute("insert into coffee_logs (timestamp, caffeine_mg) values (1, 95)", []).unwrap();
        drop(seed);

        let first = schema::MIGRATIONS[0];
        let broken = Store::open_with(&options, &[first, "create table extra (a) strict"]);
        assert!(matches!(broken, Err(OpenError::Migration { to: 2, .. })), "{broken:?}");
        let kept: Vec<_> = fs::read_dir(&options.backups).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "one backup, and no draft");
        let backup = Connection::open(kept[0].path()).unwrap();
        let coffees: i64 = backup.query_row("select count(*) from coffee_logs", [], |r| r.get(0)).unwrap();
        assert_eq!(coffees, 1);
        Store::open(&options).unwrap().close();

        let next = Store::open_with(&options, &[first, "create table extra (a integer) strict"]).unwrap();
        next.close();
        drop(next);
        match Store::open(&options) {
            Err(OpenError::NewerSchema { found: 2, known: 1, .. }) => {}
            other => panic!("expected a refusal of schema 2, got {other:?}"),
        }
        assert_eq!(BackupRecord::read(&options.path).error, None);
    }

    #[test]
    fn a_backup_never_overwrites_another() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let store = Store::open(&options).unwrap();
        let made: std::collections::HashSet<_> =
            (0..5).map(|_| snapshot(&options.path, &options.backups).unwrap().path).collect();
        assert_eq!(made.len(), 5);
        store.close();
    }

    #[test]
    fn a_backup_that_fails_leaves_nothing_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        fs::write(&options.path, b"SQLite format 3\0 but nothing else of it").unwrap();
        assert!(snapshot(&options.path, &options.backups).is_err());
        assert_eq!(fs::read_dir(&options.backups).unwrap().count(), 0);
        assert!(BackupRecord::read(&options.path).error.is_some());
    }
}
