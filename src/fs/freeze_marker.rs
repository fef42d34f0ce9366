//! Marker file beside a database whose person is being moved to another machine: nothing of the person may change.
//!
//! A command creates it while it holds every lock under which a change is made: SQLite's write lock, the lock of the keys,
//! and the lock of commands. A change looks for it after it has acquired its lock, so that none is committed once the
//! marker exists. The content of the file is not read here.

use std::path::{Path, PathBuf};

use crate::fs::paths::with_suffix;

/// Suffix of the marker.
const SUFFIX: &str = ".frozen.json";

/// Returns the path of the marker of a database: `coffee.db.frozen.json` for `coffee.db`.
pub fn freeze_marker(database: &Path) -> PathBuf {
    with_suffix(database, SUFFIX)
}

/// Reports whether the marker of a database exists, or cannot be looked for.
pub fn is_frozen(database: &Path) -> bool {
    is_present(&freeze_marker(database))
}

/// Reports whether a marker exists, or cannot be looked for.
pub fn is_present(marker: &Path) -> bool {
    !matches!(marker.try_exists(), Ok(false))
}
