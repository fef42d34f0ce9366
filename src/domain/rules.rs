//! The limits that entries must keep, as the settings give them.

use crate::domain::entry::Entry;
use crate::domain::time::{MINUTE, Timestamp};

/// Validation limits. The defaults are those of the API contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Largest accepted dose, mg.
    pub max_caffeine_mg: f64,
    /// Advice for a day, mg (400 mg for a healthy adult: EFSA Journal 2015;13(5):4102).
    pub recommended_daily_caffeine_mg: f64,
    /// Smallest accepted pulse, beats per minute.
    pub min_bpm: u16,
    /// Largest accepted pulse, beats per minute.
    pub max_bpm: u16,
}

impl Rules {
    /// Checks the dose or pulse of an imported entry against the limits for new entries.
    ///
    /// # Errors
    /// The value, the limit it exceeds and the setting of that limit.
    pub fn check_entry(&self, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Coffee(coffee) if coffee.caffeine_mg.mg() > self.max_caffeine_mg => Err(format!(
                "caffeine_mg: {} is above MAX_CAFFEINE_MG ({})",
                coffee.caffeine_mg.mg(),
                self.max_caffeine_mg
            )),
            Entry::Reading(reading) if reading.bpm.get() < self.min_bpm => {
                Err(format!("bpm: {} is below MIN_HEART_RATE_BPM ({})", reading.bpm.get(), self.min_bpm))
            }
            Entry::Reading(reading) if reading.bpm.get() > self.max_bpm => {
                Err(format!("bpm: {} is above MAX_HEART_RATE_BPM ({})", reading.bpm.get(), self.max_bpm))
            }
            _ => Ok(()),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_caffeine_mg: 1000.0, recommended_daily_caffeine_mg: 400.0, min_bpm: 30, max_bpm: 250 }
    }
}

/// Longest accepted coffee type, in characters.
pub const MAX_COFFEE_TYPE: usize = 100;
/// Longest accepted heart-rate context, in characters.
pub const MAX_CONTEXT: usize = 50;
/// Longest accepted notes, in characters.
pub const MAX_NOTES: usize = 1000;
/// How far ahead of the server a client's clock may run, in microseconds.
pub const CLOCK_DRIFT: i64 = 5 * MINUTE;

/// What an entry is checked against: the limits, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    pub rules: &'a Rules,
    pub zone: &'a crate::domain::calendar::Zone,
    /// The latest time an entry may have: as far ahead as clocks drift, or, while the server's
    /// own clock cannot be right (a Pi has no battery), as far as a client's is believed.
    pub latest: Timestamp,
}
