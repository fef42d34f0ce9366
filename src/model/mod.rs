//! What Coffee Tracker is about: doses, pulses, days and what they mean.
//!
//! Pure code: no input or output, no clock of its own, no SQLite, no HTTP.
//! Values that would be invalid cannot be built; whoever holds one may use it.

pub mod advice;
pub mod association;
pub mod caffeine;
pub mod calendar;
pub mod coffee;
pub mod correlation;
pub mod draft;
pub mod entry;
pub mod fields;
pub mod forecast;
pub mod heart_rate;
pub mod person;
pub mod rules;
pub mod spoken_time;
pub mod statistics;
pub mod student;
pub mod text;
pub mod time;
