//! The real binary, on loopback and a free port: how it starts, stops, fails and survives.

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
mod counts;
mod crash;
mod database_ids;
mod demo;
mod diagnoses;
mod displaced;
mod export;
mod failures;
mod fixtures;
mod full_disk;
mod hanging_disk;
mod healing;
mod helpers;
mod import;
mod import_again;
mod import_apple_health;
mod import_bounds;
mod import_docker_stack;
mod import_kills;
mod import_limits;
mod import_live;
mod import_odd_files;
mod keys;
mod kills;
mod lifecycle;
mod logs;
mod main_paths;
mod names_and_logs;
mod no_room;
mod nothing_between;
mod own_files;
mod prune;
mod replacing;
mod restores;
mod root;
mod round_trip;
mod settings;
mod silence;
mod sockets;
mod sql;
mod statistics;
mod systemd;
mod under_fire;
mod verifying;
