//! Samples of one push, and what was not stored of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::domain::coffee::Milligrams;
use crate::domain::entry::Amount;
use crate::domain::heart_rate::Bpm;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::sample::{ReadingSample, RejectedSample, SampleBatch, SampleContext};
use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::transfer::formats::import_row::{parse_bpm, parse_dose, parse_source};

/// Maximum number of rejected samples that are described.
pub const MAX_LISTED_REJECTIONS: usize = 20;
/// Maximum number of metrics whose ignored samples are counted separately.
const MAX_IGNORED_METRICS: usize = 100;
/// Name under which the ignored samples of further metrics are counted.
const OTHER_METRICS: &str = "other";
/// Maximum length of the name of a metric in a response, in characters.
const MAX_METRIC_NAME: usize = 60;

/// Error of a push that cannot be read as a whole. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("malformed JSON: {0}")]
    Malformed(serde_json::Error),
    #[error("{0}")]
    OtherContent(String),
}

impl From<serde_json::Error> for PushError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_data() { Self::OtherContent(error.to_string()) } else { Self::Malformed(error) }
    }
}

/// Parsed push.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedPush {
    pub samples: SampleBatch,
    /// Number of samples of each metric that is not stored.
    pub ignored: BTreeMap<String, u64>,
    /// The first [`MAX_LISTED_REJECTIONS`] rejected samples.
    pub rejected: Vec<RejectedSample>,
    pub rejected_count: u64,
    /// The app only tests the connection.
    pub is_test: bool,
}

impl ParsedPush {
    /// Returns the number of samples in the push: kept, ignored and rejected ones.
    pub fn received(&self) -> u64 {
        let kept = self.samples.readings.len() + self.samples.coffees.len();
        kept as u64 + self.ignored.values().sum::<u64>() + self.rejected_count
    }

    /// Counts samples that are not stored.
    pub fn ignore(&mut self, metric: &str, samples: u64) {
        if samples == 0 {
            return;
        }
        let name = metric_name(metric);
        let has_room = self.ignored.len() < MAX_IGNORED_METRICS || self.ignored.contains_key(&name);
        let name = if has_room { name } else { OTHER_METRICS.to_owned() };
        *self.ignored.entry(name).or_default() += samples;
    }

    /// Counts a sample that cannot be stored.
    pub fn reject(&mut self, metric: &str, index: u64, reason: String) {
        self.rejected_count += 1;
        if self.rejected.len() < MAX_LISTED_REJECTIONS {
            self.rejected.push(RejectedSample { metric: metric_name(metric), index, reason });
        }
    }
}

/// Returns the name of a metric as it is shown.
fn metric_name(name: &str) -> String {
    text::shorten(&text::escape_control(name.trim()), MAX_METRIC_NAME).into_owned()
}

/// Checks the values of samples against the limits for new entries.
#[derive(Clone, Copy)]
pub struct SampleCheck<'a>(pub &'a ValidationContext<'a>);

impl SampleCheck<'_> {
    /// Parses a time in any of the forms that phones write.
    pub fn time(self, field: &'static str, value: &JsonScalar) -> Result<Timestamp, String> {
        let JsonScalar::Text(text) = value else {
            return Err(if value.is_present() {
                format!("{field}: must be text")
            } else {
                format!("{field} is missing")
            });
        };
        let zone = self.0.zone;
        // The form of most phones first.
        let at = Timestamp::parse_lenient(text, zone).or_else(|| zone.parse(text.trim()).ok());
        match at {
            None => Err(format!("{field}: must be a date and time")),
            Some(at) if at > self.0.latest => Err(format!("{field}: lies in the future")),
            Some(at) => Ok(at),
        }
    }

    /// Rounds a mean to a heart rate within the limits.
    pub fn bpm(self, beats: f64) -> Result<Bpm, String> {
        let bpm = parse_bpm(beats)?;
        self.0.limits.check(Amount::HeartRate(bpm)).map(|()| bpm)
    }

    /// Checks a dose in milligrams.
    pub fn dose(self, mg: f64) -> Result<Milligrams, String> {
        let dose = parse_dose(mg)?;
        self.0.limits.check(Amount::Caffeine(dose)).map(|()| dose)
    }
}

/// Returns the number in a field.
pub fn number(field: impl Display, value: &JsonScalar) -> Result<f64, String> {
    match (value.as_number(), value.is_present()) {
        (Some(number), _) => Ok(number),
        (None, true) => Err(format!("{field}: must be a number")),
        (None, false) => Err(format!("{field} is missing")),
    }
}

/// Names of sources. Consecutive samples of one source share its name.
#[derive(Debug)]
pub struct SourceNames {
    /// Source of samples that name none.
    app: Arc<str>,
    last: Arc<str>,
}

impl SourceNames {
    /// Creates names for the samples that an app sends.
    pub fn of_app(app: &str) -> Self {
        let app: Arc<str> = app.into();
        Self { last: Arc::clone(&app), app }
    }

    /// Returns the source of a sample.
    pub fn get(&mut self, value: &JsonScalar) -> Arc<str> {
        match value {
            JsonScalar::Text(name) if **name == *self.last => {}
            JsonScalar::Text(name) => match parse_source(name) {
                Some(name) if *name == *self.last => {}
                Some(name) => self.last = name.into(),
                None => return Arc::clone(&self.app),
            },
            _ => return Arc::clone(&self.app),
        }
        Arc::clone(&self.last)
    }
}

/// Creates a sample of a heart rate.
pub fn reading(timestamp: Timestamp, bpm: Bpm, is_resting: bool, source: Arc<str>) -> ReadingSample {
    ReadingSample { timestamp, bpm, context: is_resting.then_some(SampleContext::Resting), source }
}
