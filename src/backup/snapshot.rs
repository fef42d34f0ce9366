//! Consistent, verified backup of a database in use.
//!
//! The copy is written to a temporary file, verified as a restore would, synced, and only then published. A
//! failure leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, params};

use crate::backup::content_digest::TableDigest;
use crate::backup::expected_schema::SchemaDifference;
use crate::backup::retention::BEFORE_RESTORE;
use crate::backup::verify::{
    Contents, configure_for_full_read, connect, open_without_side_files, verify_file,
};
use crate::backup::{content_digest, expected_schema};
use crate::db::error::{AtPath, OpenError, StoreError, require_database};
use crate::db::health::BackupRecord;
use crate::db::replace_file::prepare_to_open;
use crate::db::schema::APPLICATION_ID;
use crate::db::{rollups, schema};
use crate::domain::time::{Timestamp, file_name_time};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::{file_uri, folder_of};
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;

/// Destination of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupTarget {
    /// A folder; the name is the first unused `coffee_YYYYMMDD_HHMMSS.db` (UTC).
    Folder(PathBuf),
    /// A folder, for the safety copy of a restore: `coffee_YYYYMMDD_HHMMSS_before-restore.db`.
    Safety(PathBuf),
    /// A file, which must not exist.
    File(PathBuf),
}

/// Finished backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
    pub contents: Contents,
    pub took: Duration,
}

/// Progress of a backup or a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressStage {
    /// Bytes written, and their approximate total.
    Copying { done: u64, total: u64 },
    /// Verification of the copy.
    Checking,
}

/// Progress callback.
pub type ProgressCallback<'a> = &'a (dyn Fn(ProgressStage) + Sync);

/// Progress callback that does nothing.
pub fn no_progress(_: ProgressStage) {}

/// Reason of a failed backup. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0} exists already: a backup never overwrites")]
    Taken(PathBuf),
    #[error("the folder {path} cannot be used: {why}")]
    Folder { path: PathBuf, why: io::Error },
    #[error("no space left on the disk that holds {0}")]
    Full(PathBuf),
    #[error("the copy could not be written: {0}")]
    Copy(StoreError),
    #[error("the copy could not be written: {0}")]
    Io(#[from] io::Error),
    #[error("the copy did not pass its check: {}", .0.join("; "))]
    Unsound(Vec<String>),
}

impl SnapshotError {
    /// Converts an error of SQLite while it writes to `folder`.
    pub fn of_copy(error: impl Into<StoreError>, folder: &Path) -> Self {
        match error.into() {
            StoreError::Full => Self::Full(folder.to_owned()),
            other => Self::Copy(other),
        }
    }

    /// Converts an error of writing to `folder`.
    pub fn of_io(error: io::Error, folder: &Path) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full(folder.to_owned()),
            _ => Self::Io(error),
        }
    }

    /// Reports whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full(_) | Self::Copy(StoreError::Busy | StoreError::Unwritable(_)) => true,
            Self::Open(e) => e.is_transient(),
            _ => false,
        }
    }
}

impl BackupTarget {
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) | Self::Safety(folder) => folder,
            Self::File(file) => folder_of(file),
        }
    }

    /// Returns the candidate names, best first.
    pub fn names(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        match self {
            Self::File(file) => Box::new(std::iter::once(file.clone())),
            Self::Folder(folder) | Self::Safety(folder) => {
                let stem = format!("coffee_{}", file_name_time(Timestamp::from(SystemTime::now())));
                let end = if matches!(self, Self::Safety(_)) { BEFORE_RESTORE } else { "" };
                let name = move |n| match n {
                    1 => folder.join(format!("{stem}{end}.db")),
                    n => folder.join(format!("{stem}_{n}{end}.db")),
                };
                Box::new((1_u32..).map(name))
            }
        }
    }
}

/// Backs up `database`, which may be in use, and records the outcome beside it.
pub fn snapshot(
    database: &Path,
    target: &BackupTarget,
    identity: &Identity,
    progress: ProgressCallback<'_>,
) -> Result<Snapshot, SnapshotError> {
    require_database(database)?;
    let made = prepare_to_open(database)
        .map_err(SnapshotError::from)
        .and_then(|()| snapshot_unrecorded(database, target, identity, progress));
    if let Err(SnapshotError::Taken(_)) = &made {
        // A mistake of the caller is no failed backup.
        return made;
    }
    let mut record = BackupRecord::read(database);
    match &made {
        Ok(snapshot) => {
            record.last_success = Some(Timestamp::from(SystemTime::now()).micros());
            record.size_bytes = Some(snapshot.size_bytes);
            record.error = None;
        }
        Err(e) => record.error = Some(e.to_string()),
    }
    if let Err(e) = record.write(database)
        && made.is_ok()
    {
        tracing::warn!("the outcome of the backup could not be recorded: {e}");
    }
    failpoint("backup.noted");
    made
}

/// Backs up `database` without recording the outcome; see [`snapshot`].
pub fn snapshot_unrecorded(
    database: &Path,
    target: &BackupTarget,
    identity: &Identity,
    progress: ProgressCallback<'_>,
) -> Result<Snapshot, SnapshotError> {
    let began = Instant::now();
    if let BackupTarget::File(file) = target
        && file.exists()
    {
        return Err(SnapshotError::Taken(file.clone()));
    }
    let folder = target.folder();
    let temp = TempFile::create(folder, identity).map_err(|why| match why.kind() {
        io::ErrorKind::StorageFull => SnapshotError::Full(folder.to_owned()),
        _ => SnapshotError::Folder { path: folder.to_owned(), why },
    })?;
    failpoint("backup.begun");
    let source = open_source(database)?;
    let version = schema::version_of(&source, database)?;
    copy_source(&source, &temp, version, progress).map_err(|e| match e {
        SnapshotError::Copy(StoreError::Corrupt(why)) => {
            OpenError::Damaged { path: database.to_owned(), why }.into()
        }
        SnapshotError::Copy(e) => SnapshotError::of_copy(e, folder),
        other => other,
    })?;
    drop(source);
    failpoint("backup.copied");
    progress(ProgressStage::Checking);
    let mut report = temp.as_writer(|| verify_file(temp.path()))?;
    if report.is_sound() && report.schema_version != Some(version) {
        report.reasons.push(format!("it has schema {:?} where {version} was copied", report.schema_version));
    }
    let (Some(sha256), Some(contents), true) = (report.sha256, report.contents, report.reasons.is_empty())
    else {
        return Err(SnapshotError::Unsound(report.reasons));
    };
    failpoint("backup.checked");
    let size_bytes = temp.file().metadata()?.len();
    let path = temp.publish(target.names()).map_err(|e| match (e.kind(), target) {
        (io::ErrorKind::AlreadyExists, BackupTarget::File(file)) => SnapshotError::Taken(file.clone()),
        _ => SnapshotError::of_io(e, folder),
    })?;
    failpoint("backup.named");
    Ok(Snapshot { path, size_bytes, sha256, contents, took: began.elapsed() })
}

/// Opens the database so that the copy can be attached to the connection.
fn open_source(database: &Path) -> Result<Connection, SnapshotError> {
    let configure = |source: Connection| {
        source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        configure_for_full_read(&source)?;
        Ok(source)
    };
    // Opened for writing, although nothing is written to it. SQLite ignores the CHECKs of a file that is opened
    // read-only, and copies tables at its fastest only between those with the same CHECKs.
    let opened = match connect(database, "mode=rw").and_then(configure) {
        // On a read-only file system there are no writers.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            open_without_side_files(database).and_then(configure)
        }
        opened => opened,
    };
    Ok(opened.at(database)?)
}

/// Returns the page size of a database. Reads a page first, since SQLite returns the page size of new files before
/// that.
pub fn page_size(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// Copies the tables of a database with digests of their rows. Fails when a table is not as in the database's schema
/// version; indexes and triggers are created anew, and foreign objects are left out.
fn copy_source(
    source: &Connection,
    temp: &TempFile,
    version: i64,
    progress: ProgressCallback<'_>,
) -> Result<(), SnapshotError> {
    let fault = |e: rusqlite::Error| SnapshotError::Copy(e.into());
    let (mut faults, mut left_out) = (Vec::new(), Vec::new());
    for difference in expected_schema::differences(source, version).map_err(fault)? {
        match &difference {
            SchemaDifference::Unexpected { object: (kind, name), .. } => {
                left_out.push(format!("{kind} {name}"));
            }
            // Indexes, views and triggers are created anew.
            SchemaDifference::Missing { object: (kind, _) }
            | SchemaDifference::Changed { object: (kind, _), .. } => {
                faults.extend((kind == "table").then(|| difference.to_string()));
            }
        }
    }
    if !faults.is_empty() {
        return Err(SnapshotError::Unsound(faults));
    }
    if !left_out.is_empty() {
        tracing::warn!("not part of the backup, as they are not Coffee Tracker's: {}", left_out.join(", "));
    }
    let page_size = page_size(source).map_err(fault)?;
    write_copy(source, temp, progress, || {
        create_tables(temp.path(), version, page_size)?;
        source.execute("attach ? as copy", [file_uri(temp.path(), "mode=rw&vfs=unix")])?;
        let copied = copy_rows(source, version);
        if copied.is_err() && !source.is_autocommit() {
            source.execute_batch("rollback")?;
        }
        let detached = source.execute_batch("detach copy");
        copied.and(detached)
    })
    .map_err(|e| match e {
        // A row that violates the CHECKs of its table.
        StoreError::Internal(why) => SnapshotError::Unsound(vec![why]),
        other => SnapshotError::Copy(other),
    })
}

/// Copies everything in `source` into an empty temporary file.
pub fn vacuum_into(
    source: &Connection,
    temp: &TempFile,
    progress: ProgressCallback<'_>,
) -> Result<(), StoreError> {
    let path = temp.path().to_string_lossy();
    write_copy(source, temp, progress, || source.execute("vacuum into ?", params![path]).map(drop))
}

/// Writes a temporary file with progress reports.
fn write_copy(
    source: &Connection,
    temp: &TempFile,
    progress: ProgressCallback<'_>,
    work: impl FnOnce() -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let size = "select page_count * page_size from pragma_page_count, pragma_page_size";
    let total = source.query_row(size, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    let (done, finished) = channel::<()>();
    std::thread::scope(|scope| {
        // Data is synced in small steps: a final sync of hundreds of megabytes would delay every other fsync
        // on a slow card.
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(Duration::from_millis(100)) {
                let written = temp.file().metadata().map_or(0, |m| m.len());
                progress(ProgressStage::Copying { done: written, total });
                drop(temp.file().sync_data());
            }
        });
        let filled = temp.as_writer(work);
        drop(done);
        match filled {
            Ok(filled) => filled.map_err(StoreError::from),
            Err(e) => Err(StoreError::Io(e.to_string())),
        }
    })
}

/// Creates the empty tables of a copy.
fn create_tables(path: &Path, version: i64, page_size: i64) -> rusqlite::Result<()> {
    let mut copy = Connection::open(path)?;
    copy.pragma_update(None, "page_size", page_size)?;
    // An unfinished temporary file is removed.
    copy.pragma_update_and_check(None, "journal_mode", "memory", |_| Ok(()))?;
    copy.pragma_update(None, "synchronous", "off")?;
    let transaction = copy.transaction()?;
    expected_schema::create_schema(&transaction, version)?;
    // A migration may have inserted rows.
    for shape in expected_schema::table_shapes(&transaction)? {
        transaction.execute(&format!("delete from {}", shape.quoted_name()), [])?;
    }
    transaction.execute_batch(expected_schema::CREATE_DIGEST_TABLE)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Copies every row into the attached `copy` and adds the digests, in one read transaction that blocks no
/// writer.
fn copy_rows(source: &Connection, version: i64) -> rusqlite::Result<()> {
    source.pragma_update_and_check(Some("copy"), "journal_mode", "memory", |_| Ok(()))?;
    source.pragma_update(Some("copy"), "synchronous", "off")?;
    source.pragma_update(Some("copy"), "cache_size", -8192)?;
    // Rows maintained by triggers are copied too; without triggers SQLite copies rows and indexes unchanged.
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let table_shapes = expected_schema::table_shapes(&expected_schema::model(version)?)?;
    let copying = source.unchecked_transaction()?;
    let mut digests = Vec::new();
    for shape in &table_shapes {
        let name = shape.quoted_name();
        copying.execute(&format!("insert into copy.{name} select * from main.{name}"), [])?;
        // Rollups are compared with the readings instead.
        if !rollups::TABLES.contains(&shape.name.as_str()) {
            digests.push(TableDigest::of_table(&copying, "main", shape)?);
        }
    }
    let last_ids = expected_schema::last_ids(&copying, version)?;
    copying.execute("delete from copy.sqlite_sequence", [])?;
    for (table, id) in &last_ids {
        copying.execute("insert into copy.sqlite_sequence (name, seq) values (?, ?)", params![table, id])?;
    }
    digests.push(TableDigest::of_last_ids(&last_ids));
    content_digest::write_to_copy(&copying, &digests)?;
    copying.commit()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use std::fs;

    use super::*;
    use crate::backup::open::{open_store, open_with};
    use crate::db::error::OpenError;
    use crate::db::store::{OnMissing, Options};

    fn options(folder: &Path) -> Options {
        Options::of_command(folder.join("coffee.db"), folder.join("backups"))
    }

    fn backup(options: &Options) -> Result<Snapshot, SnapshotError> {
        let target = BackupTarget::Folder(options.backups.clone());
        snapshot(&options.path, &target, &Identity::CALLER, &no_progress)
    }

    #[test]
    fn a_migration_backs_up_first_and_a_failing_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        open_store(&options).unwrap().close();
        let seed = Connection::open(&options.path).unwrap();
        seed.execute("insert into coffee_logs (timestamp, caffeine_mg) values (1, 95)", []).unwrap();
        drop(seed);

        let newest = schema::newest();
        let with = |step| [schema::migrations(), &[step]].concat();
        let broken = open_with(&options, &with("create table extra (a) strict"), OnMissing::Refuse);
        match &broken {
            Err(OpenError::Migration { to, .. }) if *to == newest + 1 => {}
            other => panic!("expected a failed migration, got {other:?}"),
        }
        let kept: Vec<_> = fs::read_dir(&options.backups).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "one backup, and no temporary file");
        let backup = Connection::open(kept[0].path()).unwrap();
        let coffees: i64 = backup.query_row("select count(*) from coffee_logs", [], |r| r.get(0)).unwrap();
        assert_eq!(coffees, 1);
        open_store(&options).unwrap().close();

        let next =
            open_with(&options, &with("create table extra (a integer) strict"), OnMissing::Refuse).unwrap();
        next.close();
        drop(next);
        match open_store(&options) {
            Err(OpenError::NewerSchema { found, known, .. }) if found == newest + 1 && known == newest => {}
            other => panic!("expected a refusal of the next schema, got {other:?}"),
        }
        assert_eq!(BackupRecord::read(&options.path).error, None);
    }

    #[test]
    fn a_backup_never_overwrites_another() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let store = open_store(&options).unwrap();
        let made: std::collections::HashSet<_> = (0..5).map(|_| backup(&options).unwrap().path).collect();
        assert_eq!(made.len(), 5);
        store.close();
    }

    #[test]
    fn a_backup_that_fails_leaves_nothing_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        fs::write(&options.path, b"SQLite format 3\0 but nothing else of it").unwrap();
        assert!(backup(&options).is_err());
        assert_eq!(fs::read_dir(&options.backups).unwrap().count(), 0);
        assert!(BackupRecord::read(&options.path).error.is_some());
    }
}
