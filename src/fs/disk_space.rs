//! Free space of a file system.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Space that files from elsewhere leave free, bytes: entries must still be stored.
pub const RESERVED_BYTES: u64 = 64 << 20;

/// Usage of a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disk {
    /// Space left for unprivileged users, bytes.
    pub free_bytes: u64,
    pub size_bytes: u64,
    /// Used share in percent, computed as `df` does: space reserved for root counts as neither used nor free.
    pub used_percent: f64,
}

impl Disk {
    /// Usage from which the disk counts as low, percent.
    const WARNING: f64 = 80.0;

    /// Returns the usage of the file system that holds `path`, which must exist.
    pub fn of(path: &Path) -> io::Result<Self> {
        let disk = statvfs(path)?;
        let used = disk.f_blocks - disk.f_bfree;
        Ok(Self {
            free_bytes: disk.f_bavail * disk.f_frsize,
            size_bytes: disk.f_blocks * disk.f_frsize,
            used_percent: 100.0 * used as f64 / ((used + disk.f_bavail) as f64).max(1.0),
        })
    }

    /// Reports whether usage is above 80 %.
    pub fn is_low(&self) -> bool {
        self.used_percent > Self::WARNING
    }
}
