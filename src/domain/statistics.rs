//! Statistics of heart rates: exact summaries from a histogram, and time buckets for plots.
//!
//! Sums are integers until the last step, so neither the order nor the number of readings costs precision.
//! Memory depends on the highest heart rate or the number of buckets, not on the number of readings.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Rounds to 1 decimal, halves away from zero; never returns −0.
pub fn round1(value: f64) -> f64 {
    round(value, 10.0)
}

/// Rounds to 2 decimals, halves away from zero; never returns −0.
pub fn round2(value: f64) -> f64 {
    round(value, 100.0)
}

/// Rounds to 3 decimals, halves away from zero; never returns −0.
pub fn round3(value: f64) -> f64 {
    round(value, 1000.0)
}

fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale + 0.0
}

/// Number of readings by heart rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Indexed by beats per minute; as long as the highest heart rate requires.
    counts: Vec<u64>,
    count: u64,
}

/// Count, sum and extremes of heart rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpmAggregate {
    pub count: u64,
    pub sum: u64,
    /// 0 without readings.
    pub min: u16,
    /// 0 without readings.
    pub max: u16,
}

impl BpmAggregate {
    /// Adds `count` readings of the same heart rate.
    pub fn add(&mut self, bpm: Bpm, count: u64) {
        let bpm = bpm.get();
        self.merge(Self { count, sum: u64::from(bpm) * count, min: bpm, max: bpm });
    }

    pub fn merge(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Returns the unrounded mean; `None` without readings.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }
}

/// Summary of heart rates in beats per minute. Averages have 1 decimal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct BpmSummary {
    pub min_bpm: u16,
    pub max_bpm: u16,
    pub avg_bpm: f64,
    /// Mean of the two middle readings for an even number of readings.
    pub median_bpm: f64,
    /// Sample standard deviation (n−1); 0 for one reading.
    #[schema(minimum = 0)]
    pub std_dev: f64,
}

impl Histogram {
    /// Adds `count` readings of the same heart rate.
    pub fn add(&mut self, bpm: Bpm, count: u64) {
        if count == 0 {
            return;
        }
        let index = usize::from(bpm.get());
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(count);
        self.count = self.count.saturating_add(count);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the lowest heart rate; `None` without readings, as for the statistics below.
    pub fn min(&self) -> Option<u16> {
        self.non_empty().map(|(bpm, _)| bpm).next()
    }

    pub fn max(&self) -> Option<u16> {
        self.non_empty().map(|(bpm, _)| bpm).last()
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum() as f64 / self.count as f64)
    }

    /// Returns the exact median: the mean of the two middle readings for an even number of readings.
    pub fn median(&self) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        Some(f64::midpoint(f64::from(self.at_rank(last / 2)?), f64::from(self.at_rank(self.count / 2)?)))
    }

    /// Returns the unrounded sample standard deviation (n−1); 0 for one reading.
    pub fn std_dev(&self) -> Option<f64> {
        let n = u128::from(self.count);
        match n {
            0 => None,
            1 => Some(0.0),
            _ => {
                let squares: u128 =
                    self.non_empty().map(|(bpm, n)| u128::from(bpm) * u128::from(bpm) * u128::from(n)).sum();
                // n·Σx² − (Σx)² is exact in integers and never negative.
                let spread = n.saturating_mul(squares).saturating_sub(self.sum().saturating_mul(self.sum()));
                Some((spread as f64 / n as f64 / (n - 1) as f64).sqrt())
            }
        }
    }

    pub fn summary(&self) -> Option<BpmSummary> {
        Some(BpmSummary {
            min_bpm: self.min()?,
            max_bpm: self.max()?,
            avg_bpm: round1(self.mean()?),
            median_bpm: round1(self.median()?),
            std_dev: round1(self.std_dev()?),
        })
    }

    fn non_empty(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    fn sum(&self) -> u128 {
        self.non_empty().map(|(bpm, count)| u128::from(bpm) * u128::from(count)).sum()
    }

    /// Returns the reading at a zero-based rank in ascending order.
    fn at_rank(&self, rank: u64) -> Option<u16> {
        let mut below = 0_u64;
        let mut readings = self.non_empty();
        let found = readings.find(|(_, count)| {
            below = below.saturating_add(*count);
            below > rank
        });
        found.map(|(bpm, _)| bpm)
    }
}

/// Time bucket [`start`, `end`) with its readings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HeartRateBucket {
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub end: Timestamp,
    #[schema(minimum = 1)]
    pub count: u64,
    pub min_bpm: u16,
    /// With 1 decimal.
    pub avg_bpm: f64,
    pub max_bpm: u16,
}

/// Accumulator of readings, in time order, into equal time buckets of [start, end).
#[derive(Clone, Debug)]
pub struct TimeBuckets {
    start: Timestamp,
    end: Timestamp,
    count: u16,
    finished: Vec<HeartRateBucket>,
    open: Option<OpenBucket>,
}

#[derive(Clone, Copy, Debug)]
struct OpenBucket {
    start: Timestamp,
    end: Timestamp,
    readings: BpmAggregate,
}

impl TimeBuckets {
    /// Maximum number of buckets.
    pub const MAX: u16 = 1000;

    /// Divides [`start`, `end`) into `count` (clamped to 1 to [`Self::MAX`]) buckets whose lengths differ
    /// by at most one microsecond.
    pub fn new(start: Timestamp, end: Timestamp, count: u16) -> Self {
        Self { start, end, count: count.clamp(1, Self::MAX), finished: Vec::new(), open: None }
    }

    /// Adds the next reading; readings outside of [start, end) are ignored.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        let mut reading = BpmAggregate::default();
        reading.add(bpm, 1);
        self.push_aggregate(at, reading);
    }

    /// Adds readings that are all in the bucket of `at`.
    pub fn push_aggregate(&mut self, at: Timestamp, readings: BpmAggregate) {
        if at < self.start || at >= self.end {
            return;
        }
        match &mut self.open {
            Some(open) if at < open.end => open.readings.merge(readings),
            _ => {
                self.close();
                let (start, end) = self.bucket_of(at);
                self.open = Some(OpenBucket { start, end, readings });
            }
        }
    }

    /// Returns the bounds of all buckets, from the start of the first to the end of the last.
    pub fn edges(&self) -> impl Iterator<Item = Timestamp> {
        (0..=i128::from(self.count)).map(|index| self.edge(index))
    }

    /// Returns the non-empty buckets in time order.
    pub fn finish(mut self) -> Vec<HeartRateBucket> {
        self.close();
        self.finished
    }

    fn close(&mut self) {
        self.finished.extend(self.open.take().map(|open| HeartRateBucket {
            start: open.start,
            end: open.end,
            count: open.readings.count,
            min_bpm: open.readings.min,
            avg_bpm: round1(open.readings.sum as f64 / open.readings.count as f64),
            max_bpm: open.readings.max,
        }));
    }

    /// Returns the bounds of the bucket of `at`. Bucket i is [start + ⌊span·i/n⌋, start + ⌊span·(i+1)/n⌋).
    fn bucket_of(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        let since_start = i128::from(at.micros()) - i128::from(self.start.micros());
        let index = ((since_start + 1) * i128::from(self.count) - 1) / self.span();
        (self.edge(index), self.edge(index + 1))
    }

    fn edge(&self, index: i128) -> Timestamp {
        let offset = self.span() * index / i128::from(self.count);
        self.start.plus(i64::try_from(offset).unwrap_or(i64::MAX))
    }

    fn span(&self) -> i128 {
        i128::from(self.end.micros()) - i128::from(self.start.micros())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::time::{DAY, HOUR};

    fn bpm(bpm: u16) -> Bpm {
        Bpm::new(i64::from(bpm)).unwrap()
    }

    fn histogram(values: &[u16]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|v| histogram.add(bpm(*v), 1));
        histogram
    }

    #[test]
    fn statistics_equal_a_naive_computation_over_sorted_values() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let n = rng.usize(1..400);
            let (low, high) = (rng.u16(1..=500), rng.u16(500..=1000));
            let mut values: Vec<u16> = (0..n).map(|_| rng.u16(low..=high)).collect();
            let histogram = histogram(&values);
            values.sort_unstable();
            let floats: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            let mean = floats.iter().sum::<f64>() / n as f64;
            let median = (floats[(n - 1) / 2] + floats[n / 2]) / 2.0;
            let squares = floats.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let deviation = if n == 1 { 0.0 } else { (squares / (n - 1) as f64).sqrt() };
            assert_eq!(histogram.count(), n as u64);
            assert_eq!(histogram.min(), values.first().copied());
            assert_eq!(histogram.max(), values.last().copied());
            assert_eq!(histogram.median(), Some(median));
            assert!((histogram.mean().unwrap() - mean).abs() < 1e-9);
            assert!((histogram.std_dev().unwrap() - deviation).abs() < 1e-9);
        }
    }

    #[test]
    fn ten_years_of_readings_are_summed_exactly() {
        let mut histogram = Histogram::default();
        histogram.add(bpm(72), 2_500_000_000);
        histogram.add(bpm(73), 2_500_000_000);
        assert_eq!(histogram.mean(), Some(72.5));
        assert_eq!(histogram.median(), Some(72.5));
        assert!((histogram.std_dev().unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_summary_is_rounded_and_absent_without_readings() {
        let summary = serde_json::to_value(histogram(&[60, 61, 63]).summary()).unwrap();
        let expected = serde_json::json!(
            {"min_bpm": 60, "max_bpm": 63, "avg_bpm": 61.3, "median_bpm": 61.0, "std_dev": 1.5});
        assert_eq!(summary, expected);
        assert_eq!(histogram(&[72]).summary().map(|s| s.std_dev), Some(0.0));
        assert_eq!(Histogram::default().summary(), None);
        assert_eq!(Histogram::default().median(), None);
    }

    #[test]
    fn halves_round_away_from_zero_and_zero_has_no_sign() {
        assert_eq!((round1(0.25), round1(-0.25), round2(0.125)), (0.3, -0.3, 0.13));
        assert!(round1(-0.04).is_sign_positive() && round2(-0.004).is_sign_positive());
    }

    #[test]
    fn buckets_equal_a_naive_search() {
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..200 {
            let start = Timestamp::clamped(rng.i64(0..4 * DAY) * 1000);
            let span = if rng.bool() { rng.i64(1..2000) } else { rng.i64(1..400 * DAY) };
            let end = start.plus(span);
            let n = rng.u16(1..=1000);
            let mut times: Vec<i64> = (0..500).map(|_| rng.i64(-span / 10..span + span / 10 + 1)).collect();
            times.extend([0, span - 1, span]);
            times.sort_unstable();
            let mut buckets = TimeBuckets::new(start, end, n);
            let readings: Vec<_> = times.iter().map(|t| (start.plus(*t), rng.u16(30..=250))).collect();
            readings.iter().for_each(|(at, value)| buckets.push(*at, bpm(*value)));
            let mut expected = Vec::new();
            for i in 0..i64::from(n) {
                let edge = |i: i64| {
                    start.plus(i64::try_from(i128::from(span) * i128::from(i) / i128::from(n)).unwrap())
                };
                let (from, until) = (edge(i), edge(i + 1));
                let inside: Vec<u16> =
                    readings.iter().filter(|(at, _)| *at >= from && *at < until).map(|r| r.1).collect();
                let Some(summary) = histogram(&inside).summary() else { continue };
                expected.push(HeartRateBucket {
                    start: from,
                    end: until,
                    count: inside.len() as u64,
                    min_bpm: summary.min_bpm,
                    avg_bpm: summary.avg_bpm,
                    max_bpm: summary.max_bpm,
                });
            }
            assert_eq!(buckets.finish(), expected);
        }
    }

    #[test]
    fn empty_buckets_are_omitted_and_an_empty_span_has_none() {
        let start = Timestamp::clamped(0);
        let mut buckets = TimeBuckets::new(start, start.plus(4 * HOUR), 4);
        buckets.push(start, bpm(60));
        buckets.push(start.plus(HOUR - 1), bpm(61));
        buckets.push(start.plus(3 * HOUR), bpm(70));
        let shown = serde_json::to_value(buckets.finish()).unwrap();
        let expected = serde_json::json!([
            {"start": "1970-01-01T00:00:00.000000Z", "end": "1970-01-01T01:00:00.000000Z",
             "count": 2, "min_bpm": 60, "avg_bpm": 60.5, "max_bpm": 61},
            {"start": "1970-01-01T03:00:00.000000Z", "end": "1970-01-01T04:00:00.000000Z",
             "count": 1, "min_bpm": 70, "avg_bpm": 70.0, "max_bpm": 70},
        ]);
        assert_eq!(shown, expected);
        let mut none = TimeBuckets::new(start, start, 4);
        none.push(start, bpm(60));
        assert_eq!(none.finish(), []);
    }
}
