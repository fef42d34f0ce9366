//! Import and export of entries, with deduplication. File formats are left to `formats`.

pub mod dedup;
pub mod export;
pub mod formats;
pub mod import;
pub mod push;
