//! The owner's key: where it comes from, and its creation by the first start.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::auth::key::make_key;
use crate::config::KeySource;

/// Published default key of the Docker stack.
const PUBLISHED_KEY: &str = "coffee-addict-secret-key-2025";
/// Minimum length of a key.
const MIN_LENGTH: usize = 16;

/// Origin of the owner's key.
#[derive(Clone, Debug)]
pub enum KeyOrigin {
    /// The settings or a file that they name.
    Configured,
    /// File that an earlier start created.
    Existing(PathBuf),
    /// Created by this start: the only time the key is shown.
    Created { key: String, path: PathBuf },
}

/// Error that leaves the server without an owner's key.
#[derive(Debug, thiserror::Error)]
pub enum OwnerKeyError {
    #[error("the API key in {path} cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("an API key cannot be written to {path}: {error}")]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("random numbers are not available: {0}")]
    Random(String),
    #[error("the API key is the published default of the Docker stack; choose another one")]
    Published,
    #[error("the API key has {0} characters; it needs at least {MIN_LENGTH}")]
    TooShort(usize),
    #[error("the API key must consist of visible ASCII characters")]
    Unprintable,
}

impl KeyOrigin {
    /// Removes the file of a key that this start created.
    pub fn remove_created(&self) {
        if let Self::Created { path, .. } = self
            && let Err(e) = fs::remove_file(path)
        {
            tracing::warn!("{} could not be removed: {e}", path.display());
        }
    }
}

/// Reads the owner's key, or creates it in the file that `source` names.
pub fn load(source: &KeySource, allow_weak: bool) -> Result<(String, KeyOrigin), OwnerKeyError> {
    match source {
        KeySource::Generated(path) if !has_key(path) => {
            let key = create(path)?;
            Ok((key.clone(), KeyOrigin::Created { key, path: path.clone() }))
        }
        source => load_existing(source, allow_weak),
    }
}

/// Reads the owner's key, which must exist.
pub fn load_existing(source: &KeySource, allow_weak: bool) -> Result<(String, KeyOrigin), OwnerKeyError> {
    let (key, origin) = match source {
        KeySource::Given(key) => (key.clone(), KeyOrigin::Configured),
        KeySource::File(path) => (read(path)?, KeyOrigin::Configured),
        KeySource::Generated(path) => (read(path)?, KeyOrigin::Existing(path.clone())),
    };
    check(&key, allow_weak)?;
    Ok((key, origin))
}

fn check(key: &str, allow_weak: bool) -> Result<(), OwnerKeyError> {
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(OwnerKeyError::Unprintable);
    }
    match key {
        _ if allow_weak => Ok(()),
        PUBLISHED_KEY => Err(OwnerKeyError::Published),
        short if short.len() < MIN_LENGTH => Err(OwnerKeyError::TooShort(short.len())),
        _ => Ok(()),
    }
}

fn read(path: &PathBuf) -> Result<String, OwnerKeyError> {
    let text =
        fs::read_to_string(path).map_err(|error| OwnerKeyError::Unreadable { path: path.clone(), error })?;
    Ok(text.trim().to_owned())
}

/// Reports whether the file has a key. A power cut during its creation leaves an empty file.
fn has_key(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

/// Creates a key in a file that only its owner can read.
fn create(path: &PathBuf) -> Result<String, OwnerKeyError> {
    let key = make_key().map_err(OwnerKeyError::Random)?;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if path.exists() && !has_key(path) {
            fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = writeln!(file, "{key}").and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(fs::remove_file(path)))
    };
    write().map_err(|error| OwnerKeyError::Unwritable { path: path.clone(), error })?;
    Ok(key)
}
