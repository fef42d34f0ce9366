//! Opens zip files from elsewhere within a memory limit.

use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zip::ZipArchive;
use zip::result::ZipResult;

/// Limit for reading the directory of a zip, which is kept in memory: for each read, its bytes times [`BYTE_COST`], and
/// [`READ_COST`]. Each member takes two to four reads. A directory with 20,000 members is within the limit, and takes less
/// than 32 MiB of memory, whatever it contains.
const MAX_DIRECTORY_COST: u64 = 16 << 20;
/// Memory that a byte of the directory may take: a name or comment is kept as it was, and decoded.
const BYTE_COST: u64 = 4;
/// Part of the memory of a member that does not depend on its name.
const READ_COST: u64 = 64;

/// Reader that fails once a shared budget is used up.
#[derive(Debug)]
pub struct BudgetReader<R> {
    inner: R,
    budget: Arc<AtomicU64>,
}

impl<R: Read> Read for BudgetReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the zip has too many members, or its directory has no end"));
        }
        let max = buffer.len().min(usize::try_from(budget.div_ceil(BYTE_COST)).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..max])?;
        let cost = READ_COST + BYTE_COST * count as u64;
        self.budget.store(budget.saturating_sub(cost), Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Seek> Seek for BudgetReader<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// Opens a zip file and reads its directory. Its members are then read without a limit.
pub fn open_zip<R: Read + Seek>(inner: R) -> ZipResult<ZipArchive<BudgetReader<R>>> {
    let budget = Arc::new(AtomicU64::new(MAX_DIRECTORY_COST));
    let archive = ZipArchive::new(BudgetReader { inner, budget: Arc::clone(&budget) })?;
    budget.store(u64::MAX, Ordering::Relaxed);
    Ok(archive)
}
