//! Restore of a backup into a database that a server uses, into a stopped one, into none, or in place of a
//! broken one.
//!
//! The backup is written into the database as one transaction, so that readers see either the old or the new
//! state, also after an interrupted restore. Only where there is no database, or a broken one of which no safety
//! copy can be made, a new file takes its place; a broken one is kept under another name.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use crate::backup::expected_schema;
use crate::backup::origin::BackupOrigin;
use crate::backup::page_copy::PageCopy;
use crate::backup::snapshot::{
    BackupTarget, ProgressCallback, ProgressStage, SnapshotError, no_progress, page_size, snapshot,
    snapshot_unrecorded, vacuum_into,
};
use crate::backup::verify::{Contents, VerificationReport, contents, verify_and_keep_open, verify_file};
use crate::db::database_id::DatabaseId;
use crate::db::error::{AtPath, OpenError, StoreError};
use crate::db::lock_file::{MaintenanceLock, ServerLock, recorded_id};
use crate::db::replace_file::{ensure_log_belongs, replace, undo_interrupted};
use crate::db::store::make_folder;
use crate::db::{rollups, schema};
use crate::domain::time::Timestamp;
use crate::fs::disk_space::Disk;
use crate::fs::failpoint::failpoint;
use crate::fs::paths::{folder_of, with_suffix};
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::is_same_file;
use crate::fs::temp_file::{TempFile, remove_stale};

/// Pages written per step: 16 MiB; fewer in debug builds, so that tests can act between steps.
const PAGES_PER_STEP: i32 = if cfg!(debug_assertions) { 16 } else { 4096 };
/// Maximum duration of the final checkpoint; the rest is left to the server.
const MAX_CHECKPOINT: Duration = Duration::from_secs(20);
/// Maximum time without progress of the final checkpoint. It outlasts an ordinary read, but not a replication
/// program, which holds a part of the log for up to a minute.
const MAX_STANDSTILL: Duration = Duration::from_secs(2);

/// Reason of a failed restore. The entries of the database are unchanged; a safety copy that was made stays.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{path} cannot be restored: {}", reasons.join("; "))]
    Unfit { path: PathBuf, reasons: Vec<String> },
    #[error("the copy of {path} did not pass its check: {}", reasons.join("; "))]
    CopyUnsound { path: PathBuf, reasons: Vec<String> },
    #[error("{0} is the database itself: name a backup")]
    Itself(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{why}. To replace the file, stop the server and add --replace; the current file is kept under another name"
    )]
    NeedsReplacing { why: String },
    #[error("a server runs on {0}: stop it first")]
    Served(PathBuf),
    #[error(
        "the server that runs on {path} has schema version {found}, this program {known}: restart the server with this version first"
    )]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    #[error("{:.1} MB of free space are needed in {folder}, and {:.1} MB are free", *needed as f64 / 1e6, *free as f64 / 1e6)]
    NoRoom { folder: PathBuf, needed: u64, free: u64 },
    #[error("the safety copy could not be made: {0}")]
    Safety(SnapshotError),
    #[error("the database is busy with another program")]
    Busy,
    #[error("the schema of the database changed meanwhile: try again")]
    SchemaChanged,
    #[error("the backup could not be written into the database: {0}")]
    Write(StoreError),
    #[error("the backup could not be migrated to this schema: {0}")]
    Prepare(StoreError),
    #[error("{0} changed while it was being restored: nothing was restored; verify it and try again")]
    Changed(PathBuf),
    #[error("the files could not be prepared or replaced: {0}")]
    Io(#[from] io::Error),
}

impl RestoreError {
    /// Reports whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::Busy | Self::SchemaChanged => true,
            Self::Io(e) => e.kind() == io::ErrorKind::StorageFull,
            Self::Write(e) | Self::Prepare(e) => e.is_transient(),
            Self::Open(e) => e.is_transient(),
            Self::Safety(e) => e.is_transient(),
            _ => false,
        }
    }
}

/// Current state at the database's path.
#[derive(Debug)]
pub enum RestoreTarget {
    /// A missing or empty file.
    Nothing,
    /// A database of this program. The id is `None` when its schema has no ids or it has never held an entry; it
    /// then takes over the id of the backup.
    Ours { schema_version: i64, contents: Contents, id: Option<DatabaseId> },
    /// A file that cannot be written into, and the reason.
    Broken(String),
}

impl RestoreTarget {
    /// Inspects the database without changing it.
    fn inspect(database: &Path) -> Result<Self, OpenError> {
        if size(database) == 0 {
            return Ok(Self::Nothing);
        }
        let inspect = || -> Result<Self, OpenError> {
            let mut connection = Connection::open_with_flags(database, schema::READ_WRITE).at(database)?;
            // A file that may be damaged is kept bit for bit.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).at(database)?;
            schema::configure(&mut connection, schema::Role::Reader).at(database)?;
            let Some(schema_version) = schema::identify(&connection, database)? else {
                return Ok(Self::Nothing);
            };
            let (contents, id) =
                (contents(&connection).at(database)?, id_if_ever_used(&connection).at(database)?);
            Ok(Self::Ours { schema_version, contents, id })
        };
        match inspect() {
            Err(e) if e.concerns_file() => Ok(Self::Broken(e.cause())),
            inspected => inspected,
        }
    }
}

/// Returns the id of a database that has ever held an entry; `None` for another one.
fn id_if_ever_used(connection: &Connection) -> rusqlite::Result<Option<DatabaseId>> {
    let unused = "select not exists (select 1 from sqlite_sequence where seq <> 0)";
    let is_unused = connection.query_row(unused, [], |row| row.get::<_, bool>(0))?;
    if is_unused { Ok(None) } else { DatabaseId::of(connection) }
}

/// Detector of commits to the database since it was started.
struct CommitWatch {
    connection: Connection,
    /// SQLite changes this number when another connection has committed.
    data_version: i64,
    schema_version: i64,
}

impl CommitWatch {
    fn start(database: &Path) -> rusqlite::Result<Self> {
        let connection = schema::connect(database, schema::Role::Reader)?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        let (data_version, schema_version) = (number("data_version")?, number("user_version")?);
        Ok(Self { connection, data_version, schema_version })
    }

    /// Reports whether no other connection has committed anything since the start.
    fn is_unchanged(&self) -> bool {
        let now = self.connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        now.is_ok_and(|now| now == self.data_version)
    }
}

/// State that the database keeps through a restore.
struct PreservedState {
    /// Last ids by table: ids are never given twice, not even those of entries after the backup.
    last_ids: Vec<(String, i64)>,
    /// Names and statements of Litestream's tables, which it creates only when it starts.
    tables: Vec<(String, String)>,
    /// Id that the database keeps, so that its backups stay its own and no two databases share one.
    id: Option<DatabaseId>,
}

impl PreservedState {
    fn of(current: &CommitWatch, keeps_id: bool) -> rusqlite::Result<Self> {
        let tables = current
            .connection
            .prepare(
                "select name, sql from sqlite_schema
                 where type = 'table' and name like '@_litestream@_%' escape '@'
                   and not exists (select 1 from pragma_foreign_key_list(sqlite_schema.name)) order by name",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let last_ids = expected_schema::last_ids(&current.connection, current.schema_version)?;
        let id = if keeps_id {
            DatabaseId::of(&current.connection)?
        } else {
            id_if_ever_used(&current.connection)?
        };
        Ok(Self { last_ids, tables, id })
    }

    fn put_into(self, copy: &Connection) -> rusqlite::Result<()> {
        if let Some(id) = self.id {
            id.put_into(copy)?;
        }
        for (table, id) in self.last_ids {
            let raise = "update sqlite_sequence set seq = max(seq, ?) where name = ?";
            if copy.execute(raise, params![id, table])? == 0 {
                // The table has had no rows yet.
                copy.execute("insert into sqlite_sequence (name, seq) values (?, ?)", params![table, id])?;
            }
        }
        for (name, sql) in self.tables {
            if !copy.table_exists(None, name.as_str())? {
                copy.execute(&sql, [])?;
            }
        }
        Ok(())
    }
}

/// Planned restore: the backup is verified, the database is inspected, and other maintenance commands are locked out,
/// as are servers unless one runs already. No entry has been changed.
#[derive(Debug)]
pub struct RestorePlan {
    report: VerificationReport,
    /// Connection to the verified file. A file that takes over its name later is not read.
    source: Connection,
    origin: BackupOrigin,
    /// Id of the database in its lock file. A broken database is replaced by one with this id.
    recorded_id: Option<DatabaseId>,
    database: PathBuf,
    backups: PathBuf,
    identity: Identity,
    pub target: RestoreTarget,
    replace: bool,
    /// The backup is of another person, whose id this database must not take over.
    is_of_other_person: bool,
    /// Lock of the server, held so that none starts; `None` while one runs.
    keeps_servers_out: Option<ServerLock>,
    _maintenance: MaintenanceLock,
}

/// Way in which the prepared copy takes the place of the current state.
enum RestoreMethod {
    /// It is written into the database. `safety` is the safety copy, which may lack what `commits` detects.
    WriteInto { safety: PathBuf, commits: Box<CommitWatch> },
    /// It becomes the database's file, and there is no safety copy.
    Replace,
}

/// Entries of a database that a restore would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostEntries {
    pub coffees: u64,
    pub readings: u64,
    /// Timestamp of the oldest one.
    pub since: Option<Timestamp>,
}

/// Result of a restore.
#[derive(Debug)]
pub struct RestoreResult {
    /// Safety copy: a backup of the state before.
    pub safety: Option<PathBuf>,
    /// New paths of the broken files.
    pub kept_files: Vec<PathBuf>,
    pub contents: Contents,
    pub took: Duration,
}

impl RestorePlan {
    /// Verifies the backup, inspects the database, and acquires the locks.
    pub fn plan(
        file: &Path,
        database: &Path,
        backups: &Path,
        identity: Identity,
        replace: bool,
    ) -> Result<Self, RestoreError> {
        if identity.as_caller(|| is_same_file(file, database))? {
            return Err(RestoreError::Itself(file.to_owned()));
        }
        let (found, source) = match identity.as_caller(|| verify_and_keep_open(file))? {
            (found, Some(source)) if found.is_sound() => (found, source),
            (found, _) => return Err(RestoreError::Unfit { path: found.path, reasons: found.reasons }),
        };
        make_folder(database)?;
        let maintenance = MaintenanceLock::acquire(database)?;
        let keeps_servers_out = ServerLock::try_acquire(database)?;
        if keeps_servers_out.is_some() {
            undo_interrupted(database)?;
            ensure_log_belongs(database)?;
        }
        remove_stale(folder_of(database));
        let target = RestoreTarget::inspect(database)?;
        if matches!(target, RestoreTarget::Nothing) && keeps_servers_out.is_none() {
            return Err(RestoreError::Served(database.to_owned()));
        }
        if let (RestoreTarget::Ours { schema_version, .. }, None) = (&target, &keeps_servers_out)
            && *schema_version != schema::newest()
        {
            let (path, found, known) = (database.to_owned(), *schema_version, schema::newest());
            return Err(RestoreError::OtherVersion { path, found, known });
        }
        let plan = Self {
            origin: BackupOrigin::of(&source),
            recorded_id: recorded_id(database),
            report: found,
            source,
            database: database.to_owned(),
            backups: backups.to_owned(),
            identity,
            target,
            replace,
            is_of_other_person: false,
            keeps_servers_out,
            _maintenance: maintenance,
        };
        if let RestoreTarget::Broken(why) = &plan.target {
            plan.ensure_may_replace(why.clone())?;
        }
        plan.ensure_space()?;
        Ok(plan)
    }

    /// Returns the entries of the database; `None` when they cannot be counted.
    pub fn before(&self) -> Option<Contents> {
        match &self.target {
            RestoreTarget::Nothing => Some(Contents::default()),
            RestoreTarget::Ours { contents, .. } => Some(*contents),
            RestoreTarget::Broken(_) => None,
        }
    }

    /// Returns the entries of the backup.
    pub fn after(&self) -> Contents {
        self.report.contents.unwrap_or_default()
    }

    /// Counts the entries of the database that were added after the backup. When the backup is of another database,
    /// these are all entries.
    ///
    /// # Errors
    /// [`RestoreError::Open`].
    pub fn lost_entries(&self) -> Result<LostEntries, RestoreError> {
        if !self.has_current_state() {
            return Ok(LostEntries::default());
        }
        let database = schema::connect(&self.database, schema::Role::Reader).at(&self.database)?;
        let mut lost = LostEntries::default();
        for (table, count) in [("coffee_logs", &mut lost.coffees), ("heart_rate_logs", &mut lost.readings)] {
            let last_id = "select coalesce(max(seq), 0) from sqlite_sequence where name = ?";
            let last_id: i64 = match self.is_of_other_database() {
                true => 0,
                false => self.source.query_row(last_id, [table], |row| row.get(0)).map_err(prepare_error)?,
            };
            let added = format!("select count(*), min(timestamp) from {table} where id > ?");
            let (number, oldest): (i64, Option<i64>) = database
                .query_row(&added, [last_id], |row| Ok((row.get(0)?, row.get(1)?)))
                .at(&self.database)?;
            *count = number.unsigned_abs();
            let oldest = oldest.map(Timestamp::clamped);
            lost.since = [lost.since, oldest].into_iter().flatten().min();
        }
        Ok(lost)
    }

    /// Returns the database that the backup was made of.
    pub fn origin(&self) -> &BackupOrigin {
        &self.origin
    }

    /// Declares that the backup is of another person. The database then keeps its id, even if it has never held an
    /// entry, as no two people may share one.
    pub fn set_of_other_person(&mut self) {
        self.is_of_other_person = true;
    }

    /// Reports whether the backup is known to be of another database.
    pub fn is_of_other_database(&self) -> bool {
        self.is_of_other_person
            || matches!((self.own_id(), &self.origin), (Some(own), BackupOrigin::Known(id)) if own != id)
    }

    /// Returns the id of the database; of a broken one, the id in its lock file.
    fn own_id(&self) -> Option<&DatabaseId> {
        match &self.target {
            RestoreTarget::Ours { id, .. } => id.as_ref(),
            RestoreTarget::Broken(_) => self.recorded_id.as_ref(),
            RestoreTarget::Nothing => None,
        }
    }

    /// Reports whether the database has an id and the backup has none.
    pub fn is_of_unknown_origin(&self) -> bool {
        self.own_id().is_some() && self.origin == BackupOrigin::Unmarked
    }

    /// Reports whether a server runs.
    pub fn is_served(&self) -> bool {
        self.keeps_servers_out.is_none()
    }

    /// Reports whether there is a state to make a safety copy of.
    fn has_current_state(&self) -> bool {
        matches!(self.target, RestoreTarget::Ours { .. })
    }

    /// Checks that replacing the database is requested and possible.
    fn ensure_may_replace(&self, why: String) -> Result<(), RestoreError> {
        match (self.replace, &self.keeps_servers_out) {
            (true, Some(_)) => Ok(()),
            (true, None) => Err(RestoreError::Served(self.database.clone())),
            (false, _) => Err(RestoreError::NeedsReplacing { why }),
        }
    }

    /// Runs the restore.
    pub fn execute(self, progress: ProgressCallback<'_>) -> Result<RestoreResult, RestoreError> {
        let began = Instant::now();
        failpoint("restore.begun");
        let method = self.make_safety_copy(progress)?;
        failpoint("restore.saved");
        let (prepared, contents) = self.prepare(&method, progress)?;
        failpoint("restore.prepared");
        let (safety, kept_files) = match method {
            RestoreMethod::WriteInto { safety, commits } => {
                (Some(self.write_into(&prepared, safety, &commits, progress)?), Vec::new())
            }
            RestoreMethod::Replace => {
                self.keep_id(&prepared)?;
                let is_worth_keeping = !matches!(self.target, RestoreTarget::Nothing);
                (None, replace(&self.database, prepared, is_worth_keeping)?)
            }
        };
        failpoint("restore.done");
        Ok(RestoreResult { safety, kept_files, contents, took: began.elapsed() })
    }

    /// Gives the prepared copy, which replaces the database, the database's id.
    fn keep_id(&self, prepared: &TempFile) -> Result<(), RestoreError> {
        let id = self.own_id();
        if id.is_none() && !self.is_of_other_person {
            return Ok(());
        }
        let copy = Connection::open(prepared.path()).map_err(prepare_error)?;
        id.map_or_else(|| DatabaseId::renew(&copy), |id| id.put_into(&copy)).map_err(prepare_error)?;
        copy.close().map_err(|(_, e)| prepare_error(e))?;
        Ok(prepared.file().sync_all()?)
    }

    /// Makes the safety copy. Returns [`RestoreMethod::Replace`] when there is no state to copy, or none that can
    /// be read.
    fn make_safety_copy(&self, progress: ProgressCallback<'_>) -> Result<RestoreMethod, RestoreError> {
        if !self.has_current_state() {
            return Ok(RestoreMethod::Replace);
        }
        // Started first, so that no commit during the copy is missed.
        let commits = CommitWatch::start(&self.database);
        let target = BackupTarget::Safety(self.backups.clone());
        match snapshot(&self.database, &target, &self.identity, progress) {
            Ok(made) => {
                let commits = commits.at(&self.database).map_err(|e| RestoreError::Safety(e.into()))?;
                Ok(RestoreMethod::WriteInto { safety: made.path, commits: Box::new(commits) })
            }
            Err(SnapshotError::Open(e)) if e.concerns_file() => {
                self.ensure_may_replace(e.cause())?;
                Ok(RestoreMethod::Replace)
            }
            Err(e @ SnapshotError::Unsound(_)) => {
                self.ensure_may_replace(format!("no safety copy can be made ({e})"))?;
                Ok(RestoreMethod::Replace)
            }
            Err(e) => Err(RestoreError::Safety(e)),
        }
    }

    /// Creates a copy of the backup beside the database, migrated to the newest schema. A copy that is to be written
    /// into the database has its page size. Returns the copy with its entries after it has been verified; only the
    /// ids that the database keeps and Litestream's tables are put into it later.
    fn prepare(
        &self,
        method: &RestoreMethod,
        progress: ProgressCallback<'_>,
    ) -> Result<(TempFile, Contents), RestoreError> {
        let schema_version = self.report.schema_version.unwrap_or(0);
        let mut temp = self.copy_beside_database(&self.source, progress)?;
        if matches!(method, RestoreMethod::WriteInto { .. }) {
            let database = schema::connect(&self.database, schema::Role::Reader).map_err(prepare_error)?;
            let wanted = page_size(&database).map_err(prepare_error)?;
            if wanted != page_size(&self.source).map_err(prepare_error)? {
                // VACUUM INTO cannot change the page size of an immutable source, so the copy is copied once more.
                let first = Connection::open(temp.path()).map_err(prepare_error)?;
                first.pragma_update(None, "page_size", wanted).map_err(prepare_error)?;
                temp = self.copy_beside_database(&first, progress)?;
            }
        }
        let mut copy = Connection::open(temp.path()).map_err(prepare_error)?;
        schema::drop_digests(&copy).map_err(prepare_error)?;
        schema::migrate(&mut copy, usize::try_from(schema_version).unwrap_or(0), schema::migrations())
            .map_err(prepare_error)?;
        schema::drop_statistics(&copy).map_err(prepare_error)?;
        if !self.report.differing_rollups.is_empty() {
            let counted = copy.transaction().map_err(prepare_error)?;
            rollups::recount(&counted).and_then(|()| counted.commit()).map_err(prepare_error)?;
        }
        copy.close().map_err(|(_, e)| prepare_error(e))?;
        temp.file().sync_all()?;
        progress(ProgressStage::Checking);
        let report = temp.as_writer(|| verify_file(temp.path()))?;
        let contents = self.compare_with_backup(report)?;
        Ok((temp, contents))
    }

    fn copy_beside_database(
        &self,
        source: &Connection,
        progress: ProgressCallback<'_>,
    ) -> Result<TempFile, RestoreError> {
        let temp = TempFile::create(folder_of(&self.database), &self.identity)?;
        vacuum_into(source, &temp, progress).map_err(RestoreError::Prepare)?;
        Ok(temp)
    }

    /// Returns the entries of the prepared copy if it is sound and has the rows of the backup. Of a migrated copy,
    /// only the numbers of entries and the newest one are compared.
    fn compare_with_backup(&self, prepared: VerificationReport) -> Result<Contents, RestoreError> {
        let path = self.report.path.clone();
        let Some(contents) = prepared.contents.filter(|_| prepared.is_sound()) else {
            return Err(RestoreError::CopyUnsound { path, reasons: prepared.reasons });
        };
        let is_migrated = prepared.schema_version != self.report.schema_version;
        let is_there = |digest| prepared.digests.iter().any(|other| other.is_of_same_rows(digest));
        let has_same_rows = is_migrated || self.report.digests.iter().all(is_there);
        if Some(contents) == self.report.contents && has_same_rows {
            Ok(contents)
        } else {
            Err(RestoreError::Changed(path))
        }
    }

    /// Writes the prepared copy into the database in one transaction. Returns the safety copy that stays: `safety`,
    /// or a second one when `commits` has detected any.
    fn write_into(
        &self,
        prepared: &TempFile,
        safety: PathBuf,
        commits: &CommitWatch,
        progress: ProgressCallback<'_>,
    ) -> Result<PathBuf, RestoreError> {
        let source = Connection::open(prepared.path()).map_err(write_error)?;
        // The copy is temporary, and what `PreservedState::put_into` writes to it need not be durable.
        source.pragma_update(None, "synchronous", "OFF").map_err(write_error)?;
        let mut database = connect_for_writing(&self.database)?;
        // After a commit since the safety copy, a second one is needed. Its pages are copied before writers are locked
        // out, so that they wait only for what is completed from the log.
        let page_copy = if commits.is_unchanged() { None } else { Some(self.begin_page_copy()?) };
        let page_bytes = page_size(&source).map_err(write_error)?.unsigned_abs();
        let backup = Backup::new(&source, &mut database).map_err(write_error)?;
        let write_pages = |count| {
            let step = backup.step(count).map_err(write_error)?;
            let written = backup.progress();
            let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * page_bytes;
            let total = bytes(written.pagecount);
            progress(ProgressStage::Copying { done: total - bytes(written.remaining), total });
            match step {
                StepResult::Done | StepResult::More => Ok(step),
                // The busy handler has tried for a minute.
                _ => Err(RestoreError::Busy),
            }
        };
        // The first page alone begins the transaction: from then on other writers are locked out.
        write_pages(1)?;
        let current = CommitWatch::start(&self.database).map_err(write_error)?;
        let found = current.schema_version;
        if !matches!(self.target, RestoreTarget::Ours { schema_version, .. } if schema_version == found) {
            return Err(RestoreError::SchemaChanged);
        }
        let published_pages = if commits.is_unchanged() {
            None
        } else {
            // Not begun yet if the first commit came just before the lock.
            let page_copy = page_copy.map_or_else(|| self.begin_page_copy(), Ok)?;
            let target = BackupTarget::Safety(self.backups.clone());
            let path = page_copy.finish(target.names()).map_err(RestoreError::Safety)?;
            failpoint("restore.page_copy");
            Some(path)
        };
        // `backup` reads through `source`: it also writes the pages that `source` changes now.
        let preserved = PreservedState::of(&current, self.is_of_other_person);
        preserved.and_then(|preserved| preserved.put_into(&source)).map_err(write_error)?;
        failpoint("restore.preserved");
        while write_pages(PAGES_PER_STEP)? == StepResult::More {
            failpoint("restore.half");
        }
        drop(backup);
        failpoint("restore.written");
        checkpoint_database(&database, self.is_served());
        Ok(match published_pages {
            Some(page_copy) => self.finish_safety(safety, page_copy),
            None => safety,
        })
    }

    fn begin_page_copy(&self) -> Result<PageCopy, RestoreError> {
        PageCopy::of(&self.database, &self.backups, &self.identity).map_err(RestoreError::Safety)
    }

    /// Makes a verified safety copy of the published page copy, which has everything that was committed before the
    /// restore, and then removes the page copy and the `first` safety copy. Returns the safety copy that stays.
    /// Failures are logged, since the restore is complete: then a sound page copy becomes the safety copy, and
    /// otherwise `first` remains it.
    fn finish_safety(&self, first: PathBuf, page_copy: PathBuf) -> PathBuf {
        let target = BackupTarget::Safety(self.backups.clone());
        let safety = match snapshot_unrecorded(&page_copy, &target, &self.identity, &no_progress) {
            Ok(made) => {
                self.remove(&page_copy);
                self.remove(&first);
                made.path
            }
            // Possibly there is no space for another copy.
            Err(e) => {
                let report = self.identity.as_caller(|| verify_file(&page_copy));
                if report.is_ok_and(|report| report.is_sound()) {
                    self.remove(&first);
                    page_copy
                } else {
                    tracing::warn!(
                        "{} did not pass its check ({e}): {} holds the state of shortly before",
                        page_copy.display(),
                        first.display()
                    );
                    first
                }
            }
        };
        failpoint("restore.second_safety");
        safety
    }

    /// Removes a safety copy or page copy whose entries are all in the safety copy that stays.
    fn remove(&self, backup: &Path) {
        // Its folder may be writable for the owner of the database or only for the caller.
        let is_removed =
            fs::remove_file(backup).is_ok() || self.identity.as_caller(|| fs::remove_file(backup)).is_ok();
        if !is_removed {
            tracing::warn!("{} is no longer needed, but cannot be removed", backup.display());
        }
    }

    /// Ensures that there is space for the safety copy, the log and the prepared copy.
    fn ensure_space(&self) -> Result<(), RestoreError> {
        let current = size(&self.database) + size(&with_suffix(&self.database, "-wal"));
        let safety = match (self.has_current_state(), self.is_served()) {
            (false, _) => 0,
            (true, false) => current,
            // What is committed meanwhile needs a second safety copy.
            (true, true) => 2 * current,
        };
        // The prepared copy, and the log; before the log, possibly a second copy with another page size.
        let copies = if self.has_current_state() { 2 } else { 1 };
        let here = self.report.size_bytes * copies;
        let folder = folder_of(&self.database).to_owned();
        // The folder of backups may not exist yet.
        let backups = self.backups.ancestors().find(|path| path.exists()).unwrap_or(&folder).to_owned();
        let device = |path: &Path| fs::metadata(path).map_or(0, |m| m.dev());
        if device(&backups) == device(&folder) {
            return ensure_free(&folder, here + safety);
        }
        ensure_free(&folder, here)?;
        ensure_free(&backups, safety)
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn ensure_free(folder: &Path, needed: u64) -> Result<(), RestoreError> {
    match Disk::of(folder).map(|disk| disk.free_bytes) {
        Ok(free) if free < needed => Err(RestoreError::NoRoom { folder: folder.to_owned(), needed, free }),
        _ => Ok(()),
    }
}

fn prepare_error(error: rusqlite::Error) -> RestoreError {
    RestoreError::Prepare(error.into())
}

fn write_error(error: rusqlite::Error) -> RestoreError {
    match StoreError::from(error) {
        StoreError::Busy => RestoreError::Busy,
        other => RestoreError::Write(other),
    }
}

/// Opens the database for writing the pages; the caller runs the checkpoint.
fn connect_for_writing(database: &Path) -> Result<Connection, RestoreError> {
    let connection = schema::connect(database, schema::Role::Writer).map_err(write_error)?;
    schema::set_long_busy_timeout(&connection).map_err(write_error)?;
    // A database that was copied there by hand has no log before a server opens it.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(write_error)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(write_error)?;
    Ok(connection)
}

/// Runs a checkpoint, so that no write of the server has to.
fn checkpoint_database(database: &Connection, is_served: bool) {
    let began = Instant::now();
    let mode = if is_served { "passive" } else { "truncate" };
    let (mut best, mut progressed_at) = (0, began);
    // Attempts do not wait: a checkpoint that waits for a reader delays writers.
    if database.busy_timeout(Duration::ZERO).is_err() {
        return;
    }
    while began.elapsed() < MAX_CHECKPOINT && progressed_at.elapsed() < MAX_STANDSTILL {
        let counts = database.pragma_update_and_check(None, "wal_checkpoint", mode, |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match counts {
            Ok((log, checkpointed)) if checkpointed < log => {
                if checkpointed > best {
                    (best, progressed_at) = (checkpointed, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::backup::open::open_store;
    use crate::db::store::Options;

    #[test]
    fn an_unsound_page_copy_does_not_become_the_safety_copy() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::of_command(folder.path().join("coffee.db"), folder.path().join("backups"));
        open_store(&options).unwrap().close();
        let target = BackupTarget::Safety(options.backups.clone());
        let first = snapshot(&options.path, &target, &Identity::CALLER, &no_progress).unwrap().path;
        let plan =
            RestorePlan::plan(&first, &options.path, &options.backups, Identity::CALLER, false).unwrap();
        let page_copy = options.backups.join("page_copy.db");
        fs::write(&page_copy, "not a database").unwrap();
        assert_eq!(plan.finish_safety(first.clone(), page_copy.clone()), first);
        assert!(first.exists() && page_copy.exists());
    }
}
