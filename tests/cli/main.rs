//! Command-line tests: they run the real program as separate processes, with servers on free loopback ports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod apple_export;
mod backups;
mod bit_rot;
mod check;
mod client;
mod connections;
mod crash;
mod database_ids;
mod demo;
mod displaced_files;
mod error_messages;
mod everyone;
mod export;
mod fixtures;
mod full_disk;
mod hanging_disk;
mod healthcheck;
mod helpers;
mod http_backups;
mod http_imports;
mod import;
mod import_again;
mod import_apple_health;
mod import_concurrent;
mod import_docker_stack;
mod import_fitbit;
mod import_gadgetbridge;
mod import_health_connect;
mod import_kills;
mod import_limits;
mod import_memory;
mod import_odd_files;
mod keys;
mod kills;
mod lifecycle;
mod links_and_wal;
mod logs;
mod main_paths;
mod malformed_requests;
mod move_kills;
mod move_under_load;
mod moving;
mod person;
mod person_kills;
mod planner_statistics;
mod profile;
mod protected_files;
mod prune;
mod pushed_samples;
mod reload;
mod restore_repairs;
mod restore_replace;
mod restores;
mod rollups;
mod root;
mod round_trip;
mod settings;
mod silent_connections;
mod sql;
mod start_failures;
mod systemd;
mod under_load;
mod verifying;
mod version_1_0_0;
mod writers;
mod writes_during_commands;
