//! Heart rate after each coffee compared with the heart rate before it: a merge of coffees and readings,
//! both in time order.
//!
//! A pair is a coffee and the readings in its time window; the API calls it a correlation. The readings before
//! the coffee are its baseline, which a pair may lack.
//!
//! Of the readings, only those are kept that the next coffee may need: of the 2 hours before it and its time
//! window of at most 24 hours. The totals grow with the number of pairs.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::calendar::{Date, Zone};
use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Bpm;
use crate::domain::statistics::round1;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// Time before and after a coffee whose readings are ignored, in microseconds: the time of a coffee is not
/// exact, and its caffeine is absorbed gradually.
pub const MARGIN: i64 = 15 * MINUTE;
/// Time from the start of the baseline to its coffee, in microseconds.
pub const BASELINE_LEAD: i64 = 2 * HOUR;

/// Coffee to compare with readings.
#[derive(Clone, Debug, PartialEq)]
pub struct CoffeeToCompare {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    /// Shared, because there may be a hundred thousand coffees of a few types.
    pub coffee_type: Option<Arc<str>>,
}

/// Coffee with at least one reading in its time window. Heart rates have 1 decimal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelatedCoffee)]
pub struct CoffeeComparison {
    #[schema(value_type = String, format = DateTime)]
    pub coffee_time: Timestamp,
    #[schema(value_type = f64, minimum = 0)]
    pub caffeine_mg: Milligrams,
    #[schema(required)]
    pub coffee_type: Option<String>,
    /// Mean over [coffee + 15 min, coffee + `time_window_hours`).
    pub avg_heartrate_after: f64,
    /// Mean over [coffee − 2 h, coffee − 15 min); null without a reading there.
    #[schema(required)]
    pub baseline_heartrate: Option<f64>,
    /// Difference of the two unrounded means; null without a baseline.
    #[schema(required)]
    pub hr_increase: Option<f64>,
    /// Number of readings in the time window.
    #[schema(minimum = 1)]
    pub readings_count: usize,
    #[schema(minimum = 1, maximum = 24)]
    pub time_window_hours: u8,
}

/// Builder of the comparisons.
pub struct PairBuilder<'z> {
    coffees: Vec<CoffeeToCompare>,
    hours_after: u8,
    /// Index of the first coffee whose time window has not ended yet.
    first_open: usize,
    recent: RecentReadings,
    zone: &'z Zone,
    totals: PairTotals,
}

/// Readings that the next coffee may need.
#[derive(Debug, Default)]
struct RecentReadings {
    /// Time of each reading, with the sum of the heart rates of all earlier ones, also of dropped ones: the
    /// difference of two such sums is the sum of the readings between.
    readings: VecDeque<(Timestamp, u64)>,
    /// Sum of the heart rates of all readings so far.
    sum: u64,
}

/// Totals over all pairs, and the latest pairs.
#[derive(Debug, Default, PartialEq)]
pub struct PairTotals {
    /// The latest pairs in time order.
    pub latest: VecDeque<CoffeeComparison>,
    max_pairs: usize,
    /// Number of all pairs, with and without a baseline.
    pub pairs: usize,
    /// Sum of the doses of all pairs in milligrams.
    pub total_dose_mg: f64,
    /// Dose in milligrams of each pair with a baseline, in time order.
    pub doses_with_baseline: Vec<f64>,
    /// Unrounded increase in beats per minute of each pair with a baseline, in time order.
    pub increases: Vec<f64>,
    /// Sizes of the consecutive groups of the two lists above that belong to one day. Days without such a pair
    /// have no entry.
    pub pairs_with_baseline_by_day: Vec<usize>,
    /// Day of the last group.
    day: Option<Date>,
}

impl<'z> PairBuilder<'z> {
    /// Creates a builder for coffees in time order and readings up to `hours_after` (1 to 24) after each.
    /// `max_pairs` limits the listed pairs; days are those of `zone`.
    pub fn new(coffees: Vec<CoffeeToCompare>, hours_after: u8, max_pairs: usize, zone: &'z Zone) -> Self {
        let mut totals = PairTotals::new(max_pairs);
        // A vector that grows by doubling needs twice the memory while it grows.
        totals.doses_with_baseline.reserve_exact(coffees.len());
        totals.increases.reserve_exact(coffees.len());
        Self { coffees, hours_after, first_open: 0, recent: RecentReadings::default(), zone, totals }
    }

    /// Returns the time [from, until) from the first baseline to the end of the last time window; `None`
    /// without coffees.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.coffees.first()?, self.coffees.last()?);
        Some((first.timestamp.minus(BASELINE_LEAD), self.window_end(last)))
    }

    /// Adds the next reading, in time order.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        while let Some(coffee) = self.coffees.get(self.first_open) {
            if at < self.window_end(coffee) {
                if at >= coffee.timestamp.minus(BASELINE_LEAD) {
                    self.recent.push(at, bpm);
                }
                return;
            }
            self.finish_coffee();
        }
    }

    /// Returns the totals, after all readings of the span have been added.
    pub fn finish(mut self) -> PairTotals {
        while self.first_open < self.coffees.len() {
            self.finish_coffee();
        }
        self.totals
    }

    fn window_end(&self, coffee: &CoffeeToCompare) -> Timestamp {
        coffee.timestamp.plus(i64::from(self.hours_after) * HOUR)
    }

    /// Compares the first open coffee and drops the readings that no later coffee needs.
    fn finish_coffee(&mut self) {
        let Some(coffee) = self.coffees.get(self.first_open) else { return };
        let at = coffee.timestamp;
        let (after, readings_count) = self.recent.mean(at.plus(MARGIN), self.window_end(coffee));
        if let Some(after) = after {
            let (baseline, _) = self.recent.mean(at.minus(BASELINE_LEAD), at.minus(MARGIN));
            let increase = baseline.map(|baseline| after - baseline);
            let pair = CoffeeComparison {
                coffee_time: at,
                caffeine_mg: coffee.caffeine_mg,
                coffee_type: coffee.coffee_type.as_deref().map(str::to_owned),
                avg_heartrate_after: round1(after),
                baseline_heartrate: baseline.map(round1),
                hr_increase: increase.map(round1),
                readings_count,
                time_window_hours: self.hours_after,
            };
            self.totals.add(pair, increase, self.zone.date(at));
        }
        self.first_open += 1;
        let next = self.coffees.get(self.first_open);
        self.recent.drop_before(next.map_or(Timestamp::MAX, |coffee| coffee.timestamp.minus(BASELINE_LEAD)));
    }
}

impl RecentReadings {
    fn push(&mut self, at: Timestamp, bpm: Bpm) {
        self.readings.push_back((at, self.sum));
        self.sum += u64::from(bpm.get());
    }

    fn drop_before(&mut self, from: Timestamp) {
        let count = self.readings.partition_point(|(at, _)| *at < from);
        self.readings.drain(..count);
    }

    /// Returns the mean heart rate over [from, until) and the number of readings.
    fn mean(&self, from: Timestamp, until: Timestamp) -> (Option<f64>, usize) {
        let first = self.readings.partition_point(|(at, _)| *at < from);
        let end = self.readings.partition_point(|(at, _)| *at < until);
        let count = end.saturating_sub(first);
        let sum = self.sum_before(end).saturating_sub(self.sum_before(first));
        ((count > 0).then(|| sum as f64 / count as f64), count)
    }

    fn sum_before(&self, index: usize) -> u64 {
        self.readings.get(index).map_or(self.sum, |(_, sum)| *sum)
    }
}

impl PairTotals {
    /// Creates empty totals that list the latest `max_pairs` pairs.
    pub fn new(max_pairs: usize) -> Self {
        Self { max_pairs, ..Self::default() }
    }

    /// Adds the next pair, in time order, with its unrounded increase and its day.
    pub fn add(&mut self, pair: CoffeeComparison, increase: Option<f64>, day: Date) {
        self.pairs += 1;
        self.total_dose_mg += pair.caffeine_mg.mg();
        if let Some(increase) = increase {
            self.doses_with_baseline.push(pair.caffeine_mg.mg());
            self.increases.push(increase);
            match self.pairs_with_baseline_by_day.last_mut() {
                Some(count) if self.day == Some(day) => *count += 1,
                _ => self.pairs_with_baseline_by_day.push(1),
            }
            self.day = Some(day);
        }
        if self.latest.len() == self.max_pairs {
            self.latest.pop_front();
        }
        self.latest.push_back(pair);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::time::DAY;

    fn at(offset: i64) -> Timestamp {
        Zone::utc().parse("2026-06-01T12:00:00Z").unwrap().plus(offset)
    }

    fn coffee(offset: i64) -> CoffeeToCompare {
        let (timestamp, caffeine_mg) = (at(offset), Milligrams::new(80.0).unwrap());
        CoffeeToCompare { timestamp, caffeine_mg, coffee_type: None }
    }

    fn bpm(bpm: i64) -> Bpm {
        Bpm::new(bpm).unwrap()
    }

    #[test]
    fn the_latest_pairs_are_listed_and_all_are_counted() {
        let zone = Zone::utc();
        let mut pairs = PairBuilder::new((0..120).map(|n| coffee(n * DAY)).collect(), 24, 50, &zone);
        for n in 0..120 {
            pairs.push(at(n * DAY - HOUR), bpm(60));
            pairs.push(at(n * DAY + HOUR), bpm(if n < 60 { 100 } else { 60 }));
        }
        let totals = pairs.finish();
        let listed: Vec<_> = totals.latest.iter().map(|pair| pair.coffee_time).collect();
        assert_eq!(listed, (70..120).map(|n| at(n * DAY)).collect::<Vec<_>>());
        // The reading before the next coffee is also in the 24-hour window.
        assert_eq!((totals.pairs, totals.increases[0], totals.increases[119]), (120, 20.0, 0.0));
        assert_eq!((totals.total_dose_mg, totals.pairs_with_baseline_by_day), (9600.0, vec![1; 120]));
    }

    #[test]
    fn coffees_belong_to_the_days_of_the_zone() {
        let zone = Zone::named("Asia/Tokyo").unwrap();
        // 12:00, 14:59, 15:00 in UTC: Tokyo's next day begins at 15:00.
        let coffees = [0, 3 * HOUR - MINUTE, 3 * HOUR].map(coffee);
        let mut pairs = PairBuilder::new(coffees.to_vec(), 6, 50, &zone);
        (-60..300).for_each(|minute| pairs.push(at(minute * MINUTE), bpm(60)));
        assert_eq!(pairs.finish().pairs_with_baseline_by_day, [2, 1]);
    }

    #[test]
    fn only_readings_around_one_coffee_are_kept() {
        let zone = Zone::utc();
        // A reading a minute for 30 days, a coffee every fifth.
        let mut pairs = PairBuilder::new((0..6).map(|n| coffee(n * 5 * DAY)).collect(), 2, 50, &zone);
        assert_eq!(pairs.span(), Some((at(-2 * HOUR), at(25 * DAY + 2 * HOUR))));
        let mut most = 0;
        for minute in -1440..30 * 1440 {
            pairs.push(at(minute * MINUTE), bpm(60));
            most = most.max(pairs.recent.readings.len());
        }
        assert_eq!(most, 240);
        assert_eq!(pairs.recent.readings.len(), 0);
    }
}
