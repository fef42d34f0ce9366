//! Backups: consistent snapshots, verification, restore and retention.
//!
//! A backup is verified before it is published, and a restore verifies the bytes that it installs.

pub mod content_digest;
pub mod expected_schema;
pub mod open;
pub mod origin;
pub mod page_copy;
pub mod restore;
pub mod retention;
pub mod snapshot;
pub mod verify;
