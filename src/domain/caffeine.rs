//! Pharmacokinetic model of caffeine: one compartment, first-order absorption and elimination, in closed
//! form.
//!
//! It works on instants, independent of calendar days, and describes an average adult. Levels over time are
//! in `forecast`, advice is in `advice`.

use std::ops::RangeInclusive;

use crate::domain::coffee::Milligrams;
use crate::domain::time::{HOUR, Timestamp};

/// Default half-life in hours. Source: [`HALF_LIFE_SOURCE`].
pub const HALF_LIFE_HOURS: f64 = 5.0;
/// Source of the half-life and its range.
pub const HALF_LIFE_SOURCE: &str = "Half-life about 5 hours, range 1.5 to 9.5: Institute of Medicine, \
     Caffeine for the Sustainment of Mental Task Performance (2001), doi:10.17226/10219";
/// Default absorption rate: fraction of the gut caffeine absorbed per hour. Source: [`ABSORPTION_SOURCE`].
pub const ABSORPTION_PER_HOUR: f64 = 4.0;
/// Source of the absorption rate.
pub const ABSORPTION_SOURCE: &str = "Oral caffeine peaks after 29.8 ± 8.1 minutes, fasting (Blanchard & Sawers 1983, \
     doi:10.1007/BF00613933); later with food: 4 per hour puts the peak at about 50 minutes";
/// Half-life factor of the lower band: 5 h × 0.6 is 3 h, near a smoker's 3.5 h (Parsons & Neims 1978).
pub const LOW_FACTOR: f64 = 0.6;
/// Half-life factor of the upper band: 5 h × 1.6 is 8 h, as with oral contraceptives (Abernethy 1985) or in
/// pregnancy (doi:10.1007/BF00637512).
pub const HIGH_FACTOR: f64 = 1.6;
/// Age from which a dose is ignored, in half-lives of the upper band. Less than 0.05 mg is then left even of
/// 1 kg, the largest dose that can be stored.
const LOOKBACK_HALF_LIVES: f64 = 25.0;
/// Supported half-lives in hours.
pub const HALF_LIFE_RANGE: RangeInclusive<f64> = 1.0..=24.0;
/// Supported absorption rates per hour.
pub const ABSORPTION_RANGE: RangeInclusive<f64> = 0.1..=60.0;

/// Dose and its time of consumption.
pub type Dose = (Timestamp, Milligrams);

/// Rates of absorption and elimination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kinetics {
    half_life_hours: f64,
    absorption_per_hour: f64,
}

/// Amounts of caffeine in the body at an instant, in milligrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaffeineState {
    /// Consumed, not yet absorbed.
    pub gut_mg: f64,
    /// Absorbed, not yet eliminated: the active caffeine.
    pub active_mg: f64,
}

impl Default for Kinetics {
    fn default() -> Self {
        Self { half_life_hours: HALF_LIFE_HOURS, absorption_per_hour: ABSORPTION_PER_HOUR }
    }
}

impl Kinetics {
    /// Creates kinetics; `None` outside of [`HALF_LIFE_RANGE`] and [`ABSORPTION_RANGE`].
    pub fn new(half_life_hours: f64, absorption_per_hour: f64) -> Option<Self> {
        (HALF_LIFE_RANGE.contains(&half_life_hours) && ABSORPTION_RANGE.contains(&absorption_per_hour))
            .then_some(Self { half_life_hours, absorption_per_hour })
    }

    pub const fn half_life_hours(&self) -> f64 {
        self.half_life_hours
    }

    /// Returns the absorption rate ka per hour.
    pub const fn absorption_per_hour(&self) -> f64 {
        self.absorption_per_hour
    }

    /// Returns the elimination rate ke per hour: ln 2 / half-life.
    pub fn elimination_per_hour(&self) -> f64 {
        std::f64::consts::LN_2 / self.half_life_hours
    }

    /// Returns the kinetics of the lower band, with fast elimination.
    pub fn low(&self) -> Self {
        Self { half_life_hours: self.half_life_hours * LOW_FACTOR, ..*self }
    }

    /// Returns the kinetics of the upper band, with slow elimination.
    pub fn high(&self) -> Self {
        Self { half_life_hours: self.half_life_hours * HIGH_FACTOR, ..*self }
    }

    /// Returns the age in microseconds up to which a dose is relevant.
    pub fn lookback_micros(&self) -> i64 {
        (LOOKBACK_HALF_LIVES * self.high().half_life_hours * HOUR as f64).ceil() as i64
    }

    /// Returns the state `hours` later without further doses; the same state for 0 hours or less.
    pub fn advance(&self, state: CaffeineState, hours: f64) -> CaffeineState {
        if hours <= 0.0 {
            return state;
        }
        let (ka, ke) = (self.absorption_per_hour, self.elimination_per_hour());
        // The closed form is symmetric in both rates. One exponential of their difference is accurate for
        // ka ≈ ke, where the limit is ka·t·e^(−ke·t).
        let (slow, gap) = (ka.min(ke), (ka - ke).abs());
        let spread = if gap > 0.0 { -(-gap * hours).exp_m1() / gap } else { hours };
        let absorbed = state.gut_mg * ka * (-slow * hours).exp() * spread;
        CaffeineState {
            gut_mg: state.gut_mg * (-ka * hours).exp(),
            active_mg: state.active_mg * (-ke * hours).exp() + absorbed,
        }
    }

    /// Returns the active caffeine in milligrams `hours_since` hours after a single dose, 0 before it:
    /// D·ka/(ka−ke)·(e^(−ke·t) − e^(−ka·t)) (Bateman function).
    pub fn active_after_dose(&self, dose_mg: f64, hours_since: f64) -> f64 {
        self.advance(CaffeineState { gut_mg: dose_mg, active_mg: 0.0 }, hours_since).active_mg
    }

    /// Returns the hours from a single dose to its peak: ln(ka/ke)/(ka−ke), or 1/ke for equal rates.
    pub fn peak_hours(&self) -> f64 {
        self.hours_to_peak(CaffeineState { gut_mg: 1.0, active_mg: 0.0 })
    }

    /// Returns the highest level in milligrams from `hours_since` (0 or more) hours after a single dose on.
    /// It does not increase with `hours_since`.
    pub fn highest_after(&self, dose_mg: f64, hours_since: f64) -> f64 {
        self.active_after_dose(dose_mg, hours_since.max(self.peak_hours()))
    }

    /// Returns the hours until the level is highest without further doses, 0 when it only falls. The level
    /// rises while absorption exceeds elimination and falls afterwards.
    pub fn hours_to_peak(&self, state: CaffeineState) -> f64 {
        let (ka, ke) = (self.absorption_per_hour, self.elimination_per_hour());
        let rise = state.gut_mg * ka - state.active_mg * ke;
        if rise <= 0.0 {
            return 0.0;
        }
        // The derivative of the closed form is 0 at ln(1 + gap·x)/gap, which is x for ka = ke.
        let gap = ka - ke;
        let x = rise / (ke * (state.active_mg * gap + state.gut_mg * ka));
        if gap == 0.0 { x } else { (gap * x).ln_1p() / gap }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

    impl Kinetics {
        /// Returns the active caffeine in milligrams at `at` as the sum over the doses up to then.
        pub fn active(&self, doses: &[Dose], at: Timestamp) -> f64 {
            let consumed = doses.iter().filter(|(time, _)| *time <= at);
            consumed
                .fold(0.0, |sum, (time, dose)| sum + self.active_after_dose(dose.mg(), at.hours_since(*time)))
        }
    }

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
        assert!((a - b).abs() <= tolerance, "{a} instead of {b}");
    }

    #[test]
    fn the_amounts_are_those_of_the_closed_form() {
        // Computed with 30 decimal digits from D·ka/(ka−ke)·(e^(−ke·t) − e^(−ka·t)).
        for (half_life, ka, dose, hours, expected) in CLOSED_FORM {
            near(Kinetics::new(half_life, ka).unwrap().active_after_dose(dose, hours), expected, 1e-9);
        }
        assert_eq!(Kinetics::default().active_after_dose(100.0, 0.0), 0.0);
        assert_eq!(Kinetics::default().active_after_dose(100.0, -1.0), 0.0);
        assert_eq!(Kinetics::default().active_after_dose(0.0, 1.0), 0.0);
    }

    #[test]
    fn equal_rates_give_the_limit_form_and_their_neighbourhood_is_continuous() {
        let half_life = 5.0;
        let ke = std::f64::consts::LN_2 / half_life;
        let limit = |t: f64| 100.0 * ke * t * (-ke * t).exp();
        for hours in [0.1, 1.0, 7.2, 48.0] {
            for offset in [0.0, 1e-16, 1e-13, 1e-10, 1e-8, -1e-16, -1e-13, -1e-10, -1e-8] {
                let kinetics = Kinetics::new(half_life, ke + offset).unwrap();
                near(kinetics.active_after_dose(100.0, hours), limit(hours), 1e-4);
                near(kinetics.peak_hours(), 1.0 / ke, 1e-5);
            }
        }
        let slow_uptake = Kinetics::new(1.0, 0.1).unwrap();
        assert!(
            slow_uptake.active_after_dose(100.0, 1e5) >= 0.0
                && slow_uptake.active_after_dose(100.0, 1e5) < 1e-9
        );
    }

    #[test]
    fn the_peak_is_where_the_level_is_highest() {
        let kinetics = Kinetics::default();
        near(kinetics.peak_hours() * 60.0, 52.244_328, 1e-6);
        for kinetics in [kinetics, kinetics.low(), kinetics.high(), Kinetics::new(2.0, 0.2).unwrap()] {
            let (peak, top) =
                (kinetics.peak_hours(), kinetics.active_after_dose(100.0, kinetics.peak_hours()));
            assert!(
                top > kinetics.active_after_dose(100.0, peak - 0.01)
                    && top > kinetics.active_after_dose(100.0, peak + 0.01)
            );
        }
    }

    #[test]
    fn the_level_is_highest_at_hours_to_peak_from_any_state() {
        for state in
            [CaffeineState { gut_mg: 50.0, active_mg: 30.0 }, CaffeineState { gut_mg: 5.0, active_mg: 100.0 }]
        {
            for (half_life, ka) in [(5.0, 4.0), (24.0, 60.0), (1.0, 0.1), (5.0, std::f64::consts::LN_2 / 5.0)]
            {
                let kinetics = Kinetics::new(half_life, ka).unwrap();
                let peak = kinetics.hours_to_peak(state);
                let top = kinetics.advance(state, peak).active_mg;
                let levels = (0..5000_u32).map(|n| kinetics.advance(state, f64::from(n) / 500.0).active_mg);
                near(levels.fold(0.0, f64::max), top, 1e-3);
            }
        }
        let falling = CaffeineState { gut_mg: 0.0, active_mg: 100.0 };
        assert_eq!(Kinetics::default().hours_to_peak(falling), 0.0);
        assert_eq!(Kinetics::default().hours_to_peak(CaffeineState::default()), 0.0);
    }

    #[test]
    fn doses_add_up_across_midnight_and_clock_changes() {
        let kinetics = Kinetics::default();
        // The Berlin nights in which clocks change, and a plain one.
        for night in ["2026-03-28T22:30:00Z", "2026-10-24T21:30:00Z", "2026-06-01T21:30:00Z"] {
            let evening = at(night);
            let doses =
                [(evening, mg(80.0)), (evening.plus(HOUR), mg(90.0)), (evening.plus(9 * HOUR), mg(50.0))];
            let expected = kinetics.active_after_dose(80.0, 6.0) + kinetics.active_after_dose(90.0, 5.0);
            near(kinetics.active(&doses, evening.plus(6 * HOUR)), expected, 1e-9);
            near(kinetics.active(&doses[..1], evening.plus(kinetics.lookback_micros())), 0.0, 0.01);
        }
    }

    #[test]
    fn advancing_in_steps_gives_the_closed_form() {
        let kinetics = Kinetics::default();
        let mut state = CaffeineState { gut_mg: 95.0, active_mg: 0.0 };
        for step in 1..=10_000_u32 {
            state = kinetics.advance(state, 1.0 / 600.0);
            near(state.active_mg, kinetics.active_after_dose(95.0, f64::from(step) / 600.0), 1e-9);
        }
    }

    #[test]
    fn kinetics_outside_of_their_ranges_are_rejected() {
        for (half_life, absorption) in
            [(0.9, 4.0), (24.1, 4.0), (f64::NAN, 4.0), (5.0, 0.0), (5.0, f64::INFINITY)]
        {
            assert_eq!(Kinetics::new(half_life, absorption), None);
        }
        assert_eq!(Kinetics::new(5.0, 4.0), Some(Kinetics::default()));
    }

    #[test]
    fn the_lookback_ignores_less_than_a_twentieth_of_a_milligram_at_any_half_life() {
        const LARGEST_DOSE: f64 = 1e6;
        let (shortest, longest) = (*HALF_LIFE_RANGE.start(), *HALF_LIFE_RANGE.end());
        for step in 0..=1000 {
            let half_life = shortest + (longest - shortest) * f64::from(step) / 1000.0;
            let kinetics = Kinetics::new(half_life, ABSORPTION_PER_HOUR).unwrap();
            let hours = kinetics.lookback_micros() as f64 / HOUR as f64;
            for kinetics in [kinetics.low(), kinetics, kinetics.high()] {
                let cut = kinetics.active_after_dose(LARGEST_DOSE, hours);
                assert!(cut < 0.05, "{half_life} h: {cut} mg after {hours} h");
            }
        }
    }
}
