//! The pulse after each coffee against the pulse before it: one merge of coffees and readings,
//! both in time order.
//!
//! A reading is held only while a coffee's window may need it, so memory follows the readings
//! around one coffee, never the length of the period.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::calendar::{Date, LocalClock, Zone};
use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Bpm;
use crate::domain::statistics::round1;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// Readings closer to a coffee than this, in microseconds, belong to neither side.
pub const MARGIN: i64 = 15 * MINUTE;
/// How long before a coffee its baseline begins, in microseconds.
pub const BASELINE: i64 = 2 * HOUR;

/// A coffee that is to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrelatedCoffee {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    /// Shared: there are a hundred thousand coffees of a handful of types.
    pub coffee_type: Option<Arc<str>>,
}

/// A coffee with at least one reading after it. Pulses have 1 decimal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelatedCoffee)]
pub struct BeforeAfterPair {
    #[schema(value_type = String, format = DateTime)]
    pub coffee_time: Timestamp,
    #[schema(value_type = f64, minimum = 0)]
    pub caffeine_mg: Milligrams,
    #[schema(required)]
    pub coffee_type: Option<String>,
    /// Over [coffee + 15 min, coffee + `time_window_hours`).
    pub avg_heartrate_after: f64,
    /// Over [coffee − 2 h, coffee − 15 min); null without a reading there.
    #[schema(required)]
    pub baseline_heartrate: Option<f64>,
    /// The difference of the two, rounded last.
    #[schema(required)]
    pub hr_increase: Option<f64>,
    /// Readings after the coffee.
    #[schema(minimum = 1)]
    pub readings_count: usize,
    #[schema(minimum = 1, maximum = 24)]
    pub time_window_hours: u8,
}

/// Compares coffees with readings as these pass by.
pub struct PairBuilder<'z> {
    coffees: Vec<CorrelatedCoffee>,
    hours_after: u8,
    /// The first coffee whose window is still open.
    next: usize,
    readings: Window,
    clock: LocalClock<'z>,
    totals: PairTotals,
}

/// The readings that an open window may need.
#[derive(Debug, Default)]
struct Window {
    /// Each reading's time and the sum of all pulses before it.
    held: VecDeque<(Timestamp, u64)>,
    /// The sum of all pulses, in beats per minute.
    sum: u64,
}

/// What the pairs come to.
#[derive(Debug, Default, PartialEq)]
pub struct PairTotals {
    /// The latest pairs, oldest first, and how many there may be.
    pub shown: VecDeque<BeforeAfterPair>,
    max_shown: usize,
    pub pairs: usize,
    /// The sum of all doses.
    pub dose_mg: f64,
    /// Of the pairs with a baseline, in time order: mg, the unrounded increase in beats per minute,
    pub doses: Vec<f64>,
    pub increases: Vec<f64>,
    /// and how many of them each day has.
    pub pairs_by_day: Vec<usize>,
    day: Option<Date>,
}

impl<'z> PairBuilder<'z> {
    /// Compares these coffees (in any order) with the readings up to `hours_after` (1 to 24) after each,
    /// and shows the latest `shown`. A coffee's day is the zone's.
    pub fn new(mut coffees: Vec<CorrelatedCoffee>, hours_after: u8, shown: usize, zone: &'z Zone) -> Self {
        coffees.sort_by_key(|coffee| coffee.timestamp);
        let mut totals = PairTotals::showing(shown);
        // Memory that grows by doubling is held twice, and each thread's stays with it.
        totals.doses.reserve_exact(coffees.len());
        totals.increases.reserve_exact(coffees.len());
        Self {
            coffees,
            hours_after: hours_after.clamp(1, 24),
            next: 0,
            readings: Window::default(),
            clock: zone.local_clock(),
            totals,
        }
    }

    /// The time [from, until) whose readings matter; `None` without coffees.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.coffees.first()?, self.coffees.last()?);
        Some((first.timestamp.minus(BASELINE), self.window_end(last)))
    }

    /// Takes the next reading, in time order.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        while let Some(coffee) = self.coffees.get(self.next) {
            if at < self.window_end(coffee) {
                if at >= coffee.timestamp.minus(BASELINE) {
                    self.readings.push(at, bpm);
                }
                return;
            }
            self.compare_next();
        }
    }

    /// What the pairs come to, when all readings of the span have been taken.
    pub fn finish(mut self) -> PairTotals {
        while self.next < self.coffees.len() {
            self.compare_next();
        }
        self.totals
    }

    fn window_end(&self, coffee: &CorrelatedCoffee) -> Timestamp {
        coffee.timestamp.plus(i64::from(self.hours_after) * HOUR)
    }

    /// Closes the next coffee's window and forgets what no later one needs.
    fn compare_next(&mut self) {
        let Some(coffee) = self.coffees.get(self.next) else { return };
        let at = coffee.timestamp;
        let end = at.plus(i64::from(self.hours_after) * HOUR);
        let (after, readings_count) = self.readings.mean(at.plus(MARGIN), end);
        if let Some(after) = after {
            let (baseline, _) = self.readings.mean(at.minus(BASELINE), at.minus(MARGIN));
            let increase = baseline.map(|baseline| after - baseline);
            let pair = BeforeAfterPair {
                coffee_time: at,
                caffeine_mg: coffee.caffeine_mg,
                coffee_type: coffee.coffee_type.as_deref().map(str::to_owned),
                avg_heartrate_after: round1(after),
                baseline_heartrate: baseline.map(round1),
                hr_increase: increase.map(round1),
                readings_count,
                time_window_hours: self.hours_after,
            };
            self.totals.add(pair, increase, self.clock.date(at));
        }
        self.next += 1;
        match self.coffees.get(self.next) {
            Some(coffee) => self.readings.forget_before(coffee.timestamp.minus(BASELINE)),
            None => self.readings.forget_before(Timestamp::MAX),
        }
    }
}

impl Window {
    fn push(&mut self, at: Timestamp, bpm: Bpm) {
        self.held.push_back((at, self.sum));
        self.sum += u64::from(bpm.get());
    }

    fn forget_before(&mut self, from: Timestamp) {
        let gone = self.held.partition_point(|(at, _)| *at < from);
        self.held.drain(..gone);
    }

    /// The mean pulse over [from, until) and how many readings that is.
    fn mean(&self, from: Timestamp, until: Timestamp) -> (Option<f64>, usize) {
        let first = self.held.partition_point(|(at, _)| *at < from);
        let end = self.held.partition_point(|(at, _)| *at < until);
        let count = end.saturating_sub(first);
        let sum = self.sum_before(end).saturating_sub(self.sum_before(first));
        ((count > 0).then(|| sum as f64 / count as f64), count)
    }

    fn sum_before(&self, index: usize) -> u64 {
        self.held.get(index).map_or(self.sum, |(_, sum)| *sum)
    }
}

impl PairTotals {
    /// Nothing yet, of which the latest `pairs` will be shown.
    pub fn showing(pairs: usize) -> Self {
        Self { max_shown: pairs, ..Self::default() }
    }

    /// Counts the next pair, in time order, with its unrounded increase and its day.
    pub fn add(&mut self, pair: BeforeAfterPair, increase: Option<f64>, day: Date) {
        self.pairs += 1;
        self.dose_mg += pair.caffeine_mg.mg();
        if let Some(increase) = increase {
            self.doses.push(pair.caffeine_mg.mg());
            self.increases.push(increase);
            match self.pairs_by_day.last_mut() {
                Some(count) if self.day == Some(day) => *count += 1,
                _ => self.pairs_by_day.push(1),
            }
            self.day = Some(day);
        }
        if self.shown.len() == self.max_shown {
            self.shown.pop_front();
        }
        self.shown.push_back(pair);
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

    fn coffee(offset: i64) -> CorrelatedCoffee {
        let (timestamp, caffeine_mg) = (at(offset), Milligrams::new(80.0).unwrap());
        CorrelatedCoffee { timestamp, caffeine_mg, coffee_type: None }
    }

    fn bpm(bpm: i64) -> Bpm {
        Bpm::new(bpm).unwrap()
    }

    #[test]
    fn the_latest_are_shown_but_all_are_counted() {
        let zone = Zone::utc();
        let mut pairs = PairBuilder::new((0..120).map(|n| coffee(n * DAY)).collect(), 24, 50, &zone);
        for n in 0..120 {
            pairs.push(at(n * DAY - HOUR), bpm(60));
            pairs.push(at(n * DAY + HOUR), bpm(if n < 60 { 100 } else { 60 }));
        }
        let totals = pairs.finish();
        let shown: Vec<_> = totals.shown.iter().map(|pair| pair.coffee_time).collect();
        assert_eq!(shown, (70..120).map(|n| at(n * DAY)).collect::<Vec<_>>());
        // The reading before the next coffee lies in the window, too.
        assert_eq!((totals.pairs, totals.increases[0], totals.increases[119]), (120, 20.0, 0.0));
        assert_eq!((totals.dose_mg, totals.pairs_by_day), (9600.0, vec![1; 120]));
    }

    #[test]
    fn coffees_belong_to_the_days_of_the_zone() {
        let zone = Zone::named("Asia/Tokyo").unwrap();
        // 12:00, 14:59, 15:00 in UTC: Tokyo's next day begins at 15:00.
        let coffees = [0, 3 * HOUR - MINUTE, 3 * HOUR].map(coffee);
        let mut pairs = PairBuilder::new(coffees.to_vec(), 6, 50, &zone);
        (-60..300).for_each(|minute| pairs.push(at(minute * MINUTE), bpm(60)));
        assert_eq!(pairs.finish().pairs_by_day, [2, 1]);
    }

    #[test]
    fn only_readings_around_one_coffee_are_held() {
        let zone = Zone::utc();
        // A reading a minute for 30 days, a coffee every fifth.
        let mut pairs = PairBuilder::new((0..6).map(|n| coffee(n * 5 * DAY)).collect(), 2, 50, &zone);
        assert_eq!(pairs.span(), Some((at(-2 * HOUR), at(25 * DAY + 2 * HOUR))));
        let mut most = 0;
        for minute in -1440..30 * 1440 {
            pairs.push(at(minute * MINUTE), bpm(60));
            most = most.max(pairs.readings.held.len());
        }
        assert_eq!(most, 240);
        assert_eq!(pairs.readings.held.len(), 0);
    }
}
