//! Response times with ten years of readings and a hundred thousand coffees, the effect of a slow request on
//! others, and the memory used.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::goals::{Measure, timed_routes};
use crate::growth::growth;
use crate::histogram::Histogram;
use crate::http::{Client, get};
use crate::numbers::median;
use crate::rates::millis;
use crate::report::Report;
use crate::server::{KEY, Limits, Server, Setup};

/// Slow paths without a goal, one of which may be the slowest.
const OTHER_SLOW_PATHS: [&str; 4] = [
    "/heartrate/correlation?days=3650",
    "/heartrate/correlation?days=3650&hours_after=24",
    "/coffee/days?days=366",
    "/heartrate/range?start=DECADE&end=NOW&buckets=1000",
];
/// Pause of the measuring client after each request.
const PAUSE: Duration = Duration::from_millis(5);
/// Alternating rounds with and without slow requests.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// Measures the growth of response times, then all routes on the largest database.
pub fn scale(setup: &Setup, report: &mut Report) -> Result<()> {
    let largest = growth(setup, report)?;
    if setup.length.is_quick() {
        let others =
            [Measure::HealthBesideSlowRequests, Measure::TodayBesideSlowRequests, Measure::ScaleMemory];
        for measure in timed_routes().map(Measure::Route).chain(others) {
            report.skip(measure, "skipped by --quick");
        }
        return Ok(());
    }
    measure_routes(setup, report, &largest)?;
    setup.remove(&largest)
}

fn measure_routes(setup: &Setup, report: &mut Report, database: &Path) -> Result<()> {
    let server = Server::start(setup, database, Limits::Off)?;
    let mut slowest = (0.0, "");
    for (path, has_goal) in
        timed_routes().map(|path| (path, true)).chain(OTHER_SLOW_PATHS.map(|path| (path, false)))
    {
        let times = RouteTimes::of_server(&server, &get(&with_times(path, now()?), KEY))?;
        let millis = times.process_millis();
        if millis > slowest.0 {
            slowest = (millis, path);
        }
        if has_goal {
            report.record(Measure::Route(path), millis, times.detail());
        } else {
            report.note(format!("{path}: {millis:.2} ms; {}", times.detail()));
        }
    }
    report.note(format!("The slowest route: {}", slowest.1));
    beside_slow_requests(&server, report, &get(&with_times(slowest.1, now()?), KEY))?;
    report.record(
        Measure::ScaleMemory,
        server.peak_bytes()? as f64,
        "VmHWM after all of these requests".to_owned(),
    );
    server.stop()
}

/// Measures quick routes alone, and while another client repeats the slowest request.
fn beside_slow_requests(server: &Server, report: &mut Report, slowest: &[u8]) -> Result<()> {
    let mut times = [[Histogram::new(), Histogram::new()], [Histogram::new(), Histogram::new()]];
    eprintln!("  beside the slowest route");
    for _ in 0..ROUNDS {
        for (is_beside, times) in times.iter_mut().enumerate() {
            let has_ended = AtomicBool::new(is_beside == 0);
            thread::scope(|scope| -> Result<()> {
                let slow_client = scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(server.address)?;
                    while !has_ended.load(Ordering::Relaxed) {
                        client.send(slowest)?;
                    }
                    Ok(())
                });
                let measured = measure_quick_routes(server, times);
                has_ended.store(true, Ordering::Relaxed);
                slow_client.join().ok().context("the client panicked")??;
                measured
            })?;
        }
    }
    let [alone, loaded] = &times;
    for (number, measure) in
        [Measure::HealthBesideSlowRequests, Measure::TodayBesideSlowRequests].into_iter().enumerate()
    {
        let (Some(alone), Some(loaded)) = (alone.get(number), loaded.get(number)) else { continue };
        let (before, with) = (alone.percentile(99), loaded.percentile(99));
        let shown = |times: &Histogram| {
            format!("p50 {}, p99 {}", millis(times.percentile(50)), millis(times.percentile(99)))
        };
        let detail = format!("{} alone; {} beside slow requests", shown(alone), shown(loaded));
        report.record(measure, with.as_secs_f64() / before.as_secs_f64(), detail);
    }
    Ok(())
}

/// Records the round trips of `/health` and `/coffee/today`, requested in turn with pauses.
fn measure_quick_routes(server: &Server, times: &mut [Histogram; 2]) -> Result<()> {
    let requests = ["/health", "/coffee/today"].map(|path| get(path, KEY));
    let mut client = Client::connect(server.address)?;
    let began = Instant::now();
    while began.elapsed() < ROUND {
        for (request, times) in requests.iter().zip(times.iter_mut()) {
            times.record(client.send(request)?.round_trip);
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Times of one request that one client repeats.
pub struct RouteTimes {
    /// `X-Process-Time` in milliseconds.
    process: Vec<f64>,
    /// Round trips in milliseconds.
    round_trips: Vec<f64>,
    /// Bytes of the response body.
    pub bytes: usize,
}

impl RouteTimes {
    /// Measures a request to the server.
    pub fn of_server(server: &Server, request: &[u8]) -> Result<Self> {
        Self::measure(&mut Client::connect(server.address)?, request)
    }

    /// Measures a request on a connection: up to 201 responses within a second, after a warmup of five.
    pub fn measure(client: &mut Client, request: &[u8]) -> Result<Self> {
        const TIME_LIMIT: Duration = Duration::from_secs(1);
        for _ in 0..5 {
            client.send(request)?;
        }
        let mut times = Self { process: Vec::new(), round_trips: Vec::new(), bytes: 0 };
        let began = Instant::now();
        while times.round_trips.len() < 5 || times.round_trips.len() < 201 && began.elapsed() < TIME_LIMIT {
            let response = client.send(request)?;
            times.process.extend(response.process_time.map(|time| time.as_secs_f64() * 1e3));
            times.round_trips.push(response.round_trip.as_secs_f64() * 1e3);
            times.bytes = response.bytes;
        }
        Ok(times)
    }

    /// Returns the median `X-Process-Time` in milliseconds.
    pub fn process_millis(&self) -> f64 {
        median(self.process.clone())
    }

    /// Returns the median round trip in milliseconds.
    pub fn round_trip_millis(&self) -> f64 {
        median(self.round_trips.clone())
    }

    fn detail(&self) -> String {
        let longest = self.process.iter().copied().fold(0.0, f64::max);
        format!(
            "of {}, longest {longest:.2} ms; round trip {:.2} ms",
            self.process.len(),
            self.round_trip_millis()
        )
    }
}

/// Replaces `NOW`, `MONTH`, `YEAR` and `DECADE` in a path by the time now and that long ago.
pub fn with_times(path: &str, now: Timestamp) -> String {
    [("NOW", 0), ("MONTH", 30), ("YEAR", 365), ("DECADE", 3650)]
        .into_iter()
        .fold(path.to_owned(), |path, (name, days)| path.replace(name, &now.minus(days * DAY).to_string()))
}

/// Returns the time of the system clock.
pub fn now() -> Result<Timestamp> {
    let micros = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    Timestamp::from_micros(micros).context("the clock is outside the years 1 to 9999")
}
