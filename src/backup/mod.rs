//! Backups: consistent snapshots, verification, restore and retention.
//!
//! A backup is verified before it is published. The one exception is a page copy, which a restore publishes while
//! writers are locked out, so that an interruption loses no entry, and verifies afterwards. A restore verifies the
//! copy that it installs; only ids and Litestream's tables are written into it after that.

pub mod catalog;
pub mod content_digest;
pub mod expected_schema;
pub mod open;
pub mod origin;
pub mod page_copy;
pub mod restore;
pub mod retention;
pub mod snapshot;
pub mod verify;
