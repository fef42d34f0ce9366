//! What a power cut may leave of the disk, over and over: the real program runs on a layer that
//! records every write and every sync, and the disk is built again as any moment may have left it.

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
mod disk;
mod log;
mod recorder;
mod replay;
mod restores;
mod stored;
mod trace;
mod traffic;
mod writes;
