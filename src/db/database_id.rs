//! The random id of a database, which travels in its backups.
//!
//! Reading the id of a backup changes nothing and lays no file beside it.

use std::path::Path;
use std::{fmt, fs};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::backup::verify::{Contents, contents, open_still, percent_encoded};
use crate::db::schema::APPLICATION_ID;
use crate::fs::lock_file;

/// Random id of a database: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseId(String);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DatabaseId {
    /// Parses an id; `None` when the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_owned()))
    }

    /// Returns the id of an open database; `None` when its schema is older than ids are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn of(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        // A view of that name could compute anything for any time.
        let is_there =
            "select exists (select 1 from sqlite_schema where type = 'table' and name = 'database_identity')";
        if !connection.query_row(is_there, [], |row| row.get::<_, bool>(0))? {
            return Ok(None);
        }
        let id = connection.query_row("select id from database_identity", [], |row| row.get::<_, String>(0));
        Ok(id.optional()?.and_then(|id| Self::parse(&id)))
    }

    /// Gives a database this id.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn put_into(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("update database_identity set id = ?", [&self.0]).map(drop)
    }
}

/// Origin of a backup, as far as its file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOrigin {
    /// The database with this id.
    Known(DatabaseId),
    /// A database whose schema was older than ids are.
    Unmarked,
    /// Unknown: the file cannot be read, or is not a database of ours.
    Unreadable,
}

impl BackupOrigin {
    /// Reads the origin of the backup at `path`, a regular file that nobody writes to.
    pub fn read(path: &Path) -> Self {
        match open_unchanging(path).and_then(|backup| origin(&backup)) {
            Ok(origin) => origin,
            Err(_) => Self::Unreadable,
        }
    }
}

fn origin(backup: &Connection) -> rusqlite::Result<BackupOrigin> {
    let application: i64 = backup.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Ok(BackupOrigin::Unreadable);
    }
    Ok(DatabaseId::of(backup)?.map_or(BackupOrigin::Unmarked, BackupOrigin::Known))
}

/// Opens a finished backup: without locks, without its log, without files beside it.
///
/// # Errors
/// It cannot be opened.
fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let uri = format!("file://{}?immutable=1", percent_encoded(&absolute));
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

/// Counts what a finished backup holds, without verifying it.
///
/// # Errors
/// It cannot be read.
pub fn contents_of_backup(path: &Path) -> rusqlite::Result<Contents> {
    contents(&open_unchanging(path)?)
}

/// Database whose backups are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOwner {
    /// The database with this id.
    Database(DatabaseId),
    /// A database whose schema is older than ids are: backups without an id may be its own.
    Older,
    /// A database that is missing or cannot be read, and left no id in its lock file.
    Unknown,
}

impl BackupOwner {
    /// Returns the owner for the database at `path`. Of one that is gone or damaged, the lock file
    /// still has the id.
    pub fn of(path: &Path) -> Self {
        let is_there = fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let found = if is_there {
            open_still(path).and_then(|database| DatabaseId::of(&database)).ok()
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
    fn an_id_is_32_hexadecimal_digits() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(DatabaseId::parse(id).unwrap().to_string(), id);
        for other in ["", "0123", &id[1..], &format!("{id}0"), "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(DatabaseId::parse(other), None, "{other}");
        }
    }

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
