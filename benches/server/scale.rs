//! Answers over ten years of a watch and a hundred thousand coffees: how long each takes by its own
//! word, what a dear one costs the others, and how much memory all of it takes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::growth::growth;
use crate::histogram::Histogram;
use crate::http::{Client, get};
use crate::rates::millis;
use crate::report::{Measure, Report, median, questions};
use crate::server::{Demo, KEY, Limits, Server, Setup};

/// Ten years: 5,256,000 readings, some 100,000 coffees.
pub const LARGE: Demo = Demo { days: 3650, coffees_per_day: 28.0, readings_per_day: 1440 };
/// Dear questions without a target of their own: one of these may be the dearest.
const DEARER: [&str; 4] = [
    "/heartrate/correlation?days=3650",
    "/heartrate/correlation?days=3650&hours_after=24",
    "/coffee/days?days=366",
    "/heartrate/range?start=DECADE&end=NOW&buckets=1000",
];
/// How often a client that is in no hurry asks.
const PAUSE: Duration = Duration::from_millis(5);
/// Rounds alone and beside the dearest question, in turn.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// Measures growth, and then everything on the largest file.
///
/// # Errors
/// A file cannot be made, or the server does not come up or answer.
pub fn scale(setup: &Setup, report: &mut Report) -> Result<()> {
    let largest = growth(setup, report)?;
    if setup.quick {
        let beside = [Measure::HealthBeside, Measure::TodayBeside, Measure::ScaleMemory];
        for measure in questions().map(Measure::Answer).chain(beside) {
            report.skip(measure, "left out by --quick");
        }
        return Ok(());
    }
    on_the_largest(setup, report, &largest)?;
    setup.remove(&largest)
}

fn on_the_largest(setup: &Setup, report: &mut Report, database: &Path) -> Result<()> {
    let server = Server::start(setup, database, Limits::Off)?;
    let mut dearest = (0.0, "");
    for (path, is_target) in questions().map(|path| (path, true)).chain(DEARER.map(|path| (path, false))) {
        let answers = Answers::of(&server, &get(&with_times(path, now()?), KEY))?;
        let own = answers.own_millis();
        if own > dearest.0 {
            dearest = (own, path);
        }
        if is_target {
            report.record(Measure::Answer(path), own, answers.detail());
        } else {
            report.note(format!("{path}: {own:.2} ms; {}", answers.detail()));
        }
    }
    report.note(format!("The dearest question: {}", dearest.1));
    beside(&server, report, &get(&with_times(dearest.1, now()?), KEY))?;
    report.record(Measure::ScaleMemory, server.peak_bytes()? as f64, "VmHWM after all of this".to_owned());
    server.stop()
}

/// What the dearest question, in a loop of one client, costs another.
fn beside(server: &Server, report: &mut Report, dearest: &[u8]) -> Result<()> {
    let mut times = [[Histogram::new(), Histogram::new()], [Histogram::new(), Histogram::new()]];
    eprintln!("  beside the dearest question");
    for _ in 0..ROUNDS {
        for (is_beside, times) in times.iter_mut().enumerate() {
            let has_ended = AtomicBool::new(is_beside == 0);
            thread::scope(|scope| -> Result<()> {
                let loops = scope.spawn(|| -> Result<()> {
                    let mut client = Client::connect(server.address)?;
                    while !has_ended.load(Ordering::Relaxed) {
                        client.ask(dearest)?;
                    }
                    Ok(())
                });
                let asked = ask_calmly(server, times);
                has_ended.store(true, Ordering::Relaxed);
                loops.join().ok().context("the client panicked")??;
                asked
            })?;
        }
    }
    let [alone, loaded] = &times;
    for (number, measure) in [Measure::HealthBeside, Measure::TodayBeside].into_iter().enumerate() {
        let (Some(alone), Some(loaded)) = (alone.get(number), loaded.get(number)) else { continue };
        let (before, with) = (alone.percentile(99), loaded.percentile(99));
        let shown =
            |of: &Histogram| format!("p50 {}, p99 {}", millis(of.percentile(50)), millis(of.percentile(99)));
        let detail = format!("{} alone; {} beside it", shown(alone), shown(loaded));
        report.record(measure, with.as_secs_f64() / before.as_secs_f64(), detail);
    }
    Ok(())
}

/// `/health` and `/coffee/today` in turn, with pauses: their round trips.
fn ask_calmly(server: &Server, times: &mut [Histogram; 2]) -> Result<()> {
    let requests = ["/health", "/coffee/today"].map(|path| get(path, KEY));
    let mut client = Client::connect(server.address)?;
    let began = Instant::now();
    while began.elapsed() < ROUND {
        for (request, times) in requests.iter().zip(times.iter_mut()) {
            times.record(client.ask(request)?.trip);
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// The times of one request, asked again and again by one client.
pub struct Answers {
    own: Vec<f64>,
    trip: Vec<f64>,
    /// Bytes of the body.
    pub bytes: usize,
}

impl Answers {
    /// Of the server.
    ///
    /// # Errors
    /// It does not answer with 2xx.
    pub fn of(server: &Server, request: &[u8]) -> Result<Self> {
        Self::from(&mut Client::connect(server.address)?, request)
    }

    /// Over a connection: 201 answers, or fewer that fill a second, after some that warm up.
    ///
    /// # Errors
    /// The other side does not answer with 2xx.
    pub fn from(client: &mut Client, request: &[u8]) -> Result<Self> {
        const ENOUGH: Duration = Duration::from_secs(1);
        for _ in 0..5 {
            client.ask(request)?;
        }
        let mut answers = Self { own: Vec::new(), trip: Vec::new(), bytes: 0 };
        let began = Instant::now();
        while answers.trip.len() < 5 || answers.trip.len() < 201 && began.elapsed() < ENOUGH {
            let timed = client.ask(request)?;
            answers.own.extend(timed.own.map(|time| time.as_secs_f64() * 1e3));
            answers.trip.push(timed.trip.as_secs_f64() * 1e3);
            answers.bytes = timed.bytes;
        }
        Ok(answers)
    }

    /// The median of the answers' own times.
    pub fn own_millis(&self) -> f64 {
        median(self.own.clone())
    }

    /// The median of the round trips.
    pub fn trip_millis(&self) -> f64 {
        median(self.trip.clone())
    }

    fn detail(&self) -> String {
        let longest = self.own.iter().copied().fold(0.0, f64::max);
        format!("of {}, longest {longest:.2} ms; round trip {:.2} ms", self.own.len(), self.trip_millis())
    }
}

/// A path with `NOW`, `MONTH`, `YEAR` and `DECADE` (ago) filled in.
pub fn with_times(path: &str, now: Timestamp) -> String {
    [("NOW", 0), ("MONTH", 30), ("YEAR", 365), ("DECADE", 3650)]
        .into_iter()
        .fold(path.to_owned(), |path, (name, days)| path.replace(name, &now.minus(days * DAY).to_string()))
}

/// The time by this machine's clock.
///
/// # Errors
/// It stands outside of the years 1 to 9999.
pub fn now() -> Result<Timestamp> {
    let micros = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    Timestamp::from_micros(micros).context("a clock outside of the years 1 to 9999")
}
