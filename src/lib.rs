//! Coffee Tracker: one Rocket binary, one SQLite file.
//!
//! Who may know whom: `http` → `store`, `keys`, `formats`, `model`; `commands` likewise;
//! `keys` → `store`, `model`; `store` → `model`; `formats` → `model`; `model` knows none of
//! them. Rocket appears under `http` alone, rusqlite under `store` alone. A test holds this rule.

/// The command line.
pub mod cli;
/// What time it is, from a source that tests can move.
pub mod clock;
/// What the subcommands do.
pub mod commands;
/// Every setting.
pub mod config;
/// Entries as text: what is imported and exported.
pub mod formats;
/// Requests and answers.
pub mod http;
/// Named API keys, and the file they lie in.
pub mod keys;
/// Log lines.
pub mod logging;
/// Every series of `/metrics`.
pub mod metrics;
/// Doses, pulses, days, and what they mean.
pub mod model;
/// The database.
pub mod store;
