//! Files that belong to a database and that no command may overwrite or remove.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fs::paths::{SQLITE_COMPANIONS, file_id, folder_of, with_suffix};

/// Suffixes of the files that this program keeps beside a database.
const COMPANIONS: [&str; 12] = [
    ".lock",
    ".maintenance.lock",
    ".closing.lock",
    ".frozen.json",
    ".moved.json",
    ".backup.json",
    ".backups.json",
    ".job.json",
    ".keys",
    ".keys.lock",
    ".keys.used",
    ".person.json",
];

/// Reason why a path is refused as an output file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectedFile {
    #[error("{0} is the database: name another file")]
    Database(PathBuf),
    #[error("{0} belongs to the database: name another file")]
    Companion(PathBuf),
}

/// Returns the paths of all files that may exist beside a database.
pub fn companions(database: &Path) -> impl Iterator<Item = PathBuf> {
    SQLITE_COMPANIONS.iter().chain(&COMPANIONS).map(|end| with_suffix(database, end))
}

/// Refuses a path that is the database or one of the files beside it.
pub fn ensure_not_protected(database: &Path, path: &Path) -> Result<(), ProtectedFile> {
    if is_same_file(database, path) {
        return Err(ProtectedFile::Database(path.to_owned()));
    }
    // A generated key is stored there when none is configured.
    if companions(database).any(|own| is_same_file(&own, path))
        || is_same_file(&database.with_extension("key"), path)
    {
        return Err(ProtectedFile::Companion(path.to_owned()));
    }
    Ok(())
}

/// Reports whether both paths lead to one file, or would if it existed.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|found| file_id(&found));
    if let (Some(one), Some(other)) = (file(one), file(other)) {
        return one == other;
    }
    let folder = |path| file(folder_of(path));
    one.file_name() == other.file_name() && folder(one).is_some() && folder(one) == folder(other)
}
