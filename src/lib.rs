//! Coffee Tracker: an HTTP server for caffeine and heart-rate data that is stored in SQLite.
//!
//! Dependencies point downwards only: `commands` → `http` → `people` → `transfer`, `backup`, `auth` → `db` → `fs`,
//! `domain`.
//! Rocket is used only in `http`, and rusqlite only in `db`, `backup` and `transfer`. A test enforces these rules.

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
/// Background jobs of the API.
pub mod jobs;
/// People and their folders.
pub mod people;
/// Simulated people for the demo, tests and benchmarks.
pub mod simulator;
/// Metrics, logging, host statistics.
pub mod telemetry;
/// Import and export.
pub mod transfer;
