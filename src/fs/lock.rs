//! Advisory locks on files, which the kernel releases when their holder ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fs::temp_file::is_at;

/// Creates the file at `path` if it is missing, and locks it. Returns `None` when another process holds the lock
/// for longer than `timeout`.
pub fn lock_within(path: &Path, timeout: Duration) -> io::Result<Option<File>> {
    let start = Instant::now();
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            // The file may have been moved before it was locked.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) | Err(TryLockError::WouldBlock) if start.elapsed() < timeout => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}
