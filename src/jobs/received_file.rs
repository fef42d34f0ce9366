//! File that a client sends for a job: temporary, and bounded by the free space of the disk.

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::fs::disk_space::{Disk, RESERVED_BYTES};
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;

/// Number of bytes after which data is synced: one sync of hundreds of megabytes would delay those of every write.
const SYNC_INTERVAL_BYTES: u64 = 8 << 20;

/// Error of receiving a file. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error(
        "there is not enough space on the disk: {free} bytes are free, and {RESERVED_BYTES} stay reserved"
    )]
    NoRoom { free: u64 },
    #[error("the file cannot be written: {0}")]
    Unwritable(#[from] io::Error),
}

/// File that is being received, or was. Removed on drop, unless it was published.
#[derive(Debug)]
pub struct ReceivedFile {
    temp: TempFile,
    folder: PathBuf,
    size_bytes: u64,
    unsynced_bytes: u64,
}

impl ReceivedFile {
    /// Creates an empty file, if `expected` bytes have room in the folder. Creates the folder when it is missing.
    pub fn create(folder: &Path, expected: u64) -> Result<Self, ReceiveError> {
        Self::of(TempFile::create(folder, &Identity::CALLER)?, folder, expected)
    }

    /// Creates an empty file in a folder that exists, if `expected` bytes have room in it.
    pub fn create_in_existing(folder: &Path, expected: u64) -> Result<Self, ReceiveError> {
        Self::of(TempFile::create_in_existing(folder, Identity::CALLER)?, folder, expected)
    }

    fn of(temp: TempFile, folder: &Path, expected: u64) -> Result<Self, ReceiveError> {
        let file = Self { temp, folder: folder.to_owned(), size_bytes: 0, unsynced_bytes: 0 };
        file.ensure_room(expected)?;
        Ok(file)
    }

    fn ensure_room(&self, needed: u64) -> Result<(), ReceiveError> {
        let free = Disk::of(&self.folder)?.free_bytes;
        if free < needed.saturating_add(RESERVED_BYTES) { Err(ReceiveError::NoRoom { free }) } else { Ok(()) }
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
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

    /// Makes the file durable under the first unused name of `names`, in its own folder.
    pub fn publish(self, names: impl Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
        self.temp.publish(names)
    }
}
