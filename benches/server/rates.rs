//! How fast answers come, as a share of what bare Rocket manages with as many bytes.
//!
//! Machines are noisy, so bare and the server take turns in many short rounds; the ratio is
//! the median over the rounds, each compared with its neighbour in time. Where the rounds
//! lie far apart, others were at work.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::load::{Load, Shot, Tally, Until};
use crate::report::{Measure, Report, median, thousands};
use crate::server::{KEY, Limits, Server, Setup, start_bare};
use crate::{http, load};

/// Connections of the reading loads.
const READERS: usize = 16;
/// Connections of the writing load.
const WRITERS: usize = 64;
/// The reads that are compared.
const READS: [(Measure, &str); 3] = [
    (Measure::HealthRate, "/health"),
    (Measure::TodayRate, "/coffee/today"),
    (Measure::ListRate, "/coffee/?limit=50"),
];
/// What is posted.
const COFFEE: &str = r#"{"caffeine_mg":95,"coffee_type":"espresso"}"#;

/// Compares the reads.
///
/// # Errors
/// A server does not come up or answers with anything but 2xx.
pub fn reads(setup: &Setup, report: &mut Report) -> Result<()> {
    let server = Server::start(setup, &setup.copy_of_coffees("reads.db")?, Limits::Off)?;
    for (measure, path) in READS {
        eprintln!("  GET {path}");
        let comparison = Comparison::run(setup, server.address, &http::get(path, KEY), READERS)?;
        report.record(measure, comparison.ratio(), comparison.detail());
    }
    server.stop()
}

/// Compares the durable write, and counts how many rows share a commit.
///
/// # Errors
/// As `reads`; or SQLite, or `/metrics`, does not do as expected.
pub fn posts(setup: &Setup, report: &mut Report) -> Result<()> {
    eprintln!("  POST /coffee/, and one row, one commit");
    let alone = setup.copy_of_coffees("alone.db")?;
    let alone_before = one_row_one_commit(&alone)?;
    let server = Server::start(setup, &setup.copy_of_coffees("posts.db")?, Limits::Off)?;
    let count = |server: &Server| -> Result<[f64; 2]> {
        Ok([server.metric("store_commits_total")?, server.metric("store_rows_committed_total")?])
    };
    let [commits_before, rows_before] = count(&server)?;
    let request = http::post("/coffee/", KEY, COFFEE);
    let comparison = Comparison::run(setup, server.address, &request, WRITERS)?;
    report.record(Measure::PostRate, comparison.ratio(), comparison.detail());
    let [commits, rows] = count(&server)?;
    // Disks are as noisy as processors: a second before the server, a second after.
    let alone = f64::midpoint(alone_before, one_row_one_commit(&alone)?);
    let per_commit = (rows - rows_before) / (commits - commits_before).max(1.0);
    report.note(format!(
        "POST /coffee/: {per_commit:.1} rows per commit; one-row-one-commit on this disk: {} rows/s; \
         the server writes {:.1} times that.",
        thousands(alone),
        comparison.ours() / alone.max(1e-9)
    ));
    server.stop()
}

/// Rounds of bare and ours in turn.
struct Comparison {
    rounds: Vec<(Tally, Tally)>,
}

impl Comparison {
    /// Loads both in turn with the same request.
    fn run(setup: &Setup, ours: SocketAddr, request: &[u8], connections: usize) -> Result<Self> {
        let (rounds, time) = match setup.quick {
            true => (5, Duration::from_millis(600)),
            false => (11, Duration::from_secs(1)),
        };
        let bytes = http::ask_well(ours, request)?.body.len();
        let (bare_process, bare) = start_bare(bytes)?;
        let shots: Arc<[Shot]> = Arc::new([Shot::new(0, request.to_vec())]);
        let load = |address, time| {
            let load = Load { shots: shots.clone(), connections, until: Until::Over(time) };
            load::run(address, &load)?.all_good()
        };
        for address in [bare, ours] {
            load(address, time)?;
        }
        let rounds =
            (0..rounds).map(|_| Ok((load(bare, time)?, load(ours, time)?))).collect::<Result<_>>()?;
        drop(bare_process);
        Ok(Self { rounds })
    }

    /// Ours as a share of bare, round by round.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|(bare, ours)| ours.rate() / bare.rate())
    }

    /// Ours as a share of bare.
    fn ratio(&self) -> f64 {
        median(self.ratios().collect())
    }

    /// Our answers a second.
    fn ours(&self) -> f64 {
        median(self.rounds.iter().map(|(_, ours)| ours.rate()).collect())
    }

    fn detail(&self) -> String {
        let bare = median(self.rounds.iter().map(|(bare, _)| bare.rate()).collect());
        let mut times = crate::histogram::Histogram::new();
        for (_, ours) in &self.rounds {
            times.add(&ours.all_times());
        }
        format!(
            "{:.2} to {:.2}; {}/s of {}/s; p50 {}, p99 {}",
            self.ratios().fold(f64::INFINITY, f64::min),
            self.ratios().fold(0.0, f64::max),
            thousands(self.ours()),
            thousands(bare),
            millis(times.percentile(50)),
            millis(times.percentile(99))
        )
    }
}

/// A time for the table.
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Rows in a second of one connection that syncs every row by itself, as durably as the server.
fn one_row_one_commit(database: &Path) -> Result<f64> {
    let connection = Connection::open(database)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    let mut insert = connection.prepare(
        "insert into coffee_logs (timestamp, caffeine_mg, coffee_type) values (?1, 95.0, 'espresso')",
    )?;
    let start = Instant::now();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros();
    let now = i64::try_from(now)?;
    let mut rows = 0;
    while start.elapsed() < Duration::from_secs(1) {
        insert.execute(params![now + rows])?;
        rows += 1;
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}
