//! What coffee does to the pulse: one merge of coffees and readings, both in time order.
//!
//! For each coffee, the readings after it against those before it. A reading is held only
//! while a coffee's window may need it, so memory follows the readings around one coffee,
//! never the length of the period. Which coffees and readings take part is the caller's choice.

use std::collections::VecDeque;

use serde::Serialize;
use utoipa::ToSchema;

use super::coffee::Milligrams;
use super::heart_rate::Bpm;
use super::statistics::round1;
use super::time::{HOUR, MINUTE, Timestamp};

/// Most pairs that an answer shows; the analysis is over all of them.
pub const MAX_SHOWN: usize = 50;
/// Readings closer to a coffee than this, in microseconds, belong to neither side.
pub const MARGIN: i64 = 15 * MINUTE;
/// How long before a coffee its baseline begins, in microseconds.
pub const BASELINE: i64 = 2 * HOUR;

/// A coffee that is to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrelatedCoffee {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    pub coffee_type: Option<String>,
}

/// A coffee with at least one reading after it. Pulses have 1 decimal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelatedCoffee)]
pub struct Pair {
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

/// What all pairs come to, the ones not shown included.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelationAnalysis)]
pub struct Analysis {
    #[schema(minimum = 1)]
    pub total_correlations: usize,
    /// Milligrams.
    #[schema(minimum = 0)]
    pub avg_caffeine_dose: f64,
    /// Beats per minute; null when no pair has a baseline.
    #[schema(required)]
    pub avg_hr_increase: Option<f64>,
    #[schema(required)]
    pub max_hr_increase: Option<f64>,
    pub time_window_analyzed: String,
}

/// The answer when there are pairs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Correlation {
    /// Newest first, at most 50.
    #[schema(max_items = 50)]
    pub correlations: Vec<Pair>,
    pub analysis: Analysis,
    pub summary: &'static str,
}

/// The answer when no coffee has a reading after it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = NoCorrelation)]
pub struct NoPairs {
    /// Always empty.
    #[schema(value_type = Vec<Pair>, max_items = 0)]
    pub correlations: [Pair; 0],
    pub summary: &'static str,
    #[schema(value_type = Vec<String>)]
    pub recommendations: [&'static str; 2],
}

/// What coffee does to the heart, or that there is too little to tell.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelationOrNone)]
#[serde(untagged)]
pub enum Answer {
    Pairs(Correlation),
    NoPairs(NoPairs),
}

/// Compares coffees with readings as these pass by.
#[derive(Clone, Debug)]
pub struct Correlator {
    coffees: Vec<CorrelatedCoffee>,
    hours_after: u8,
    /// The first coffee whose window is still open.
    next: usize,
    readings: Window,
    tally: Tally,
}

/// The readings that an open window may need.
#[derive(Clone, Debug, Default)]
struct Window {
    /// Each reading's time and the sum of all pulses before it.
    held: VecDeque<(Timestamp, u64)>,
    /// The sum of all pulses, in beats per minute.
    sum: u64,
}

/// What the pairs so far come to.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// The latest pairs, oldest first.
    shown: VecDeque<Pair>,
    pairs: usize,
    dose_mg: f64,
    increases: usize,
    increase_bpm: f64,
    max_increase_bpm: Option<f64>,
}

impl Correlator {
    /// Compares these coffees (in any order) with the readings up to `hours_after` (1 to 24) after each.
    pub fn new(mut coffees: Vec<CorrelatedCoffee>, hours_after: u8) -> Self {
        coffees.sort_by_key(|coffee| coffee.timestamp);
        Self {
            coffees,
            hours_after: hours_after.clamp(1, 24),
            next: 0,
            readings: Window::default(),
            tally: Tally::default(),
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

    /// The answer, when all readings of the span have been taken.
    pub fn finish(mut self) -> Answer {
        while self.next < self.coffees.len() {
            self.compare_next();
        }
        self.tally.into_answer(self.hours_after)
    }

    fn window_end(&self, coffee: &CorrelatedCoffee) -> Timestamp {
        coffee.timestamp.plus(i64::from(self.hours_after) * HOUR)
    }

    /// Closes the next coffee's window and forgets what no later one needs.
    fn compare_next(&mut self) {
        let Some(coffee) = self.coffees.get(self.next) else { return };
        let at = coffee.timestamp;
        let (after, readings_count) = self.readings.mean(at.plus(MARGIN), self.window_end(coffee));
        if let Some(after) = after {
            let (baseline, _) = self.readings.mean(at.minus(BASELINE), at.minus(MARGIN));
            let increase = baseline.map(|baseline| after - baseline);
            let pair = Pair {
                coffee_time: at,
                caffeine_mg: coffee.caffeine_mg,
                coffee_type: coffee.coffee_type.clone(),
                avg_heartrate_after: round1(after),
                baseline_heartrate: baseline.map(round1),
                hr_increase: increase.map(round1),
                readings_count,
                time_window_hours: self.hours_after,
            };
            self.tally.add(pair, increase);
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

impl Tally {
    fn add(&mut self, pair: Pair, increase: Option<f64>) {
        self.pairs += 1;
        self.dose_mg += pair.caffeine_mg.mg();
        if let Some(increase) = increase {
            self.increases += 1;
            self.increase_bpm += increase;
            self.max_increase_bpm = Some(self.max_increase_bpm.map_or(increase, |max| max.max(increase)));
        }
        if self.shown.len() == MAX_SHOWN {
            self.shown.pop_front();
        }
        self.shown.push_back(pair);
    }

    fn into_answer(self, hours_after: u8) -> Answer {
        if self.pairs == 0 {
            return Answer::NoPairs(NoPairs {
                correlations: [],
                summary: "Not enough data to crush your dreams of health",
                recommendations: ["Log more coffee and heart rate data", "Try again in a few days"],
            });
        }
        let average = (self.increases > 0).then(|| self.increase_bpm / self.increases as f64);
        Answer::Pairs(Correlation {
            analysis: Analysis {
                total_correlations: self.pairs,
                avg_caffeine_dose: round1(self.dose_mg / self.pairs as f64),
                avg_hr_increase: average.map(round1),
                max_hr_increase: self.max_increase_bpm.map(round1),
                time_window_analyzed: format!("{hours_after} hours after coffee"),
            },
            summary: summary(average),
            correlations: self.shown.into_iter().rev().collect(),
        })
    }
}

/// What an average increase, in beats per minute, says.
pub fn summary(average_increase: Option<f64>) -> &'static str {
    match average_increase {
        None => "Not enough baseline data for proper correlation",
        Some(i) if i < 5.0 => "Caffeine barely affects your heart rate - impressive tolerance",
        Some(i) if i < 15.0 => "Moderate heart rate response to caffeine",
        Some(i) if i < 25.0 => "Significant heart rate increase from caffeine",
        Some(_) => "Your heart really doesn't like caffeine",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::model::time::{DAY, SECOND};

    const NOON: i64 = 1_780_315_200 * SECOND;

    fn at(offset: i64) -> Timestamp {
        Timestamp::clamped(NOON + offset)
    }

    fn coffee(offset: i64, mg: f64) -> CorrelatedCoffee {
        CorrelatedCoffee {
            timestamp: at(offset),
            caffeine_mg: Milligrams::new(mg).unwrap(),
            coffee_type: Some("espresso".into()),
        }
    }

    fn correlate(coffees: &[CorrelatedCoffee], hours: u8, readings: &[(Timestamp, u16)]) -> Answer {
        let mut correlator = Correlator::new(coffees.to_vec(), hours);
        for (at, bpm) in readings {
            correlator.push(*at, Bpm::new(i64::from(*bpm)).unwrap());
        }
        correlator.finish()
    }

    /// Every coffee against every reading.
    fn naively(coffees: &[CorrelatedCoffee], hours: u8, readings: &[(Timestamp, u16)]) -> Answer {
        let mean = |from: Timestamp, until: Timestamp| {
            let inside: Vec<f64> = readings
                .iter()
                .filter(|(at, _)| *at >= from && *at < until)
                .map(|(_, bpm)| f64::from(*bpm))
                .collect();
            ((!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64), inside.len())
        };
        let mut tally = Tally::default();
        for coffee in coffees {
            let at = coffee.timestamp;
            let (after, readings_count) = mean(at.plus(MARGIN), at.plus(i64::from(hours) * HOUR));
            let Some(after) = after else { continue };
            let baseline = mean(at.minus(BASELINE), at.minus(MARGIN)).0;
            let pair = Pair {
                coffee_time: at,
                caffeine_mg: coffee.caffeine_mg,
                coffee_type: coffee.coffee_type.clone(),
                avg_heartrate_after: round1(after),
                baseline_heartrate: baseline.map(round1),
                hr_increase: baseline.map(|b| round1(after - b)),
                readings_count,
                time_window_hours: hours,
            };
            tally.add(pair, baseline.map(|b| after - b));
        }
        tally.into_answer(hours)
    }

    #[test]
    fn one_pass_finds_what_a_search_of_every_pair_finds() {
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..200 {
            let days = if round % 2 == 0 { 2 } else { 40 };
            let span = days * DAY;
            // Whole minutes, so that coffees and readings often meet on a boundary.
            let mut minutes =
                |n: usize| (0..n).map(|_| rng.i64(0..span / MINUTE) * MINUTE).collect::<Vec<_>>();
            let (mut drunk, mut measured) = (minutes(round), minutes(round * 5));
            drunk.sort_unstable();
            measured.sort_unstable();
            let coffees: Vec<_> = drunk.iter().map(|t| coffee(*t, rng.f64() * 300.0)).collect();
            let readings: Vec<_> = measured.iter().map(|t| (at(*t), rng.u16(40..180))).collect();
            let hours = rng.u8(1..=24);
            assert_eq!(correlate(&coffees, hours, &readings), naively(&coffees, hours, &readings));
        }
    }

    #[test]
    fn windows_begin_with_their_first_instant_and_end_before_their_last() {
        let coffees = [coffee(0, 80.0)];
        for (offset, after, baseline) in [
            (-BASELINE - 1, false, false),
            (-BASELINE, false, true),
            (-MARGIN - 1, false, true),
            (-MARGIN, false, false),
            (0, false, false),
            (MARGIN - 1, false, false),
            (MARGIN, true, false),
            (2 * HOUR - 1, true, false),
            (2 * HOUR, false, false),
        ] {
            // A reading at +1 h makes a pair in any case.
            let mut readings = [(at(offset), 60), (at(HOUR), 80)];
            readings.sort_unstable();
            let Answer::Pairs(answer) = correlate(&coffees, 2, &readings) else {
                panic!("{offset}: no pair")
            };
            let pair = &answer.correlations[0];
            assert_eq!(pair.readings_count, 1 + usize::from(after), "{offset}");
            assert_eq!(pair.baseline_heartrate, baseline.then_some(60.0), "{offset}");
        }
    }

    #[test]
    fn the_whole_answer_is_as_the_contract_writes_it() {
        let readings = [(at(-HOUR), 60), (at(HOUR), 71), (at(HOUR + 1), 72), (at(5 * DAY + HOUR), 99)];
        let mut second = coffee(5 * DAY, 95.5);
        second.coffee_type = None;
        let answer = correlate(&[coffee(0, 80.0), second], 2, &readings);
        let expected = serde_json::json!({
            "correlations": [
                {"coffee_time": "2026-06-06T12:00:00.000000Z", "caffeine_mg": 95.5, "coffee_type": null,
                 "avg_heartrate_after": 99.0, "baseline_heartrate": null, "hr_increase": null,
                 "readings_count": 1, "time_window_hours": 2},
                {"coffee_time": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 80.0, "coffee_type": "espresso",
                 "avg_heartrate_after": 71.5, "baseline_heartrate": 60.0, "hr_increase": 11.5,
                 "readings_count": 2, "time_window_hours": 2},
            ],
            "analysis": {"total_correlations": 2, "avg_caffeine_dose": 87.8, "avg_hr_increase": 11.5,
                         "max_hr_increase": 11.5, "time_window_analyzed": "2 hours after coffee"},
            "summary": "Moderate heart rate response to caffeine",
        });
        assert_eq!(serde_json::to_value(answer).unwrap(), expected);
    }

    #[test]
    fn without_pairs_the_answer_says_what_to_do() {
        let expected = serde_json::json!({
            "correlations": [],
            "summary": "Not enough data to crush your dreams of health",
            "recommendations": ["Log more coffee and heart rate data", "Try again in a few days"],
        });
        for answer in
            [correlate(&[], 2, &[(at(0), 60)]), correlate(&[coffee(0, 80.0)], 2, &[(at(-HOUR), 60)])]
        {
            assert_eq!(serde_json::to_value(answer).unwrap(), expected);
        }
        assert_eq!(Correlator::new(Vec::new(), 2).span(), None);
    }

    #[test]
    fn at_most_fifty_are_shown_but_all_are_analysed() {
        let coffees: Vec<_> = (0..120).map(|n| coffee(n * DAY, 100.0)).collect();
        let readings: Vec<_> = (0..120)
            .flat_map(|n| [(at(n * DAY - HOUR), 60), (at(n * DAY + HOUR), 60 + u16::from(n < 60) * 40)])
            .collect();
        let Answer::Pairs(answer) = correlate(&coffees, 24, &readings) else { panic!("no pairs") };
        assert_eq!(answer.correlations.len(), MAX_SHOWN);
        assert_eq!(answer.correlations[0].coffee_time, at(119 * DAY));
        assert_eq!(answer.correlations[49].coffee_time, at(70 * DAY));
        assert_eq!(answer.analysis.total_correlations, 120);
        assert_eq!(answer.analysis.max_hr_increase, Some(20.0));
    }

    #[test]
    fn only_readings_around_one_coffee_are_held() {
        // A reading a minute for 30 days, a coffee every fifth.
        let coffees: Vec<_> = (0..6).map(|n| coffee(n * 5 * DAY, 80.0)).collect();
        let mut correlator = Correlator::new(coffees, 2);
        assert_eq!(correlator.span(), Some((at(-2 * HOUR), at(25 * DAY + 2 * HOUR))));
        let mut most = 0;
        for minute in -1440..30 * 1440 {
            correlator.push(at(minute * MINUTE), Bpm::new(60).unwrap());
            most = most.max(correlator.readings.held.len());
        }
        assert_eq!(most, 240);
        assert_eq!(correlator.readings.held.len(), 0);
    }

    #[test]
    fn the_summary_goes_by_the_unrounded_average() {
        for (average, begins) in [
            (None, "Not enough"),
            (Some(-3.0), "Caffeine barely"),
            (Some(4.99), "Caffeine barely"),
            (Some(5.0), "Moderate"),
            (Some(15.0), "Significant"),
            (Some(25.0), "Your heart"),
        ] {
            assert!(summary(average).starts_with(begins), "{average:?}");
        }
    }
}
