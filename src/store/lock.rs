//! One server per database: a lock file beside it, held for as long as the server lives.
//!
//! The file also remembers whether the last server stopped cleanly: it is empty then.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::OpenError;

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

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another server holds it, [`OpenError::Folder`] when the file
    /// cannot be made.
    pub fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, ".lock");
        let folder = |e: &io::Error| match e.kind() {
            io::ErrorKind::StorageFull => OpenError::Full { path: database.to_owned() },
            _ => OpenError::Folder {
                path: database.parent().map_or_else(PathBuf::new, Path::to_owned),
                why: format!("{} cannot be written ({e})", path.display()),
            },
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| folder(&e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: database.to_owned(), lock: path });
            }
            Err(TryLockError::Error(e)) => return Err(folder(&e)),
        }
        let mut holder = String::new();
        let was_clean = file.read_to_string(&mut holder).is_ok() && holder.is_empty();
        Ok(Self { file, was_clean })
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
