//! The contract, held to the whole application in process: the real store on a temporary
//! file, a clock that moves when told, no ports and no sleeps. Files mirror the URLs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

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
