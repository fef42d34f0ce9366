//! Backup that is received from elsewhere: a temporary file in the folder of backups until it is verified.

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::backup::origin::BackupOrigin;
use crate::backup::snapshot::BackupTarget;
use crate::fs::disk_space::Disk;
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;

/// Space that an upload leaves free, bytes: entries must still be stored.
const RESERVE_BYTES: u64 = 64 << 20;
/// Number of bytes after which data is synced: one sync of hundreds of megabytes would delay those of every write.
const SYNC_INTERVAL_BYTES: u64 = 8 << 20;

/// Error of receiving a backup. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(
        "there is not enough space on the disk: {free} bytes are free, and {RESERVE_BYTES} stay reserved"
    )]
    NoRoom { free: u64 },
    #[error("the backup cannot be written: {0}")]
    Unwritable(#[from] io::Error),
}

/// Backup that is being received. Removed on drop, unless it was published.
#[derive(Debug)]
pub struct Upload {
    temp: TempFile,
    folder: PathBuf,
    size_bytes: u64,
    unsynced_bytes: u64,
}

impl Upload {
    /// Creates an empty file, if `expected` bytes have room in the folder of backups.
    pub fn create(folder: &Path, expected: u64) -> Result<Self, UploadError> {
        let temp = TempFile::create(folder, &Identity::CALLER)?;
        let upload = Self { temp, folder: folder.to_owned(), size_bytes: 0, unsynced_bytes: 0 };
        upload.ensure_room(expected)?;
        Ok(upload)
    }

    fn ensure_room(&self, needed: u64) -> Result<(), UploadError> {
        let free = Disk::of(&self.folder)?.free_bytes;
        if free < needed.saturating_add(RESERVE_BYTES) { Err(UploadError::NoRoom { free }) } else { Ok(()) }
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.ensure_room(bytes.len() as u64)?;
        self.temp.file().write_all(bytes)?;
        self.size_bytes += bytes.len() as u64;
        self.unsynced_bytes += bytes.len() as u64;
        if self.unsynced_bytes >= SYNC_INTERVAL_BYTES {
            self.temp.file().sync_data()?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the database that the received backup was made of.
    pub fn origin(&self) -> BackupOrigin {
        BackupOrigin::of_backup(self.path())
    }

    /// Makes a verified backup durable. Its name has the present time.
    pub fn publish(self) -> io::Result<PathBuf> {
        self.temp.publish(BackupTarget::Folder(self.folder).names())
    }
}
