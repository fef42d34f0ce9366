//! Paths next to a file.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Suffixes of the files that SQLite keeps beside a database.
pub const SQLITE_COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// Bytes that are encoded in the path of a `file:` URI.
const NOT_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

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

/// Returns device and inode, which identify a file while it exists.
pub fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Returns the `file:` URI of a path with query parameters, such as `mode=ro`.
pub fn file_uri(path: &Path, parameters: &str) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}?{parameters}", percent_encode(absolute.as_os_str().as_bytes(), NOT_IN_PATH))
}
