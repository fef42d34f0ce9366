//! Profile of a person: values of their own over the defaults of the settings.

use std::ops::RangeInclusive;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::advice::CaffeineProfile;
use crate::domain::bedtimes::{Bedtimes, WeekdayBedtimes, weekday_named};
use crate::domain::caffeine::{HALF_LIFE_RANGE, Kinetics};
use crate::domain::calendar::LocalTime;

/// Names of the fields.
pub const FIELDS: [&str; 6] = [
    "bedtime",
    "bedtime_by_weekday",
    "half_life_hours",
    "sleep_threshold_mg",
    "usual_dose_mg",
    "daily_limit_mg",
];

/// Range of the sleep threshold in milligrams.
pub const SLEEP_THRESHOLD_RANGE: RangeInclusive<f64> = 1.0..=1000.0;
/// Range of the usual dose in milligrams.
pub const USUAL_DOSE_RANGE: RangeInclusive<f64> = 1.0..=1000.0;
/// Range of the daily limit in milligrams.
pub const DAILY_LIMIT_RANGE: RangeInclusive<f64> = 1.0..=100_000.0;

/// Values that a person has set; `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnProfile {
    pub bedtime: Option<LocalTime>,
    pub bedtime_by_weekday: WeekdayBedtimes,
    /// In [`HALF_LIFE_RANGE`].
    pub half_life_hours: Option<f64>,
    /// In [`SLEEP_THRESHOLD_RANGE`].
    pub sleep_threshold_mg: Option<f64>,
    /// In [`USUAL_DOSE_RANGE`].
    pub usual_dose_mg: Option<f64>,
    /// In [`DAILY_LIMIT_RANGE`].
    pub daily_limit_mg: Option<f64>,
}

/// Change of a profile: an absent field keeps its value, `Some(None)` resets it to the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProfileChange {
    pub bedtime: Option<Option<LocalTime>>,
    /// Monday first.
    pub bedtime_by_weekday: [Option<Option<LocalTime>>; 7],
    pub half_life_hours: Option<Option<f64>>,
    pub sleep_threshold_mg: Option<Option<f64>>,
    pub usual_dose_mg: Option<Option<f64>>,
    pub daily_limit_mg: Option<Option<f64>>,
}

impl OwnProfile {
    /// Returns the profile in effect.
    pub fn over(&self, defaults: &CaffeineProfile) -> CaffeineProfile {
        let own_kinetics = self
            .half_life_hours
            .and_then(|hours| Kinetics::new(hours, defaults.kinetics.absorption_per_hour()));
        CaffeineProfile {
            kinetics: own_kinetics.unwrap_or(defaults.kinetics),
            bedtimes: Bedtimes {
                usual: self.bedtime.unwrap_or(defaults.bedtimes.usual),
                by_weekday: self.bedtime_by_weekday,
            },
            sleep_threshold_mg: self.sleep_threshold_mg.unwrap_or(defaults.sleep_threshold_mg),
            usual_dose_mg: self.usual_dose_mg.or(defaults.usual_dose_mg),
            daily_limit_mg: self.daily_limit_mg.unwrap_or(defaults.daily_limit_mg),
        }
    }

    /// Returns the profile after `change`.
    #[must_use]
    pub fn changed(&self, change: &ProfileChange) -> Self {
        Self {
            bedtime: change.bedtime.unwrap_or(self.bedtime),
            bedtime_by_weekday: WeekdayBedtimes(std::array::from_fn(|weekday| {
                change.bedtime_by_weekday[weekday].unwrap_or(self.bedtime_by_weekday.0[weekday])
            })),
            half_life_hours: change.half_life_hours.unwrap_or(self.half_life_hours),
            sleep_threshold_mg: change.sleep_threshold_mg.unwrap_or(self.sleep_threshold_mg),
            usual_dose_mg: change.usual_dose_mg.unwrap_or(self.usual_dose_mg),
            daily_limit_mg: change.daily_limit_mg.unwrap_or(self.daily_limit_mg),
        }
    }
}

impl ProfileChange {
    /// Adds the change of one field from text; `None` resets the field. The bedtime of a weekday is the field
    /// `bedtime.friday`.
    ///
    /// # Errors
    /// A message when there is no such field or when its value is invalid.
    pub fn set(&mut self, field: &str, text: Option<&str>) -> Result<(), String> {
        let number = |range: RangeInclusive<f64>| text.map(|text| parse_number(text, &range)).transpose();
        let time = || text.map(LocalTime::parse).transpose();
        if let Some(weekday) = field.strip_prefix("bedtime.").and_then(weekday_named) {
            self.bedtime_by_weekday[weekday] = Some(time()?);
            return Ok(());
        }
        match field {
            "bedtime" => self.bedtime = Some(time()?),
            "half_life_hours" => self.half_life_hours = Some(number(HALF_LIFE_RANGE)?),
            "sleep_threshold_mg" => self.sleep_threshold_mg = Some(number(SLEEP_THRESHOLD_RANGE)?),
            "usual_dose_mg" => self.usual_dose_mg = Some(number(USUAL_DOSE_RANGE)?),
            "daily_limit_mg" => self.daily_limit_mg = Some(number(DAILY_LIMIT_RANGE)?),
            _ => return Err(format!("must be one of {}", Self::field_names())),
        }
        Ok(())
    }

    /// Returns the fields of [`Self::set`] for a message.
    pub fn field_names() -> String {
        FIELDS.join(", ").replace("bedtime_by_weekday", "bedtime.monday to bedtime.sunday")
    }
}

/// Values in effect. A caller without the scope `read` gets only the fields that it sent.
#[derive(Serialize, ToSchema)]
pub struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    bedtime: Option<ProfileTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bedtime_by_weekday: Option<ProfileTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_life_hours: Option<ProfileNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep_threshold_mg: Option<ProfileNumber>,
    /// Null: the median of the latest 50 doses.
    #[serde(skip_serializing_if = "Option::is_none")]
    usual_dose_mg: Option<ProfileNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_limit_mg: Option<ProfileNumber>,
}

/// Time of day of a profile.
#[derive(Serialize, ToSchema)]
struct ProfileTime {
    /// Time in effect.
    value: String,
    /// Setting of the server.
    default: String,
    /// The person has set no value.
    is_default: bool,
}

/// Bedtimes of a profile by weekday. Each belongs to the evening of its day: 00:30 on Friday is in the night from Friday
/// to Saturday.
#[derive(Serialize, ToSchema)]
struct ProfileTimes {
    /// Times of the days that differ from `bedtime`.
    value: WeekdayBedtimes,
    /// Always empty.
    default: WeekdayBedtimes,
    /// The person has set no value.
    is_default: bool,
}

/// Number of a profile.
#[derive(Serialize, ToSchema)]
struct ProfileNumber {
    /// Number in effect.
    #[schema(required)]
    value: Option<f64>,
    /// Setting of the server.
    #[schema(required)]
    default: Option<f64>,
    /// The person has set no value.
    is_default: bool,
}

impl Profile {
    /// Describes the values that the person has set and the defaults.
    pub fn of(own: &OwnProfile, defaults: &CaffeineProfile) -> Self {
        let number = |own: Option<f64>, default: Option<f64>| {
            Some(ProfileNumber { value: own.or(default), default, is_default: own.is_none() })
        };
        Self {
            bedtime: Some(ProfileTime {
                value: own.bedtime.unwrap_or(defaults.bedtimes.usual).to_string(),
                default: defaults.bedtimes.usual.to_string(),
                is_default: own.bedtime.is_none(),
            }),
            bedtime_by_weekday: Some(ProfileTimes {
                value: own.bedtime_by_weekday,
                default: WeekdayBedtimes::default(),
                is_default: own.bedtime_by_weekday.is_empty(),
            }),
            half_life_hours: number(own.half_life_hours, Some(defaults.kinetics.half_life_hours())),
            sleep_threshold_mg: number(own.sleep_threshold_mg, Some(defaults.sleep_threshold_mg)),
            usual_dose_mg: number(own.usual_dose_mg, defaults.usual_dose_mg),
            daily_limit_mg: number(own.daily_limit_mg, Some(defaults.daily_limit_mg)),
        }
    }

    /// Removes the fields that `change` does not have.
    #[must_use]
    pub fn only_of(mut self, change: &ProfileChange) -> Self {
        self.bedtime = self.bedtime.filter(|_| change.bedtime.is_some());
        let has_weekday = change.bedtime_by_weekday.iter().any(Option::is_some);
        self.bedtime_by_weekday = self.bedtime_by_weekday.filter(|_| has_weekday);
        self.half_life_hours = self.half_life_hours.filter(|_| change.half_life_hours.is_some());
        self.sleep_threshold_mg = self.sleep_threshold_mg.filter(|_| change.sleep_threshold_mg.is_some());
        self.usual_dose_mg = self.usual_dose_mg.filter(|_| change.usual_dose_mg.is_some());
        self.daily_limit_mg = self.daily_limit_mg.filter(|_| change.daily_limit_mg.is_some());
        self
    }
}

fn parse_number(text: &str, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
}
