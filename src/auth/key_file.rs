//! File of a database's named keys: JSON beside the database, readable by its owner only.
//!
//! The keys are not in the database, because a restore must not revive a revoked key and backups must not
//! contain keys. Readers see a complete state of the file; writers hold a lock.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::auth::key::{KeyDigest, KeyName, NamedKey, Scopes, make_key};
use crate::domain::time::Timestamp;
use crate::fs::freeze_marker::{freeze_marker, is_present};
use crate::fs::lock::lock_within;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// Maximum number of keys, including those that are being replaced.
pub const MAX_KEYS: usize = 100;
/// Maximum size of the file.
const MAX_FILE_BYTES: u64 = 1 << 18;
/// Version of the file format.
const VERSION: u32 = 1;
/// Maximum wait for another command's lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of reading or changing the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is damaged: {reason}; repair it, or remove it to revoke all named keys")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} cannot be written: {error}")]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("another command is changing the keys in {0}; try again")]
    Busy(PathBuf),
    #[error(
        "{0} cannot be changed, because the person is being moved to another machine: see `coffee-tracker person list`"
    )]
    Frozen(PathBuf),
    #[error("a key named {0} already exists; revoke it, rotate it, or choose another name")]
    NameTaken(KeyName),
    #[error("there is no key named {0}")]
    UnknownName(KeyName),
    #[error("there are {MAX_KEYS} keys, which is the maximum; revoke one first")]
    TooMany,
    #[error("random numbers are not available: {0}")]
    Random(String),
}

impl KeyFileError {
    /// Reports whether the keys could be read, but not changed now.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Frozen(_) | Self::Unwritable { .. })
    }
}

/// Stamp of the file by which a change is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFileStamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileContent {
    version: u32,
    keys: Vec<NamedKey>,
}

/// File of a database's named keys.
#[derive(Clone, Debug, Default)]
pub struct KeyFile {
    path: PathBuf,
    lock: PathBuf,
    freeze_marker: PathBuf,
}

impl KeyFile {
    /// Returns the key file of a database: `coffee.db.keys` for `coffee.db`.
    pub fn of(database: &Path) -> Self {
        Self {
            path: with_suffix(database, ".keys"),
            lock: with_suffix(database, ".keys.lock"),
            freeze_marker: freeze_marker(database),
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the stamp of the file; `None` when there is no file.
    pub fn stamp(&self) -> io::Result<Option<KeyFileStamp>> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(KeyFileStamp::of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns all keys and the stamp of the file. A missing file has no keys.
    pub fn read(&self) -> Result<(Vec<NamedKey>, Option<KeyFileStamp>), KeyFileError> {
        let unreadable = |error| KeyFileError::Unreadable { path: self.path.clone(), error };
        let damaged = |reason: String| KeyFileError::Damaged { path: self.path.clone(), reason };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
            Err(e) => return Err(unreadable(e)),
        };
        let stamp = KeyFileStamp::of(&file.metadata().map_err(unreadable)?);
        if stamp.size > MAX_FILE_BYTES {
            return Err(damaged(format!("it has {} bytes", stamp.size)));
        }
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(unreadable)?;
        let content: KeyFileContent = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if content.version != VERSION {
            return Err(damaged(format!("it has version {} instead of {VERSION}", content.version)));
        }
        Ok((content.keys, Some(stamp)))
    }

    /// Creates a key and returns it. It cannot be looked up later.
    pub fn add(
        &self,
        name: &KeyName,
        scopes: Scopes,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<String, KeyFileError> {
        self.change(now, |keys| {
            require_free(keys, name)?;
            push(keys, name, scopes, expires, now)
        })
    }

    /// Creates the file with these keys, which come from another machine.
    ///
    /// # Errors
    /// [`KeyFileError::TooMany`].
    pub fn create(&self, keys: Vec<NamedKey>, now: Timestamp) -> Result<(), KeyFileError> {
        if keys.len() > MAX_KEYS {
            return Err(KeyFileError::TooMany);
        }
        self.change(now, |present| {
            *present = keys;
            Ok(())
        })
    }

    /// Removes every key of that name, and returns them.
    pub fn revoke(&self, name: &KeyName, now: Timestamp) -> Result<Vec<NamedKey>, KeyFileError> {
        self.change(now, |keys| {
            let revoked: Vec<NamedKey> = keys.extract_if(.., |key| key.name == *name).collect();
            if revoked.is_empty() { Err(KeyFileError::UnknownName(name.clone())) } else { Ok(revoked) }
        })
    }

    /// Adds revoked keys of one name again, except those that have expired.
    pub fn restore(&self, name: &KeyName, revoked: &[NamedKey], now: Timestamp) -> Result<(), KeyFileError> {
        self.change(now, |keys| {
            require_free(keys, name)?;
            let before = keys.len();
            keys.extend(revoked.iter().filter(|key| key.is_valid_at(now)).cloned());
            match keys.len() {
                unchanged if unchanged == before => Err(KeyFileError::UnknownName(name.clone())),
                too_many if too_many > MAX_KEYS => Err(KeyFileError::TooMany),
                _ => Ok(()),
            }
        })
    }

    /// Creates another key of that name with the same scopes and expiry. The present ones expire at `end` or earlier.
    pub fn rotate(&self, name: &KeyName, now: Timestamp, end: Timestamp) -> Result<String, KeyFileError> {
        self.change(now, |keys| {
            let newest = keys.iter().rfind(|key| key.name == *name);
            let newest = newest.ok_or_else(|| KeyFileError::UnknownName(name.clone()))?;
            let (scopes, expires) = (newest.scopes, newest.expires);
            for key in keys.iter_mut().filter(|key| key.name == *name) {
                key.expires = Some(key.expires.map_or(end, |before| before.min(end)));
            }
            keys.retain(|key| key.is_valid_at(now));
            push(keys, name, scopes, expires, now)
        })
    }

    /// Runs `work` while nothing else can change the keys.
    pub fn while_unchanged<T>(&self, work: impl FnOnce() -> T) -> Result<T, KeyFileError> {
        let _lock = self.lock()?;
        Ok(work())
    }

    /// Reads, changes and writes the keys under the lock. Expired keys are removed.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<NamedKey>) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let _lock = self.lock()?;
        if is_present(&self.freeze_marker) {
            return Err(KeyFileError::Frozen(self.path.clone()));
        }
        let (mut keys, _) = self.read()?;
        keys.retain(|key| key.is_valid_at(now));
        let result = change(&mut keys)?;
        let unwritable = |error| KeyFileError::Unwritable { path: self.path.clone(), error };
        let content = KeyFileContent { version: VERSION, keys };
        let mut text = serde_json::to_vec_pretty(&content).map_err(|e| unwritable(e.into()))?;
        text.push(b'\n');
        write_atomically(&self.path, &text).map_err(unwritable)?;
        Ok(result)
    }

    /// Locks the file for changes until the returned file is closed.
    fn lock(&self) -> Result<File, KeyFileError> {
        match lock_within(&self.lock, LOCK_TIMEOUT) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(KeyFileError::Busy(self.path.clone())),
            Err(error) => Err(KeyFileError::Unwritable { path: self.lock.clone(), error }),
        }
    }
}

impl KeyFileStamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn require_free(keys: &[NamedKey], name: &KeyName) -> Result<(), KeyFileError> {
    let is_taken = keys.iter().any(|key| key.name == *name);
    if is_taken { Err(KeyFileError::NameTaken(name.clone())) } else { Ok(()) }
}

fn push(
    keys: &mut Vec<NamedKey>,
    name: &KeyName,
    scopes: Scopes,
    expires: Option<Timestamp>,
    created: Timestamp,
) -> Result<String, KeyFileError> {
    if keys.len() >= MAX_KEYS {
        return Err(KeyFileError::TooMany);
    }
    let key = make_key().map_err(KeyFileError::Random)?;
    let (name, digest) = (name.clone(), KeyDigest::of(&key));
    keys.push(NamedKey { name, scopes, created, expires, digest });
    Ok(key)
}
