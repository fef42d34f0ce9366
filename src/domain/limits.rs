//! Limits for new and imported entries.

use crate::domain::calendar::Zone;
use crate::domain::entry::Amount;
use crate::domain::time::{MINUTE, Timestamp};

/// Limits from the settings. The defaults are those of the API contract.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryLimits {
    /// Largest accepted dose in milligrams.
    pub max_caffeine_mg: f64,
    /// Lowest accepted heart rate in beats per minute.
    pub min_bpm: u16,
    /// Highest accepted heart rate in beats per minute.
    pub max_bpm: u16,
}

impl EntryLimits {
    /// Checks the dose or heart rate of an imported entry.
    ///
    /// # Errors
    /// A message with the value, the exceeded limit and the setting of that limit.
    pub fn check(&self, amount: Amount) -> Result<(), String> {
        let Self { max_caffeine_mg, min_bpm, max_bpm, .. } = self;
        let number = amount.number();
        match amount {
            Amount::Caffeine(_) if number > *max_caffeine_mg => {
                Err(format!("caffeine_mg: {number} is above MAX_CAFFEINE_MG ({max_caffeine_mg})"))
            }
            Amount::HeartRate(bpm) if bpm.get() < *min_bpm => {
                Err(format!("bpm: {number} is below MIN_HEART_RATE_BPM ({min_bpm})"))
            }
            Amount::HeartRate(bpm) if bpm.get() > *max_bpm => {
                Err(format!("bpm: {number} is above MAX_HEART_RATE_BPM ({max_bpm})"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for EntryLimits {
    fn default() -> Self {
        Self { max_caffeine_mg: 1000.0, min_bpm: 30, max_bpm: 250 }
    }
}

/// Maximum length of a coffee type in characters.
pub const MAX_COFFEE_TYPE: usize = 100;
/// Maximum length of a heart-rate context in characters.
pub const MAX_CONTEXT: usize = 50;
/// Maximum length of notes in characters.
pub const MAX_NOTES: usize = 1000;
/// Tolerated lead of a client's clock over the server's, in microseconds.
pub const MAX_CLOCK_LEAD: i64 = 5 * MINUTE;

/// Limits that depend on the settings and on the current time.
#[derive(Clone, Copy, Debug)]
pub struct ValidationContext<'a> {
    pub limits: &'a EntryLimits,
    /// Time zone of timestamps without an offset.
    pub zone: &'a Zone,
    /// Time of the request.
    pub now: Timestamp,
    /// Latest accepted timestamp of an entry.
    pub latest: Timestamp,
}
