//! Mixed load: nine reads for each write, on 64 connections.
//!
//! The timestamps of the writes are spread over the last year, because an unrealistic number of coffees on
//! the current day would distort `/coffee/today`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::goals::Measure;
use crate::load::{Load, LoadRequest, LoadResult, RunLength};
use crate::numbers::thousands;
use crate::rates::millis;
use crate::report::Report;
use crate::server::{KEY, Limits, Server, Setup};
use crate::{http, load};

const CONNECTIONS: usize = 64;
/// Paths of the reads, in turn.
const READS: [&str; 7] = [
    "/health",
    "/coffee/today",
    "/coffee/?limit=50",
    "/coffee/stats",
    "/heartrate/current",
    "/heartrate/?limit=50",
    "/coffee/week",
];
/// Paths of the writes, in turn.
const WRITES: [&str; 2] = ["/coffee/", "/heartrate/"];
/// One of this many requests is a write.
const WRITE_EVERY: usize = 10;
/// Number of different requests: a multiple of both cycles.
const REQUESTS: usize = WRITE_EVERY * READS.len() * 20;

/// Measures the mixed load on a new server.
pub fn mixed(setup: &Setup, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(setup.length.pick(10, 30, 60));
    eprintln!("  {} s of reads and writes", time.as_secs());
    let server = Server::start(setup, &setup.copy_of_coffees("mixed.db")?, Limits::Off)?;
    let load = Load { requests: requests()?, connections: CONNECTIONS, length: RunLength::Time(time) };
    let result = load::run(server.address, &load)?;
    record(&result, report);
    report.record(Measure::MixedMemory, server.resident_bytes()? as f64, "VmRSS".to_owned());
    server.stop()
}

fn record(result: &LoadResult, report: &mut Report) {
    let served = format!("{} served, {}/s", thousands(result.succeeded as f64), thousands(result.rate()));
    let detail = match &result.first_failure {
        Some(first) => format!("{served}; first: {first}"),
        None => served,
    };
    report.record(Measure::MixedFailures, result.failed as f64, detail);
    let times = result.all_times();
    if times.total() > 0 {
        let (p50, p99) = (times.percentile(50), times.percentile(99));
        let detail = format!("p50 {}, p99 {}, longest {}", millis(p50), millis(p99), millis(times.longest()));
        report.record(Measure::MixedTail, p99.as_secs_f64() / p50.as_secs_f64(), detail);
    }
    let mut note = format!("{:<28}{:>12}{:>12}{:>12}{:>12}", "Mixed load", "served", "p50", "p99", "longest");
    let names =
        READS.iter().map(|path| format!("GET {path}")).chain(WRITES.map(|path| format!("POST {path}")));
    for (name, times) in names.zip(&result.times) {
        note.push_str(&format!(
            "\n{name:<28}{:>12}{:>12}{:>12}{:>12}",
            thousands(times.total() as f64),
            millis(times.percentile(50)),
            millis(times.percentile(99)),
            millis(times.longest())
        ));
    }
    report.note(note);
}

/// Returns all requests in the order in which a connection sends them.
fn requests() -> Result<Arc<[LoadRequest]>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let now = Timestamp::from_micros(now).context("the clock is outside the years 1 to 9999")?;
    let mut random = fastrand::Rng::with_seed(1);
    let (mut reads, mut writes) = (READS.iter().enumerate().cycle(), WRITES.iter().enumerate().cycle());
    let mut requests = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let request = if number % WRITE_EVERY == 0 {
            let (kind, path) = writes.next().context("no writes")?;
            let at = now.minus(random.i64(0..365 * DAY));
            let entry = match kind {
                0 => format!(r#"{{"timestamp":"{at}","caffeine_mg":95,"coffee_type":"espresso"}}"#),
                _ => format!(r#"{{"timestamp":"{at}","bpm":72,"context":"resting"}}"#),
            };
            LoadRequest::new(READS.len() + kind, http::post(path, KEY, &entry))
        } else {
            let (kind, path) = reads.next().context("no reads")?;
            LoadRequest::new(kind, http::get(path, KEY))
        };
        requests.push(request);
    }
    Ok(requests.into())
}
