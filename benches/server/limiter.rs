//! Rate limiter with a million clients: its memory is bounded, it rejects no client within the limit, and it
//! rejects one that exceeds it.

use std::sync::Arc;

use anyhow::Result;

use crate::goals::Measure;
use crate::load::{Load, LoadRequest, RunLength};
use crate::numbers::thousands;
use crate::report::Report;
use crate::server::{KEY, Limits, Server, Setup};
use crate::{http, load};

/// Connections that the clients share, as behind a proxy.
const CONNECTIONS: usize = 16;
/// Two public routes of different classes, and one that requires a key.
const PATHS: [&str; 3] = ["/health", "/", "/coffee/today"];
/// Requests of the client that exceeds its limit: more than `/health` allows in a minute.
const EXCESSIVE: u32 = 200;

/// Sends one request from each of many networks, then many from one network.
pub fn limiter(setup: &Setup, report: &mut Report) -> Result<()> {
    let clients: u32 = setup.length.pick(100_000, 1_000_000, 1_000_000);
    eprintln!("  {} clients", thousands(f64::from(clients)));
    let server = Server::start(setup, &setup.copy_of_coffees("limiter.db")?, Limits::On)?;
    let before = server.resident_bytes()?;
    let requests = PATHS.map(|path| LoadRequest::with_client(0, http::get(path, KEY)));
    let length = RunLength::OncePerClient { first: 1, count: clients };
    let load = Load { requests: Arc::new(requests), connections: CONNECTIONS, length };
    let result = load::run(server.address, &load)?;
    let after = server.resident_bytes()?;
    let served = format!("{} served, {}/s", thousands(result.succeeded as f64), thousands(result.rate()));
    let detail =
        result.first_failure.iter().fold(served, |detail, first| format!("{detail}; first: {first}"));
    report.record(Measure::LimiterFailures, result.failed as f64, detail);
    let detail = format!("VmRSS from {:.1} MB to {:.1} MB", before as f64 / 1e6, after as f64 / 1e6);
    report.record(Measure::LimiterMemory, after.saturating_sub(before) as f64, detail);
    exceed_limit(&server, report)?;
    server.stop()
}

/// Counts the rejections of a client that exceeds its limit.
fn exceed_limit(server: &Server, report: &mut Report) -> Result<()> {
    let request = LoadRequest::with_client(0, http::get("/health", KEY));
    let mut rejected = 0;
    let mut others = 0;
    for _ in 0..EXCESSIVE {
        match http::send(server.address, &request.bytes)?.status {
            200 => {}
            429 => rejected += 1,
            _ => others += 1,
        }
    }
    let detail = format!("{others} responses other than 200 and 429");
    report.record(Measure::LimiterRejections, f64::from(rejected), detail);
    Ok(())
}
