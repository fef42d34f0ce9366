//! Advice from the caffeine model: the dose that is possible now, the last coffee before bedtime, a summary
//! of the day.
//!
//! It is an estimate for an average adult. `sources` lists every constant that the advice depends on.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::bedtimes::Bedtimes;
use crate::domain::caffeine::{ABSORPTION_SOURCE, Dose, HALF_LIFE_SOURCE, HIGH_FACTOR, Kinetics, LOW_FACTOR};
use crate::domain::calendar::{Date, Zone};
use crate::domain::coffee::{Milligrams, PRESETS, PRESETS_SOURCE};
use crate::domain::forecast::{CaffeineLevel, Forecast, last_hour_where};
use crate::domain::statistics::{round1, round2};
use crate::domain::time::{HOUR, Timestamp};

/// Recommended maximum of a single dose in milligrams. Source: [`LIMITS_SOURCE`].
pub const MAX_SINGLE_DOSE_MG: f64 = 200.0;
/// Default for the active caffeine that should not disturb sleep, in milligrams. Source: [`SLEEP_SOURCE`].
pub const SLEEP_THRESHOLD_MG: f64 = 50.0;
/// Source of [`SLEEP_THRESHOLD_MG`].
pub const SLEEP_SOURCE: &str = "Studies disagree: 100 mg near bedtime may affect the sleep of some adults (EFSA Journal 2015;13(5):4102); \
     Landolt 1995 (doi:10.1016/0006-8993(95)00040-W) found an effect of 200 mg taken 16 hours before, of which \
     this model has about 22 mg left. The default of 50 mg lies between; set SLEEP_THRESHOLD_MG to change it";
/// Source of the limits for a day and for a single dose.
pub const LIMITS_SOURCE: &str = "Up to 400 mg a day and 200 mg at once raise no concern for healthy adults: EFSA Journal 2015;13(5):4102 \
     (half of the daily amount in pregnancy)";
/// Number of latest doses that the usual dose is derived from.
pub const USUAL_DOSE_SAMPLE: u32 = 50;
/// Time after bedtime that counts as the same night, in microseconds: an assumption, without a source.
const NIGHT: i64 = 6 * HOUR;
/// Disclaimer of every response.
pub const NOTE: &str = "An estimate for an average adult, neither a measurement nor medical advice: half-lives differ several-fold \
     between people, and low_mg to high_mg shows only a part of that range.";

/// Half-lives of people who differ from the average.
pub const HALF_LIFE_HINTS: [HalfLifeHint; 3] = [
    HalfLifeHint {
        profile: "smoker",
        half_life_hours: 3.5,
        source: "Parsons & Neims 1978, doi:10.1002/cpt197824140",
    },
    HalfLifeHint {
        profile: "oral contraceptives",
        half_life_hours: 8.0,
        source: "About 8 hours (Abernethy & Todd 1985, doi:10.1007/BF00544361), up to 11 in other studies",
    },
    HalfLifeHint {
        profile: "pregnancy",
        half_life_hours: 8.0,
        source: "About 8 hours, longer near term: doi:10.1007/BF00637512",
    },
];

/// Suggested half-life for people who differ from the average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HalfLifeHint {
    pub profile: &'static str,
    pub half_life_hours: f64,
    pub source: &'static str,
}

/// Caffeine profile of a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaffeineProfile {
    pub kinetics: Kinetics,
    pub bedtimes: Bedtimes,
    /// Maximum of active caffeine from bedtime on in milligrams, above 0.
    pub sleep_threshold_mg: f64,
    /// Usual dose in milligrams; `None` to derive it from the latest coffees.
    pub usual_dose_mg: Option<f64>,
    /// Maximum on a calendar day in milligrams.
    pub daily_limit_mg: f64,
}

/// Constant of the model with its current value and its source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CaffeineSource {
    /// Field or constant.
    pub what: &'static str,
    pub value: f64,
    pub source: &'static str,
}

/// Active caffeine at an instant and its forecast. Amounts are milligrams with 2 decimals.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ActiveCaffeine {
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    #[schema(minimum = 0)]
    pub active_caffeine_mg: f64,
    /// With fast elimination: the half-life times 0.6.
    #[schema(minimum = 0)]
    pub low_mg: f64,
    /// With slow elimination: the half-life times 1.6.
    #[schema(minimum = 0)]
    pub high_mg: f64,
    /// Time of the highest level from `timestamp` on; `timestamp` itself when the level only falls; null
    /// without caffeine.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub peak_at: Option<Timestamp>,
    pub half_life_hours: f64,
    pub absorption_per_hour: f64,
    /// Next bedtime from `timestamp` on.
    #[schema(value_type = String, format = DateTime)]
    pub bedtime: Timestamp,
    /// Bedtimes of `/profile`.
    pub bedtimes: Bedtimes,
    #[schema(minimum = 0)]
    pub at_bedtime_mg: f64,
    /// Level that should not be exceeded at night (`/profile`).
    pub sleep_threshold_mg: f64,
    /// Time from which the level stays at or below `sleep_threshold_mg`; `timestamp` when it already does.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub below_threshold_at: Option<Timestamp>,
    /// The value of `/profile`, or the median of the latest 50 doses, or an espresso.
    #[schema(minimum = 0)]
    pub usual_dose_mg: f64,
    /// Latest time before `bedtime` at which the usual dose (at most 200 mg) keeps the level at or below
    /// `sleep_threshold_mg` from bedtime on and the day within `daily_limit_mg`; null when there is none.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_safe_coffee_at: Option<Timestamp>,
    /// Largest dose at `timestamp` (at most 200 mg) that keeps the level at or below `sleep_threshold_mg`
    /// from bedtime on and the day within `daily_limit_mg`. In the six hours after bedtime, the level counts
    /// from `timestamp` on. Rounded down.
    #[schema(minimum = 0)]
    pub can_drink_now_mg: f64,
    /// Recommended maximum for a calendar day (`/profile`).
    pub daily_limit_mg: f64,
    /// Minutes between two points of the curve.
    pub step_minutes: u32,
    /// Levels from `timestamp` on.
    pub curve: Vec<CaffeineLevel>,
    pub note: &'static str,
    /// Half-lives of people who differ from the average, for `half_life_hours` or CAFFEINE_HALF_LIFE_HOURS.
    #[schema(value_type = Vec<HalfLifeHint>)]
    pub half_life_hints: [HalfLifeHint; 3],
    /// Every constant with its current value and its source.
    pub sources: Vec<CaffeineSource>,
}

/// Summary of a day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CoffeeSummary {
    #[schema(value_type = String, format = Date)]
    pub date: Date,
    /// Total of the calendar day in milligrams, with 2 decimals.
    #[schema(minimum = 0)]
    pub total_caffeine_mg: f64,
    /// Recommended maximum for a day in milligrams (`/profile`).
    pub daily_limit_mg: f64,
    /// With 1 decimal; above 100 when the limit is exceeded.
    #[schema(minimum = 0)]
    pub limit_reached_percent: f64,
    /// Active caffeine in milligrams, with 2 decimals.
    #[schema(minimum = 0)]
    pub active_caffeine_mg: f64,
    /// `Warning`: the daily limit is exceeded, or more than 200 mg is active. `Caution`: the level at the
    /// next bedtime, or now in the six hours after bedtime, exceeds the sleep threshold, or another usual dose would exceed the daily limit.
    /// Otherwise `Good`.
    pub status: &'static str,
    /// The reason for `status` as a sentence.
    pub insight: String,
    pub logs_count: usize,
    /// See `GET /coffee/active`.
    #[schema(minimum = 0)]
    pub can_drink_now_mg: f64,
    /// See `GET /coffee/active`.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_safe_coffee_at: Option<Timestamp>,
}

/// Advice for a person at an instant.
#[derive(Clone, Debug)]
pub struct CaffeineAdvisor<'a> {
    profile: &'a CaffeineProfile,
    zone: &'a Zone,
    forecast: Forecast<'a>,
    doses: &'a [Dose],
    usual_dose_mg: f64,
    at: Timestamp,
    bedtime: Timestamp,
}

impl CaffeineProfile {
    /// Returns the period [from, until) whose doses are needed for advice at `at` and a curve of `hours`.
    pub fn dose_window(&self, zone: &Zone, at: Timestamp, hours: u32) -> (Timestamp, Timestamp) {
        let (today, _) = zone.day(zone.date(at));
        let (_, end) = zone.day(zone.date(self.bedtimes.next(zone, at)));
        (
            at.minus(self.kinetics.lookback_micros()).min(today),
            at.plus(i64::from(hours) * HOUR).plus(1).max(end),
        )
    }

    /// Returns the usual dose in milligrams: that of the profile, or the (lower) median of the latest doses above
    /// 0, or an espresso.
    fn usual_dose(&self, latest: &[Milligrams]) -> f64 {
        let mut doses: Vec<f64> = latest.iter().map(|dose| dose.mg()).filter(|mg| *mg > 0.0).collect();
        doses.sort_by(f64::total_cmp);
        let median = doses.len().checked_sub(1).map(|last| doses[last / 2]);
        self.usual_dose_mg.or(median).unwrap_or(PRESETS[0].caffeine_mg)
    }
}

impl<'a> CaffeineAdvisor<'a> {
    /// Creates an advisor for `at`. `doses` are those of [`CaffeineProfile::dose_window`] in time order,
    /// `latest` the latest [`USUAL_DOSE_SAMPLE`] doses up to `at`.
    pub fn new(
        profile: &'a CaffeineProfile,
        zone: &'a Zone,
        at: Timestamp,
        doses: &'a [Dose],
        latest: &[Milligrams],
    ) -> Self {
        Self {
            profile,
            zone,
            forecast: Forecast::new(profile.kinetics, doses),
            doses,
            usual_dose_mg: profile.usual_dose(latest),
            at,
            bedtime: profile.bedtimes.next(zone, at),
        }
    }

    /// Returns the active caffeine with a curve of `hours`.
    pub fn active(&self, hours: u32, step_minutes: u32) -> ActiveCaffeine {
        let now = self.forecast.level(self.at);
        ActiveCaffeine {
            timestamp: self.at,
            active_caffeine_mg: now.mg,
            low_mg: now.low_mg,
            high_mg: now.high_mg,
            peak_at: self.forecast.peak_at(self.at),
            half_life_hours: self.profile.kinetics.half_life_hours(),
            absorption_per_hour: self.profile.kinetics.absorption_per_hour(),
            bedtime: self.bedtime,
            bedtimes: self.profile.bedtimes,
            at_bedtime_mg: round2(self.forecast.active(self.bedtime)),
            sleep_threshold_mg: self.profile.sleep_threshold_mg,
            below_threshold_at: self.forecast.below_threshold_at(self.at, self.profile.sleep_threshold_mg),
            usual_dose_mg: self.usual_dose_mg,
            last_safe_coffee_at: self.last_safe_coffee_at(),
            can_drink_now_mg: self.can_drink_now_mg(),
            daily_limit_mg: self.profile.daily_limit_mg,
            step_minutes,
            curve: self.forecast.curve(self.at, self.at.plus(i64::from(hours) * HOUR), step_minutes),
            note: NOTE,
            half_life_hints: HALF_LIFE_HINTS,
            sources: self.sources(),
        }
    }

    pub fn summary(&self) -> CoffeeSummary {
        let date = self.zone.date(self.at);
        let (total, logs_count) = self.day_total(date);
        let (status, insight) = self.status(total, logs_count);
        CoffeeSummary {
            date,
            total_caffeine_mg: round2(total),
            daily_limit_mg: self.profile.daily_limit_mg,
            limit_reached_percent: round1(total / self.profile.daily_limit_mg * 100.0),
            active_caffeine_mg: round2(self.forecast.active(self.at)),
            status,
            insight,
            logs_count,
            can_drink_now_mg: self.can_drink_now_mg(),
            last_safe_coffee_at: self.last_safe_coffee_at(),
        }
    }

    fn status(&self, total: f64, logs_count: usize) -> (&'static str, String) {
        let limit = self.profile.daily_limit_mg;
        let active = self.forecast.active(self.at);
        let (night, threshold) =
            (self.forecast.highest_from(self.night_start()), self.profile.sleep_threshold_mg);
        let (past_bedtime, usual) = (self.past_bedtime(), self.usual_dose_mg);
        let bedtime = self.zone.format_time(past_bedtime.unwrap_or(self.bedtime));
        if total > limit {
            return ("Warning", format!("{total:.0} mg today exceeds the daily limit of {limit:.0} mg."));
        }
        if active > MAX_SINGLE_DOSE_MG {
            let text = format!(
                "About {active:.0} mg is in your body, more than the recommended maximum of {MAX_SINGLE_DOSE_MG:.0} mg at once."
            );
            return ("Warning", text);
        }
        if night > threshold {
            let text = if past_bedtime.is_some() {
                format!(
                    "It is past your bedtime ({bedtime}), with about {night:.0} mg in your body; more than {threshold:.0} mg may disturb your sleep."
                )
            } else {
                format!(
                    "About {night:.0} mg would be in your body at bedtime ({bedtime}); more than {threshold:.0} mg may disturb your sleep."
                )
            };
            return ("Caution", text);
        }
        if total + usual > limit {
            return (
                "Caution",
                format!("Another {usual:.0} mg would exceed the daily limit of {limit:.0} mg."),
            );
        }
        let so_far = if logs_count == 0 {
            "No coffee yet today.".into()
        } else {
            format!("{total:.0} mg so far today.")
        };
        let usual = usual.min(MAX_SINGLE_DOSE_MG);
        let advice = match self.last_safe_coffee_at() {
            _ if past_bedtime.is_some() && self.can_drink_now_mg() < usual => {
                format!(
                    "It is past your bedtime ({bedtime}): another {usual:.0} mg now would likely disturb your sleep."
                )
            }
            Some(at) if at == self.bedtime => "Another coffee should not disturb your sleep.".to_owned(),
            Some(at) => {
                format!("{usual:.0} mg until {} should not disturb your sleep.", self.zone.format_time(at))
            }
            None => format!("Another {usual:.0} mg now would likely disturb your sleep at {bedtime}."),
        };
        ("Good", format!("{so_far} {advice}"))
    }

    /// Returns the total of a calendar day in milligrams and the number of coffees.
    fn day_total(&self, date: Date) -> (f64, usize) {
        let (start, end) = self.zone.day(date);
        let of_day = self.doses.iter().filter(|(time, _)| (start..end).contains(time));
        of_day.fold((0.0, 0), |(total, count), (_, dose)| (total + dose.mg(), count + 1))
    }

    /// Returns the remainder of the daily limit in milligrams.
    fn left_of_day(&self, date: Date) -> f64 {
        self.profile.daily_limit_mg - self.day_total(date).0
    }

    /// Returns the bedtime of the night that has begun: one less than [`NIGHT`] ago.
    fn past_bedtime(&self) -> Option<Timestamp> {
        let bedtime = self.profile.bedtimes.next(self.zone, self.at.minus(NIGHT - 1));
        (bedtime < self.at).then_some(bedtime)
    }

    /// Returns the time from which the sleep threshold counts: the next bedtime, or now in the night.
    fn night_start(&self) -> Timestamp {
        if self.past_bedtime().is_some() { self.at } else { self.bedtime }
    }

    /// Returns the remainder of the sleep threshold from `start` on in milligrams.
    fn left_of_night(&self, start: Timestamp) -> f64 {
        self.profile.sleep_threshold_mg - self.forecast.highest_from(start)
    }

    /// Returns the largest safe dose in milligrams, rounded down to 2 decimals.
    fn can_drink_now_mg(&self) -> f64 {
        let start = self.night_start();
        let hours = start.hours_since(self.at);
        let for_sleep = self.left_of_night(start) / self.profile.kinetics.highest_after(1.0, hours);
        // 0/0 when nothing is left of either.
        let for_sleep = if for_sleep.is_nan() { 0.0 } else { for_sleep };
        let mg = for_sleep.min(self.left_of_day(self.zone.date(self.at))).clamp(0.0, MAX_SINGLE_DOSE_MG);
        (mg * 100.0).floor() / 100.0
    }

    /// Returns the latest time of a safe usual dose.
    ///
    /// The highest level after bedtime of all doses is at most the sum of the highest level of the earlier
    /// doses and that of the new dose alone. The latter grows with the time of the new dose, so there is
    /// one latest time.
    fn last_safe_coffee_at(&self) -> Option<Timestamp> {
        let (kinetics, dose) = (&self.profile.kinetics, self.usual_dose_mg.min(MAX_SINGLE_DOSE_MG));
        let (left, peak) = (self.left_of_night(self.bedtime), kinetics.peak_hours());
        if left <= 0.0 {
            return None;
        }
        let is_too_much = |hours: f64| kinetics.highest_after(dose, hours) > left;
        let hours = if is_too_much(peak) { last_hour_where(peak, is_too_much) } else { 0.0 };
        let last = self.bedtime.minus((hours * HOUR as f64).ceil() as i64);
        let (today, tonight) = (self.zone.date(self.at), self.zone.date(last));
        let (_, midnight) = self.zone.day(today);
        let fits = |date: Date| self.left_of_day(date) >= dose;
        let last = if fits(tonight) { Some(last) } else { fits(today).then(|| last.min(midnight.minus(1))) };
        last.filter(|last| *last >= self.at)
    }

    fn sources(&self) -> Vec<CaffeineSource> {
        let kinetics = &self.profile.kinetics;
        [
            ("half_life_hours", kinetics.half_life_hours(), HALF_LIFE_SOURCE),
            ("absorption_per_hour", kinetics.absorption_per_hour(), ABSORPTION_SOURCE),
            ("low_mg: half-life times", LOW_FACTOR, "Near a smoker's 3.5 h at 5 h: Parsons & Neims 1978"),
            (
                "high_mg: half-life times",
                HIGH_FACTOR,
                "8 h at 5 h, as with oral contraceptives: Abernethy 1985",
            ),
            ("sleep_threshold_mg", self.profile.sleep_threshold_mg, SLEEP_SOURCE),
            ("daily_limit_mg", self.profile.daily_limit_mg, LIMITS_SOURCE),
            ("single dose, mg", MAX_SINGLE_DOSE_MG, LIMITS_SOURCE),
            ("an espresso, mg", PRESETS[0].caffeine_mg, PRESETS_SOURCE),
        ]
        .map(|(what, value, source)| CaffeineSource { what, value, source })
        .to_vec()
    }
}
