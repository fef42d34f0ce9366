//! API keys: where the owner's comes from, and what one that is presented is good for.
//!
//! Only digests are kept. The named keys are in `key_ring`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::auth::key::{KeyDigest, KeyId, Scopes, make_key};
use crate::auth::key_store::KeyRing;
use crate::config::KeySource;
use crate::domain::time::Timestamp;

/// The Docker stack's published default: known to everyone.
const PUBLISHED: &str = "coffee-addict-secret-key-2025";
/// Shorter keys can be guessed.
const MIN_LENGTH: usize = 16;

/// The keys that are right.
#[derive(Debug)]
pub struct Keys {
    owner: KeyDigest,
    pub(crate) named: KeyRing,
}

/// Valid key that came with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValidKey {
    pub id: KeyId,
    pub scopes: Scopes,
}

/// Where the owner's key was found.
#[derive(Clone, Debug)]
pub enum KeyOrigin {
    /// The operator gave it.
    Given,
    /// It was made on an earlier start and lies here.
    Kept(PathBuf),
    /// It was made just now: the only time it is shown.
    Made { key: String, path: PathBuf },
}

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the API key in {path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("an API key cannot be written to {path}: {why}")]
    Unwritable { path: PathBuf, why: io::Error },
    #[error("no random numbers: {0}")]
    Random(String),
    #[error("the API key is the Docker stack's published default, which everyone knows: choose another")]
    Published,
    #[error("the API key has {0} characters: choose one of at least {MIN_LENGTH}")]
    Short(usize),
    #[error("the API key must consist of visible ASCII characters")]
    Unprintable,
}

impl KeyOrigin {
    /// Forgets a key that was made just now.
    pub fn withdraw(&self) {
        if let Self::Made { path, .. } = self
            && let Err(e) = fs::remove_file(path)
        {
            tracing::warn!("{} could not be removed: {e}", path.display());
        }
    }
}

impl Keys {
    /// Reads or makes the owner's key.
    pub fn load(source: &KeySource, allow_weak: bool) -> Result<(Self, KeyOrigin), KeyError> {
        let (key, origin) = match source {
            KeySource::Given(key) => (key.clone(), KeyOrigin::Given),
            KeySource::File(path) => (read(path)?, KeyOrigin::Given),
            KeySource::Made(path) if is_kept(path) => (read(path)?, KeyOrigin::Kept(path.clone())),
            KeySource::Made(path) => {
                let key = make(path)?;
                (key.clone(), KeyOrigin::Made { key, path: path.clone() })
            }
        };
        check(&key, allow_weak)?;
        Ok((Self::new(&key), origin))
    }

    /// Keys with this one as the owner's, and no other.
    pub fn new(owner: &str) -> Self {
        Self { owner: KeyDigest::of(owner), named: KeyRing::default() }
    }

    /// The same owner's key, and the named ones beside `database`.
    pub(crate) fn with_named(self, database: &Path) -> Self {
        Self { named: KeyRing::of(database), ..self }
    }

    /// Looks a key up by its digest; `None` when it is not valid. Costs one hash and no I/O.
    pub(crate) fn find(&self, presented: &str, now: Timestamp) -> Option<ValidKey> {
        let digest = KeyDigest::of(presented);
        let scopes = if self.owner == digest { Scopes::ALL } else { self.named.scopes_of(&digest, now)? };
        Some(ValidKey { id: digest.id(), scopes })
    }
}

fn check(key: &str, allow_weak: bool) -> Result<(), KeyError> {
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KeyError::Unprintable);
    }
    match key {
        _ if allow_weak => Ok(()),
        PUBLISHED => Err(KeyError::Published),
        short if short.len() < MIN_LENGTH => Err(KeyError::Short(short.len())),
        _ => Ok(()),
    }
}

fn read(path: &PathBuf) -> Result<String, KeyError> {
    let text = fs::read_to_string(path).map_err(|why| KeyError::Unreadable { path: path.clone(), why })?;
    Ok(text.trim().to_owned())
}

/// Is a key there? A power cut while one was written leaves an empty file: that is none.
fn is_kept(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

/// Makes a key of 256 random bits and keeps it, readable by the owner alone.
fn make(path: &PathBuf) -> Result<String, KeyError> {
    let key = make_key().map_err(KeyError::Random)?;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if path.exists() && !is_kept(path) {
            fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let kept = writeln!(file, "{key}").and_then(|()| file.sync_all());
        kept.inspect_err(|_| drop(fs::remove_file(path)))
    };
    write().map_err(|why| KeyError::Unwritable { path: path.clone(), why })?;
    Ok(key)
}
