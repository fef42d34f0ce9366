//! Clients of many people, who are chosen by Zipf's law, and a record of every coffee that they send.
//!
//! A third of the requests adds a coffee with unique notes. Their timestamps are spread over the last year, because
//! an unrealistic number of coffees on the current day would distort `/coffee/today`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::histogram::Histogram;
use crate::http;
use crate::http::Client;

/// Number of connections, one thread each.
pub const CONNECTIONS: usize = 8;
/// Paths of the reads.
pub const READS: [&str; 2] = ["/coffee/today", "/coffee/?limit=50"];

/// Returns the name of a person.
pub fn name(person: usize) -> String {
    format!("p{person:04}")
}

/// Returns the key of a person.
pub fn key(person: usize) -> String {
    format!("benchmark-person-{person:04}")
}

/// Builds a request that adds a coffee.
pub fn post(person: usize, notes: &str, at: Timestamp) -> Vec<u8> {
    let body =
        format!(r#"{{"timestamp":"{at}","caffeine_mg":95,"coffee_type":"espresso","notes":"{notes}"}}"#);
    http::post("/coffee/", &key(person), &body)
}

/// Returns the current time.
pub fn now() -> Result<Timestamp> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    Timestamp::from_micros(now).context("the clock is outside the years 1 to 9999")
}

/// State of a person's database when a request is sent, judged by who sent requests before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// It does not exist yet.
    Missing,
    Closed,
    Open,
    /// It is about the next one to be closed.
    Unknown,
}

/// Coffee that was sent.
#[derive(Debug)]
pub struct SentCoffee {
    pub person: usize,
    pub notes: String,
    /// The response was 201.
    pub acknowledged: bool,
}

/// Result of a run.
#[derive(Default)]
pub struct TrafficResult {
    /// Responses with status 2xx.
    pub succeeded: u64,
    /// Other responses, and connection failures before a kill.
    pub failed: u64,
    /// Description of the first failure.
    pub first_failure: Option<String>,
    /// Times of the successful responses, by [`DatabaseState`].
    times: HashMap<u8, Histogram>,
    pub coffees: Vec<SentCoffee>,
}

impl TrafficResult {
    /// Returns the times of the requests whose databases had this state.
    pub fn times(&self, state: DatabaseState) -> Histogram {
        self.times.get(&(state as u8)).cloned().unwrap_or_else(Histogram::new)
    }

    /// Returns the times of all requests to databases that exist.
    pub fn all_times(&self) -> Histogram {
        let mut all = Histogram::new();
        for state in [DatabaseState::Closed, DatabaseState::Open, DatabaseState::Unknown] {
            all.add(&self.times(state));
        }
        all
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.coffees.extend(other.coffees);
        for (state, times) in &other.times {
            self.times.entry(*state).or_insert_with(Histogram::new).add(times);
        }
    }
}

/// Clients that send requests, each after the response to its previous one.
pub struct Traffic {
    /// Share of the requests of a person and of all people before, by person.
    cumulative: Vec<f64>,
    /// Number of databases that may be open.
    max_open: u64,
    /// Pause of a client after a response.
    pub pause: Duration,
    /// Person to whom no request is sent.
    pub excluded: Option<usize>,
    /// Number of the last request to each person; 0 when there was none.
    last_requests: Mutex<Vec<u64>>,
    /// Number of runs, for unique notes and other random numbers in each.
    runs: AtomicU64,
}

impl Traffic {
    pub fn new(people: usize, max_open: usize) -> Self {
        let mut total = 0.0;
        let cumulative = (1..=people).map(|rank| {
            total += 1.0 / rank as f64;
            total
        });
        Self {
            cumulative: cumulative.collect(),
            max_open: max_open as u64,
            pause: Duration::ZERO,
            excluded: None,
            last_requests: Mutex::new(vec![0; people]),
            runs: AtomicU64::new(0),
        }
    }

    /// Sends requests while `work` runs. Failures after `is_killed` was set are not counted.
    pub fn run<T>(
        &self,
        address: SocketAddr,
        is_killed: &AtomicBool,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, TrafficResult)> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let (stop, now) = (AtomicBool::new(false), now()?);
        thread::scope(|scope| {
            let client = |n: usize| {
                let random = fastrand::Rng::with_seed(run * CONNECTIONS as u64 + n as u64);
                let (name, stop) = (format!("run {run}, client {n}"), &stop);
                scope.spawn(move || self.send_all(address, random, &name, now, stop, is_killed))
            };
            let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
            let done = work();
            stop.store(true, Ordering::Relaxed);
            let mut result = TrafficResult::default();
            for client in clients {
                result.add(client.join().ok().context("a client panicked")??);
            }
            Ok((done?, result))
        })
    }

    /// Sends the requests of one client.
    fn send_all(
        &self,
        address: SocketAddr,
        mut random: fastrand::Rng,
        name: &str,
        now: Timestamp,
        stop: &AtomicBool,
        is_killed: &AtomicBool,
    ) -> Result<TrafficResult> {
        let mut client = Client::connect(address)?;
        let mut result = TrafficResult::default();
        while !stop.load(Ordering::Relaxed) {
            let person = self.choose(&mut random);
            let state = self.record_request(person);
            let read = READS.get(random.usize(..=READS.len()));
            let request = match read {
                Some(path) => http::get(path, &key(person)),
                None => {
                    let notes = format!("{name}, coffee {}", result.coffees.len());
                    let request = post(person, &notes, now.minus(random.i64(0..365 * DAY)));
                    result.coffees.push(SentCoffee { person, notes, acknowledged: false });
                    request
                }
            };
            match client.send(&request) {
                Ok(times) => {
                    result.succeeded += 1;
                    result.times.entry(state as u8).or_insert_with(Histogram::new).record(times.round_trip);
                    if let (None, Some(coffee)) = (read, result.coffees.last_mut()) {
                        coffee.acknowledged = true;
                    }
                }
                Err(_) if is_killed.load(Ordering::Relaxed) => break,
                Err(error) => {
                    result.failed += 1;
                    result.first_failure.get_or_insert(format!("{error:#}"));
                    client = Client::connect(address)?;
                }
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        Ok(result)
    }

    /// Chooses a person: the nth is chosen in proportion to 1/n.
    fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        loop {
            let share = random.f64() * total;
            let person = self.cumulative.partition_point(|end| *end <= share);
            if person < self.cumulative.len() && self.excluded != Some(person) {
                return person;
            }
        }
    }

    /// Records a request to a person, and returns the state of their database before it.
    pub fn record_request(&self, person: usize) -> DatabaseState {
        let mut last = self.last_requests.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = last.iter().copied().max().unwrap_or(0);
        let Some(mine) = last.get_mut(person) else { return DatabaseState::Unknown };
        let before = std::mem::replace(mine, newest + 1);
        if before == 0 {
            return DatabaseState::Missing;
        }
        let others = last.iter().filter(|request| **request > before).count() as u64 - 1;
        // Clients overtake one another.
        let margin = 2 * CONNECTIONS as u64;
        match others {
            few if few + margin < self.max_open => DatabaseState::Open,
            many if many > self.max_open + margin => DatabaseState::Closed,
            _ => DatabaseState::Unknown,
        }
    }
}
