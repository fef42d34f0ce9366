//! Replacement of a broken or missing database file. A broken one is kept under another name.
//!
//! The database's name leads to the broken or to the new file at any time, and a log is never beside a file that it
//! does not belong to: first the broken file gets a second name, then its log moves there, then the new file takes
//! over the first name. A broken file with both names means that a replacement was interrupted; the next command or
//! server that opens the database undoes it. Of a missing database only the log moves, which is not undone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use crate::db::error::{AtPath, OpenError};
use crate::db::lock_file::{FileStamp, LockRecord, LockState, ServerLock};
use crate::domain::time::{Timestamp, file_name_time};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::{SQLITE_COMPANIONS, file_id, folder_of, with_suffix};
use crate::fs::temp_file::{TempFile, rename_no_replace, sync_parent_folder};

/// Separates a database's name from the time when it was moved away.
const BROKEN: &str = ".broken-";

/// Prepares opening a database: undoes an interrupted replacement, and refuses the remains of a lost database.
pub fn prepare_to_open(database: &Path) -> Result<(), OpenError> {
    if is_interrupted(database) {
        // The holder of the lock is moving the log at this moment.
        let lock = ServerLock::try_acquire(database)?;
        let _lock = lock.ok_or_else(|| OpenError::Maintained { path: database.to_owned() })?;
        undo_interrupted(database)?;
    }
    ensure_not_lost(database)
}

/// Refuses to start with an empty database where one was lost: its log, which SQLite would remove, or its lock
/// file still exists. Also refuses a log of another file.
///
/// # Errors
/// [`OpenError::Lost`], [`OpenError::Gone`] or [`OpenError::StrangeLog`].
pub fn ensure_not_lost(database: &Path) -> Result<(), OpenError> {
    if size(database) > 0 {
        return ensure_log_belongs(database);
    }
    let (path, log) = (database.to_owned(), with_suffix(database, "-wal"));
    if size(&log) > 0 {
        return Err(OpenError::Lost { path, log });
    }
    if LockRecord::read(database).had_database() {
        return Err(OpenError::Gone { path });
    }
    Ok(())
}

/// Refuses a log that may not belong to the database, after one of them was replaced while a server ran: SQLite
/// would write it into the wrong file.
///
/// # Errors
/// [`OpenError::StrangeLog`].
pub fn ensure_log_belongs(database: &Path) -> Result<(), OpenError> {
    let log = with_suffix(database, "-wal");
    let LockState::Moved { database: file, log: its_log } = LockRecord::read(database).state else {
        return Ok(());
    };
    let is_now = |path: &Path, stamp| fs::metadata(path).is_ok_and(|found| FileStamp::of(&found) == stamp);
    // Without a database, a restore moves the log away.
    let is_none = size(database) == 0 || size(&log) == 0;
    if is_none || is_now(database, file) && is_now(&log, its_log) {
        return Ok(());
    }
    Err(OpenError::StrangeLog { path: database.to_owned(), log })
}

/// Makes room for an empty database where one was lost, keeping its log under another name.
///
/// # Errors
/// [`OpenError::Present`] when there is a database.
pub fn make_room_for_new(database: &Path) -> Result<(), OpenError> {
    if size(database) > 0 {
        return Err(OpenError::Present(database.to_owned()));
    }
    for path in move_away(database, false).at(database)? {
        tracing::warn!("the log of the former database was kept as {}", path.display());
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Publishes `temp` under the database's name. Keeps a current file that `is_worth_keeping` under another name,
/// with the files beside it; otherwise keeps only a log that is not empty. Returns the new names. An error undoes
/// the replacement of a file that is worth keeping; if that fails, too, it is logged and tried again at the next start.
pub fn replace(database: &Path, temp: TempFile, is_worth_keeping: bool) -> io::Result<Vec<PathBuf>> {
    let done = move_away(database, is_worth_keeping)
        .and_then(|kept_files| temp.publish_over(database).map(|()| kept_files));
    if done.is_err()
        && let Err(e) = undo_interrupted(database)
    {
        tracing::error!("the log of {} could not be moved back: {e}", database.display());
    }
    done
}

fn move_away(database: &Path, is_worth_keeping: bool) -> io::Result<Vec<PathBuf>> {
    let mut kept_files = Vec::new();
    let stem = free_name(database);
    if is_worth_keeping {
        fs::hard_link(database, &stem).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => io::Error::other(format!(
                "the file system does not support hard links ({e}): move {} and the files beside it away, \
                 then restore without --replace",
                database.display()
            )),
            _ => e,
        })?;
        kept_files.push(stem.clone());
        sync_parent_folder(database)?;
        failpoint("restore.linked");
    }
    for end in SQLITE_COMPANIONS {
        let (old, new) = (with_suffix(database, end), with_suffix(&stem, end));
        let Ok(file) = fs::symlink_metadata(&old) else { continue };
        if !is_worth_keeping && (file.len() == 0 || end == "-shm") {
            fs::remove_file(&old)?;
        } else if rename_no_replace(&old, &new)? {
            kept_files.push(new);
        } else {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        failpoint("restore.moved");
    }
    sync_parent_folder(database)?;
    Ok(kept_files)
}

/// Returns a name beside the database that neither a file nor a log has.
fn free_name(database: &Path) -> PathBuf {
    let first = format!("{BROKEN}{}", file_name_time(Timestamp::from(SystemTime::now())));
    let is_free = |stem: &PathBuf| {
        let mut ends = SQLITE_COMPANIONS.iter().chain(&[""]);
        ends.all(|end| fs::symlink_metadata(with_suffix(stem, end)).is_err())
    };
    let numbered = (2_u32..).map(|n| with_suffix(database, &format!("{first}-{n}")));
    let first = with_suffix(database, &first);
    std::iter::once(first.clone()).chain(numbered).find(is_free).unwrap_or(first)
}

/// Reports whether a replacement of this database was interrupted.
pub fn is_interrupted(database: &Path) -> bool {
    !linked_names(database).is_empty()
}

/// Undoes an interrupted replacement by moving the log back. The caller holds the lock on the database.
///
/// # Errors
/// A log is in the way; nothing is removed then.
pub fn undo_interrupted(database: &Path) -> Result<(), OpenError> {
    let undo = || -> io::Result<()> {
        for stem in linked_names(database) {
            SQLITE_COMPANIONS
                .iter()
                .try_for_each(|end| move_back(&with_suffix(&stem, end), &with_suffix(database, end)))?;
            sync_parent_folder(database)?;
            fs::remove_file(&stem)?;
            sync_parent_folder(database)?;
        }
        Ok(())
    };
    undo().at(database)
}

/// Moves a file back beside the database. An empty log in its way holds nothing.
fn move_back(moved: &Path, place: &Path) -> io::Result<()> {
    if fs::symlink_metadata(moved).is_err() {
        return Ok(());
    }
    if fs::symlink_metadata(place).is_ok_and(|m| m.len() == 0) {
        fs::remove_file(place)?;
    }
    if rename_no_replace(moved, place)? {
        return Ok(());
    }
    // SQLite rebuilds the index of a log.
    if place.as_os_str().as_encoded_bytes().ends_with(b"-shm") {
        fs::remove_file(place)?;
        return fs::remove_file(moved);
    }
    Err(io::Error::other(format!(
        "a replacement of this file was interrupted, and {} is in the place of {}: keep both, and move one away",
        place.display(),
        moved.display()
    )))
}

/// Returns the other names of the database's own file.
fn linked_names(database: &Path) -> Vec<PathBuf> {
    let (Ok(file), Some(name)) = (fs::symlink_metadata(database), database.file_name()) else {
        return Vec::new();
    };
    // The usual case: a single name.
    if !file.is_file() || file.nlink() < 2 {
        return Vec::new();
    }
    let start = format!("{}{BROKEN}", name.to_string_lossy());
    let is_same_file = |other: Metadata| file_id(&other) == file_id(&file);
    let Ok(entries) = fs::read_dir(folder_of(database)) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
        .map(|entry| database.with_file_name(entry.file_name()))
        .filter(|path| fs::symlink_metadata(path).is_ok_and(is_same_file))
        .collect()
}
