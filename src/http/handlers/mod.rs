//! Request handlers, one file per resource.

pub(crate) mod assets;
pub(crate) mod backup_file;
pub(crate) mod backups;
pub(crate) mod caffeine;
pub(crate) mod check;
pub(crate) mod coffee;
pub(crate) mod coffee_rename;
pub(crate) mod coffee_totals;
pub(crate) mod entries;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod heart_rate;
pub(crate) mod heart_rate_batch;
pub(crate) mod heart_rate_stats;
pub(crate) mod imports;
pub(crate) mod info;
pub(crate) mod ingest;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod me;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod pairings;
pub(crate) mod people;
pub(crate) mod profile;
pub(crate) mod sources;
