//! Brings a backup back: into a file that a server goes on serving, into one that rests,
//! into none, or in place of a broken one.
//!
//! The backup is written into the live file as one transaction, so whoever reads sees the
//! old state or the new one, and a restore that dies leaves one of them. Only a live file
//! that SQLite cannot write to is replaced, and then moved aside, never deleted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};
use rustix::fs::statvfs;

use super::aside::{real, replace, undo_unfinished};
use super::draft::{Draft, sweep};
use super::error::{Error, OpenError};
use super::lock::{Lock, Maintenance, beside};
use super::owner::Identity;
use super::schema::{self, Found};
use super::snapshot::{SnapshotError, Stage, Target, Watcher, fill, snapshot};
use super::steps::step;
use super::verify::{Contents, Examination, contents, examine, open_still};
use super::{folder_of, make_folder};

/// Pages copied between two looks at the progress: 16 MiB; few where tests look in between.
const PAGES: i32 = if cfg!(debug_assertions) { 16 } else { 4096 };
/// How long the log is carried over to the file, at most, before it is left to the server.
const CHECKPOINT: Duration = Duration::from_secs(20);

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
    #[error("the backup could not be written into the database: {0}")]
    Write(Error),
    #[error("the backup could not be brought to this schema: {0}")]
    Prepare(Error),
    #[error("the files could not be put in place: {0}")]
    Io(#[from] io::Error),
}

impl RestoreError {
    /// May trying again later help?
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::Busy => true,
            Self::Write(e) | Self::Prepare(e) => e.is_passing(),
            Self::Open(e) => e.is_passing(),
            Self::Safety(e) => e.is_passing(),
            _ => false,
        }
    }
}

/// What lies where the database belongs.
#[derive(Debug)]
enum Live {
    /// No file, or one without anything in it.
    Nothing,
    /// A database of ours.
    Ours { version: i64, contents: Contents },
    /// Something that cannot be written into, and why.
    Broken(String),
}

/// A restore that has been looked into and not begun.
#[derive(Debug)]
pub struct Restoration {
    file: Examination,
    database: PathBuf,
    backups: PathBuf,
    identity: Identity,
    live: Live,
    replace: bool,
    /// Keeps servers away while nobody serves; `None`: one runs and goes on.
    lock: Option<Lock>,
    _maintenance: Maintenance,
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

impl Restoration {
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
        make_folder(database)?;
        let maintenance = Maintenance::take(database)?;
        if let (Ok(one), Ok(other)) = (fs::canonicalize(file), fs::canonicalize(database))
            && one == other
        {
            return Err(RestoreError::Itself(file.to_owned()));
        }
        let found = identity.as_caller(|| examine(file))?;
        if !found.is_sound() {
            return Err(RestoreError::Unfit { path: found.path, reasons: found.reasons });
        }
        let lock = Lock::take_unless_served(database)?;
        if lock.is_some() {
            undo_unfinished(database)?;
        }
        sweep(folder_of(&real(database)));
        let live = look_at(database);
        if matches!(live, Live::Nothing) && lock.is_none() {
            return Err(RestoreError::Served(database.to_owned()));
        }
        if let (Live::Ours { version, .. }, None) = (&live, &lock)
            && *version != schema::newest()
        {
            let (path, found, known) = (database.to_owned(), *version, schema::newest());
            return Err(RestoreError::OtherVersion { path, found, known });
        }
        let this = Self {
            file: found,
            database: database.to_owned(),
            backups: backups.to_owned(),
            identity,
            live,
            replace,
            lock,
            _maintenance: maintenance,
        };
        if let Live::Broken(why) = &this.live {
            this.replacing(why.clone())?;
        }
        this.check_room()?;
        Ok(this)
    }

    /// What the database holds now; `None` when that cannot be told.
    pub fn before(&self) -> Option<Contents> {
        match &self.live {
            Live::Nothing => Some(Contents::default()),
            Live::Ours { contents, .. } => Some(*contents),
            Live::Broken(_) => None,
        }
    }

    /// What it will hold.
    pub fn after(&self) -> Contents {
        self.file.contents.unwrap_or_default()
    }

    /// Does a server run meanwhile?
    pub fn is_served(&self) -> bool {
        self.lock.is_none()
    }

    /// Why the present file is replaced rather than written into, when it is.
    pub fn broken(&self) -> Option<&str> {
        match &self.live {
            Live::Broken(why) => Some(why),
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
    pub fn carry_out(self, watcher: Watcher<'_>) -> Result<Restored, RestoreError> {
        let began = Instant::now();
        step("restore.begun");
        let safety = self.back_up_first(watcher)?;
        step("restore.saved");
        let writable = matches!(self.live, Live::Ours { .. }) && safety.is_some();
        let prepared = self.prepare(writable, watcher)?;
        step("restore.prepared");
        let aside = if writable {
            self.write_into(&prepared, watcher)?;
            Vec::new()
        } else {
            replace(&self.database, prepared, matches!(self.live, Live::Broken(_) | Live::Ours { .. }))?
        };
        step("restore.done");
        Ok(Restored { safety, aside, contents: self.after(), took: began.elapsed() })
    }

    /// Backs the present state up; `None` when there is none, or none that could be read.
    fn back_up_first(&self, watcher: Watcher<'_>) -> Result<Option<PathBuf>, RestoreError> {
        if !matches!(self.live, Live::Ours { .. }) {
            return Ok(None);
        }
        let target = Target::Folder(self.backups.clone());
        match snapshot(&self.database, &target, &self.identity, watcher) {
            Ok(made) => Ok(Some(made.path)),
            Err(e @ (SnapshotError::Unsound(_) | SnapshotError::Copy(Error::Corrupt(_)))) => {
                self.replacing(format!("the present state cannot be backed up ({e})"))?;
                Ok(None)
            }
            Err(e) => Err(RestoreError::Safety(e)),
        }
    }

    /// A copy of the backup beside the database, brought to the newest schema, and to the
    /// pages of the database when it `is_to_be_written` into that.
    fn prepare(&self, is_to_be_written: bool, watcher: Watcher<'_>) -> Result<Draft, RestoreError> {
        let version = usize::try_from(self.file.schema_version.unwrap_or(0)).unwrap_or(0);
        let fault = |e: rusqlite::Error| RestoreError::Prepare(e.into());
        let source = self.identity.as_caller(|| open_still(&self.file.path))?.map_err(fault)?;
        let wanted = if is_to_be_written {
            Some(page_size(&schema::connect(&self.database, schema::Role::Reader).map_err(fault)?))
        } else {
            None
        };
        let mut draft = self.draft_of(&source, watcher)?;
        if let Some(wanted) = wanted.transpose().map_err(fault)?
            && wanted != page_size(&source).map_err(fault)?
        {
            // A file that is opened as one that never changes keeps its pages: copied once more.
            let first = Connection::open(draft.path()).map_err(fault)?;
            first.pragma_update(None, "page_size", wanted).map_err(fault)?;
            draft = self.draft_of(&first, watcher)?;
        }
        let mut copy = Connection::open(draft.path()).map_err(fault)?;
        schema::migrate(&mut copy, version, schema::migrations()).map_err(fault)?;
        copy.close().map_err(|(_, e)| fault(e))?;
        draft.file().sync_all()?;
        Ok(draft)
    }

    fn draft_of(&self, source: &Connection, watcher: Watcher<'_>) -> Result<Draft, RestoreError> {
        let draft = Draft::create(folder_of(&real(&self.database)), &self.identity)?;
        fill(source, &draft, watcher).map_err(RestoreError::Prepare)?;
        Ok(draft)
    }

    /// Writes the prepared copy into the live file as one transaction.
    fn write_into(&self, prepared: &Draft, watcher: Watcher<'_>) -> Result<(), RestoreError> {
        let fault = |e: rusqlite::Error| match Error::from(e) {
            Error::Busy => RestoreError::Busy,
            other => RestoreError::Write(other),
        };
        let source = Connection::open(prepared.path()).map_err(fault)?;
        // Only the database itself must last.
        source.pragma_update(None, "synchronous", "OFF").map_err(fault)?;
        let mut live = schema::connect(&self.database, schema::Role::Writer).map_err(fault)?;
        schema::be_patient(&live).map_err(fault)?;
        // A file that was put in place, by a restore or by hand, has no log before a server opens it.
        live.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(fault)?;
        live.pragma_update(None, "wal_autocheckpoint", 0).map_err(fault)?;
        self.copy_pages(&source, &mut live, watcher).map_err(fault)?;
        step("restore.written");
        carry_over(&live, self.is_served());
        Ok(())
    }

    /// Copies every page, and raises the last ids of the copy to those of the database: an id
    /// is never given twice, not even to what came after the backup.
    fn copy_pages(
        &self,
        source: &Connection,
        live: &mut Connection,
        watcher: Watcher<'_>,
    ) -> rusqlite::Result<()> {
        const PAGE: u64 = 4096;
        let backup = Backup::new(source, live)?;
        let mut given = None;
        loop {
            // The first page alone: from then on nobody else writes, and the last ids stand.
            let more = backup.step(if given.is_none() { 1 } else { PAGES })?;
            let progress = backup.progress();
            let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * PAGE;
            let total = bytes(progress.pagecount);
            watcher(Stage::Copying { done: total - bytes(progress.remaining), total });
            match more {
                StepResult::Done => return Ok(()),
                StepResult::More if given.is_none() => {
                    let last = sequences(&schema::connect(&self.database, schema::Role::Reader)?)?;
                    // What the source's own connection changes, the backup takes along.
                    for (table, id) in given.insert(last) {
                        raise(source, table, *id)?;
                    }
                    step("restore.numbered");
                }
                StepResult::More => step("restore.half"),
                // The busy handler has tried for a minute.
                _ => {
                    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                    return Err(rusqlite::Error::SqliteFailure(busy, None));
                }
            }
        }
    }

    /// Is there room for the copy of the present state, for the log, for a prepared copy?
    fn check_room(&self) -> Result<(), RestoreError> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        let live = size(&self.database) + size(&beside(&self.database, "-wal"));
        // The prepared copy, and what is written into the log.
        let copies = if matches!(self.live, Live::Ours { .. }) { 2 } else { 1 };
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

fn look_at(database: &Path) -> Live {
    if fs::metadata(database).map_or(true, |m| m.len() == 0) {
        return Live::Nothing;
    }
    let looked = connect_without_trace(database).map_err(|e| schema::open_error(database, &e)).and_then(
        |connection| match schema::recognise(&connection, database)? {
            Found::Empty => Ok(Live::Nothing),
            Found::Ours(version) => {
                let contents = contents(&connection).map_err(|e| schema::open_error(database, &e))?;
                Ok(Live::Ours { version, contents })
            }
        },
    );
    looked.unwrap_or_else(|e| Live::Broken(e.to_string()))
}

/// What may be broken is to be kept bit for bit: no log is carried over at the end.
fn connect_without_trace(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::configure(&mut connection, schema::Role::Reader)?;
    Ok(connection)
}

/// Asks for a page first: before one was read, SQLite names the size of a new file.
fn page_size(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// The last id given in each table.
fn sequences(connection: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    connection
        .prepare("select name, seq from sqlite_sequence")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Raises the last id of a table; one that never had a row has none yet.
fn raise(connection: &Connection, table: &str, id: i64) -> rusqlite::Result<()> {
    let raised = connection
        .execute("update sqlite_sequence set seq = max(seq, ?) where name = ?", params![id, table])?;
    if raised == 0 {
        connection.execute("insert into sqlite_sequence (name, seq) values (?, ?)", params![table, id])?;
    }
    Ok(())
}

/// Carries the log over to the file, so that no write of the server's has to.
fn carry_over(live: &Connection, is_served: bool) {
    let began = Instant::now();
    let mode = if is_served { "passive" } else { "truncate" };
    while began.elapsed() < CHECKPOINT {
        let counts = live.pragma_update_and_check(None, "wal_checkpoint", mode, |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match counts {
            Ok((log, carried)) if carried < log => std::thread::sleep(Duration::from_millis(20)),
            _ => return,
        }
    }
}
