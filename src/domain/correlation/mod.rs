//! What coffee does to the pulse: one pass over coffees and readings, both in time order.
//!
//! For each coffee, the readings after it against those before it (`pairs`); over all readings,
//! the pulse against the modelled caffeine (`quarters`, `response`); and how much that says
//! (`evidence`). Memory follows coffees and days, never readings.

mod evidence;
mod pairs;
mod quarters;
mod response;

use serde::Serialize;
use utoipa::ToSchema;

pub use crate::domain::correlation::evidence::{CorrelationStatistics, EXCLUDED_CONTEXTS, Verdict};
pub use crate::domain::correlation::pairs::{BASELINE, BeforeAfterPair, CorrelatedCoffee, MARGIN};

use crate::domain::caffeine::{Dose, Kinetics};
use crate::domain::calendar::Zone;
use crate::domain::correlation::pairs::{PairBuilder, PairTotals};
use crate::domain::correlation::quarters::QuarterHours;
use crate::domain::heart_rate::Bpm;
use crate::domain::statistics::round1;
use crate::domain::time::Timestamp;

/// What is asked.
#[derive(Clone, Debug)]
pub struct CorrelationParams {
    /// Coffees and readings from this instant on, up to but without that one.
    pub since: Timestamp,
    pub until: Timestamp,
    /// How many hours after a coffee readings count, 1 to 24.
    pub hours_after: u8,
    /// Only readings of this context; `None`: all but [`EXCLUDED_CONTEXTS`].
    pub context: Option<String>,
    /// Most pairs that the answer shows; the figures are over all of them.
    pub shown: usize,
    /// Whose days and hours count, and whose body it is.
    pub zone: Zone,
    pub kinetics: Kinetics,
}

/// What all pairs come to, the ones not shown included.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationAnalysis {
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
    /// Newest first, at most `limit`.
    #[schema(max_items = 1000)]
    pub correlations: Vec<BeforeAfterPair>,
    pub analysis: CorrelationAnalysis,
    pub summary: &'static str,
    pub verdict: Verdict,
    pub statistics: CorrelationStatistics,
}

/// The answer when no coffee has a reading after it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NoCorrelation {
    /// Always empty.
    #[schema(value_type = Vec<BeforeAfterPair>, max_items = 0)]
    pub correlations: [BeforeAfterPair; 0],
    pub summary: &'static str,
    #[schema(value_type = Vec<String>)]
    pub recommendations: [&'static str; 2],
}

/// What coffee does to the heart, or that there is too little to tell.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = CorrelationOrNone)]
#[serde(untagged)]
pub enum CorrelationResult {
    Pairs(Box<Correlation>),
    NoCorrelation(NoCorrelation),
}

/// Compares coffees with readings as these pass by.
pub struct Correlator<'a> {
    params: &'a CorrelationParams,
    pairs: PairBuilder<'a>,
    quarters: QuarterHours<'a>,
}

impl CorrelationParams {
    /// How far back coffees are needed for the caffeine model.
    pub fn doses_since(&self) -> Timestamp {
        self.since.minus(QuarterHours::reach(&self.kinetics))
    }

    /// Contexts whose readings do not take part, when none is asked for.
    pub fn excluded_contexts(&self) -> &'static [&'static str] {
        if self.context.is_some() { &[] } else { &EXCLUDED_CONTEXTS }
    }

    fn takes(&self, context: Option<&str>) -> bool {
        match (&self.context, context) {
            (Some(wanted), context) => context == Some(wanted),
            (None, Some(context)) => !self.excluded_contexts().contains(&context),
            (None, None) => true,
        }
    }
}

impl<'a> Correlator<'a> {
    /// Answers from `coffees` of the period, and from all `doses` since [`CorrelationParams::doses_since`], in
    /// time order.
    pub fn new(params: &'a CorrelationParams, coffees: Vec<CorrelatedCoffee>, doses: &'a [Dose]) -> Self {
        let zone = &params.zone;
        Self {
            params,
            pairs: PairBuilder::new(coffees, params.hours_after, params.shown, zone),
            quarters: QuarterHours::new(params.since, zone, params.kinetics, doses),
        }
    }

    /// The time [from, until) whose readings matter; `None` without coffees.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let (from, until) = self.pairs.span()?;
        Some((from.min(self.params.since), until.max(self.params.until)))
    }

    /// Takes the next reading, in time order, unless the params leaves its context out.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm, context: Option<&str>) {
        if self.params.takes(context) {
            self.push_selected(at, bpm);
        }
    }

    /// As [`Self::push`], of readings that were chosen before.
    pub fn push_selected(&mut self, at: Timestamp, bpm: Bpm) {
        self.pairs.push(at, bpm);
        if at >= self.params.since && at < self.params.until {
            self.quarters.push(at, bpm);
        }
    }

    /// The answer, when all readings of the span have been taken.
    pub fn finish(self) -> CorrelationResult {
        let totals = self.pairs.finish();
        if totals.pairs == 0 {
            return CorrelationResult::NoCorrelation(NoCorrelation {
                correlations: [],
                summary: "Not enough data to crush your dreams of health",
                recommendations: ["Log more coffee and heart rate data", "Try again in a few days"],
            });
        }
        let left_out = self.params.excluded_contexts();
        let (verdict, statistics) = evidence::judge(&totals, self.quarters.response().as_ref(), left_out);
        let (analysis, summary) = analyse(&totals, self.params.hours_after);
        let correlations = totals.shown.into_iter().rev().collect();
        CorrelationResult::Pairs(Box::new(Correlation {
            correlations,
            analysis,
            summary,
            verdict,
            statistics,
        }))
    }
}

fn analyse(totals: &PairTotals, hours_after: u8) -> (CorrelationAnalysis, &'static str) {
    let increases = &totals.increases;
    let average = (!increases.is_empty()).then(|| increases.iter().sum::<f64>() / increases.len() as f64);
    let analysis = CorrelationAnalysis {
        total_correlations: totals.pairs,
        avg_caffeine_dose: round1(totals.dose_mg / totals.pairs as f64),
        avg_hr_increase: average.map(round1),
        max_hr_increase: increases.iter().copied().reduce(f64::max).map(round1),
        time_window_analyzed: format!("{hours_after} hours after coffee"),
    };
    (analysis, summary(average))
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
    use std::collections::HashMap;

    use super::*;
    use crate::domain::coffee::Milligrams;
    use crate::domain::correlation::response::{LAGS, PulseResponse, WithinDayRegression};
    use crate::domain::time::{DAY, HOUR, MINUTE, SECOND};

    /// A reading: when, beats per minute, context.
    type Sample = (Timestamp, u16, Option<&'static str>);

    fn coffee(timestamp: Timestamp, mg: f64) -> CorrelatedCoffee {
        let coffee_type = Some("espresso".into());
        CorrelatedCoffee { timestamp, caffeine_mg: Milligrams::new(mg).unwrap(), coffee_type }
    }

    fn params(since: Timestamp, days: i64, zone: &str) -> CorrelationParams {
        CorrelationParams {
            since,
            until: since.plus(days * DAY),
            hours_after: 2,
            context: None,
            shown: 50,
            zone: Zone::named(zone).unwrap(),
            kinetics: Kinetics::default(),
        }
    }

    fn doses(coffees: &[CorrelatedCoffee]) -> Vec<Dose> {
        coffees.iter().map(|coffee| (coffee.timestamp, coffee.caffeine_mg)).collect()
    }

    fn ask(
        params: &CorrelationParams,
        coffees: &[CorrelatedCoffee],
        readings: &[Sample],
    ) -> CorrelationResult {
        let doses = doses(coffees);
        let mut correlator = Correlator::new(params, coffees.to_vec(), &doses);
        for (at, bpm, context) in readings {
            correlator.push(*at, Bpm::new(i64::from(*bpm)).unwrap(), *context);
        }
        correlator.finish()
    }

    /// Every coffee against every reading.
    fn tally_naively(
        params: &CorrelationParams,
        coffees: &[CorrelatedCoffee],
        readings: &[Sample],
    ) -> PairTotals {
        let mean = |from: Timestamp, until: Timestamp| {
            let inside = readings.iter().filter(|(at, ..)| *at >= from && *at < until);
            let inside: Vec<f64> =
                inside.filter(|r| params.takes(r.2)).map(|(_, bpm, _)| f64::from(*bpm)).collect();
            ((!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64), inside.len())
        };
        let mut totals = PairTotals::showing(params.shown);
        for coffee in coffees {
            let at = coffee.timestamp;
            let (after, readings_count) =
                mean(at.plus(MARGIN), at.plus(i64::from(params.hours_after) * HOUR));
            let Some(after) = after else { continue };
            let baseline = mean(at.minus(BASELINE), at.minus(MARGIN)).0;
            let pair = BeforeAfterPair {
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

    /// Every reading on its own, every level from all doses by the closed form.
    fn respond_naively(
        params: &CorrelationParams,
        coffees: &[CorrelatedCoffee],
        readings: &[Sample],
    ) -> Option<PulseResponse> {
        let (quarter, doses) = (15 * MINUTE, doses(coffees));
        let level =
            |minute: i64| params.kinetics.active(&doses, Timestamp::clamped(minute * MINUTE + MINUTE / 2));
        let mut means: HashMap<i64, f64> = HashMap::new();
        let mut days = WithinDayRegression::default();
        let calm: Vec<_> = readings
            .iter()
            .filter(|(at, _, context)| *at >= params.since && *at < params.until && params.takes(*context))
            .collect();
        let index = |at: Timestamp| at.micros().div_euclid(quarter);
        let mut before = None;
        for inside in calm.chunk_by(|a, b| index(a.0) == index(b.0)) {
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
            days.push(of_day, bpm, mg, &lagged);
        }
        days.response()
    }

    fn agree(ours: &PulseResponse, theirs: &PulseResponse) {
        let figures = |of: &PulseResponse| {
            let slope = of.bpm_per_100_mg;
            [slope.value, slope.standard_error, slope.degrees_of_freedom, of.r, of.lag_r]
        };
        for (ours, theirs) in figures(ours).into_iter().zip(figures(theirs)) {
            assert!((ours - theirs).abs() <= 1e-7 * theirs.abs().max(1.0), "{ours} is not {theirs}");
        }
        let counts = |of: &PulseResponse| (of.days, of.telling_days, of.quarters, of.lag);
        assert_eq!(counts(ours), counts(theirs));
    }

    #[test]
    fn one_pass_finds_what_a_naive_search_finds_in_any_zone_and_while_clocks_change() {
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
            params.shown = rng.usize(1..60);
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
            for (at, bpm, context) in &readings {
                correlator.push(*at, Bpm::new(i64::from(*bpm)).unwrap(), *context);
            }
            assert_eq!(correlator.pairs.finish(), tally_naively(&params, &compared, &readings));
            match (correlator.quarters.response(), respond_naively(&params, &coffees, &readings)) {
                (Some(ours), Some(theirs)) => agree(&ours, &theirs),
                (ours, theirs) => assert_eq!((ours, round > 1), (theirs, false), "{zone}"),
            }
        }
    }

    #[test]
    fn windows_begin_with_their_first_instant_and_end_before_their_last() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let params = params(noon.minus(DAY), 2, "UTC");
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
            let mut readings = [(noon.plus(offset), 60, None), (noon.plus(HOUR), 80, None)];
            readings.sort_unstable();
            let CorrelationResult::Pairs(answer) = ask(&params, &[coffee(noon, 80.0)], &readings) else {
                panic!("{offset}: no pair")
            };
            let pair = &answer.correlations[0];
            assert_eq!(pair.readings_count, 1 + usize::from(after), "{offset}");
            assert_eq!(pair.baseline_heartrate, baseline.then_some(60.0), "{offset}");
        }
    }

    #[test]
    fn what_moves_the_pulse_otherwise_is_left_out_unless_it_is_asked_for() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let mut params = params(noon.minus(DAY), 2, "UTC");
        let readings = |context| [(noon.minus(HOUR), 60, Some("resting")), (noon.plus(HOUR), 80, context)];
        let pairs = |params: &CorrelationParams, context| match ask(
            params,
            &[coffee(noon, 80.0)],
            &readings(context),
        ) {
            CorrelationResult::Pairs(answer) => answer.correlations.len(),
            CorrelationResult::NoCorrelation(_) => 0,
        };
        for (context, taken) in [
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
            assert_eq!(pairs(&params, context), taken, "{context:?}");
        }
        params.context = Some("exercise".into());
        assert_eq!((pairs(&params, Some("exercise")), pairs(&params, Some("active"))), (1, 0));
        assert_eq!(pairs(&params, None), 0);
    }

    #[test]
    fn without_pairs_the_answer_says_what_to_do() {
        let noon = Timestamp::clamped(1_780_315_200 * SECOND);
        let params = params(noon.minus(DAY), 2, "UTC");
        let expected = serde_json::json!({
            "correlations": [],
            "summary": "Not enough data to crush your dreams of health",
            "recommendations": ["Log more coffee and heart rate data", "Try again in a few days"],
        });
        let before = [(noon.minus(HOUR), 60, None)];
        for answer in [ask(&params, &[], &[(noon, 60, None)]), ask(&params, &[coffee(noon, 80.0)], &before)] {
            assert_eq!(serde_json::to_value(answer).unwrap(), expected);
        }
        assert_eq!(Correlator::new(&params, Vec::new(), &[]).span(), None);
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
