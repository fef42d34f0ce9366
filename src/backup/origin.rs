//! Origin of a backup: the database it was made of. Reading it changes nothing and creates no file.

use std::fs;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::backup::verify::{Contents, contents, open_without_side_files};
use crate::db::database_id::DatabaseId;
use crate::db::lock_file;
use crate::db::schema::APPLICATION_ID;
use crate::fs::paths::file_uri;

/// Origin of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOrigin {
    /// The database with this id.
    Known(DatabaseId),
    /// A database whose schema predates ids.
    Unmarked,
    /// The file cannot be read, or is not a database of this program.
    Unreadable,
}

impl BackupOrigin {
    /// Reads the origin of the backup at `path`, a regular file without writers.
    pub fn read(path: &Path) -> Self {
        open_unchanging(path).map_or(Self::Unreadable, |backup| Self::of(&backup))
    }

    /// Reads the origin of an open backup.
    pub fn of(backup: &Connection) -> Self {
        origin(backup).unwrap_or(Self::Unreadable)
    }
}

fn origin(backup: &Connection) -> rusqlite::Result<BackupOrigin> {
    let application: i64 = backup.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Ok(BackupOrigin::Unreadable);
    }
    Ok(DatabaseId::of(backup)?.map_or(BackupOrigin::Unmarked, BackupOrigin::Known))
}

/// Opens a finished backup without locks, log or other files beside it.
fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(file_uri(path, "immutable=1"), flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

/// Counts the entries of a finished backup without verifying it.
pub fn count_backup(path: &Path) -> rusqlite::Result<Contents> {
    contents(&open_unchanging(path)?)
}

/// Database whose backups are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOwner {
    /// The database with this id.
    Database(DatabaseId),
    /// A database whose schema predates ids: backups without an id may be its own.
    Older,
    /// A missing or unreadable database without an id in its lock file.
    Unknown,
}

impl BackupOwner {
    /// Returns the owner for the database at `path`. For a missing or damaged database the lock file has the
    /// id.
    pub fn of(path: &Path) -> Self {
        let is_there = fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let found = if is_there {
            open_without_side_files(path).and_then(|database| DatabaseId::of(&database)).ok()
        } else {
            None
        };
        match found {
            Some(Some(id)) => Self::Database(id),
            Some(None) => Self::Older,
            None => lock_file::recorded_id(path).map_or(Self::Unknown, Self::Database),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_backup_of_ours_has_no_origin_and_gets_no_company() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("empty.db"), "").unwrap();
        fs::write(at("text.db"), "flat white ".repeat(1000)).unwrap();
        let sql = "create view database_identity as select '0123456789abcdef0123456789abcdef' as id";
        Connection::open(at("foreign.db")).unwrap().execute_batch(sql).unwrap();
        let ours = Connection::open(at("view.db")).unwrap();
        ours.execute_batch(&format!("{sql}; pragma application_id = {APPLICATION_ID}")).unwrap();
        drop(ours);
        for name in ["empty.db", "text.db", "foreign.db", "missing.db"] {
            assert_eq!(BackupOrigin::read(&at(name)), BackupOrigin::Unreadable, "{name}");
        }
        assert_eq!(BackupOrigin::read(&at("view.db")), BackupOrigin::Unmarked);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
