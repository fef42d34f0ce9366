//! Request rates, as a share of the rate of bare Rocket with responses of the same size.
//!
//! Rates vary with other load on the machine, so bare Rocket and the server alternate in short rounds, and
//! the result is the median ratio of neighbouring rounds. A wide range of ratios indicates other load.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::goals::Measure;
use crate::load::{Load, LoadRequest, LoadResult, RunLength};
use crate::numbers::{median, thousands};
use crate::report::Report;
use crate::server::{KEY, Limits, Server, Setup, start_bare};
use crate::{http, load};

/// Connections of the loads that read.
const READERS: usize = 16;
/// Connections of the load that writes.
const WRITERS: usize = 64;
/// Reads and their measures.
const READS: [(Measure, &str); 3] = [
    (Measure::HealthRate, "/health"),
    (Measure::TodayRate, "/coffee/today"),
    (Measure::ListRate, "/coffee/?limit=50"),
];
/// Body of the writes.
const COFFEE: &str = r#"{"caffeine_mg":95,"coffee_type":"espresso"}"#;

/// Measures the reads.
pub fn reads(setup: &Setup, report: &mut Report) -> Result<()> {
    let server = Server::start(setup, &setup.copy_of_coffees("reads.db")?, Limits::Off)?;
    for (measure, path) in READS {
        eprintln!("  GET {path}");
        let comparison = Comparison::run(setup, server.address, &http::get(path, KEY), READERS)?;
        report.record(measure, comparison.ratio(), comparison.detail());
    }
    server.stop()
}

/// Measures durable writes, and the rows per commit.
pub fn posts(setup: &Setup, report: &mut Report) -> Result<()> {
    eprintln!("  POST /coffee/, and one row per commit");
    let unbatched = setup.copy_of_coffees("unbatched.db")?;
    let rate_before = one_row_per_commit(&unbatched)?;
    let server = Server::start(setup, &setup.copy_of_coffees("posts.db")?, Limits::Off)?;
    let count = |server: &Server| -> Result<[f64; 2]> {
        Ok([server.metric("store_commits_total")?, server.metric("store_rows_committed_total")?])
    };
    let [commits_before, rows_before] = count(&server)?;
    let request = http::post("/coffee/", KEY, COFFEE);
    let comparison = Comparison::run(setup, server.address, &request, WRITERS)?;
    report.record(Measure::PostRate, comparison.ratio(), comparison.detail());
    let [commits, rows] = count(&server)?;
    // The speed of the disk varies, so measure before and after.
    let unbatched_rate = f64::midpoint(rate_before, one_row_per_commit(&unbatched)?);
    let per_commit = (rows - rows_before) / (commits - commits_before).max(1.0);
    report.note(format!(
        "POST /coffee/: {per_commit:.1} rows per commit; with one row per commit this disk has {} rows/s; \
         the server has {:.1} times as many.",
        thousands(unbatched_rate),
        comparison.server_rate() / unbatched_rate.max(1e-9)
    ));
    server.stop()
}

/// Results of bare Rocket and the server, round by round.
struct Comparison {
    rounds: Vec<(LoadResult, LoadResult)>,
}

impl Comparison {
    /// Runs both in turn with the same request.
    fn run(setup: &Setup, server: SocketAddr, request: &[u8], connections: usize) -> Result<Self> {
        let rounds = setup.length.pick(5, 7, 11);
        let time = Duration::from_millis(setup.length.pick(600, 1000, 1000));
        let bytes = http::send_ok(server, request)?.body.len();
        let (bare_process, bare) = start_bare(bytes)?;
        let requests: Arc<[LoadRequest]> = Arc::new([LoadRequest::new(0, request.to_vec())]);
        let load = |address, time| {
            let load = Load { requests: requests.clone(), connections, length: RunLength::Time(time) };
            load::run(address, &load)?.ensure_all_succeeded()
        };
        for address in [bare, server] {
            load(address, time)?;
        }
        let rounds =
            (0..rounds).map(|_| Ok((load(bare, time)?, load(server, time)?))).collect::<Result<_>>()?;
        drop(bare_process);
        Ok(Self { rounds })
    }

    /// Returns the ratio of the rates in each round.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|(bare, server)| server.rate() / bare.rate())
    }

    /// Returns the median ratio.
    fn ratio(&self) -> f64 {
        median(self.ratios().collect())
    }

    /// Returns the median rate of the server, in responses per second.
    fn server_rate(&self) -> f64 {
        median(self.rounds.iter().map(|(_, server)| server.rate()).collect())
    }

    fn detail(&self) -> String {
        let bare = median(self.rounds.iter().map(|(bare, _)| bare.rate()).collect());
        let mut times = crate::histogram::Histogram::new();
        for (_, server) in &self.rounds {
            times.add(&server.all_times());
        }
        format!(
            "{:.2} to {:.2}; {}/s of {}/s; p50 {}, p99 {}",
            self.ratios().fold(f64::INFINITY, f64::min),
            self.ratios().fold(0.0, f64::max),
            thousands(self.server_rate()),
            thousands(bare),
            millis(times.percentile(50)),
            millis(times.percentile(99))
        )
    }
}

/// Formats a time in milliseconds.
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Returns the rows per second of a connection that commits and syncs every row.
fn one_row_per_commit(database: &Path) -> Result<f64> {
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
