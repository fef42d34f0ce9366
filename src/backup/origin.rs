//! Origin of databases and backups. Reading it changes nothing and creates no file.

use std::path::Path;

use rusqlite::Connection;

use crate::backup::verify::{Contents, contents, open_without_side_files};
use crate::db::database_id::DatabaseId;
use crate::db::lock_file;
use crate::db::schema::APPLICATION_ID;

/// Database that a file is, or was backed up from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOrigin {
    /// The database with this id.
    Known(DatabaseId),
    /// A database whose schema predates ids.
    Unmarked,
    /// The file is missing or unreadable, or is not a database of this program.
    Unknown,
}

impl BackupOrigin {
    /// Reads the origin of the backup at `path`.
    pub fn of_backup(path: &Path) -> Self {
        open_without_side_files(path).map_or(Self::Unknown, |backup| Self::of(&backup))
    }

    /// Returns the origin that backups of the database at `path` have. For a missing or damaged database the
    /// lock file has the id.
    pub fn of_database(path: &Path) -> Self {
        match Self::of_backup(path) {
            Self::Unknown => lock_file::recorded_id(path).map_or(Self::Unknown, Self::Known),
            found => found,
        }
    }

    /// Reads the origin of an open backup.
    pub fn of(backup: &Connection) -> Self {
        let application = backup.pragma_query_value(None, "application_id", |row| row.get(0));
        match (application, DatabaseId::of(backup)) {
            (Ok(APPLICATION_ID), Ok(Some(id))) => Self::Known(id),
            (Ok(APPLICATION_ID), Ok(None)) => Self::Unmarked,
            _ => Self::Unknown,
        }
    }
}

/// Counts the entries of a backup without verifying it.
pub fn count_backup(path: &Path) -> rusqlite::Result<Contents> {
    contents(&open_without_side_files(path)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::fs;

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
            assert_eq!(BackupOrigin::of_backup(&at(name)), BackupOrigin::Unknown, "{name}");
        }
        assert_eq!(BackupOrigin::of_backup(&at("view.db")), BackupOrigin::Unmarked);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
