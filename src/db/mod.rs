//! SQLite access: connections, schema, the writer thread, entries, rollups, idempotency, health.
//!
//! Each database has one writer thread and a pool of read-only connections. Public methods own their
//! transaction; shared helpers take a connection. Backups, imports and exports live in `backup` and `transfer`.

pub mod coffee_types;
pub mod coffees;
pub mod database_id;
pub mod entry_filter;
pub mod error;
pub mod health;
pub mod heart_rates;
pub mod idempotency;
pub mod lock_file;
pub mod open;
pub mod open_files;
pub mod packed_days;
pub mod profile;
pub mod prune;
pub mod read_only_session;
pub mod reading_merge;
pub mod reading_rows;
pub mod recount;
pub mod replace_file;
pub mod rollups;
pub mod samples;
pub mod schema;
pub mod sources;
pub mod store;
pub mod tombstones;
pub mod writer;
