//! Private temporary copies of data that must be in a file of its own to be read, such as a database in a zip.

use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::fs::disk_space::{Disk, RESERVED_BYTES};
use crate::fs::paths::with_suffix;
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;
use crate::transfer::formats::sink::ReadError;

/// Bytes that are copied between two checks of the free space.
const STEP_BYTES: u64 = 4 << 20;

/// Folders for temporary copies, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct TempFolders(Vec<PathBuf>);

impl TempFolders {
    /// Returns the folder of the database, and the one of the system for callers who may not write there. `/tmp` is often in
    /// memory.
    pub fn beside(database: &Path) -> Self {
        let existing = database.ancestors().skip(1).map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        });
        let existing = existing.into_iter().find(|folder| folder.is_dir()).map(Path::to_owned);
        Self(existing.into_iter().chain([std::env::temp_dir()]).collect())
    }

    /// Copies `from` to a new temporary file, which only the caller can read.
    ///
    /// # Errors
    /// The data cannot be read or copied, or is larger than the free space.
    pub fn copy(&self, from: &mut dyn Read) -> Result<TempFile, ReadError> {
        let mut failure = None;
        for folder in &self.0 {
            match TempFile::create_in_existing(folder, Identity::CALLER) {
                Ok(temp) => {
                    copy_into(&mut temp.file(), from, folder)?;
                    return Ok(temp);
                }
                Err(e) => failure = Some((folder, e)),
            }
        }
        Err(match failure {
            Some((folder, e)) => unwritable(folder, &e),
            None => ReadError::unusable("there is no folder for temporary files"),
        })
    }
}

/// Copies `from` beside a temporary file under its name with this suffix. Both are removed together.
pub fn copy_companion(temp: &TempFile, suffix: &str, from: &mut dyn Read) -> Result<(), ReadError> {
    let path = with_suffix(temp.path(), suffix);
    let folder = path.parent().unwrap_or(Path::new("."));
    let created = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = created.map_err(|e| unwritable(folder, &e))?;
    copy_into(&mut file, from, folder)
}

fn copy_into(to: &mut dyn Write, from: &mut dyn Read, folder: &Path) -> Result<(), ReadError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut unchecked = STEP_BYTES;
    loop {
        if unchecked >= STEP_BYTES {
            unchecked = 0;
            if Disk::of(folder)?.free_bytes < RESERVED_BYTES + STEP_BYTES {
                return Err(no_room(folder));
            }
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        to.write_all(&buffer[..count]).map_err(|e| unwritable(folder, &e))?;
        unchecked += count as u64;
    }
}

fn no_room(folder: &Path) -> ReadError {
    ReadError::Temporary(format!(
        "a temporary copy of the data does not fit into {}, where {} MiB must stay free",
        folder.display(),
        RESERVED_BYTES >> 20
    ))
}

fn unwritable(folder: &Path, error: &io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            no_room(folder)
        }
        _ => ReadError::Unusable(format!("cannot write a temporary copy to {}: {error}", folder.display())),
    }
}
