//! Pushes of a health app: a first one of 32 MB, alone and beside other clients, and the one of a day that was seen
//! before.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use coffee_tracker::domain::time::{MINUTE, SECOND, Timestamp};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::backups::{reads_and_writes, while_loaded};
use crate::goals::Measure;
use crate::http;
use crate::http::Client;
use crate::numbers::thousands;
use crate::rates::millis;
use crate::report::Report;
use crate::server::{KEY, Limits, Server, Setup};

/// Maximum size of a push, which is a setting.
const MAX_BODY_BYTES: usize = 32 << 20;
/// Time between the samples of the first push.
const INTERVAL: i64 = 5 * SECOND;
/// Rows in a transaction of the plain inserts, as in the server.
const CHUNK: i64 = 4096;
/// Number of times that the push of a day is sent.
const REPETITIONS: usize = 50;
const PATH: &str = "/ingest/health-auto-export";

/// Measures the pushes on new servers.
pub fn pushes(setup: &Setup, report: &mut Report) -> Result<()> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let times = (0..).map(|n| now / MINUTE * MINUTE - n * INTERVAL);
    let (body, samples) = push_of(times, MAX_BODY_BYTES)?;
    let request = http::post(PATH, KEY, &body);
    let plain = plain_inserts(&setup.path("plain.db"), samples)?;

    eprintln!("  a push of {} samples, {:.0} MB", thousands(samples as f64), body.len() as f64 / 1e6);
    let server = Server::start(setup, &setup.path("push-alone.db"), Limits::Off)?;
    let rate = samples as f64 / push(&server, &request, samples)?.as_secs_f64();
    let detail = format!("{} samples/s, plain inserts {}/s", thousands(rate), thousands(plain));
    report.record(Measure::PushRate, rate / plain, detail);
    report.record(Measure::PushMemory, server.peak_bytes()? as f64, "VmHWM".to_owned());
    let daily = (0..1440).map(|n| now / MINUTE * MINUTE - n * MINUTE);
    repeat(&server, &push_of(daily, MAX_BODY_BYTES)?.0, report)?;
    server.stop()?;

    eprintln!("  the same beside readers and writers");
    let server = Server::start(setup, &setup.copy_of_coffees("push-loaded.db")?, Limits::Off)?;
    let mut took = Duration::ZERO;
    let load = while_loaded(&server, reads_and_writes, || {
        took = push(&server, &request, samples)?;
        Ok(())
    })?;
    let times = load.all_times();
    let served = thousands(load.rate());
    let detail =
        format!("push {:.1} s; {served} requests/s, longest {}", took.as_secs_f64(), millis(times.longest()));
    report.record(Measure::PushFailures, load.failed as f64, load.first_failure.unwrap_or_default());
    report.record(Measure::PushTail, times.percentile(99).as_secs_f64() * 1e3, detail);
    report.record(Measure::LoadedPushMemory, server.peak_bytes()? as f64, "VmHWM".to_owned());
    server.stop()
}

/// Returns a push of Health Auto Export with a sample for each time, in microseconds, and their number. It is at most
/// `max_bytes` long.
fn push_of(times: impl Iterator<Item = i64>, max_bytes: usize) -> Result<(String, usize)> {
    let mut body = r#"{"data": {"metrics": [{"name": "heart_rate", "units": "bpm", "data": ["#.to_owned();
    let (end, mut samples) = ("]}]}}", 0);
    for (n, time) in times.enumerate() {
        let at =
            Timestamp::from_micros(time).context("the clock is outside the years 1 to 9999")?.to_string();
        let (date, clock) = (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or_default());
        let mean = 55 + (n * 7 + n / 40) % 70;
        let comma = if n == 0 { "" } else { ", " };
        let sample = format!(
            r#"{comma}{{"Min": {}, "Avg": {mean}.4, "Max": {}, "date": "{date} {clock} +0000", "source": "Apple Watch"}}"#,
            mean - 3,
            mean + 4
        );
        if body.len() + sample.len() + end.len() > max_bytes {
            break;
        }
        body.push_str(&sample);
        samples = n + 1;
    }
    body.push_str(end);
    Ok((body, samples))
}

/// Sends a push whose samples are new, but for a few that equal sample data, and returns how long it took.
fn push(server: &Server, request: &[u8], samples: usize) -> Result<Duration> {
    let began = Instant::now();
    let response = http::send_ok(server.address, request)?;
    let took = began.elapsed();
    let counts: Value = serde_json::from_str(&response.body)?;
    let inserted = counts["inserted"].as_u64().unwrap_or_default();
    ensure!(inserted as f64 >= 0.99 * samples as f64, "{samples} samples were pushed: {}", response.body);
    Ok(took)
}

/// Measures the push of a day that was seen before.
fn repeat(server: &Server, body: &str, report: &mut Report) -> Result<()> {
    let request = http::post(PATH, KEY, body);
    http::send_ok(server.address, &request)?;
    let commits = server.metric("store_commits_total")?;
    let mut client = Client::connect(server.address)?;
    let mut times = (0..REPETITIONS)
        .map(|_| client.send(&request)?.process_time.context("X-Process-Time is missing"))
        .collect::<Result<Vec<_>>>()?;
    ensure!(server.metric("store_commits_total")? == commits, "a repeated push was written");
    times.sort_unstable();
    let median = times.get(REPETITIONS / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let detail = format!("1,440 samples, longest {}", millis(longest));
    report.record(Measure::RepeatedPush, median.as_secs_f64() * 1e3, detail);
    Ok(())
}

/// Inserts as many readings into the same table without rollups, and returns the rows per second.
fn plain_inserts(database: &Path, rows: usize) -> Result<f64> {
    let connection = Connection::open(database)?;
    connection.execute_batch("pragma journal_mode = wal; pragma synchronous = full")?;
    connection.execute_batch(include_str!("../../sql/0001_initial.sql"))?;
    let began = Instant::now();
    let mut insert =
        connection.prepare("insert into heart_rate_logs (timestamp, bpm, source) values (?, ?, ?)")?;
    connection.execute_batch("begin")?;
    for n in 0..rows {
        let n = i64::try_from(n)?;
        insert.execute(params![n * INTERVAL, 55 + (n * 7 + n / 40) % 70, "Apple Watch"])?;
        if n % CHUNK == CHUNK - 1 {
            connection.execute_batch("commit; begin")?;
        }
    }
    connection.execute_batch("commit")?;
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}
