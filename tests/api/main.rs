//! Tests of the HTTP API, in process: a real database in a temporary folder and a manual clock, without
//! ports and sleeps. The modules follow the URLs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod aggregates;
mod backups;
mod caffeine;
mod coffee;
mod coffee_totals;
mod correlation;
mod coverage;
mod database_errors;
mod errors;
mod export;
mod frozen;
mod heart_rate;
mod heart_rate_batch;
mod heart_rate_statistics;
mod helpers;
mod hosts;
mod idempotency;
mod imports;
mod ingest;
mod keys;
mod lists;
mod metrics;
mod pages;
mod pairing;
mod people;
mod people_admin;
mod profile;
mod public_routes;
mod rate_limits;
mod request_bodies;
mod scopes;
mod time_zones;
mod timestamps;
