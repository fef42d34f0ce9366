//! The limiter against a million callers: its memory is bounded, and nobody within the
//! limit is refused. That it refuses at all is looked at too.

use std::sync::Arc;

use anyhow::Result;

use crate::load::{Load, Shot, Until};
use crate::report::{Measure, Report, thousands};
use crate::server::{KEY, Limits, Server, Setup};
use crate::{http, load};

/// Connections that the callers share, as they do behind a proxy.
const CONNECTIONS: usize = 16;
/// A page of each class that anybody may read, and one for those with a key.
const PATHS: [&str; 3] = ["/health", "/", "/coffee/today"];
/// More than any class of `PATHS` allows in a minute.
const INSISTENT: u32 = 200;

/// Calls from as many networks, once each, then from one network many times.
///
/// # Errors
/// The server does not come up, or does not stop as it should.
pub fn limiter(setup: &Setup, report: &mut Report) -> Result<()> {
    let callers: u32 = if setup.quick { 100_000 } else { 1_000_000 };
    eprintln!("  {} callers", thousands(f64::from(callers)));
    let server = Server::start(setup, &setup.copy_of_coffees("limiter.db")?, Limits::On)?;
    let before = server.resident_bytes()?;
    let shots = PATHS.map(|path| Shot::from_anyone(0, http::get(path, KEY)));
    let until = Until::EachCalled { first: 1, count: callers };
    let load = Load { shots: Arc::new(shots), connections: CONNECTIONS, until };
    let tally = load::run(server.address, &load)?;
    let after = server.resident_bytes()?;
    let called = format!("{} served, {}/s", thousands(tally.good as f64), thousands(tally.rate()));
    let detail = tally.first_bad.iter().fold(called, |detail, first| format!("{detail}; first: {first}"));
    report.record(Measure::LimiterFailures, tally.bad as f64, detail);
    let detail = format!("VmRSS from {:.1} MB to {:.1} MB", before as f64 / 1e6, after as f64 / 1e6);
    report.record(Measure::LimiterMemory, after.saturating_sub(before) as f64, detail);
    refusals(&server, report)?;
    server.stop()
}

/// One caller, over its limit.
fn refusals(server: &Server, report: &mut Report) -> Result<()> {
    let shot = Shot::from_anyone(0, http::get("/health", KEY));
    let mut refused = 0;
    let mut others = 0;
    for _ in 0..INSISTENT {
        match http::ask(server.address, &shot.bytes)?.status {
            200 => {}
            429 => refused += 1,
            _ => others += 1,
        }
    }
    let detail = format!("{others} answers other than 200 and 429");
    report.record(Measure::LimiterRefusals, f64::from(refused), detail);
    Ok(())
}
