//! How much caffeine is in the body: one compartment, first-order absorption and
//! elimination, the closed form and never a simulation in steps.
//!
//! Works on instants, so neither midnight nor a change of the clocks means anything here.
//! It is an estimate for an average adult; levels over time are in `forecast`, what to drink
//! and what to say about it in `advice`.

use std::ops::RangeInclusive;

use crate::domain::coffee::Milligrams;
use crate::domain::time::{HOUR, Timestamp};

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
/// Half-lives of the slow body after which a dose is left out. Less than 0.05 mg is left by then of any
/// dose that can be stored (1 kg).
const LOOK_BACK_HALF_LIVES: f64 = 25.0;
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
pub struct CaffeineState {
    /// Drunk, not yet absorbed.
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

    /// Span in which a dose still counts, microseconds: [`LOOK_BACK_HALF_LIVES`] of the slow body.
    pub fn lookback_micros(&self) -> i64 {
        (LOOK_BACK_HALF_LIVES * self.high().half_life_hours * HOUR as f64).ceil() as i64
    }

    /// Share of the active caffeine eliminated per hour: ln 2 / half-life.
    pub fn elimination_per_hour(&self) -> f64 {
        std::f64::consts::LN_2 / self.half_life_hours
    }

    /// The body `hours` later when nothing more is drunk; the same body for 0 or less.
    pub fn advance(&self, body: CaffeineState, hours: f64) -> CaffeineState {
        if hours <= 0.0 {
            return body;
        }
        let (ka, ke) = (self.absorption_per_hour, self.elimination_per_hour());
        // The closed form is symmetric in both rates, and one exponential of their gap keeps
        // its digits where ka ≈ ke; there it becomes the limit form ka·t·e^(−ke·t).
        let (slow, gap) = (ka.min(ke), (ka - ke).abs());
        let spread = if gap > 0.0 { -(-gap * hours).exp_m1() / gap } else { hours };
        let absorbed = body.gut_mg * ka * (-slow * hours).exp() * spread;
        CaffeineState {
            gut_mg: body.gut_mg * (-ka * hours).exp(),
            active_mg: body.active_mg * (-ke * hours).exp() + absorbed,
        }
    }

    /// Active caffeine in mg, `hours_since` hours after a single dose; 0 before it:
    /// D·ka/(ka−ke)·(e^(−ke·t) − e^(−ka·t)).
    pub fn active_after_dose(&self, dose_mg: f64, hours_since: f64) -> f64 {
        self.advance(CaffeineState { gut_mg: dose_mg, active_mg: 0.0 }, hours_since).active_mg
    }

    /// The body at an instant. Doses after it do not count; those of [`Self::lookback_micros`] before suffice.
    pub fn state(&self, doses: &[Dose], at: Timestamp) -> CaffeineState {
        let drunk = doses.iter().filter(|(time, _)| *time <= at);
        drunk.fold(CaffeineState::default(), |sum, (time, dose)| {
            let part =
                self.advance(CaffeineState { gut_mg: dose.mg(), active_mg: 0.0 }, at.hours_since(*time));
            CaffeineState { gut_mg: sum.gut_mg + part.gut_mg, active_mg: sum.active_mg + part.active_mg }
        })
    }

    /// Active caffeine in mg at an instant. Doses after it do not count.
    pub fn active(&self, doses: &[Dose], at: Timestamp) -> f64 {
        self.state(doses, at).active_mg
    }

    /// Hours from a single dose to its peak: ln(ka/ke)/(ka−ke), 1/ke where both are equal.
    pub fn peak_hours(&self) -> f64 {
        self.hours_to_peak(CaffeineState { gut_mg: 1.0, active_mg: 0.0 })
    }

    /// The highest level in mg, `hours_since` (0 or more) hours after a single dose or any time later.
    /// Falls, and never rises, with `hours_since`.
    pub fn highest_after(&self, dose_mg: f64, hours_since: f64) -> f64 {
        self.active_after_dose(dose_mg, hours_since.max(self.peak_hours()))
    }

    /// Hours until the level is highest when nothing more is drunk; 0 when it only falls. While
    /// more comes in than goes out it rises, and then it falls for good.
    pub fn hours_to_peak(&self, body: CaffeineState) -> f64 {
        let (ka, ke) = (self.absorption_per_hour, self.elimination_per_hour());
        let rise = body.gut_mg * ka - body.active_mg * ke;
        if rise <= 0.0 {
            return 0.0;
        }
        // The derivative of the closed form is 0 at ln(1 + gap·x)/gap, which is x where ka ≈ ke.
        let gap = ka - ke;
        let x = rise / (ke * (body.active_mg * gap + body.gut_mg * ka));
        if gap == 0.0 { x } else { (gap * x).ln_1p() / gap }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

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
                let body = Kinetics::new(half_life, ke + offset).unwrap();
                near(body.active_after_dose(100.0, hours), limit(hours), 1e-4);
                near(body.peak_hours(), 1.0 / ke, 1e-5);
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
        let body = Kinetics::default();
        near(body.peak_hours() * 60.0, 52.244_328, 1e-6);
        for body in [body, body.low(), body.high(), Kinetics::new(2.0, 0.2).unwrap()] {
            let (peak, top) = (body.peak_hours(), body.active_after_dose(100.0, body.peak_hours()));
            assert!(
                top > body.active_after_dose(100.0, peak - 0.01)
                    && top > body.active_after_dose(100.0, peak + 0.01)
            );
        }
    }

    #[test]
    fn a_level_is_highest_at_the_found_hour_whatever_is_in_the_body() {
        for body in
            [CaffeineState { gut_mg: 50.0, active_mg: 30.0 }, CaffeineState { gut_mg: 5.0, active_mg: 100.0 }]
        {
            for (half_life, ka) in [(5.0, 4.0), (24.0, 60.0), (1.0, 0.1), (5.0, std::f64::consts::LN_2 / 5.0)]
            {
                let kinetics = Kinetics::new(half_life, ka).unwrap();
                let peak = kinetics.hours_to_peak(body);
                let top = kinetics.advance(body, peak).active_mg;
                let walked = (0..5000_u32).map(|n| kinetics.advance(body, f64::from(n) / 500.0).active_mg);
                near(walked.fold(0.0, f64::max), top, 1e-3);
            }
        }
        let falling = CaffeineState { gut_mg: 0.0, active_mg: 100.0 };
        assert_eq!(Kinetics::default().hours_to_peak(falling), 0.0);
        assert_eq!(Kinetics::default().hours_to_peak(CaffeineState::default()), 0.0);
    }

    #[test]
    fn doses_add_up_and_neither_midnight_nor_a_change_of_clocks_loses_any() {
        let body = Kinetics::default();
        // The Berlin nights in which clocks change, and a plain one.
        for night in ["2026-03-28T22:30:00Z", "2026-10-24T21:30:00Z", "2026-06-01T21:30:00Z"] {
            let evening = at(night);
            let doses =
                [(evening, mg(80.0)), (evening.plus(HOUR), mg(90.0)), (evening.plus(9 * HOUR), mg(50.0))];
            let expected = body.active_after_dose(80.0, 6.0) + body.active_after_dose(90.0, 5.0);
            near(body.active(&doses, evening.plus(6 * HOUR)), expected, 1e-9);
            near(body.active(&doses[..1], evening.plus(body.lookback_micros())), 0.0, 0.01);
        }
    }

    #[test]
    fn walking_in_steps_gives_what_the_closed_form_gives() {
        let body = Kinetics::default();
        let mut walked = CaffeineState { gut_mg: 95.0, active_mg: 0.0 };
        for step in 1..=10_000_u32 {
            walked = body.advance(walked, 1.0 / 600.0);
            near(walked.active_mg, body.active_after_dose(95.0, f64::from(step) / 600.0), 1e-9);
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

    #[test]
    fn the_look_back_cuts_off_less_than_a_twentieth_of_a_milligram_at_any_half_life() {
        const LARGEST_DOSE: f64 = 1e6;
        let (shortest, longest) = (*HALF_LIFE_RANGE.start(), *HALF_LIFE_RANGE.end());
        for step in 0..=1000 {
            let half_life = shortest + (longest - shortest) * f64::from(step) / 1000.0;
            let kinetics = Kinetics::new(half_life, ABSORPTION_PER_HOUR).unwrap();
            let hours = kinetics.lookback_micros() as f64 / HOUR as f64;
            for body in [kinetics.low(), kinetics, kinetics.high()] {
                let cut = body.active_after_dose(LARGEST_DOSE, hours);
                assert!(cut < 0.05, "{half_life} h: {cut} mg after {hours} h");
            }
        }
    }
}
