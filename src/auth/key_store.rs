//! Named keys of a running server: reloaded when their file changes, with the time each was last used.
//!
//! A request with a key only uses memory: files are read and written when the store is opened, refreshed, changed
//! and saved. The last uses have a file of their own, so that recording them never rewrites the keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::auth::key::{KeyDigest, KeyId, KeyName, NamedKey, Scopes};
use crate::auth::key_file::{KeyFile, KeyFileError, KeyFileStamp, MAX_KEYS};
use crate::domain::time::{MINUTE, Timestamp};
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// Last use of a key that has not been used.
const NEVER: i64 = i64::MIN;
/// Precision of the saved last uses, microseconds. Saving them costs an SD card more than storing a reading.
const SAVED_PRECISION: i64 = 15 * MINUTE;
/// Delay after a failed attempt to save the last uses.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Time of the last use of each key that has been used.
pub type LastUses = BTreeMap<KeyDigest, Timestamp>;

/// Reads the last uses of the keys of `database`; empty when they cannot be read.
pub fn read_last_uses(database: &Path) -> LastUses {
    let text = fs::read(last_uses_file(database));
    text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn last_uses_file(database: &Path) -> PathBuf {
    with_suffix(database, ".keys.used")
}

/// Key with its last use.
#[derive(Debug)]
struct LoadedKey {
    key: NamedKey,
    /// Position in the file, to which new keys are appended.
    position: usize,
    /// Microseconds since 1970.
    last_used: AtomicI64,
}

/// Name of a key and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDetails {
    pub name: String,
    /// `None` for the owner's key.
    pub created: Option<Timestamp>,
    pub last_used: Option<Timestamp>,
}

/// Valid named key with its last use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    pub key: NamedKey,
    pub last_used: Option<Timestamp>,
}

impl LoadedKey {
    fn last_used(&self) -> Option<Timestamp> {
        let last_used = self.last_used.load(Ordering::Relaxed);
        (last_used != NEVER).then(|| Timestamp::clamped(last_used))
    }

    fn to_listed(&self) -> ListedKey {
        ListedKey { key: self.key.clone(), last_used: self.last_used() }
    }
}

/// State of the files at the last refresh.
#[derive(Debug, Default)]
struct FileState {
    /// `None` until the key file has been read.
    stamp: Option<Option<KeyFileStamp>>,
    /// Error that has been logged, so that it is logged once.
    logged_error: Option<String>,
    saved: LastUses,
    /// Time before which no further attempt to save is made, after one has failed.
    retry_at: Option<Duration>,
}

/// Named keys of a database.
#[derive(Debug, Default)]
pub struct KeyStore {
    database: PathBuf,
    file: KeyFile,
    keys: RwLock<HashMap<KeyDigest, LoadedKey>>,
    state: Mutex<FileState>,
}

impl KeyStore {
    /// Loads the keys of `database`. A file that cannot be read is logged.
    pub fn open(database: &Path) -> Self {
        let state = FileState { saved: read_last_uses(database), ..FileState::default() };
        let store = Self {
            database: database.to_owned(),
            file: KeyFile::of(database),
            keys: RwLock::default(),
            state: Mutex::new(state),
        };
        store.reload();
        store
    }

    /// Returns the scopes of the key with this digest and records its use; `None` when no such key is valid.
    pub fn record_use(&self, digest: &KeyDigest, now: Timestamp) -> Option<Scopes> {
        let keys = self.keys();
        let loaded = keys.get(digest).filter(|loaded| loaded.key.is_valid_at(now))?;
        loaded.last_used.store(now.micros(), Ordering::Relaxed);
        Some(loaded.key.scopes)
    }

    /// Returns the name of a key and its times.
    pub fn details(&self, id: KeyId) -> Option<KeyDetails> {
        let keys = self.keys();
        let (_, loaded) = keys.iter().find(|(digest, _)| digest.id() == id)?;
        Some(KeyDetails {
            name: loaded.key.name.to_string(),
            created: Some(loaded.key.created),
            last_used: loaded.last_used(),
        })
    }

    /// Returns the valid keys, newest first.
    pub fn list(&self, now: Timestamp) -> Vec<ListedKey> {
        let keys = self.keys();
        let mut valid: Vec<&LoadedKey> = keys.values().filter(|loaded| loaded.key.is_valid_at(now)).collect();
        valid.sort_unstable_by_key(|loaded| Reverse((loaded.key.created, loaded.position)));
        valid.into_iter().map(LoadedKey::to_listed).collect()
    }

    /// Returns the key with this digest, valid or not.
    pub fn get(&self, digest: &KeyDigest) -> Option<ListedKey> {
        self.keys().get(digest).map(LoadedKey::to_listed)
    }

    /// Fails when no key of this name could be added. Does no I/O.
    ///
    /// # Errors
    /// [`KeyFileError::NameTaken`] and [`KeyFileError::TooMany`].
    pub fn require_free(&self, name: &KeyName, now: Timestamp) -> Result<(), KeyFileError> {
        let valid = self.list(now);
        match valid.iter().any(|listed| listed.key.name == *name) {
            true => Err(KeyFileError::NameTaken(name.clone())),
            false if valid.len() >= MAX_KEYS => Err(KeyFileError::TooMany),
            false => Ok(()),
        }
    }

    /// Changes the file and loads the result, so that the change is in effect when this returns. Blocks on files.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&KeyFile) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let result = change(&self.file)?;
        self.load_changes()?;
        Ok(result)
    }

    /// Returns the digests of all keys, valid or not.
    pub fn digests(&self) -> Vec<KeyDigest> {
        self.keys().keys().copied().collect()
    }

    /// Reloads the keys when their file has changed, and saves uses that differ by [`SAVED_PRECISION`] or more from
    /// the saved ones. Returns whether the keys were reloaded. `elapsed` is a monotonic time.
    pub fn refresh(&self, elapsed: Duration) -> bool {
        let is_changed = self.reload();
        let retry_at = self.state().retry_at;
        if retry_at.is_none_or(|at| elapsed >= at) {
            self.save_uses(SAVED_PRECISION, elapsed);
        }
        is_changed
    }

    /// Saves all uses, at shutdown.
    pub fn save_all_uses(&self) {
        self.save_uses(1, Duration::ZERO);
    }

    /// Loads the keys if the file has changed, and returns whether it has. An error is logged and keeps the present keys.
    fn reload(&self) -> bool {
        self.load_changes().unwrap_or_else(|e| {
            let error = e.to_string();
            let mut state = self.state();
            if state.logged_error.as_ref() != Some(&error) {
                tracing::error!("{error}; the keys that were loaded before remain valid");
                state.logged_error = Some(error);
            }
            false
        })
    }

    /// Loads the keys if the file has changed, and returns whether it has.
    fn load_changes(&self) -> Result<bool, KeyFileError> {
        let mut state = self.state();
        let stamp = self.file.stamp();
        if stamp.is_ok_and(|stamp| state.stamp == Some(stamp)) {
            state.logged_error = None;
            return Ok(false);
        }
        let (keys, stamp) = self.file.read()?;
        let is_start = state.stamp.is_none();
        let path = self.file.path().display();
        match (keys.len(), stamp) {
            (0, None) if is_start => {}
            (_, None) => tracing::warn!("{path} was removed: all named keys are revoked"),
            (n, _) if is_start => tracing::info!("{n} named keys loaded"),
            (n, _) => tracing::info!("named keys reloaded: {n}"),
        }
        self.replace(keys, &state.saved);
        (state.stamp, state.logged_error) = (Some(stamp), None);
        Ok(true)
    }

    fn replace(&self, keys: Vec<NamedKey>, saved: &LastUses) {
        let mut loaded = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let replacement = keys.into_iter().enumerate().map(|(position, key)| {
            let last_used = match loaded.get(&key.digest) {
                Some(loaded) => loaded.last_used.load(Ordering::Relaxed),
                None => saved.get(&key.digest).map_or(NEVER, |at| at.micros()),
            };
            (key.digest, LoadedKey { key, position, last_used: AtomicI64::new(last_used) })
        });
        let replacement = replacement.collect();
        *loaded = replacement;
    }

    /// Saves the uses if one differs from the saved one by `min_change` microseconds or more.
    fn save_uses(&self, min_change: i64, elapsed: Duration) {
        let uses: Vec<_> = {
            let keys = self.keys();
            let uses = keys.iter().map(|(digest, key)| (*digest, key.last_used.load(Ordering::Relaxed)));
            uses.filter(|(_, used)| *used != NEVER).collect()
        };
        let mut state = self.state();
        // The absolute difference, as the clock may have been set back.
        let has_changed = |(digest, used): &(KeyDigest, i64)| {
            state.saved.get(digest).is_none_or(|saved| (used - saved.micros()).abs() >= min_change)
        };
        if !uses.iter().any(has_changed) {
            return;
        }
        let uses: LastUses =
            uses.into_iter().map(|(digest, used)| (digest, Timestamp::clamped(used))).collect();
        let written = serde_json::to_vec(&uses)
            .map_err(Into::into)
            .and_then(|text| write_atomically(&last_uses_file(&self.database), &text));
        match written {
            Ok(()) => (state.saved, state.retry_at) = (uses, None),
            Err(e) => {
                if state.retry_at.is_none() {
                    tracing::warn!("the last uses of keys could not be saved: {e}");
                }
                state.retry_at = Some(elapsed + RETRY_DELAY);
            }
        }
    }

    fn keys(&self) -> RwLockReadGuard<'_, HashMap<KeyDigest, LoadedKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::auth::key::Scope;

    #[test]
    fn frequent_uses_are_saved_every_quarter_of_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("coffee.db");
        let start = Timestamp::clamped(0);
        let name = KeyName::parse("phone").unwrap();
        let key = KeyFile::of(&database).add(&name, Scopes::from(vec![Scope::Read]), None, start).unwrap();
        let (store, digest) = (KeyStore::open(&database), KeyDigest::of(&key));
        let saved = (0..60).map(|minute| {
            store.record_use(&digest, start.plus(minute * MINUTE)).unwrap();
            store.refresh(Duration::ZERO);
            read_last_uses(&database)[&digest].micros() / MINUTE
        });
        let mut saved = Vec::from_iter(saved);
        saved.dedup();
        assert_eq!(saved, [0, 15, 30, 45]);
        store.save_all_uses();
        assert_eq!(read_last_uses(&database)[&digest].micros() / MINUTE, 59);
    }
}
