//! Brings a backup back: into a file that a server goes on serving, into one that rests,
//! into none, or in place of a broken one.
//!
//! The backup is written into the live file as one transaction, so whoever reads sees the
//! old state or the new one, and a restore that dies leaves one of them. Only a live file
//! that SQLite cannot write to is replaced, and then moved aside, never deleted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rustix::fs::statvfs;

use crate::backup::expected_schema;
use crate::backup::live_database::{
    RestoreTarget, State, add_tables, id_in_use, inspect_target, litestream_tables, page_size, raise,
};
use crate::backup::origin::BackupOrigin;
use crate::backup::page_copy::PageCopy;
use crate::backup::snapshot::{
    ProgressCallback, SnapshotError, Stage, Target, copy, fill, no_progress, snapshot,
};
use crate::backup::verify::{Contents, VerificationReport, verify_and_keep_open, verify_file};
use crate::db::database_id::DatabaseId;
use crate::db::error::{Error, OpenError};
use crate::db::lock_file::{Lock, MaintenanceLock};
use crate::db::replace_file::{ensure_log_belongs, replace, undo_interrupted};
use crate::db::store::make_folder;
use crate::db::{rollups, schema};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::{folder_of, with_suffix};
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::is_same_file;
use crate::fs::temp_file::{TempFile, remove_stale};

/// Pages copied between two looks at the progress: 16 MiB; few where tests look in between.
const PAGES: i32 = if cfg!(debug_assertions) { 16 } else { 4096 };
/// How long the log is carried over to the file, at most, before it is left to the server.
const CHECKPOINT: Duration = Duration::from_secs(20);
/// How long that may stand still: who streams the database away holds a part of the log for a minute.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Drops what a database in use does not take over from a backup: digests, which hold until the
/// first write, and statistics, which any program may have written.
const ONLY_OF_BACKUPS: &str = "drop table if exists backup_digests; drop table if exists sqlite_stat1;
                               drop table if exists sqlite_stat4";

/// Why nothing was restored; the database is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{path} cannot be restored: {}", reasons.join("; "))]
    Unfit { path: PathBuf, reasons: Vec<String> },
    #[error("{0} is the database itself: name a backup")]
    Itself(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{why}. To put the backup in its place, stop the server and add --replace: the present file is moved aside, not deleted"
    )]
    NeedsReplacing { why: String },
    #[error("a server runs on {0}: stop it before the file is replaced")]
    Served(PathBuf),
    #[error(
        "the server that runs on {path} has schema version {found}, this program {known}: restart the server with this version first"
    )]
    OtherVersion { path: PathBuf, found: i64, known: i64 },
    #[error("{needed} bytes of room are needed in {folder}, and {free} are free")]
    NoRoom { folder: PathBuf, needed: u64, free: u64 },
    #[error("the present state could not be backed up first: {0}")]
    Safety(SnapshotError),
    #[error("the database is kept busy by another program")]
    Busy,
    #[error("the database got another schema meanwhile: try again")]
    Moved,
    #[error("the backup could not be written into the database: {0}")]
    Write(Error),
    #[error("the backup could not be brought to this schema: {0}")]
    Prepare(Error),
    #[error("{0} changed while it was being restored: nothing was restored; verify it and try again")]
    Changed(PathBuf),
    #[error("the files could not be put in place: {0}")]
    Io(#[from] io::Error),
}

impl RestoreError {
    /// May trying again later help?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::Busy | Self::Moved => true,
            Self::Io(e) => e.kind() == io::ErrorKind::StorageFull,
            Self::Write(e) | Self::Prepare(e) => e.is_transient(),
            Self::Open(e) => e.is_transient(),
            Self::Safety(e) => e.is_transient(),
            _ => false,
        }
    }
}

/// What the database does not lose to a backup.
struct Kept {
    /// The last id of each table: none is given twice, not even one of what came after the backup.
    last_ids: Vec<(String, i64)>,
    /// The tables of a program that streams it away, which looks for them only when it starts.
    tables: Vec<(String, String)>,
    /// Its own id, whatever the backup has: it goes on recognising its backups, and no two databases
    /// get the same one.
    id: Option<DatabaseId>,
}

impl Kept {
    fn put_into(self, copy: &Connection) -> rusqlite::Result<()> {
        if let Some(id) = self.id {
            id.put_into(copy)?;
        }
        for (table, id) in self.last_ids {
            raise(copy, &table, id)?;
        }
        add_tables(copy, &self.tables)
    }
}

/// A restore that has been looked into and not begun.
#[derive(Debug)]
pub struct RestorePlan {
    file: VerificationReport,
    /// The file that was examined, open since: another one under its name is not read.
    source: Connection,
    origin: BackupOrigin,
    database: PathBuf,
    backups: PathBuf,
    identity: Identity,
    live: RestoreTarget,
    replace: bool,
    /// Keeps servers away while nobody serves; `None`: one runs and goes on.
    lock: Option<Lock>,
    _maintenance: MaintenanceLock,
}

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// The state before, as a backup.
    pub safety: Option<PathBuf>,
    /// Where the broken files lie now.
    pub aside: Vec<PathBuf>,
    pub contents: Contents,
    pub took: Duration,
}

impl RestorePlan {
    /// Examines the backup and the present state, and takes the locks.
    ///
    /// # Errors
    /// Why it cannot be restored.
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
        let lock = Lock::try_acquire(database)?;
        if lock.is_some() {
            undo_interrupted(database)?;
            ensure_log_belongs(database)?;
        }
        remove_stale(folder_of(database));
        let live = inspect_target(database)?;
        if matches!(live, RestoreTarget::Nothing) && lock.is_none() {
            return Err(RestoreError::Served(database.to_owned()));
        }
        if let (RestoreTarget::Ours { version, .. }, None) = (&live, &lock)
            && *version != schema::newest()
        {
            let (path, found, known) = (database.to_owned(), *version, schema::newest());
            return Err(RestoreError::OtherVersion { path, found, known });
        }
        let this = Self {
            origin: identity.as_caller(|| BackupOrigin::read(file))?,
            file: found,
            source,
            database: database.to_owned(),
            backups: backups.to_owned(),
            identity,
            live,
            replace,
            lock,
            _maintenance: maintenance,
        };
        if let RestoreTarget::Broken(why) = &this.live {
            this.replacing(why.clone())?;
        }
        this.check_room()?;
        Ok(this)
    }

    /// What the database holds now; `None` when that cannot be told.
    pub fn before(&self) -> Option<Contents> {
        match &self.live {
            RestoreTarget::Nothing => Some(Contents::default()),
            RestoreTarget::Ours { contents, .. } => Some(*contents),
            RestoreTarget::Broken(_) => None,
        }
    }

    /// What the file holds.
    pub fn after(&self) -> Contents {
        self.file.contents.unwrap_or_default()
    }

    /// Reports whether the backup is known to be of another database than the present one.
    pub fn is_foreign(&self) -> bool {
        match (&self.live, &self.origin) {
            (RestoreTarget::Ours { id: Some(present), .. }, BackupOrigin::Known(id)) => present != id,
            _ => false,
        }
    }

    /// Reports whether the backup and the present state have entries, and only one of them an id.
    pub fn is_of_unknown_origin(&self) -> bool {
        matches!(
            (&self.live, &self.origin),
            (RestoreTarget::Ours { id: Some(_), .. }, BackupOrigin::Unmarked)
        )
    }

    /// Does a server run meanwhile?
    pub fn is_served(&self) -> bool {
        self.lock.is_none()
    }

    /// Is there a state that can be backed up first?
    pub fn has_present(&self) -> bool {
        matches!(self.live, RestoreTarget::Ours { .. })
    }

    /// Why the present file is replaced rather than written into, when it is.
    pub fn broken(&self) -> Option<&str> {
        match &self.live {
            RestoreTarget::Broken(why) => Some(why),
            _ => None,
        }
    }

    /// May the present file be replaced?
    fn replacing(&self, why: String) -> Result<(), RestoreError> {
        match (self.replace, &self.lock) {
            (true, Some(_)) => Ok(()),
            (true, None) => Err(RestoreError::Served(self.database.clone())),
            (false, _) => Err(RestoreError::NeedsReplacing { why }),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why nothing was restored; the database is then as it was.
    pub fn execute(self, progress: ProgressCallback<'_>) -> Result<Restored, RestoreError> {
        let began = Instant::now();
        failpoint("restore.begun");
        let state = match self.live {
            RestoreTarget::Ours { .. } => State::of(&self.database).ok(),
            _ => None,
        };
        let mut safety = self.back_up_first(progress)?;
        failpoint("restore.saved");
        let (prepared, contents) = self.prepare(safety.is_some(), progress)?;
        failpoint("restore.prepared");
        let mut aside = Vec::new();
        match &mut safety {
            Some(safety) => self.write_into(&prepared, state.as_ref(), safety, progress)?,
            None => aside = replace(&self.database, prepared, !matches!(self.live, RestoreTarget::Nothing))?,
        }
        failpoint("restore.done");
        Ok(Restored { safety, aside, contents, took: began.elapsed() })
    }

    /// Backs the present state up; `None` when there is none, or none that could be read.
    fn back_up_first(&self, progress: ProgressCallback<'_>) -> Result<Option<PathBuf>, RestoreError> {
        if !matches!(self.live, RestoreTarget::Ours { .. }) {
            return Ok(None);
        }
        let target = Target::Safety(self.backups.clone());
        match snapshot(&self.database, &target, &self.identity, progress) {
            Ok(made) => Ok(Some(made.path)),
            Err(e @ (SnapshotError::Unsound(_) | SnapshotError::Copy(Error::Corrupt(_)))) => {
                self.replacing(format!("the present state cannot be backed up ({e})"))?;
                Ok(None)
            }
            Err(e) => Err(RestoreError::Safety(e)),
        }
    }

    /// A copy of the backup beside the database, brought to the newest schema, and with the page
    /// size of the database when it `is_to_be_written` into that. The copy is verified as it is
    /// going to be used.
    fn prepare(
        &self,
        is_to_be_written: bool,
        progress: ProgressCallback<'_>,
    ) -> Result<(TempFile, Contents), RestoreError> {
        let version = self.file.schema_version.unwrap_or(0);
        let fault = |e: rusqlite::Error| RestoreError::Prepare(e.into());
        let wanted = if is_to_be_written {
            Some(page_size(&schema::connect(&self.database, schema::Role::Reader).map_err(fault)?))
        } else {
            None
        };
        let mut temp = self.temp_file_of(&self.source, progress)?;
        if let Some(wanted) = wanted.transpose().map_err(fault)?
            && wanted != page_size(&self.source).map_err(fault)?
        {
            // A file that is opened as one that never changes keeps its pages: copied once more.
            let first = Connection::open(temp.path()).map_err(fault)?;
            first.pragma_update(None, "page_size", wanted).map_err(fault)?;
            temp = self.temp_file_of(&first, progress)?;
        }
        let mut copy = Connection::open(temp.path()).map_err(fault)?;
        copy.execute_batch(ONLY_OF_BACKUPS).map_err(fault)?;
        schema::migrate(&mut copy, usize::try_from(version).unwrap_or(0), schema::migrations())
            .map_err(fault)?;
        schema::drop_statistics(&copy).map_err(fault)?;
        if !self.file.differing_rollups.is_empty() {
            let counted = copy.transaction().map_err(fault)?;
            rollups::recount(&counted).and_then(|()| counted.commit()).map_err(fault)?;
        }
        copy.close().map_err(|(_, e)| fault(e))?;
        temp.file().sync_all()?;
        progress(Stage::Checking);
        let found = temp.run(|| verify_file(temp.path()))?;
        let contents = self.verified(found)?;
        Ok((temp, contents))
    }

    fn temp_file_of(
        &self,
        source: &Connection,
        progress: ProgressCallback<'_>,
    ) -> Result<TempFile, RestoreError> {
        let temp = TempFile::create(folder_of(&self.database), &self.identity)?;
        fill(source, &temp, progress).map_err(RestoreError::Prepare)?;
        Ok(temp)
    }

    /// What the prepared copy holds, if it is sound and has the rows of the file that was examined.
    fn verified(&self, prepared: VerificationReport) -> Result<Contents, RestoreError> {
        let path = self.file.path.clone();
        let is_same_version = prepared.schema_version == self.file.schema_version;
        let is_there = |digest| prepared.digests.iter().any(|other| other.is_of_same_rows(digest));
        let has_same_rows = self.file.digests.iter().all(is_there);
        match prepared.contents {
            Some(contents) if prepared.reasons.is_empty() => {
                let is_same_file =
                    Some(contents) == self.file.contents && (!is_same_version || has_same_rows);
                if is_same_file { Ok(contents) } else { Err(RestoreError::Changed(path)) }
            }
            _ => Err(RestoreError::Unfit { path, reasons: prepared.reasons }),
        }
    }

    /// Writes the prepared copy into the live file as one transaction.
    fn write_into(
        &self,
        prepared: &TempFile,
        state: Option<&State>,
        safety: &mut PathBuf,
        progress: ProgressCallback<'_>,
    ) -> Result<(), RestoreError> {
        let source = Connection::open(prepared.path()).map_err(fault)?;
        // Only the database itself must last.
        source.pragma_update(None, "synchronous", "OFF").map_err(fault)?;
        let mut live = schema::connect(&self.database, schema::Role::Writer).map_err(fault)?;
        schema::set_long_busy_timeout(&live).map_err(fault)?;
        // A file that was put in place, by a restore or by hand, has no log before a server opens it.
        live.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(fault)?;
        live.pragma_update(None, "wal_autocheckpoint", 0).map_err(fault)?;
        let still_stands = || state.is_some_and(State::still_stands);
        // Something was written since the present state was backed up, and more will be. The pages are
        // copied now, so that nobody has to wait for it while the database is held.
        let mut pages = if still_stands() { None } else { Some(self.page_copy()?) };
        let mut last = None;
        self.copy_pages(&source, &mut live, progress, || {
            let now = State::of(&self.database).map_err(fault)?;
            if !matches!(self.live, RestoreTarget::Ours { version, .. } if version == now.schema) {
                return Err(RestoreError::Moved);
            }
            if !still_stands() {
                let pages = pages.take().map_or_else(|| self.page_copy(), Ok)?;
                let target = Target::Safety(self.backups.clone());
                last = Some(pages.finish(target.names()).map_err(RestoreError::Safety)?);
                failpoint("restore.saved.again");
            }
            let last_ids = expected_schema::last_ids(&now.connection, now.schema).map_err(fault)?;
            let id = id_in_use(&now.connection).map_err(fault)?;
            Ok(Kept { last_ids, tables: litestream_tables(&now.connection).map_err(fault)?, id })
        })?;
        failpoint("restore.written");
        carry_over(&live, self.is_served());
        if let Some(last) = last {
            self.finish_safety(safety, last)?;
        }
        Ok(())
    }

    fn page_copy(&self) -> Result<PageCopy, RestoreError> {
        PageCopy::of(&self.database, &self.backups, &self.identity).map_err(RestoreError::Safety)
    }

    /// Makes a verified backup of the page copy that holds the last state before the restore, and
    /// removes both that copy and the backup from before it. They stay as long as the new one is not
    /// known to be good.
    fn finish_safety(&self, safety: &mut PathBuf, last: PathBuf) -> Result<(), RestoreError> {
        let target = Target::Safety(self.backups.clone());
        let first = safety.clone();
        match copy(&last, &target, &self.identity, &no_progress) {
            Ok(made) => {
                *safety = made.path;
                self.remove(&last)?;
                self.remove(&first)?;
            }
            // No room for another, perhaps: the page copy does as well, when it is sound.
            Err(e) => {
                *safety = last;
                let found = self.identity.as_caller(|| verify_file(safety))?;
                if found.is_sound() {
                    self.remove(&first)?;
                } else {
                    tracing::warn!(
                        "{} did not pass its check ({e}): {} holds the state of shortly before",
                        safety.display(),
                        first.display()
                    );
                }
            }
        }
        failpoint("restore.saved.anew");
        Ok(())
    }

    /// Removes a backup that another contains; one that cannot be removed does no harm.
    fn remove(&self, backup: &Path) -> Result<(), RestoreError> {
        if fs::remove_file(backup).is_err() {
            drop(self.identity.as_caller(|| fs::remove_file(backup))?);
        }
        Ok(())
    }

    /// Copies every page; what must be `kept` of the database is asked for once nobody else can
    /// write.
    fn copy_pages(
        &self,
        source: &Connection,
        live: &mut Connection,
        progress: ProgressCallback<'_>,
        kept: impl FnOnce() -> Result<Kept, RestoreError>,
    ) -> Result<(), RestoreError> {
        const PAGE: u64 = 4096;
        let backup = Backup::new(source, live).map_err(fault)?;
        let mut kept = Some(kept);
        loop {
            // The first page alone: from then on nobody else writes, and what is kept stands.
            let more = backup.step(if kept.is_some() { 1 } else { PAGES }).map_err(fault)?;
            let copied = backup.progress();
            let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * PAGE;
            let total = bytes(copied.pagecount);
            progress(Stage::Copying { done: total - bytes(copied.remaining), total });
            match more {
                StepResult::Done => return Ok(()),
                StepResult::More => match kept.take() {
                    Some(kept) => {
                        // What the source's own connection changes, the backup takes along.
                        kept()?.put_into(source).map_err(fault)?;
                        failpoint("restore.numbered");
                    }
                    None => failpoint("restore.half"),
                },
                // The busy handler has tried for a minute.
                _ => return Err(RestoreError::Busy),
            }
        }
    }

    /// Is there room for the copy of the present state, for the log, for a prepared copy?
    fn check_room(&self) -> Result<(), RestoreError> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        let live = size(&self.database) + size(&with_suffix(&self.database, "-wal"));
        // What is written meanwhile is backed up once more.
        let live = if self.is_served() { 2 * live } else { live };
        // The prepared copy, and what is written into the log.
        let copies = if matches!(self.live, RestoreTarget::Ours { .. }) { 2 } else { 1 };
        let here = self.file.size_bytes * copies;
        let folder = folder_of(&self.database).to_owned();
        // The folder of backups may not be there yet.
        let backups = self.backups.ancestors().find(|path| path.exists()).unwrap_or(&folder).to_owned();
        let device = |path: &Path| fs::metadata(path).map_or(0, |m| m.dev());
        if device(&backups) == device(&folder) {
            return room(&folder, here + live);
        }
        room(&folder, here)?;
        room(&backups, live)
    }
}

fn room(folder: &Path, needed: u64) -> Result<(), RestoreError> {
    let Ok(disk) = statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail * disk.f_frsize;
    if free >= needed {
        return Ok(());
    }
    Err(RestoreError::NoRoom { folder: folder.to_owned(), needed, free })
}

fn fault(error: rusqlite::Error) -> RestoreError {
    match Error::from(error) {
        Error::Busy => RestoreError::Busy,
        other => RestoreError::Write(other),
    }
}

/// Carries the log over to the file, so that no write of the server's has to.
fn carry_over(live: &Connection, is_served: bool) {
    let began = Instant::now();
    let mode = if is_served { "passive" } else { "truncate" };
    let (mut most, mut moved_at) = (0, began);
    // Each try gives way at once: a checkpoint that waits for a reader holds up who writes.
    if live.busy_timeout(Duration::ZERO).is_err() {
        return;
    }
    while began.elapsed() < CHECKPOINT && moved_at.elapsed() < STANDSTILL {
        let counts = live.pragma_update_and_check(None, "wal_checkpoint", mode, |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match counts {
            Ok((log, carried)) if carried < log => {
                if carried > most {
                    (most, moved_at) = (carried, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}
