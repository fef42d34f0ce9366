//! Paths next to a file.

use std::path::{Path, PathBuf};

/// Returns the folder of a file; the current folder for a bare name.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns `path` with `suffix` appended to its name: `coffee.db` becomes `coffee.db.lock`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
