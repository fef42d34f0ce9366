//! Forecast of active caffeine: the curve, its peak, and the time from which it stays below a threshold.
//!
//! Every known dose counts from its own time on, including doses after the requested instant; no other
//! doses are assumed. The doses are visited once in time order, so the cost grows with doses plus points,
//! not with their product.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::caffeine::{CaffeineState, Dose, Kinetics};
use crate::domain::statistics::round2;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// Level of active caffeine at an instant, in milligrams with 2 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CaffeineLevel {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    #[schema(minimum = 0)]
    pub mg: f64,
    /// With fast elimination: the half-life times 0.6.
    #[schema(minimum = 0)]
    pub low_mg: f64,
    /// With slow elimination: the half-life times 1.6.
    #[schema(minimum = 0)]
    pub high_mg: f64,
}

/// Doses in time order with the kinetics of a person.
#[derive(Clone, Copy, Debug)]
pub struct Forecast<'d> {
    kinetics: Kinetics,
    doses: &'d [Dose],
}

/// Caffeine state that advances in time.
struct StateCursor<'d> {
    kinetics: Kinetics,
    /// Doses after `at`.
    doses: &'d [Dose],
    state: CaffeineState,
    at: Timestamp,
}

/// Period without doses: its start, the state then, and its length, which is infinite for the last one.
struct DoseInterval {
    from: Timestamp,
    state: CaffeineState,
    hours: f64,
}

impl<'d> StateCursor<'d> {
    fn new(kinetics: Kinetics, doses: &'d [Dose]) -> Self {
        Self { kinetics, doses, state: CaffeineState::default(), at: Timestamp::MIN }
    }

    /// Returns the state at `at`, which must not lie before that of the last call.
    fn state_at(&mut self, at: Timestamp) -> CaffeineState {
        while let [(time, dose), rest @ ..] = self.doses
            && *time <= at
        {
            self.advance_to(*time);
            self.state.gut_mg += dose.mg();
            self.doses = rest;
        }
        self.advance_to(at);
        self.state
    }

    fn advance_to(&mut self, at: Timestamp) {
        self.state = self.kinetics.advance(self.state, at.hours_since(self.at));
        self.at = at;
    }
}

impl<'d> Forecast<'d> {
    /// Creates a forecast from doses in time order. Doses from [`Kinetics::lookback_micros`] before the first
    /// requested instant on are sufficient.
    pub fn new(kinetics: Kinetics, doses: &'d [Dose]) -> Self {
        Self { kinetics, doses }
    }

    /// Returns the active caffeine in milligrams, unrounded.
    pub fn active(&self, at: Timestamp) -> f64 {
        StateCursor::new(self.kinetics, self.doses).state_at(at).active_mg
    }

    pub fn level(&self, at: Timestamp) -> CaffeineLevel {
        level(&mut self.cursors(), at)
    }

    /// Returns the levels every `step_minutes` (at least 1) from `from` to `until`, both included.
    pub fn curve(&self, from: Timestamp, until: Timestamp, step_minutes: u32) -> Vec<CaffeineLevel> {
        let step = i64::from(step_minutes.max(1)) * MINUTE;
        let points = (until.micros() - from.micros()).div_euclid(step);
        let mut cursors = self.cursors();
        (0..=points).map(|n| level(&mut cursors, from.plus(n * step))).collect()
    }

    /// Returns the time of the highest level from `from` on: `from` itself when the level only falls,
    /// `None` without caffeine.
    pub fn peak_at(&self, from: Timestamp) -> Option<Timestamp> {
        self.peak(from).map(|(at, _)| at)
    }

    /// Returns the highest level from `from` on in milligrams.
    pub fn highest_from(&self, from: Timestamp) -> f64 {
        self.peak(from).map_or(0.0, |(_, mg)| mg)
    }

    /// Returns the time, not before `from`, from which the level stays at or below `threshold_mg`, within a
    /// few microseconds. `None` when it never does: for a threshold of 0 or less, or NaN.
    pub fn below_threshold_at(&self, from: Timestamp, threshold_mg: f64) -> Option<Timestamp> {
        if threshold_mg.is_nan() || threshold_mg < 0.0 {
            return None;
        }
        for interval in self.intervals(from).into_iter().rev() {
            let is_above = |hours: f64| self.kinetics.advance(interval.state, hours).active_mg > threshold_mg;
            let peak = self.kinetics.hours_to_peak(interval.state).min(interval.hours);
            if is_above(peak) {
                let crossing = (threshold_mg > 0.0).then(|| last_hour_where(peak, is_above));
                return crossing.map(|hours| plus_hours(interval.from, hours.min(interval.hours)));
            }
        }
        Some(from)
    }

    fn cursors(&self) -> [StateCursor<'d>; 3] {
        [self.kinetics, self.kinetics.low(), self.kinetics.high()]
            .map(|kinetics| StateCursor::new(kinetics, self.doses))
    }

    fn peak(&self, from: Timestamp) -> Option<(Timestamp, f64)> {
        let mut highest = None;
        for interval in self.intervals(from) {
            let hours = self.kinetics.hours_to_peak(interval.state).min(interval.hours);
            let mg = self.kinetics.advance(interval.state, hours).active_mg;
            if mg > highest.map_or(0.0, |(_, mg)| mg) {
                highest = Some((plus_hours(interval.from, hours), mg));
            }
        }
        highest
    }

    /// Returns the periods without doses from `from` on.
    fn intervals(&self, from: Timestamp) -> Vec<DoseInterval> {
        let mut cursor = StateCursor::new(self.kinetics, self.doses);
        let mut start = from;
        let mut intervals = Vec::new();
        loop {
            let state = cursor.state_at(start);
            let next = cursor.doses.first().map(|(time, _)| *time);
            let hours = next.map_or(f64::INFINITY, |next| next.hours_since(start));
            intervals.push(DoseInterval { from: start, state, hours });
            match next {
                Some(next) => start = next,
                None => return intervals,
            }
        }
    }
}

fn level(cursors: &mut [StateCursor<'_>; 3], at: Timestamp) -> CaffeineLevel {
    let [mg, low_mg, high_mg] = cursors.each_mut().map(|cursor| round2(cursor.state_at(at).active_mg));
    CaffeineLevel { at, mg, low_mg, high_mg }
}

/// Finds by bisection the hours at which `holds`, true at `from`, becomes false for good.
pub(super) fn last_hour_where(from: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let mut low = from;
    let mut high = from + 1.0;
    // Exponentials reach 0 long before the bound.
    while holds(high) && high < 1e6 {
        low = high;
        high += high - from;
    }
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

fn plus_hours(from: Timestamp, hours: f64) -> Timestamp {
    from.plus((hours * HOUR as f64).ceil() as i64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;
    use crate::domain::coffee::Milligrams;
    use crate::domain::time::{DAY, SECOND};

    fn at(text: &str) -> Timestamp {
        Zone::utc().parse(text).unwrap()
    }

    fn noon() -> Timestamp {
        at("2026-06-01T12:00:00Z")
    }

    fn mg(mg: f64) -> Milligrams {
        Milligrams::new(mg).unwrap()
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} instead of {b}");
    }

    #[test]
    fn levels_are_the_sum_of_the_closed_forms_of_all_doses() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..100 {
            let (half_life, ka) = (1.0 + rng.f64() * 23.0, 0.1 + rng.f64() * 20.0);
            let kinetics = Kinetics::new(half_life, ka).unwrap();
            let mut doses: Vec<Dose> = (0..rng.usize(0..60))
                .map(|_| (noon().plus(rng.i64(-3 * DAY..3 * DAY)), mg(rng.f64() * 300.0)))
                .collect();
            doses.sort_unstable_by_key(|(time, _)| *time);
            let forecast = Forecast::new(kinetics, &doses);
            for level in forecast.curve(noon().minus(4 * DAY), noon().plus(4 * DAY), 47) {
                near(level.mg, kinetics.active(&doses, level.at), 0.005_001);
                near(level.low_mg, kinetics.low().active(&doses, level.at), 0.005_001);
                near(level.high_mg, kinetics.high().active(&doses, level.at), 0.005_001);
                assert!(level.low_mg <= level.mg && level.mg <= level.high_mg, "{level:?}");
            }
        }
    }

    #[test]
    fn the_curve_includes_both_ends() {
        let doses = [(noon(), mg(95.0)), (noon().plus(3 * HOUR), mg(80.0))];
        let forecast = Forecast::new(Kinetics::default(), &doses);
        let curve = forecast.curve(noon(), noon().plus(24 * HOUR), 15);
        assert_eq!(curve.len(), 97);
        assert_eq!(curve.last().map(|level| level.at), Some(noon().plus(24 * HOUR)));
        assert_eq!(curve[0], CaffeineLevel { at: noon(), mg: 0.0, low_mg: 0.0, high_mg: 0.0 });
        assert_eq!(curve[20], forecast.level(noon().plus(5 * HOUR)));
        assert_eq!(forecast.curve(noon(), noon().minus(1), 15), []);
        assert_eq!(forecast.curve(noon(), noon().plus(3 * MINUTE), 0).len(), 4);
    }

    #[test]
    fn the_level_stays_below_the_threshold_from_the_returned_instant_on() {
        let doses = [(noon().minus(4 * HOUR), mg(60.0)), (noon(), mg(90.0))];
        let forecast = Forecast::new(Kinetics::default(), &doses);
        for threshold in [1.0, 20.0, 50.0, 100.0] {
            let found = forecast.below_threshold_at(noon(), threshold).unwrap();
            assert!(found > noon().plus(MINUTE));
            near(forecast.active(found), threshold, 1e-6);
            assert!(forecast.active(found.minus(SECOND)) > threshold);
            assert!(forecast.active(found.plus(SECOND)) < threshold);
        }
        // It is below 45 mg at noon, but rises above it again.
        assert!(forecast.active(noon()) < 45.0);
        assert!(forecast.below_threshold_at(noon(), 45.0).unwrap() > noon().plus(HOUR));
        assert_eq!(forecast.below_threshold_at(noon(), 200.0), Some(noon()));
        assert_eq!(Forecast::new(Kinetics::default(), &[]).below_threshold_at(noon(), 0.0), Some(noon()));
        for never in [0.0, -1.0, f64::NAN] {
            assert_eq!(forecast.below_threshold_at(noon(), never), None);
        }
    }

    #[test]
    fn peak_and_threshold_take_future_doses_into_account() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..200 {
            let mut doses: Vec<Dose> = (0..rng.usize(0..8))
                .map(|_| (noon().plus(rng.i64(-12 * HOUR..18 * HOUR)), mg(rng.f64() * 150.0)))
                .collect();
            doses.sort_unstable_by_key(|(time, _)| *time);
            let kinetics = Kinetics::new(2.0 + rng.f64() * 6.0, 0.5 + rng.f64() * 8.0).unwrap();
            let forecast = Forecast::new(kinetics, &doses);
            let minutes: Vec<Timestamp> = (0..4000).map(|n| noon().plus(n * MINUTE)).collect();
            let levels: Vec<f64> = minutes.iter().map(|at| kinetics.active(&doses, *at)).collect();
            let top = levels.iter().copied().fold(0.0, f64::max);
            near(forecast.highest_from(noon()), top, 0.05);
            if let Some(peak) = forecast.peak_at(noon()) {
                near(forecast.active(peak), forecast.highest_from(noon()), 1e-6);
                assert!(peak >= noon());
            }
            let last_above = levels.iter().rposition(|mg| *mg > 30.0);
            let below = forecast.below_threshold_at(noon(), 30.0).unwrap();
            match last_above {
                // Between two whole minutes the level may exceed the threshold slightly.
                None => assert!(below == noon() || top > 29.9, "{below} {top}"),
                Some(n) => assert!(below > minutes[n] && below.hours_since(minutes[n]) < 0.5, "{below}"),
            }
        }
        let forecast = Forecast::new(Kinetics::default(), &[]);
        assert_eq!((forecast.peak_at(noon()), forecast.highest_from(noon())), (None, 0.0));
        let falling = [(noon().minus(5 * HOUR), mg(95.0))];
        assert_eq!(Forecast::new(Kinetics::default(), &falling).peak_at(noon()), Some(noon()));
    }
}
