//! One server per database: a lock file beside it, held for as long as the server lives.
//!
//! The file also remembers whether the last server stopped cleanly: it is empty then.
//!
//! A second lock lets one command at a time change what is stored wholesale: a restore in
//! the middle of an import would leave half of each.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::folder_of;

/// The lock on one database; released by the kernel when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    was_clean: bool,
}

/// `name` with `suffix` appended: `coffee.db` → `coffee.db.lock`.
pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the lock file at `path` and locks it; `None` when another holds it.
fn lock_file(database: &Path, path: &Path) -> Result<Option<File>, OpenError> {
    let folder = |e: &io::Error| match e.kind() {
        io::ErrorKind::StorageFull => OpenError::Full { path: database.to_owned() },
        _ => OpenError::Folder {
            path: folder_of(database).to_owned(),
            why: format!("{} cannot be written ({e})", path.display()),
        },
    };
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
    let file = options.open(path).map_err(|e| folder(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(folder(&e)),
    }
}

/// The right to change what is stored wholesale: a restore, an import, a clearing out.
#[derive(Debug)]
pub struct Maintenance(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Maintenance {
    /// Takes it.
    ///
    /// # Errors
    /// [`OpenError::Maintained`] when another command has it, [`OpenError::Folder`] when the
    /// file cannot be made.
    pub fn take(database: &Path) -> Result<Self, OpenError> {
        let lock = lock_file(database, &beside(database, ".maintenance.lock"))?;
        lock.map(Self).ok_or_else(|| OpenError::Maintained { path: database.to_owned() })
    }
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another server holds it, [`OpenError::Folder`] when the file
    /// cannot be made.
    pub fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, ".lock");
        let Some(mut file) = lock_file(database, &path)? else {
            return Err(OpenError::InUse { path: database.to_owned(), lock: path });
        };
        let mut holder = String::new();
        let was_clean = file.read_to_string(&mut holder).is_ok() && holder.is_empty();
        Ok(Self { file, was_clean })
    }

    /// Takes the lock; `None` when a server runs.
    ///
    /// # Errors
    /// [`OpenError::Folder`] when the file cannot be made.
    pub fn take_unless_served(database: &Path) -> Result<Option<Self>, OpenError> {
        match Self::take(database) {
            Ok(lock) => Ok(Some(lock)),
            Err(OpenError::InUse { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Did the last holder stop cleanly (or was there none)?
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Notes that a server runs; whoever finds this after a crash checks the file.
    pub fn mark_running(&mut self) -> io::Result<()> {
        self.write(&format!("{}\n", std::process::id()))
    }

    /// Notes a clean stop.
    pub fn mark_clean(&mut self) -> io::Result<()> {
        self.write("")
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()
    }
}
