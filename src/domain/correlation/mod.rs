//! Effect of coffee on the heart rate, from one pass over coffees and readings in time order.
//!
//! `pairs` compares the readings after each coffee with those before it. `quarter_hours` and `regression`
//! relate all readings to the modelled caffeine. `evidence` derives statistics and a verdict. Memory grows
//! with the number of coffees and days. The readings of at most 26 hours are kept; their reader adds one packed
//! day.

mod evidence;
mod pairs;
mod quarter_hours;
mod regression;

use serde::Serialize;
use utoipa::ToSchema;

pub use crate::domain::correlation::evidence::{CorrelationStatistics, EXCLUDED_CONTEXTS, Verdict};
pub use crate::domain::correlation::pairs::{BASELINE_LEAD, CoffeeComparison, CoffeeToCompare, MARGIN};

use crate::domain::caffeine::{Dose, Kinetics};
use crate::domain::calendar::Zone;
use crate::domain::correlation::pairs::{PairBuilder, PairTotals};
use crate::domain::correlation::quarter_hours::QuarterHours;
use crate::domain::heart_rate::Bpm;
use crate::domain::statistics::round1;
use crate::domain::time::Timestamp;

/// Parameters of a correlation.
#[derive(Clone, Debug)]
pub struct CorrelationParams {
    /// Start of the period, inclusive.
    pub since: Timestamp,
    /// End of the period, exclusive.
    pub until: Timestamp,
    /// Length of the time window after a coffee in hours, 1 to 24.
    pub hours_after: u8,
    /// Only readings of this context, in exactly this spelling; `None` for all contexts except [`EXCLUDED_CONTEXTS`].
    pub context: Option<String>,
    /// Maximum number of listed pairs; the statistics cover all of them.
    pub max_pairs: usize,
    /// Time zone of days and hours.
    pub zone: Zone,
    pub kinetics: Kinetics,
}

/// Summary of all pairs, including those that are not listed. The increases are those of the pairs with a
/// baseline.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationAnalysis {
    #[schema(minimum = 1)]
    pub total_correlations: usize,
    /// Mean dose in milligrams.
    #[schema(minimum = 0)]
    pub avg_caffeine_dose: f64,
    /// Mean increase in beats per minute; null when no pair has a baseline.
    #[schema(required)]
    pub avg_hr_increase: Option<f64>,
    /// Highest increase in beats per minute; null when no pair has a baseline.
    #[schema(required)]
    pub max_hr_increase: Option<f64>,
    pub time_window_analyzed: String,
}

/// Correlation with at least one pair.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Correlation {
    /// Newest first, at most `limit`.
    #[schema(max_items = 1000)]
    pub correlations: Vec<CoffeeComparison>,
    pub analysis: CorrelationAnalysis,
    /// Casual remark on the average increase, without regard to its uncertainty; see `verdict`.
    pub summary: &'static str,
    pub verdict: Verdict,
    pub statistics: CorrelationStatistics,
}

/// Correlation without pairs: no coffee has a reading in its time window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NoCorrelation {
    /// Always empty.
    #[schema(value_type = Vec<CoffeeComparison>, max_items = 0)]
    pub correlations: [CoffeeComparison; 0],
    pub summary: &'static str,
    #[schema(value_type = Vec<String>)]
    pub recommendations: [&'static str; 2],
}

/// Result of a correlation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelationOrNone)]
#[serde(untagged)]
pub enum CorrelationResult {
    Pairs(Box<Correlation>),
    NoPairs(NoCorrelation),
}

/// Accumulator of a correlation.
pub struct Correlator<'a> {
    params: &'a CorrelationParams,
    pairs: PairBuilder<'a>,
    quarters: QuarterHours<'a>,
}

impl CorrelationParams {
    /// Returns the time from which doses are needed for the caffeine model.
    pub fn doses_since(&self) -> Timestamp {
        self.since.minus(QuarterHours::dose_lookback_micros(&self.kinetics))
    }

    /// Returns the contexts whose readings are excluded.
    pub fn excluded_contexts(&self) -> &'static [&'static str] {
        if self.context.is_some() { &[] } else { &EXCLUDED_CONTEXTS }
    }

    /// Reports whether readings with this context are included.
    pub fn includes(&self, context: Option<&str>) -> bool {
        match (&self.context, context) {
            (Some(selected), context) => context == Some(selected),
            (None, Some(context)) => !self.excluded_contexts().contains(&context),
            (None, None) => true,
        }
    }
}

impl<'a> Correlator<'a> {
    /// Creates a correlator for the `coffees` of the period and for all `doses` since
    /// [`CorrelationParams::doses_since`], both in time order.
    pub fn new(params: &'a CorrelationParams, coffees: Vec<CoffeeToCompare>, doses: &'a [Dose]) -> Self {
        let zone = &params.zone;
        Self {
            params,
            pairs: PairBuilder::new(coffees, params.hours_after, params.max_pairs, zone),
            quarters: QuarterHours::new(params.since, zone, params.kinetics, doses),
        }
    }

    /// Returns the time [from, until) whose readings are needed: the period, and the time windows and
    /// baselines of its coffees. `None` without coffees.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let (from, until) = self.pairs.span()?;
        Some((from.min(self.params.since), until.max(self.params.until)))
    }

    /// Adds the next reading, in time order. Its context must be included, see
    /// [`CorrelationParams::includes`]. A reading outside of the period can only be part of pairs.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        self.pairs.push(at, bpm);
        if at >= self.params.since && at < self.params.until {
            self.quarters.push(at, bpm);
        }
    }

    /// Returns the result, after all readings of the span have been added.
    pub fn finish(self) -> CorrelationResult {
        let totals = self.pairs.finish();
        if totals.pairs == 0 {
            return CorrelationResult::NoPairs(NoCorrelation {
                correlations: [],
                summary: "Not enough data to crush your dreams of health",
                recommendations: ["Log more coffee and heart rate data", "Try again in a few days"],
            });
        }
        let effect = self.quarters.effect();
        let (verdict, statistics) =
            evidence::evaluate(&totals, effect.as_ref(), self.params.excluded_contexts());
        let (analysis, summary) = analyze(&totals, self.params.hours_after);
        let correlations = totals.latest.into_iter().rev().collect();
        CorrelationResult::Pairs(Box::new(Correlation {
            correlations,
            analysis,
            summary,
            verdict,
            statistics,
        }))
    }
}

fn analyze(totals: &PairTotals, hours_after: u8) -> (CorrelationAnalysis, &'static str) {
    let increases = &totals.increases;
    let average = (!increases.is_empty()).then(|| increases.iter().sum::<f64>() / increases.len() as f64);
    let unit = if hours_after == 1 { "hour" } else { "hours" };
    let analysis = CorrelationAnalysis {
        total_correlations: totals.pairs,
        avg_caffeine_dose: round1(totals.total_dose_mg / totals.pairs as f64),
        avg_hr_increase: average.map(round1),
        max_hr_increase: increases.iter().copied().reduce(f64::max).map(round1),
        time_window_analyzed: format!("{hours_after} {unit} after coffee"),
    };
    (analysis, summary(average))
}

fn summary(average_increase: Option<f64>) -> &'static str {
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
    use std::collections::HashMap;

    use super::*;
    use crate::domain::coffee::Milligrams;
    use crate::domain::correlation::regression::{CaffeineEffect, LAGS, WithinDayRegression};
    use crate::domain::time::{DAY, HOUR, MINUTE, SECOND};

    /// A reading: when, beats per minute, context.
    type Sample = (Timestamp, u16, Option<&'static str>);

    fn coffee(timestamp: Timestamp, mg: f64) -> CoffeeToCompare {
        let coffee_type = Some("espresso".into());
        CoffeeToCompare { timestamp, caffeine_mg: Milligrams::new(mg).unwrap(), coffee_type }
    }

    fn params(since: Timestamp, days: i64, zone: &str) -> CorrelationParams {
        CorrelationParams {
            since,
            until: since.plus(days * DAY),
            hours_after: 2,
            context: None,
            max_pairs: 50,
            zone: Zone::named(zone).unwrap(),
            kinetics: Kinetics::default(),
        }
    }

    fn doses(coffees: &[CoffeeToCompare]) -> Vec<Dose> {
        coffees.iter().map(|coffee| (coffee.timestamp, coffee.caffeine_mg)).collect()
    }

    fn correlate(
        params: &CorrelationParams,
        coffees: &[CoffeeToCompare],
        readings: &[Sample],
    ) -> CorrelationResult {
        let doses = doses(coffees);
        let mut correlator = Correlator::new(params, coffees.to_vec(), &doses);
        push_included(&mut correlator, readings);
        correlator.finish()
    }

    fn push_included(correlator: &mut Correlator<'_>, readings: &[Sample]) {
        for (at, bpm, context) in readings {
            if correlator.params.includes(*context) {
                correlator.push(*at, Bpm::new(i64::from(*bpm)).unwrap());
            }
        }
    }

    /// Compares every coffee with every reading.
    fn naive_totals(
        params: &CorrelationParams,
        coffees: &[CoffeeToCompare],
        readings: &[Sample],
    ) -> PairTotals {
        let mean = |from: Timestamp, until: Timestamp| {
            let inside = readings.iter().filter(|(at, ..)| *at >= from && *at < until);
            let inside: Vec<f64> =
                inside.filter(|r| params.includes(r.2)).map(|(_, bpm, _)| f64::from(*bpm)).collect();
            ((!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64), inside.len())
        };
        let mut totals = PairTotals::new(params.max_pairs);
        for coffee in coffees {
            let at = coffee.timestamp;
            let (after, readings_count) =
                mean(at.plus(MARGIN), at.plus(i64::from(params.hours_after) * HOUR));
            let Some(after) = after else { continue };
            let baseline = mean(at.minus(BASELINE_LEAD), at.minus(MARGIN)).0;
            let pair = CoffeeComparison {
                coffee_time: at,
                caffeine_mg: coffee.caffeine_mg,
                coffee_type: coffee.coffee_type.as_deref().map(str::to_owned),
                avg_heartrate_after: round1(after),
                baseline_heartrate: baseline.map(round1),
                hr_increase: baseline.map(|b| round1(after - b)),
                readings_count,
                time_window_hours: params.hours_after,
            };
            totals.add(pair, baseline.map(|b| after - b), params.zone.date(at));
        }
        totals
    }

    /// Computes the level of every reading from all doses with the closed form.
    fn naive_effect(
        params: &CorrelationParams,
        coffees: &[CoffeeToCompare],
        readings: &[Sample],
    ) -> Option<CaffeineEffect> {
        let (quarter, doses) = (15 * MINUTE, doses(coffees));
        let level =
            |minute: i64| params.kinetics.active(&doses, Timestamp::clamped(minute * MINUTE + MINUTE / 2));
        let mut means: HashMap<i64, f64> = HashMap::new();
        let mut days = WithinDayRegression::default();
        let selected: Vec<_> = readings
            .iter()
            .filter(|(at, _, context)| *at >= params.since && *at < params.until && params.includes(*context))
            .collect();
        let index = |at: Timestamp| at.micros().div_euclid(quarter);
        let mut before = None;
        for inside in selected.chunk_by(|a, b| index(a.0) == index(b.0)) {
            let (number, count) = (index(inside[0].0), inside.len() as f64);
            let start = Timestamp::clamped(number * quarter);
            let date = params.zone.date(start);
            if before.replace(date).is_some_and(|before| before != date) {
                days.end_day();
            }
            let mg = inside.iter().map(|r| level(r.0.micros().div_euclid(MINUTE))).sum::<f64>() / count;
            let bpm = inside.iter().map(|r| f64::from(r.1)).sum::<f64>() / count;
            let lagged: [f64; LAGS] = std::array::from_fn(|lag| {
                let number = number - i64::try_from(lag).unwrap();
                let mean = || (number * 15..number * 15 + 15).map(level).sum::<f64>() / 15.0;
                if lag == 0 { mg } else { *means.entry(number).or_insert_with(mean) }
            });
            let clock = params.zone.format_time(start);
            let (hour, minute) = clock.split_once(':').unwrap();
            let of_day = hour.parse::<usize>().unwrap() * 4 + minute.parse::<usize>().unwrap() / 15;
            days.push(of_day, bpm, &lagged);
        }
        days.effect()
    }

    fn agree(ours: &CaffeineEffect, theirs: &CaffeineEffect) {
        let figures = |of: &CaffeineEffect| {
            let slope = of.slope;
            [slope.value, slope.standard_error, slope.degrees_of_freedom, of.r, of.strongest_lag_r]
        };
        for (ours, theirs) in figures(ours).into_iter().zip(figures(theirs)) {
            assert!((ours - theirs).abs() <= 1e-7 * theirs.abs().max(1.0), "{ours} instead of {theirs}");
        }
        let counts = |of: &CaffeineEffect| (of.days, of.informative_days, of.quarter_hours, of.strongest_lag);
        assert_eq!(counts(ours), counts(theirs));
    }

    #[test]
    fn one_pass_finds_what_a_naive_search_finds_in_every_zone_and_across_clock_changes() {
        let mut rng = fastrand::Rng::with_seed(11);
        let contexts =
            [None, Some("resting"), Some("resting"), Some("exercise"), Some("sleeping"), Some("post-coffee")];
        for (round, (zone, from)) in [
            ("Europe/Berlin", "2026-03-26T00:00:00Z"),
            ("Europe/Berlin", "2026-10-22T13:00:01Z"),
            ("Australia/Lord_Howe", "2026-04-02T00:00:00Z"),
            ("America/Sao_Paulo", "2018-11-01T00:00:00Z"),
            ("Pacific/Apia", "2011-12-27T00:00:00Z"),
            ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
            ("UTC", "1969-12-28T00:00:00Z"),
        ]
        .into_iter()
        .cycle()
        .take(21)
        .enumerate()
        {
            let mut params = params(Zone::utc().parse(from).unwrap(), 6, zone);
            params.hours_after = rng.u8(1..=24);
            params.max_pairs = rng.usize(1..60);
            params.context = (round % 3 == 2).then(|| "resting".to_owned());
            // Whole minutes, so that coffees and readings often meet on a boundary.
            let mut times = |count: usize, from: i64, until: i64| {
                let mut times: Vec<_> =
                    (0..count).map(|_| params.since.plus(rng.i64(from..until) * MINUTE)).collect();
                times.sort_unstable();
                times
            };
            let (drunk, measured) =
                (times(3 * round, -4 * 1440, 6 * 1440), times(60 * round, -180, 7 * 1440));
            let coffees: Vec<_> = drunk.iter().map(|at| coffee(*at, rng.f64() * 300.0)).collect();
            let readings: Vec<_> = measured
                .iter()
                .map(|at| (*at, rng.u16(40..180), contexts[rng.usize(0..contexts.len())]))
                .collect();
            let compared: Vec<_> =
                coffees.iter().filter(|coffee| coffee.timestamp >= params.since).cloned().collect();
            let all = doses(&coffees);
            let mut correlator = Correlator::new(&params, compared.clone(), &all);
            push_included(&mut correlator, &readings);
            assert_eq!(correlator.pairs.finish(), naive_totals(&params, &compared, &readings));
            match (correlator.quarters.effect(), naive_effect(&params, &coffees, &readings)) {
                (Some(ours), Some(theirs)) => agree(&ours, &theirs),
                (ours, theirs) => assert_eq!((ours, round > 1), (theirs, false), "{zone}"),
            }
        }
    }

    #[test]
    fn time_windows_include_their_start_and_exclude_their_end() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let params = params(noon.minus(DAY), 2, "UTC");
        for (offset, after, baseline) in [
            (-BASELINE_LEAD - 1, false, false),
            (-BASELINE_LEAD, false, true),
            (-MARGIN - 1, false, true),
            (-MARGIN, false, false),
            (0, false, false),
            (MARGIN - 1, false, false),
            (MARGIN, true, false),
            (2 * HOUR - 1, true, false),
            (2 * HOUR, false, false),
        ] {
            // The reading at +1 h always makes a pair.
            let mut readings = [(noon.plus(offset), 60, None), (noon.plus(HOUR), 80, None)];
            readings.sort_unstable();
            let CorrelationResult::Pairs(answer) = correlate(&params, &[coffee(noon, 80.0)], &readings)
            else {
                panic!("{offset}: no pair")
            };
            let pair = &answer.correlations[0];
            assert_eq!(pair.readings_count, 1 + usize::from(after), "{offset}");
            assert_eq!(pair.baseline_heartrate, baseline.then_some(60.0), "{offset}");
        }
    }

    #[test]
    fn readings_in_excluded_contexts_count_only_when_their_context_is_given() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let mut params = params(noon.minus(DAY), 2, "UTC");
        let readings = |context| [(noon.minus(HOUR), 60, Some("resting")), (noon.plus(HOUR), 80, context)];
        let pairs = |params: &CorrelationParams, context| match correlate(
            params,
            &[coffee(noon, 80.0)],
            &readings(context),
        ) {
            CorrelationResult::Pairs(answer) => answer.correlations.len(),
            CorrelationResult::NoPairs(_) => 0,
        };
        for (context, included) in [
            (None, 1),
            (Some("resting"), 1),
            (Some("post-coffee"), 1),
            (Some("gardening"), 1),
            (Some("exercise"), 0),
            (Some("active"), 0),
            (Some("panic"), 0),
            (Some("stressed"), 0),
            (Some("sleeping"), 0),
        ] {
            assert_eq!(pairs(&params, context), included, "{context:?}");
        }
        params.context = Some("exercise".into());
        assert_eq!((pairs(&params, Some("exercise")), pairs(&params, Some("active"))), (1, 0));
        assert_eq!(pairs(&params, None), 0);
    }

    #[test]
    fn without_pairs_the_result_has_recommendations() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let params = params(noon.minus(DAY), 2, "UTC");
        let expected = serde_json::json!({
            "correlations": [],
            "summary": "Not enough data to crush your dreams of health",
            "recommendations": ["Log more coffee and heart rate data", "Try again in a few days"],
        });
        let before = [(noon.minus(HOUR), 60, None)];
        for answer in
            [correlate(&params, &[], &[(noon, 60, None)]), correlate(&params, &[coffee(noon, 80.0)], &before)]
        {
            assert_eq!(serde_json::to_value(answer).unwrap(), expected);
        }
        assert_eq!(Correlator::new(&params, Vec::new(), &[]).span(), None);
    }

    #[test]
    fn the_summary_depends_on_the_unrounded_average() {
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
