//! Which files are a database's own: what a command is told to write, or to clear away, must
//! be none of them, whatever it is called there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fs::paths::{folder_of, with_suffix};

/// What SQLite and this program lay beside a database.
const COMPANIONS: [&str; 9] = [
    "-wal",
    "-shm",
    "-journal",
    ".lock",
    ".maintenance.lock",
    ".backup.json",
    ".keys",
    ".keys.lock",
    ".keys.used",
];

/// Why a command does not write to a file that it was told to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectedFile {
    #[error("{0} is the database: name another file")]
    Database(PathBuf),
    #[error("{0} belongs to the database: name another file")]
    Companion(PathBuf),
}

/// The files that lie or may come to lie beside a database.
pub fn companions(database: &Path) -> impl Iterator<Item = PathBuf> {
    COMPANIONS.iter().map(|end| with_suffix(database, end))
}

/// Looks whether `path` is the database, or a file that lies or may come to lie beside it.
///
/// # Errors
/// That it is.
pub fn ensure_not_protected(database: &Path, path: &Path) -> Result<(), ProtectedFile> {
    if is_same_file(database, path) {
        return Err(ProtectedFile::Database(path.to_owned()));
    }
    // Where a key is made when none is given.
    if companions(database).any(|own| is_same_file(&own, path))
        || is_same_file(&database.with_extension("key"), path)
    {
        return Err(ProtectedFile::Companion(path.to_owned()));
    }
    Ok(())
}

/// Do both names lead to one file, or would they if it were there?
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    if let (Some(one), Some(other)) = (file(one), file(other)) {
        return one == other;
    }
    let folder = |path| file(folder_of(path));
    one.file_name() == other.file_name() && folder(one).is_some() && folder(one) == folder(other)
}
