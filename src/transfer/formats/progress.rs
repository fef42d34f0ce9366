//! Progress of reading an input, which another thread can watch.

use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared count of the bytes or rows that were read.
#[derive(Clone, Debug, Default)]
pub struct ReadProgress {
    done: Arc<AtomicU64>,
    /// `None` when it is unknown, as for a stream.
    pub total: Option<u64>,
}

impl ReadProgress {
    pub fn of(total: Option<u64>) -> Self {
        Self { total, ..Self::default() }
    }

    /// Returns the bytes or rows that were read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub fn add(&self, count: usize) {
        self.done.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Reader that counts its bytes.
#[derive(Debug)]
pub struct ProgressReader<R> {
    pub inner: R,
    pub progress: ReadProgress,
}

impl<R: Read> Read for ProgressReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add(count);
        Ok(count)
    }
}

impl<R: Seek> Seek for ProgressReader<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
