//! How long answers took: a histogram of fixed size, some 1.6% wide at every scale.
//!
//! Recording costs an index and an increment, so that measuring takes nothing from the
//! server on the same cores. Times are kept in nanoseconds.

use std::time::Duration;

/// Buckets in each doubling of the time.
const PER_OCTAVE: usize = 64;
/// Log2 of `PER_OCTAVE`.
const SUB_BITS: u32 = 6;
/// Up to 2^40 ns, some 18 minutes; longer times count as that.
const OCTAVES: usize = 34;
/// All buckets.
const BUCKETS: usize = (OCTAVES + 1) * PER_OCTAVE;

/// Counts of times in buckets that widen with the time.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }

    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket_of(nanos).min(BUCKETS - 1)) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    /// Adds all times of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many times were recorded.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest time, exactly.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The time that `percent` of all answers stayed within; zero when there are none.
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

/// The bucket of a time: exact below `PER_OCTAVE`, then `PER_OCTAVE` to each doubling.
fn bucket_of(nanos: u64) -> usize {
    let Some(log) = nanos.checked_ilog2().filter(|log| *log >= SUB_BITS) else {
        return usize::try_from(nanos).unwrap_or(0);
    };
    let shift = log - SUB_BITS;
    let within = usize::try_from(nanos >> shift).unwrap_or(0) - PER_OCTAVE;
    PER_OCTAVE + shift as usize * PER_OCTAVE + within
}

/// The longest time that falls into a bucket.
fn upper_end(index: usize) -> u64 {
    if index < PER_OCTAVE {
        return index as u64;
    }
    let shift = (index - PER_OCTAVE) / PER_OCTAVE;
    let within = (index % PER_OCTAVE + PER_OCTAVE) as u64;
    ((within + 1) << shift) - 1
}
