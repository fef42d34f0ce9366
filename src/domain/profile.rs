//! Profile of a person: values of their own over the defaults of the settings.

use std::ops::RangeInclusive;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::advice::CaffeineProfile;
use crate::domain::caffeine::{HALF_LIFE_RANGE, Kinetics};
use crate::domain::calendar::LocalTime;

/// Names of the fields.
pub const FIELDS: [&str; 5] =
    ["bedtime", "half_life_hours", "sleep_threshold_mg", "usual_dose_mg", "daily_limit_mg"];

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
            bedtime: self.bedtime.unwrap_or(defaults.bedtime),
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
            half_life_hours: change.half_life_hours.unwrap_or(self.half_life_hours),
            sleep_threshold_mg: change.sleep_threshold_mg.unwrap_or(self.sleep_threshold_mg),
            usual_dose_mg: change.usual_dose_mg.unwrap_or(self.usual_dose_mg),
            daily_limit_mg: change.daily_limit_mg.unwrap_or(self.daily_limit_mg),
        }
    }
}

impl ProfileChange {
    /// Adds the change of one field from text; `None` resets the field.
    ///
    /// # Errors
    /// A message when there is no such field or when its value is invalid.
    pub fn set(&mut self, field: &str, text: Option<&str>) -> Result<(), String> {
        let number = |range: RangeInclusive<f64>| text.map(|text| parse_number(text, &range)).transpose();
        match field {
            "bedtime" => self.bedtime = Some(text.map(LocalTime::parse).transpose()?),
            "half_life_hours" => self.half_life_hours = Some(number(HALF_LIFE_RANGE)?),
            "sleep_threshold_mg" => self.sleep_threshold_mg = Some(number(SLEEP_THRESHOLD_RANGE)?),
            "usual_dose_mg" => self.usual_dose_mg = Some(number(USUAL_DOSE_RANGE)?),
            "daily_limit_mg" => self.daily_limit_mg = Some(number(DAILY_LIMIT_RANGE)?),
            _ => return Err(format!("must be one of {}", FIELDS.join(", "))),
        }
        Ok(())
    }
}

/// Values in effect. A caller without the scope `read` gets only the fields that it sent.
#[derive(Serialize, ToSchema)]
pub struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    bedtime: Option<ProfileTime>,
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
                value: own.bedtime.unwrap_or(defaults.bedtime).to_string(),
                default: defaults.bedtime.to_string(),
                is_default: own.bedtime.is_none(),
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
