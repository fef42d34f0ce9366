//! Domain types and calculations: entries, units, time and zones, the caffeine model, statistics,
//! correlation.
//!
//! Pure code without I/O, clock, SQLite or HTTP. Invalid values cannot be constructed.

pub mod advice;
pub mod association;
pub mod bedtimes;
pub mod caffeine;
pub mod calendar;
pub mod coffee;
pub mod correlation;
pub mod entry;
pub mod estimate;
pub mod forecast;
pub mod grouped;
pub mod heart_rate;
pub mod json_object;
pub mod json_scalar;
pub mod lenient_datetime;
pub mod limits;
pub mod person;
pub mod profile;
pub mod sample;
pub mod statistics;
pub mod text;
pub mod time;
