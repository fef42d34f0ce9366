//! What the caffeine model says to do: how much now, the last coffee before bed, how the day stands.
//!
//! An estimate for an average adult, and it says so: every number that decides something is in
//! `sources`. The level itself is `forecast`'s; settings and clock are the caller's.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::caffeine::{ABSORPTION_SOURCE, Dose, HALF_LIFE_SOURCE, HIGH_FACTOR, Kinetics, LOW_FACTOR};
use crate::domain::calendar::{Date, LocalTime, Zone};
use crate::domain::coffee::{Milligrams, PRESETS, PRESETS_SOURCE};
use crate::domain::forecast::{CaffeineLevel, Forecast, last_hour_where};
use crate::domain::statistics::{round1, round2};
use crate::domain::time::{HOUR, Timestamp};

/// Most caffeine that should be drunk at once, mg: EFSA Journal 2015;13(5):4102.
pub const MAX_SINGLE_DOSE_MG: f64 = 200.0;
/// What stays at or below this, mg, should not cost sleep. Studies disagree: see [`SLEEP_SOURCE`].
pub const SLEEP_THRESHOLD_MG: f64 = 50.0;
/// Where the sleep threshold comes from.
pub const SLEEP_SOURCE: &str = "Studies disagree: 100 mg near bedtime may cost some adults sleep (EFSA Journal 2015;13(5):4102); \
     Landolt 1995 (doi:10.1016/0006-8993(95)00040-W) saw an effect of 200 mg drunk 16 hours before, of which \
     this model has some 22 mg left. 50 mg lies between; SLEEP_THRESHOLD_MG changes it";
/// Where the limits of a day and of a single dose come from.
pub const LIMITS_SOURCE: &str = "Up to 400 mg a day and 200 mg at once raise no concern for healthy adults: EFSA Journal 2015;13(5):4102 \
     (half of the day's amount in pregnancy)";
/// How many of the latest doses tell the usual one.
pub const USUAL_DOSE_SAMPLE: u32 = 50;
/// That none of this is a promise.
pub const NOTE: &str = "An estimate for an average adult, neither a measurement nor medical advice: half-lives differ between people \
     by several times, and low_mg to high_mg shows only a part of that.";

/// Half-lives of those who are not average.
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

/// A half-life to set for somebody who is not average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HalfLifeHint {
    pub profile: &'static str,
    pub half_life_hours: f64,
    pub source: &'static str,
}

/// Who is advised: a body, its habits, its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaffeineProfile {
    pub kinetics: Kinetics,
    /// When they go to bed, local time.
    pub bedtime: LocalTime,
    /// Most caffeine in the body at bedtime, mg, above 0.
    pub sleep_threshold_mg: f64,
    /// Their usual dose; `None`: the latest coffees tell.
    pub usual_dose_mg: Option<f64>,
    /// Most caffeine on a calendar day, mg.
    pub daily_limit_mg: f64,
}

/// A constant, its value in force, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CaffeineSource {
    /// The field or constant it is about.
    pub what: &'static str,
    pub value: f64,
    pub source: &'static str,
}

/// Caffeine in the body at an instant and from then on. All amounts are mg to 2 decimals.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ActiveCaffeine {
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    #[schema(minimum = 0)]
    pub active_caffeine_mg: f64,
    /// For a body that is quicker: the half-life times 0.6.
    #[schema(minimum = 0)]
    pub low_mg: f64,
    /// For a body that is slower: the half-life times 1.6.
    #[schema(minimum = 0)]
    pub high_mg: f64,
    /// When it is highest from `timestamp` on, which is `timestamp` when it only falls; null without caffeine.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub peak_at: Option<Timestamp>,
    pub half_life_hours: f64,
    pub absorption_per_hour: f64,
    /// The next bedtime from `timestamp` on.
    #[schema(value_type = String, format = DateTime)]
    pub bedtime: Timestamp,
    #[schema(minimum = 0)]
    pub at_bedtime_mg: f64,
    /// What should not be exceeded in bed; a setting, for studies disagree.
    pub sleep_threshold_mg: f64,
    /// From when on it stays at or below `sleep_threshold_mg`; `timestamp` when it does already.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub below_threshold_at: Option<Timestamp>,
    /// A setting, or the middle one of the latest 50 doses, or an espresso.
    #[schema(minimum = 0)]
    pub usual_dose_mg: f64,
    /// Until when the usual dose (at most 200 mg of it) can be drunk and `sleep_threshold_mg` is kept from
    /// bedtime on, and the day's limit; null when that is not possible any more before `bedtime`.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_safe_coffee_at: Option<Timestamp>,
    /// The largest dose at `timestamp` that keeps `sleep_threshold_mg` from bedtime on, the day's limit, and
    /// 200 mg at once. Rounded down.
    #[schema(minimum = 0)]
    pub can_drink_now_mg: f64,
    /// The advised limit for a calendar day; a setting.
    pub daily_limit_mg: f64,
    /// Minutes between two points of the curve.
    pub step_minutes: u32,
    /// From `timestamp` on.
    pub curve: Vec<CaffeineLevel>,
    pub note: &'static str,
    /// Half-lives of those who are not average, for `half_life_hours` or CAFFEINE_HALF_LIFE_HOURS.
    #[schema(value_type = Vec<HalfLifeHint>)]
    pub half_life_hints: [HalfLifeHint; 3],
    /// Every constant with the value in force and where it comes from.
    pub sources: Vec<CaffeineSource>,
}

/// The day in a few numbers and a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CoffeeSummary {
    #[schema(value_type = String, format = Date)]
    pub date: Date,
    /// Of the calendar day, mg to 2 decimals.
    #[schema(minimum = 0)]
    pub total_caffeine_mg: f64,
    /// The advised limit for a day in mg; a setting.
    pub daily_limit_mg: f64,
    /// To 1 decimal; over 100 when it is exceeded.
    #[schema(minimum = 0)]
    pub limit_reached_percent: f64,
    /// In the body now, by the model, mg to 2 decimals.
    #[schema(minimum = 0)]
    pub active_caffeine_mg: f64,
    /// `Warning`: the day's limit is exceeded, or more is in the body than the 200 mg that should be drunk at
    /// once. `Caution`: at the next bedtime more than the sleep threshold would be left, or one more usual
    /// dose would exceed the day's limit. Else `Good`.
    pub status: &'static str,
    /// Why, in a sentence.
    pub insight: String,
    pub logs_count: usize,
    /// As in `/coffee/active`.
    #[schema(minimum = 0)]
    pub can_drink_now_mg: f64,
    /// As in `/coffee/active`.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_safe_coffee_at: Option<Timestamp>,
}

/// Somebody at an instant, with all that is known to be drunk.
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
    /// The coffees that an answer about `at`, with a curve of so many hours, needs.
    pub fn dose_window(&self, zone: &Zone, at: Timestamp, hours: u32) -> (Timestamp, Timestamp) {
        let (today, _) = zone.day(zone.date(at));
        let (_, end) = zone.day(zone.date(zone.next_occurrence(self.bedtime, at)));
        (
            at.minus(self.kinetics.lookback_micros()).min(today),
            at.plus(i64::from(hours) * HOUR).plus(1).max(end),
        )
    }

    /// The usual dose by what was drunk of late: the middle one (of an even number the lower) of the
    /// doses above 0, or an espresso.
    fn usual_dose(&self, latest: &[Milligrams]) -> f64 {
        let mut doses: Vec<f64> = latest.iter().map(|dose| dose.mg()).filter(|mg| *mg > 0.0).collect();
        doses.sort_by(f64::total_cmp);
        let middle = doses.len().checked_sub(1).map(|last| doses[last / 2]);
        self.usual_dose_mg.or(middle).unwrap_or(PRESETS[0].caffeine_mg)
    }
}

impl<'a> CaffeineAdvisor<'a> {
    /// Of `doses` in time order, at least those that [`CaffeineProfile::needs`], and the `latest` up to `at`.
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
            bedtime: zone.next_occurrence(profile.bedtime, at),
        }
    }

    /// The whole answer, with a curve of so many hours.
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
            at_bedtime_mg: round2(self.forecast.active(self.bedtime)),
            sleep_threshold_mg: self.profile.sleep_threshold_mg,
            below_threshold_at: self.forecast.below_threshold_at(self.at, self.profile.sleep_threshold_mg),
            usual_dose_mg: self.usual_dose_mg,
            last_safe_coffee_at: self.last_safe_coffee_at(),
            can_drink_now_mg: round_down(self.can_drink_now()),
            daily_limit_mg: self.profile.daily_limit_mg,
            step_minutes,
            curve: self.forecast.curve(self.at, self.at.plus(i64::from(hours) * HOUR), step_minutes),
            note: NOTE,
            half_life_hints: HALF_LIFE_HINTS,
            sources: self.sources(),
        }
    }

    /// The day in a few numbers and a sentence.
    pub fn summary(&self) -> CoffeeSummary {
        let date = self.zone.date(self.at);
        let (total, logs_count) = self.day_total(date);
        let (status, insight) = self.judge(total, logs_count);
        CoffeeSummary {
            date,
            total_caffeine_mg: round2(total),
            daily_limit_mg: self.profile.daily_limit_mg,
            limit_reached_percent: round1(total / self.profile.daily_limit_mg * 100.0),
            active_caffeine_mg: round2(self.forecast.active(self.at)),
            status,
            insight,
            logs_count,
            can_drink_now_mg: round_down(self.can_drink_now()),
            last_safe_coffee_at: self.last_safe_coffee_at(),
        }
    }

    fn judge(&self, total: f64, logs_count: usize) -> (&'static str, String) {
        let limit = self.profile.daily_limit_mg;
        let active = self.forecast.active(self.at);
        let (night, threshold) = (self.forecast.highest_from(self.bedtime), self.profile.sleep_threshold_mg);
        let bedtime = self.profile.bedtime;
        if total > limit {
            return ("Warning", format!("{total:.0} mg today is more than the advised {limit:.0} mg."));
        }
        if active > MAX_SINGLE_DOSE_MG {
            let text = format!(
                "About {active:.0} mg is in your body: more than the {MAX_SINGLE_DOSE_MG:.0} mg that should be drunk at once."
            );
            return ("Warning", text);
        }
        if night > threshold {
            let text = format!(
                "About {night:.0} mg would be in your body at {bedtime}: over {threshold:.0} mg sleep may suffer."
            );
            return ("Caution", text);
        }
        if total + self.usual_dose_mg > limit {
            let usual = self.usual_dose_mg;
            let text =
                format!("Another {usual:.0} mg would be more than the advised {limit:.0} mg for a day.");
            return ("Caution", text);
        }
        let so_far = if logs_count == 0 {
            "No coffee yet today.".into()
        } else {
            format!("{total:.0} mg so far today.")
        };
        let usual = self.usual_dose_mg.min(MAX_SINGLE_DOSE_MG);
        let advice = match self.last_safe_coffee_at() {
            Some(at) if at == self.bedtime => "Sleep should not suffer from another one.".to_owned(),
            Some(at) => {
                format!("{usual:.0} mg until {} should leave sleep alone.", self.zone.format_time(at))
            }
            None => format!("Too late for {usual:.0} mg more if sleep is to be left alone at {bedtime}."),
        };
        ("Good", format!("{so_far} {advice}"))
    }

    /// The total of a calendar day in mg, and of how many coffees.
    fn day_total(&self, date: Date) -> (f64, usize) {
        let (start, end) = self.zone.day(date);
        let of_day = self.doses.iter().filter(|(time, _)| (start..end).contains(time));
        of_day.fold((0.0, 0), |(total, count), (_, dose)| (total + dose.mg(), count + 1))
    }

    /// How much may still be drunk on a calendar day, mg.
    fn room_of(&self, date: Date) -> f64 {
        self.profile.daily_limit_mg - self.day_total(date).0
    }

    /// How much more may be in the body from bedtime on, mg.
    fn room_at_night(&self) -> f64 {
        self.profile.sleep_threshold_mg - self.forecast.highest_from(self.bedtime)
    }

    fn can_drink_now(&self) -> f64 {
        let hours = self.bedtime.hours_since(self.at);
        let left_of_one = self.profile.kinetics.highest_after(1.0, hours);
        let for_sleep = self.room_at_night() / left_of_one;
        // Of a dose so small a share is left that the quotient may be beyond all numbers.
        let for_sleep = if for_sleep.is_nan() { 0.0 } else { for_sleep };
        for_sleep.min(self.room_of(self.zone.date(self.at))).clamp(0.0, MAX_SINGLE_DOSE_MG)
    }

    /// The sum of what is highest after bedtime of what was drunk, and of the dose alone, is never
    /// less than the highest of both together, and grows the later the dose is drunk: so there is
    /// one last instant.
    fn last_safe_coffee_at(&self) -> Option<Timestamp> {
        let (kinetics, dose) = (&self.profile.kinetics, self.usual_dose_mg.min(MAX_SINGLE_DOSE_MG));
        let (room, peak) = (self.room_at_night(), kinetics.peak_hours());
        if room <= 0.0 {
            return None;
        }
        let too_much = |hours: f64| kinetics.highest_after(dose, hours) > room;
        let hours = if too_much(peak) { last_hour_where(peak, too_much) } else { 0.0 };
        let last = self.bedtime.minus((hours * HOUR as f64).ceil() as i64);
        let (today, tonight) = (self.zone.date(self.at), self.zone.date(last));
        let (_, midnight) = self.zone.day(today);
        let fits = |date: Date| self.room_of(date) >= dose;
        let last = if fits(tonight) { Some(last) } else { fits(today).then(|| last.min(midnight.minus(1))) };
        last.filter(|last| *last >= self.at)
    }

    fn sources(&self) -> Vec<CaffeineSource> {
        let kinetics = &self.profile.kinetics;
        let source = |what, value, source| CaffeineSource { what, value, source };
        vec![
            source("half_life_hours", kinetics.half_life_hours(), HALF_LIFE_SOURCE),
            source("absorption_per_hour", kinetics.absorption_per_hour(), ABSORPTION_SOURCE),
            source(
                "low_mg: half-life times",
                LOW_FACTOR,
                "Near a smoker's 3.5 h at 5 h: Parsons & Neims 1978",
            ),
            source(
                "high_mg: half-life times",
                HIGH_FACTOR,
                "8 h at 5 h, as with oral contraceptives: Abernethy 1985",
            ),
            source("sleep_threshold_mg", self.profile.sleep_threshold_mg, SLEEP_SOURCE),
            source("daily_limit_mg", self.profile.daily_limit_mg, LIMITS_SOURCE),
            source("single dose, mg", MAX_SINGLE_DOSE_MG, LIMITS_SOURCE),
            source("an espresso, mg", PRESETS[0].caffeine_mg, PRESETS_SOURCE),
        ]
    }
}

/// To 2 decimals, never more than it is.
fn round_down(value: f64) -> f64 {
    (value * 100.0).floor() / 100.0
}
