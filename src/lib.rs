//! Coffee Tracker: one Rocket binary, one SQLite file.
//!
//! Who may know whom: `http` → `store`, `keys`, `formats`, `model`; `commands` likewise;
//! `keys` → `store`, `model`; `store` → `model`; `formats` → `model`; `model` knows none of
//! them. Rocket appears under `http` alone, rusqlite under `store` alone. A test holds this rule.

/// Names, scopes and files of API keys.
pub mod auth;
/// Backups: snapshot, verification, restore, retention.
pub mod backup;
/// Command-line definition.
pub mod cli;
/// Clock that tests can move.
pub mod clock;
/// Subcommands, one file each.
pub mod commands;
/// Settings from flags, environment and `.env`.
pub mod config;
/// SQLite access.
pub mod db;
/// Pure types and calculations.
pub mod domain;
/// Atomic files, lock files, privileges, disk space.
pub mod fs;
/// HTTP server.
pub mod http;
/// Simulated people for the demo, tests and benchmarks.
pub mod simulator;
/// Metrics, logging, host statistics.
pub mod telemetry;
/// Import and export.
pub mod transfer;
