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
use std::time::{Duration, Instant, SystemTime};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, params};
use rustix::fs::statvfs;

use super::draft::{Draft, rename_to_free, sync_folder};
use super::error::{Error, OpenError};
use super::lock::{Lock, Maintenance, beside};
use super::owner::Identity;
use super::retention::second;
use super::schema::{self, Found};
use super::snapshot::{SnapshotError, Stage, Target, Watcher, fill, snapshot};
use super::steps::step;
use super::verify::{Contents, Examination, contents, examine, open_still};
use super::{folder_of, make_folder};
use crate::model::time::Timestamp;

/// Pages copied between two looks at the progress: 16 MiB.
const PAGES: i32 = 4096;
/// Attempts at the write lock, a millisecond apart: a minute.
const ATTEMPTS: i32 = 60_000;
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
        super::draft::sweep(folder_of(database));
        let live = look_at(database);
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
        let prepared = self.prepare(!writable, watcher)?;
        step("restore.prepared");
        let aside = match (writable, prepared) {
            (false, Some(draft)) => self.put_in_place(draft)?,
            (_, prepared) => {
                let path = prepared.as_ref().map_or(self.file.path.as_path(), Draft::path);
                // A draft is the owner's own; the backup is the caller's.
                let opened = match prepared {
                    Some(_) => open_still(path),
                    None => self.identity.as_caller(|| open_still(path))?,
                };
                self.write_into(&opened.map_err(|e| RestoreError::Prepare(e.into()))?, watcher)?;
                Vec::new()
            }
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

    /// A copy of the backup beside the database, where the backup itself will not do: it has
    /// an older schema, other pages, or `is_needed` to take the database's place.
    fn prepare(&self, is_needed: bool, watcher: Watcher<'_>) -> Result<Option<Draft>, RestoreError> {
        let version = usize::try_from(self.file.schema_version.unwrap_or(0)).unwrap_or(0);
        let fault = |e: rusqlite::Error| RestoreError::Prepare(e.into());
        let source = self.identity.as_caller(|| open_still(&self.file.path))?.map_err(fault)?;
        let pages = |c: &Connection| c.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0));
        let page_size = if is_needed {
            None
        } else {
            let live = schema::connect(&self.database, schema::Role::Reader).map_err(fault)?;
            Some(pages(&live).map_err(fault)?)
        };
        let same_pages = page_size.is_none() || page_size == Some(pages(&source).map_err(fault)?);
        if !is_needed && same_pages && version == schema::migrations().len() {
            return Ok(None);
        }
        let draft = Draft::create(folder_of(&self.database), &self.identity)?;
        if let Some(size) = page_size {
            source.pragma_update(None, "page_size", size).map_err(fault)?;
        }
        fill(&source, &draft, watcher).map_err(RestoreError::Prepare)?;
        let mut copy = Connection::open(draft.path()).map_err(fault)?;
        schema::migrate(&mut copy, version, schema::migrations()).map_err(fault)?;
        copy.close().map_err(|(_, e)| fault(e))?;
        draft.file().sync_all()?;
        Ok(Some(draft))
    }

    /// Writes the backup into the live file as one transaction.
    fn write_into(&self, source: &Connection, watcher: Watcher<'_>) -> Result<(), RestoreError> {
        let fault = |e: rusqlite::Error| match Error::from(e) {
            Error::Busy => RestoreError::Busy,
            other => RestoreError::Write(other),
        };
        let mut live = schema::connect(&self.database, schema::Role::Writer).map_err(fault)?;
        live.busy_handler(Some(|attempt| {
            std::thread::sleep(Duration::from_millis(1));
            attempt < ATTEMPTS
        }))
        .map_err(fault)?;
        live.pragma_update(None, "wal_autocheckpoint", 0).map_err(fault)?;
        let given = sequences(&live).map_err(fault)?;
        copy_pages(source, &mut live, watcher).map_err(fault)?;
        step("restore.written");
        // An id is never given twice, not even to what came after the backup.
        for (table, last) in given {
            let raise = "update sqlite_sequence set seq = max(seq, ?) where name = ?";
            live.execute(raise, params![last, table]).map_err(fault)?;
        }
        step("restore.numbered");
        carry_over(&live, self.is_served());
        Ok(())
    }

    /// Gives the prepared copy the database's name, and moves aside what has it now.
    fn put_in_place(&self, prepared: Draft) -> Result<Vec<PathBuf>, RestoreError> {
        let mut aside = Vec::new();
        let now = second(Timestamp::from(SystemTime::now()));
        let stem = (1_u32..)
            .map(|n| match n {
                1 => beside(&self.database, &format!(".broken-{now}")),
                n => beside(&self.database, &format!(".broken-{now}-{n}")),
            })
            .find(|stem| ["-wal", "-shm", ""].iter().all(|end| !beside(stem, end).exists()));
        // The log goes first: it must never lie beside a file that it does not belong to.
        for end in ["-wal", "-shm", "-journal", ""] {
            let (old, Some(new)) = (beside(&self.database, end), stem.as_ref().map(|s| beside(s, end)))
            else {
                continue;
            };
            match rename_to_free(&old, &new) {
                Ok(true) => aside.push(new),
                Ok(false) => return Err(io::Error::from(io::ErrorKind::AlreadyExists).into()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
            step("restore.aside");
        }
        sync_folder(&self.database)?;
        prepared.publish(std::iter::once(self.database.clone()))?;
        Ok(aside)
    }

    /// Is there room for the copy of the present state, for the log, for a prepared copy?
    fn check_room(&self) -> Result<(), RestoreError> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        let live = size(&self.database) + size(&beside(&self.database, "-wal"));
        let is_current = self.file.schema_version == Some(schema::newest());
        let copies = if is_current && matches!(self.live, Live::Ours { .. }) { 1 } else { 2 };
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
    let looked = schema::connect(database, schema::Role::Reader)
        .map_err(|e| schema::open_error(database, &e))
        .and_then(|connection| match schema::recognise(&connection, database)? {
            Found::Empty => Ok(Live::Nothing),
            Found::Ours(version) => {
                let contents = contents(&connection).map_err(|e| schema::open_error(database, &e))?;
                Ok(Live::Ours { version, contents })
            }
        });
    looked.unwrap_or_else(|e| Live::Broken(e.to_string()))
}

/// The last id given in each table.
fn sequences(connection: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    connection
        .prepare("select name, seq from sqlite_sequence")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn copy_pages(source: &Connection, live: &mut Connection, watcher: Watcher<'_>) -> rusqlite::Result<()> {
    const PAGE: u64 = 4096;
    let backup = Backup::new(source, live)?;
    loop {
        let more = backup.step(PAGES)?;
        let progress = backup.progress();
        let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * PAGE;
        let total = bytes(progress.pagecount);
        watcher(Stage::Copying { done: total - bytes(progress.remaining), total });
        match more {
            StepResult::Done => return Ok(()),
            StepResult::More => step("restore.half"),
            // The busy handler has tried for a minute.
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
        }
    }
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
