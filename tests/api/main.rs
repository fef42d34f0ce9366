//! Tests of the HTTP API, in process: a real database in a temporary folder and a manual clock, without
//! ports and sleeps. The modules follow the URLs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod aggregates;
mod bodies;
mod caffeine;
mod coffee;
mod coffee_totals;
mod correlation;
mod coverage;
mod errors;
mod export;
mod faults;
mod heart_rate;
mod heart_rate_batch;
mod heart_rate_figures;
mod helpers;
mod hosts;
mod idempotency;
mod limits;
mod lists;
mod metrics;
mod open;
mod pages;
mod scopes;
mod timestamps;
mod zones;
