//! The file of a database's named keys: JSON beside the database, readable by its owner alone.
//!
//! Not in the database: a restore must not revive a key that was revoked, and backups carry
//! none. Whoever reads the file sees one whole state of it; whoever changes it holds a lock,
//! so that commands that run at once lose nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::auth::key::{KeyDigest, KeyName, NamedKey, Scopes, make_key};
use crate::domain::time::Timestamp;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// Keys that one file may hold, those that are being replaced among them.
const MOST: usize = 100;
/// Larger files are none of ours, bytes.
const LARGEST: u64 = 1 << 18;
/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// How long a command waits for others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the keys in {path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("the keys in {path} cannot be read: {why}; mend it, or remove it to end every named key")]
    Damaged { path: PathBuf, why: String },
    #[error("{path} cannot be written: {why}")]
    Unwritable { path: PathBuf, why: io::Error },
    #[error("another command is changing the keys in {0}: try again")]
    Busy(PathBuf),
    #[error("there is a key called {0}: revoke it, rotate it, or choose another name")]
    Taken(KeyName),
    #[error("there is no key called {0}")]
    Unknown(KeyName),
    #[error("there are {MOST} keys: revoke one first")]
    TooMany,
    #[error("no random numbers: {0}")]
    Random(String),
}

/// Which state of the file something was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    keys: Vec<NamedKey>,
}

/// Where a database's named keys lie.
#[derive(Clone, Debug, Default)]
pub struct KeyFile {
    path: PathBuf,
    lock: PathBuf,
}

impl KeyFile {
    /// Of this database: `coffee.db` → `coffee.db.keys`.
    pub fn of(database: &Path) -> Self {
        Self { path: with_suffix(database, ".keys"), lock: with_suffix(database, ".keys.lock") }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which state it is in; `None` when there is no file.
    pub fn mark(&self) -> io::Result<Option<Mark>> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(Some(Mark::of(&found))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every key in it, and the state that it is in; no file has none.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::Damaged`].
    pub fn read(&self) -> Result<(Vec<NamedKey>, Option<Mark>), Error> {
        let unreadable = |why| Error::Unreadable { path: self.path.clone(), why };
        let damaged = |why: String| Error::Damaged { path: self.path.clone(), why };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
            Err(e) => return Err(unreadable(e)),
        };
        let mark = Mark::of(&file.metadata().map_err(unreadable)?);
        if mark.size > LARGEST {
            return Err(damaged(format!("it has {} bytes", mark.size)));
        }
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).map_err(unreadable)?;
        let page: Page = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if page.version != VERSION {
            return Err(damaged(format!("it has version {}, and {VERSION} is known", page.version)));
        }
        Ok((page.keys, Some(mark)))
    }

    /// Makes a key, and gives what nobody can look up later.
    ///
    /// # Errors
    /// [`Error::Taken`], and whatever keeps the file from being changed.
    pub fn add(&self, name: &KeyName, scopes: Scopes, now: Timestamp) -> Result<String, Error> {
        self.change(now, |keys| {
            if keys.iter().any(|key| key.name == *name) {
                return Err(Error::Taken(name.clone()));
            }
            push(keys, name, scopes, now)
        })
    }

    /// Ends every key of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`], and whatever keeps the file from being changed.
    pub fn revoke(&self, name: &KeyName, now: Timestamp) -> Result<(), Error> {
        self.change(now, |keys| {
            let before = keys.len();
            keys.retain(|key| key.name != *name);
            if keys.len() == before { Err(Error::Unknown(name.clone())) } else { Ok(()) }
        })
    }

    /// Makes another key of that name and with its scopes; the ones there are end at `end`,
    /// unless they end before.
    ///
    /// # Errors
    /// [`Error::Unknown`], and whatever keeps the file from being changed.
    pub fn rotate(&self, name: &KeyName, now: Timestamp, end: Timestamp) -> Result<String, Error> {
        self.change(now, |keys| {
            let newest = keys.iter().rfind(|key| key.name == *name);
            let scopes = newest.ok_or_else(|| Error::Unknown(name.clone()))?.scopes;
            for key in keys.iter_mut().filter(|key| key.name == *name) {
                key.expires = Some(key.expires.map_or(end, |before| before.min(end)));
            }
            keys.retain(|key| key.holds_at(now));
            push(keys, name, scopes, now)
        })
    }

    /// Reads, changes and writes, alone. Keys that have ended are forgotten.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<NamedKey>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = self.lock()?;
        let (mut keys, _) = self.read()?;
        keys.retain(|key| key.holds_at(now));
        let done = change(&mut keys)?;
        let unwritable = |why: io::Error| Error::Unwritable { path: self.path.clone(), why };
        let mut text =
            serde_json::to_vec_pretty(&Page { version: VERSION, keys }).map_err(|e| unwritable(e.into()))?;
        text.push(b'\n');
        write_atomically(&self.path, &text).map_err(unwritable)?;
        Ok(done)
    }

    /// The right to change the file, for as long as what this gives is open.
    fn lock(&self) -> Result<File, Error> {
        let unwritable = |why| Error::Unwritable { path: self.lock.clone(), why };
        let began = Instant::now();
        let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).clone();
        let file = options.open(&self.lock).map_err(unwritable)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Busy(self.path.clone())),
                Err(TryLockError::Error(e)) => return Err(unwritable(e)),
            }
        }
    }
}

impl Mark {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

fn push(
    keys: &mut Vec<NamedKey>,
    name: &KeyName,
    scopes: Scopes,
    created: Timestamp,
) -> Result<String, Error> {
    if keys.len() >= MOST {
        return Err(Error::TooMany);
    }
    let key = make_key().map_err(Error::Random)?;
    let (name, digest) = (name.clone(), KeyDigest::of(&key));
    keys.push(NamedKey { name, scopes, created, expires: None, digest });
    Ok(key)
}
