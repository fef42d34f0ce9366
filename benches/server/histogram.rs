//! Histogram of durations with a fixed size and a relative error of about 1.6%.
//!
//! Recording is one increment, because the server runs on the same processors. Times are in nanoseconds.

use std::time::Duration;

/// Buckets per doubling of the time.
const PER_OCTAVE: usize = 64;
/// Binary logarithm of `PER_OCTAVE`.
const SUB_BITS: u32 = 6;
/// Doublings up to 2^40 ns, about 18 minutes. Longer times are counted in the last bucket.
const OCTAVES: usize = 34;
/// Number of buckets.
const BUCKETS: usize = (OCTAVES + 1) * PER_OCTAVE;

/// Counts of times in buckets whose width grows with the time.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    /// Creates an empty histogram.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }

    /// Records one time.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket_of(nanos).min(BUCKETS - 1)) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    /// Adds the times of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (count, added) in self.counts.iter_mut().zip(&other.counts) {
            *count += added;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// Returns the number of recorded times.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the exact longest time.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// Returns the time that `percent` of the recorded times do not exceed, or zero when there are none.
    pub fn percentile(&self, percent: u32) -> Duration {
        let rank = (self.total * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_end(index).min(self.longest));
            }
        }
        self.longest()
    }
}

/// Returns the bucket of a time: one per nanosecond below `PER_OCTAVE`, then `PER_OCTAVE` per doubling.
fn bucket_of(nanos: u64) -> usize {
    let Some(log) = nanos.checked_ilog2().filter(|log| *log >= SUB_BITS) else {
        return usize::try_from(nanos).unwrap_or(0);
    };
    let shift = log - SUB_BITS;
    let within = usize::try_from(nanos >> shift).unwrap_or(0) - PER_OCTAVE;
    PER_OCTAVE + shift as usize * PER_OCTAVE + within
}

/// Returns the longest time in a bucket.
fn upper_end(index: usize) -> u64 {
    if index < PER_OCTAVE {
        return index as u64;
    }
    let shift = (index - PER_OCTAVE) / PER_OCTAVE;
    let within = (index % PER_OCTAVE + PER_OCTAVE) as u64;
    ((within + 1) << shift) - 1
}
