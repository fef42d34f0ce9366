//! The load generator: one thread, many keep-alive connections, each sending its next
//! request when the last one was answered.
//!
//! It shares the machine with the server, so it is kept cheap, as wrk is: requests are
//! ready bytes, answers are read only as far as `http::parse_head` needs, times go into
//! histograms that all connections share. Every run ends by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::TcpStream;
use rocket::tokio::task::JoinSet;
use rocket::tokio::{runtime, time};

use crate::histogram::Histogram;
use crate::http::{Head, parse_head};

/// How long after its end a run waits for answers still owed.
const GRACE: Duration = Duration::from_secs(15);
/// The longest run.
const HOUR: Duration = Duration::from_secs(3600);
/// An answer's head fits in here, most bodies too.
const BUFFER_BYTES: usize = 16 * 1024;
/// Where `Shot::from_anyone` puts the caller's network: 32 bits of a /64.
const CALLER: &str = "2a02:0000:0000:0000::1";

/// One request, ready to be sent.
#[derive(Clone)]
pub struct Shot {
    /// Which of the run's histograms its time belongs to.
    pub kind: usize,
    /// The request.
    pub bytes: Vec<u8>,
    /// Where the caller's address stands, if each request shall have its own.
    caller_at: Option<usize>,
}

impl Shot {
    /// A request that is always the same.
    pub fn new(kind: usize, bytes: Vec<u8>) -> Self {
        Self { kind, bytes, caller_at: None }
    }

    /// A request that names its caller in `X-Forwarded-For`: at first network 0.
    pub fn from_anyone(kind: usize, mut bytes: Vec<u8>) -> Self {
        let header = b"X-Forwarded-For: ";
        let line_end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = [header.as_slice(), CALLER.as_bytes(), b"\r\n"].concat();
        bytes.splice(line_end..line_end, line);
        Self { kind, bytes, caller_at: Some(line_end + header.len()) }
    }

    /// Makes network number `number` the caller.
    pub fn set_caller(&mut self, number: u32) {
        let Some(at) = self.caller_at else { return };
        let text = format!("{:04x}:{:04x}", number >> 16, number & 0xffff);
        let from = at + "2a02:".len();
        if let Some(place) = self.bytes.get_mut(from..from + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    }

    /// Its first line without the version, for messages.
    fn name(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned()
    }
}

/// How long a run goes on.
#[derive(Clone)]
pub enum Until {
    /// For some time.
    Over(Duration),
    /// Until this becomes true, for an hour at most.
    Told(Arc<AtomicBool>),
    /// Until every network from `first` on, `count` of them, has called once.
    EachCalled { first: u32, count: u32 },
}

/// What a run does.
pub struct Load {
    /// The requests, taken in turn; every connection starts at another one.
    pub shots: Arc<[Shot]>,
    /// Keep-alive connections.
    pub connections: usize,
    /// When it ends.
    pub until: Until,
}

/// What came of a run.
#[derive(Clone)]
pub struct Tally {
    /// Answers of 2xx.
    pub good: u64,
    /// Other answers, and connections that broke.
    pub bad: u64,
    /// The first of the bad ones.
    pub first_bad: Option<String>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Times of good answers, one histogram a kind.
    pub times: Vec<Histogram>,
}

impl Tally {
    fn new(kinds: usize) -> Self {
        Self {
            good: 0,
            bad: 0,
            first_bad: None,
            elapsed: Duration::ZERO,
            times: vec![Histogram::new(); kinds],
        }
    }

    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.good as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The times of all kinds together.
    pub fn all_times(&self) -> Histogram {
        self.times.iter().fold(Histogram::new(), |mut all, kind| {
            all.add(kind);
            all
        })
    }

    /// Insists that every answer was good.
    ///
    /// # Errors
    /// Says how many were not, and shows the first.
    pub fn all_good(self) -> Result<Self> {
        let first = self.first_bad.as_deref().unwrap_or_default();
        ensure!(self.bad == 0 && self.good > 0, "{} of {} failed: {first}", self.bad, self.bad + self.good);
        Ok(self)
    }

    fn add_bad(&mut self, reason: String) {
        self.bad += 1;
        self.first_bad.get_or_insert(reason);
    }
}

/// Runs a load against a server and waits until it is over.
///
/// # Errors
/// The connections cannot be made. What fails later is counted as bad.
pub fn run(address: SocketAddr, load: &Load) -> Result<Tally> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_here(address, load))
}

async fn run_here(address: SocketAddr, load: &Load) -> Result<Tally> {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(address).await.context("connecting for a load")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let kinds = load.shots.iter().map(|shot| shot.kind + 1).max().unwrap_or(0);
    let tally = Arc::new(Mutex::new(Tally::new(kinds)));
    let start = Instant::now();
    let mut connections = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let gun = Gun::new(load, number, start);
        let tally = tally.clone();
        connections.spawn(async move {
            let mut connection = Connection { stream, buffer: vec![0; BUFFER_BYTES] };
            connection.fire(gun, &tally).await;
        });
    }
    let patience = match &load.until {
        Until::Over(time) => *time + GRACE,
        Until::Told(_) => HOUR + GRACE,
        Until::EachCalled { count, .. } => GRACE + Duration::from_millis(u64::from(*count)),
    };
    let all = async { while connections.join_next().await.is_some() {} };
    let in_time = time::timeout(patience, all).await.is_ok();
    let mut tally = lock(&tally).clone();
    tally.elapsed = start.elapsed();
    if !in_time {
        tally.add_bad(format!("{} connections still waited at the end", connections.len()));
    }
    Ok(tally)
}

/// One connection's supply of requests.
struct Gun {
    shots: Arc<[Shot]>,
    at: usize,
    deadline: Option<Instant>,
    told: Option<Arc<AtomicBool>>,
    calls: Option<Calls>,
}

/// The networks that one connection calls from, and the request that names the present one.
struct Calls {
    next: u32,
    step: u32,
    end: u32,
    shot: Shot,
}

impl Gun {
    fn new(load: &Load, number: usize, start: Instant) -> Self {
        let at = number * load.shots.len() / load.connections.max(1);
        let (mut deadline, mut told, mut calls) = (None, None, None);
        match &load.until {
            Until::Over(time) => deadline = Some(start + *time),
            Until::Told(flag) => (deadline, told) = (Some(start + HOUR), Some(Arc::clone(flag))),
            &Until::EachCalled { first, count } => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let step = u32::try_from(load.connections).unwrap_or(u32::MAX);
                let shot = Shot::new(0, Vec::new());
                calls = Some(Calls { next: first.saturating_add(number), step, end: first + count, shot });
            }
        }
        Self { shots: load.shots.clone(), at, deadline, told, calls }
    }

    /// The next request; `None` when the run is over.
    fn next(&mut self, now: Instant) -> Option<&Shot> {
        let is_told = self.told.as_ref().is_some_and(|told| told.load(Ordering::Relaxed));
        if is_told || self.deadline.is_some_and(|deadline| now >= deadline) {
            return None;
        }
        let shot = self.shots.get(self.at % self.shots.len())?;
        self.at += 1;
        let Some(calls) = &mut self.calls else { return Some(shot) };
        if calls.next >= calls.end {
            return None;
        }
        calls.shot.clone_from(shot);
        calls.shot.set_caller(calls.next);
        calls.next = calls.next.saturating_add(calls.step);
        Some(&calls.shot)
    }
}

/// One keep-alive connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends requests one after the other until there are no more or the connection breaks.
    async fn fire(&mut self, mut gun: Gun, tally: &Mutex<Tally>) {
        let mut sent_at = Instant::now();
        while let Some(shot) = gun.next(sent_at) {
            let head = self.exchange(&shot.bytes).await;
            let now = Instant::now();
            let mut tally = lock(tally);
            match head {
                Ok(head) if head.is_success() => {
                    tally.good += 1;
                    if let Some(times) = tally.times.get_mut(shot.kind) {
                        times.record(now - sent_at);
                    }
                }
                Ok(head) => tally.add_bad(format!("{} was answered with {}", shot.name(), head.status)),
                Err(error) => {
                    tally.add_bad(format!("{}: {error:#}", shot.name()));
                    return;
                }
            }
            sent_at = now;
        }
    }

    /// Sends one request and reads its answer to the end, keeping nothing but the head.
    async fn exchange(&mut self, request: &[u8]) -> Result<Head> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled).await?;
            if let Some(head) = parse_head(self.buffer.get(..filled).unwrap_or_default())? {
                break head;
            }
        };
        let whole = head.length + head.body;
        while filled < whole {
            filled += self.read(0).await?;
        }
        ensure!(filled == whole, "{} bytes too many", filled - whole);
        Ok(head)
    }

    /// Reads what there is into the buffer behind `from`.
    async fn read(&mut self, from: usize) -> Result<usize> {
        let room = self.buffer.get_mut(from..).filter(|room| !room.is_empty());
        let count = self.stream.read(room.context("the answer's head is too long")?).await?;
        ensure!(count > 0, "the server closed the connection");
        Ok(count)
    }
}

/// All connections run on one thread: the lock is never waited for, nor poisoned for good.
fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
