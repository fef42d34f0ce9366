//! Import and export of entries, with deduplication. The file formats live in `formats`.

pub mod bulk_load;
pub mod dedup;
pub mod export;
pub mod formats;
pub mod import;
