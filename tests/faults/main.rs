//! Simulated power cuts. The real program runs with a preloaded library that records every write and every sync. From this
//! trace, the tests build the disks that a power cut at any moment could leave, and check each of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../cli/client.rs"]
mod client;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../cli/helpers.rs"]
mod helpers;

mod backups;
mod contents;
mod disk;
mod recorder;
mod replay;
mod restores;
mod trace;
mod traffic;
mod wal;
mod writes;
