//! The disk that a file lies on.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// How full it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disk {
    /// What is left for whoever is not root, bytes.
    pub free_bytes: u64,
    pub size_bytes: u64,
    /// As `df` has it: what root alone may use counts as neither used nor free.
    pub used_percent: f64,
}

impl Disk {
    /// With more than this in use, in percent, it wants attention.
    const WARNING: f64 = 80.0;

    /// The one that holds `path`, which must be there.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let disk = statvfs(path)?;
        let used = disk.f_blocks - disk.f_bfree;
        Ok(Self {
            free_bytes: disk.f_bavail * disk.f_frsize,
            size_bytes: disk.f_blocks * disk.f_frsize,
            used_percent: 100.0 * used as f64 / ((used + disk.f_bavail) as f64).max(1.0),
        })
    }

    /// Does it want attention?
    pub fn is_low(&self) -> bool {
        self.used_percent > Self::WARNING
    }
}
