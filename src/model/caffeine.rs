//! How much caffeine is in the body: one compartment, first-order absorption and
//! elimination, the closed form and never a simulation in steps.
//!
//! Works on instants, so neither midnight nor a change of the clocks means anything here.
//! It is an estimate for an average adult; what to drink, when to sleep and what to say
//! about it are not decided here.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::coffee::Milligrams;
use super::statistics::round2;
use super::time::{DAY, HOUR, MINUTE, Timestamp};

/// Hours until half of the caffeine is gone, for an average adult. Source: [`HALF_LIFE_SOURCE`].
pub const HALF_LIFE_HOURS: f64 = 5.0;
/// Where the half-life and its spread come from.
pub const HALF_LIFE_SOURCE: &str = "Half-life about 5 hours, range 1.5 to 9.5: Institute of Medicine, \
     Caffeine for the Sustainment of Mental Task Performance (2001), doi:10.17226/10219";
/// Share of the dose in the gut that is absorbed, per hour. Source: [`ABSORPTION_SOURCE`].
pub const ABSORPTION_PER_HOUR: f64 = 4.0;
/// Where the absorption rate comes from.
pub const ABSORPTION_SOURCE: &str = "Oral caffeine peaks after 29.8 ± 8.1 minutes, fasting (Blanchard & Sawers 1983, \
     doi:10.1007/BF00613933); later with food: 4 per hour puts the peak at about 50 minutes";
/// The quick end of the band: 5 h × 0.6 is 3 h, near a smoker's 3.5 h (Parsons & Neims 1978).
pub const LOW_FACTOR: f64 = 0.6;
/// The slow end of the band: 5 h × 1.6 is 8 h, as with oral contraceptives (Abernethy 1985)
/// or in pregnancy (doi:10.1007/BF00637512).
pub const HIGH_FACTOR: f64 = 1.6;
/// How far back a dose still counts, in microseconds: after 3 days less than 0.01 % of it is
/// left at the default half-life, 0.2 % at 8 h.
pub const LOOK_BACK: i64 = 3 * DAY;
/// Half-lives that can be asked for, in hours.
pub const HALF_LIFE_RANGE: RangeInclusive<f64> = 1.0..=24.0;
/// Absorption rates that can be asked for, per hour.
pub const ABSORPTION_RANGE: RangeInclusive<f64> = 0.1..=60.0;

/// A dose and when it was drunk.
pub type Dose = (Timestamp, Milligrams);

/// How fast a body takes caffeine up and gets rid of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kinetics {
    half_life_hours: f64,
    absorption_per_hour: f64,
}

/// Where the caffeine is at one moment, in mg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Body {
    /// Drunk, not yet absorbed.
    pub gut_mg: f64,
    /// Absorbed, not yet eliminated: the active caffeine.
    pub active_mg: f64,
}

/// The level at one instant, in mg rounded to 2 decimals, with the band for quick and slow bodies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Level {
    pub at: Timestamp,
    pub mg: f64,
    pub low_mg: f64,
    pub high_mg: f64,
}

impl Default for Kinetics {
    fn default() -> Self {
        Self { half_life_hours: HALF_LIFE_HOURS, absorption_per_hour: ABSORPTION_PER_HOUR }
    }
}

impl Kinetics {
    /// A body's kinetics; `None` outside of [`HALF_LIFE_RANGE`] and [`ABSORPTION_RANGE`].
    pub fn new(half_life_hours: f64, absorption_per_hour: f64) -> Option<Self> {
        (HALF_LIFE_RANGE.contains(&half_life_hours) && ABSORPTION_RANGE.contains(&absorption_per_hour))
            .then_some(Self { half_life_hours, absorption_per_hour })
    }

    /// Hours until half is gone.
    pub const fn half_life_hours(&self) -> f64 {
        self.half_life_hours
    }

    /// Share of the gut's content absorbed per hour.
    pub const fn absorption_per_hour(&self) -> f64 {
        self.absorption_per_hour
    }

    /// The quick body at the band's lower edge.
    pub fn low(&self) -> Self {
        Self { half_life_hours: self.half_life_hours * LOW_FACTOR, ..*self }
    }

    /// The slow body at the band's upper edge.
    pub fn high(&self) -> Self {
        Self { half_life_hours: self.half_life_hours * HIGH_FACTOR, ..*self }
    }

    /// Share of the active caffeine eliminated per hour: ln 2 / half-life.
    pub fn elimination_per_hour(&self) -> f64 {
        std::f64::consts::LN_2 / self.half_life_hours
    }

    /// The body `hours` later when nothing more is drunk; the same body for 0 or less.
    pub fn later(&self, body: Body, hours: f64) -> Body {
        if hours <= 0.0 {
            return body;
        }
        let (ka, ke) = (self.absorption_per_hour, self.elimination_per_hour());
        // The closed form is symmetric in both rates, and one exponential of their gap keeps
        // its digits where ka ≈ ke; there it becomes the limit form ka·t·e^(−ke·t).
        let (slow, gap) = (ka.min(ke), (ka - ke).abs());
        let spread = if gap > 0.0 { -(-gap * hours).exp_m1() / gap } else { hours };
        let absorbed = body.gut_mg * ka * (-slow * hours).exp() * spread;
        Body {
            gut_mg: body.gut_mg * (-ka * hours).exp(),
            active_mg: body.active_mg * (-ke * hours).exp() + absorbed,
        }
    }

    /// Active caffeine in mg, `hours_since` hours after a single dose; 0 before it:
    /// D·ka/(ka−ke)·(e^(−ke·t) − e^(−ka·t)).
    pub fn amount(&self, dose_mg: f64, hours_since: f64) -> f64 {
        self.later(Body { gut_mg: dose_mg, active_mg: 0.0 }, hours_since).active_mg
    }

    /// The body at an instant. Doses after it do not count; those of the [`LOOK_BACK`] before suffice.
    pub fn body(&self, doses: &[Dose], at: Timestamp) -> Body {
        let drunk = doses.iter().filter(|(time, _)| *time <= at);
        drunk.fold(Body::default(), |sum, (time, dose)| {
            let part = self.later(Body { gut_mg: dose.mg(), active_mg: 0.0 }, at.hours_since(*time));
            Body { gut_mg: sum.gut_mg + part.gut_mg, active_mg: sum.active_mg + part.active_mg }
        })
    }

    /// Active caffeine in mg at an instant. Doses after it do not count.
    pub fn active(&self, doses: &[Dose], at: Timestamp) -> f64 {
        self.body(doses, at).active_mg
    }

    /// The level at an instant with its band.
    pub fn level(&self, doses: &[Dose], at: Timestamp) -> Level {
        Level {
            at,
            mg: round2(self.active(doses, at)),
            low_mg: round2(self.low().active(doses, at)),
            high_mg: round2(self.high().active(doses, at)),
        }
    }

    /// The levels every `step_minutes` (at least 1) from `from` up to and including `until`.
    pub fn curve(&self, doses: &[Dose], from: Timestamp, until: Timestamp, step_minutes: u32) -> Vec<Level> {
        let step = i64::from(step_minutes.max(1)) * MINUTE;
        let points = (until.micros() - from.micros()).div_euclid(step);
        (0..=points).map(|n| self.level(doses, from.plus(n * step))).collect()
    }

    /// Hours from a single dose to its peak: ln(ka/ke)/(ka−ke), 1/ke where both are equal.
    pub fn peak_hours(&self) -> f64 {
        let ke = self.elimination_per_hour();
        let gap = (self.absorption_per_hour - ke) / ke;
        if gap == 0.0 { 1.0 / ke } else { gap.ln_1p() / gap / ke }
    }

    /// When the level is highest from `from` on if nothing more is drunk: `from` itself when it
    /// only falls. Doses after `from` do not count.
    pub fn peak_at(&self, doses: &[Dose], from: Timestamp) -> Timestamp {
        later_by(from, self.hours_to_peak(self.body(doses, from)))
    }

    /// From when on, not before `from`, the level stays at or below `threshold_mg` if nothing
    /// more is drunk; `None` when it never does (a threshold of 0 or less, or not a number).
    /// Doses after `from` do not count. Exact to a few microseconds.
    pub fn below_threshold_at(
        &self,
        doses: &[Dose],
        from: Timestamp,
        threshold_mg: f64,
    ) -> Option<Timestamp> {
        if threshold_mg.is_nan() || threshold_mg < 0.0 {
            return None;
        }
        let body = self.body(doses, from);
        let above = |hours: f64| self.later(body, hours).active_mg > threshold_mg;
        let peak = self.hours_to_peak(body);
        if !above(peak) {
            return Some(from);
        }
        (threshold_mg > 0.0).then(|| later_by(from, last_true(peak, above)))
    }

    /// Without further doses the level rises while more comes in than goes out, and then falls for good.
    fn hours_to_peak(&self, body: Body) -> f64 {
        let rises = |hours: f64| {
            let then = self.later(body, hours);
            then.gut_mg * self.absorption_per_hour > then.active_mg * self.elimination_per_hour()
        };
        if rises(0.0) { last_true(0.0, rises) } else { 0.0 }
    }
}

/// Bisection: the hours at which `holds`, true at `from`, turns false for good.
fn last_true(from: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let mut low = from;
    let mut high = from + 1.0;
    // Exponentials reach 0 in the end, so this does; the bound is for a promise, not for use.
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

fn later_by(from: Timestamp, hours: f64) -> Timestamp {
    from.plus((hours * HOUR as f64).ceil() as i64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::model::calendar::Zone;
    use crate::model::time::SECOND;

    /// Half-life in hours, absorption per hour, dose in mg, hours since, mg.
    const CLOSED_FORM: [(f64, f64, f64, f64, f64); 9] = [
        (5.0, 4.0, 95.0, 0.25, 58.8551690614),
        (5.0, 4.0, 95.0, 1.0, 83.8689957145),
        (5.0, 4.0, 95.0, 2.5, 69.5823724846),
        (5.0, 4.0, 200.0, 10.0, 51.7950807080),
        (5.0, 4.0, 100.0, 72.0, 0.0047916664),
        (3.0, 4.0, 80.0, 5.0, 26.7431667171),
        (8.0, 4.0, 80.0, 5.0, 53.0220854281),
        (9.5, 0.5, 150.0, 3.0, 101.9140398296),
        (2.0, 0.3, 80.0, 6.0, 20.7665612959),
    ];

    fn at(text: &str) -> Timestamp {
        Zone::utc().parse(text).unwrap()
    }

    fn mg(mg: f64) -> Milligrams {
        Milligrams::new(mg).unwrap()
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_amounts_are_those_of_the_closed_form() {
        // Computed with 30 decimal digits from D·ka/(ka−ke)·(e^(−ke·t) − e^(−ka·t)).
        for (half_life, ka, dose, hours, expected) in CLOSED_FORM {
            near(Kinetics::new(half_life, ka).unwrap().amount(dose, hours), expected, 1e-9);
        }
        assert_eq!(Kinetics::default().amount(100.0, 0.0), 0.0);
        assert_eq!(Kinetics::default().amount(100.0, -1.0), 0.0);
        assert_eq!(Kinetics::default().amount(0.0, 1.0), 0.0);
    }

    #[test]
    fn equal_rates_give_the_limit_form_and_their_neighbourhood_is_continuous() {
        let half_life = 5.0;
        let ke = std::f64::consts::LN_2 / half_life;
        let limit = |t: f64| 100.0 * ke * t * (-ke * t).exp();
        for hours in [0.1, 1.0, 7.2, 48.0] {
            for offset in [0.0, 1e-16, 1e-13, 1e-10, 1e-8, -1e-16, -1e-13, -1e-10, -1e-8] {
                let body = Kinetics::new(half_life, ke + offset).unwrap();
                near(body.amount(100.0, hours), limit(hours), 1e-4);
                near(body.peak_hours(), 1.0 / ke, 1e-5);
            }
        }
        let slow_uptake = Kinetics::new(1.0, 0.1).unwrap();
        assert!(slow_uptake.amount(100.0, 1e5) >= 0.0 && slow_uptake.amount(100.0, 1e5) < 1e-9);
    }

    #[test]
    fn the_peak_is_where_the_level_is_highest() {
        let body = Kinetics::default();
        near(body.peak_hours() * 60.0, 52.244_328, 1e-6);
        for body in [body, body.low(), body.high(), Kinetics::new(2.0, 0.2).unwrap()] {
            let (peak, top) = (body.peak_hours(), body.amount(100.0, body.peak_hours()));
            assert!(top > body.amount(100.0, peak - 0.01) && top > body.amount(100.0, peak + 0.01));
            let noon = at("2026-06-01T12:00:00Z");
            near(body.peak_at(&[(noon, mg(100.0))], noon).hours_since(noon), peak, 1e-6);
        }
        let noon = at("2026-06-01T12:00:00Z");
        assert_eq!(body.peak_at(&[(noon, mg(100.0))], noon.plus(2 * HOUR)), noon.plus(2 * HOUR));
        assert_eq!(body.peak_at(&[], noon), noon);
    }

    #[test]
    fn doses_add_up_and_neither_midnight_nor_a_change_of_clocks_loses_any() {
        let body = Kinetics::default();
        // The Berlin nights in which clocks change, and a plain one.
        for night in ["2026-03-28T22:30:00Z", "2026-10-24T21:30:00Z", "2026-06-01T21:30:00Z"] {
            let evening = at(night);
            let doses =
                [(evening, mg(80.0)), (evening.plus(HOUR), mg(90.0)), (evening.plus(9 * HOUR), mg(50.0))];
            let expected = body.amount(80.0, 6.0) + body.amount(90.0, 5.0);
            near(body.active(&doses, evening.plus(6 * HOUR)), expected, 1e-9);
            near(body.active(&doses[..1], evening.plus(LOOK_BACK)), 0.0, 0.01);
        }
    }

    #[test]
    fn walking_in_steps_gives_what_the_closed_form_gives() {
        let body = Kinetics::default();
        let mut walked = Body { gut_mg: 95.0, active_mg: 0.0 };
        for step in 1..=10_000_u32 {
            walked = body.later(walked, 1.0 / 600.0);
            near(walked.active_mg, body.amount(95.0, f64::from(step) / 600.0), 1e-9);
        }
    }

    #[test]
    fn the_curve_takes_in_both_ends_and_its_band_holds_the_level() {
        let noon = at("2026-06-01T12:00:00Z");
        let doses = [(noon, mg(95.0)), (noon.plus(3 * HOUR), mg(80.0))];
        let curve = Kinetics::default().curve(&doses, noon, noon.plus(24 * HOUR), 15);
        assert_eq!(curve.len(), 97);
        assert_eq!(curve.last().map(|level| level.at), Some(noon.plus(24 * HOUR)));
        assert_eq!(curve[0], Level { at: noon, mg: 0.0, low_mg: 0.0, high_mg: 0.0 });
        for level in &curve[1..] {
            assert!(level.low_mg < level.mg && level.mg < level.high_mg, "{level:?}");
        }
        assert_eq!(Kinetics::default().curve(&doses, noon, noon.minus(1), 15), []);
        assert_eq!(Kinetics::default().curve(&doses, noon, noon.plus(3 * MINUTE), 0).len(), 4);
    }

    #[test]
    fn the_level_stays_below_the_threshold_from_the_found_instant_on() {
        let body = Kinetics::default();
        let noon = at("2026-06-01T12:00:00Z");
        let doses = [(noon.minus(4 * HOUR), mg(60.0)), (noon, mg(90.0))];
        for threshold in [1.0, 20.0, 50.0, 100.0] {
            let found = body.below_threshold_at(&doses, noon, threshold).unwrap();
            assert!(found > noon.plus(MINUTE));
            near(body.active(&doses, found), threshold, 1e-6);
            assert!(body.active(&doses, found.minus(SECOND)) > threshold);
            assert!(body.active(&doses, found.plus(SECOND)) < threshold);
        }
        // It is below 45 mg at noon, but not for long: that is not what is asked for.
        assert!(body.active(&doses, noon) < 45.0);
        assert!(body.below_threshold_at(&doses, noon, 45.0).unwrap() > noon.plus(HOUR));
        assert_eq!(body.below_threshold_at(&doses, noon, 200.0), Some(noon));
        assert_eq!(body.below_threshold_at(&[], noon, 0.0), Some(noon));
        for never in [0.0, -1.0, f64::NAN] {
            assert_eq!(body.below_threshold_at(&doses, noon, never), None);
        }
    }

    #[test]
    fn kinetics_outside_of_their_ranges_cannot_be_built() {
        for (half_life, absorption) in
            [(0.9, 4.0), (24.1, 4.0), (f64::NAN, 4.0), (5.0, 0.0), (5.0, f64::INFINITY)]
        {
            assert_eq!(Kinetics::new(half_life, absorption), None);
        }
        assert_eq!(Kinetics::new(5.0, 4.0), Some(Kinetics::default()));
    }
}
