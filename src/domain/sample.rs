//! Samples of health apps and devices.
//!
//! Apps send the same samples again and again, so a sample is identified by its source and its timestamp. How samples
//! are merged with stored entries is left to `db::samples`.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::coffee::Milligrams;
use crate::domain::entry::{Amount, Entry};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Heart rate that a device has measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingSample {
    pub timestamp: Timestamp,
    pub bpm: Bpm,
    pub context: Option<SampleContext>,
    /// App or device, 1 to 200 characters.
    pub source: Arc<str>,
}

/// Caffeine that was logged in another app.
#[derive(Clone, Debug, PartialEq)]
pub struct CoffeeSample {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    /// App or device, 1 to 200 characters.
    pub source: Arc<str>,
}

/// Samples that an app has sent, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleBatch {
    pub readings: Vec<ReadingSample>,
    pub coffees: Vec<CoffeeSample>,
}

/// Context of a reading that devices distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleContext {
    Resting,
    Active,
}

impl SampleContext {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Active => "active",
        }
    }

    /// Returns the context with this name, if it is one that devices distinguish.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Resting, Self::Active].into_iter().find(|context| context.name() == name)
    }
}

impl ReadingSample {
    pub fn is_resting(&self) -> bool {
        self.context == Some(SampleContext::Resting)
    }

    /// Converts an entry of a file; `None` when it is no reading or has no source.
    pub fn of_entry(entry: &Entry) -> Option<Self> {
        let Amount::HeartRate(bpm) = entry.amount else { return None };
        Some(Self {
            timestamp: entry.timestamp,
            bpm,
            context: entry.label.as_deref().and_then(SampleContext::from_name),
            source: entry.source.as_deref()?.into(),
        })
    }
}

/// Number of samples that were merged with the stored entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    pub inserted: u64,
    /// Samples whose stored entry got their value or context.
    pub updated: u64,
    /// Samples that are stored already, that the user has deleted or changed, or that a later one of the same push
    /// replaces.
    pub duplicates: u64,
}

impl SampleCounts {
    /// Adds the counts of other samples.
    pub fn add(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.duplicates += other.duplicates;
    }
}

/// Sample of a push that is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RejectedSample {
    /// Name of the metric in the push.
    pub metric: String,
    /// Zero-based position among the samples of the metric.
    pub index: u64,
    /// Reason why the sample is not stored.
    pub reason: String,
}
