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
pub mod entry;
pub mod forecast;
pub mod grouped;
pub mod heart_rate;
pub mod json_scalar;
pub mod lenient_datetime;
pub mod limits;
pub mod statistics;
pub mod t_distribution;
pub mod text;
pub mod time;
