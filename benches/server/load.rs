//! Load generator: one thread with many keep-alive connections, each of which sends its next request after
//! the response to the previous one.
//!
//! It shares the processors with the server and is cheap, like wrk: requests are prepared bytes, of a
//! response only the head is parsed, and all connections share the histograms. Every run has a time limit.

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

/// Wait for outstanding responses after the end of a run.
const GRACE: Duration = Duration::from_secs(15);
/// Maximum length of a run.
const HOUR: Duration = Duration::from_secs(3600);
/// Size that fits the head of every response, and most bodies.
const BUFFER_BYTES: usize = 16 * 1024;
/// Template of a client address; 32 bits of its /64 identify the network.
const CLIENT: &str = "2a02:0000:0000:0000::1";

/// A request as the bytes to send.
#[derive(Clone)]
pub struct LoadRequest {
    /// Index of the histogram that records its time.
    pub kind: usize,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Offset of the client address, when each request has another client.
    client_at: Option<usize>,
}

impl LoadRequest {
    /// Creates a request that is always the same.
    pub fn new(kind: usize, bytes: Vec<u8>) -> Self {
        Self { kind, bytes, client_at: None }
    }

    /// Creates a request with a client address in `X-Forwarded-For`, at first that of network 0.
    pub fn with_client(kind: usize, mut bytes: Vec<u8>) -> Self {
        let header = b"X-Forwarded-For: ";
        let line_end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = [header.as_slice(), CLIENT.as_bytes(), b"\r\n"].concat();
        bytes.splice(line_end..line_end, line);
        Self { kind, bytes, client_at: Some(line_end + header.len()) }
    }

    /// Sets the client address to one in network `number`.
    pub fn set_client(&mut self, number: u32) {
        let Some(at) = self.client_at else { return };
        let text = format!("{:04x}:{:04x}", number >> 16, number & 0xffff);
        let from = at + "2a02:".len();
        if let Some(place) = self.bytes.get_mut(from..from + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    }

    /// Returns method and path, for messages.
    fn name(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned()
    }
}

/// End of a run.
#[derive(Clone)]
pub enum RunLength {
    /// After some time.
    Time(Duration),
    /// When the flag becomes true, and after an hour at the latest.
    Stopped(Arc<AtomicBool>),
    /// After one request from each of `count` networks, numbered from `first`.
    OncePerClient { first: u32, count: u32 },
}

/// Parameters of a run.
pub struct Load {
    /// Requests, sent in turn; every connection starts at a different one.
    pub requests: Arc<[LoadRequest]>,
    /// Number of keep-alive connections.
    pub connections: usize,
    /// End of the run.
    pub length: RunLength,
}

/// Result of a run.
#[derive(Clone)]
pub struct LoadResult {
    /// Responses with status 2xx.
    pub succeeded: u64,
    /// Other responses, and connection failures.
    pub failed: u64,
    /// Description of the first failure.
    pub first_failure: Option<String>,
    /// Time from the first request to the last response.
    pub elapsed: Duration,
    /// Times of the successful responses, one histogram per kind of request.
    pub times: Vec<Histogram>,
}

impl LoadResult {
    fn new(kinds: usize) -> Self {
        Self {
            succeeded: 0,
            failed: 0,
            first_failure: None,
            elapsed: Duration::ZERO,
            times: vec![Histogram::new(); kinds],
        }
    }

    /// Returns the successful responses per second.
    pub fn rate(&self) -> f64 {
        self.succeeded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the times of all kinds of requests.
    pub fn all_times(&self) -> Histogram {
        self.times.iter().fold(Histogram::new(), |mut all, kind| {
            all.add(kind);
            all
        })
    }

    /// Returns an error with the first failure when any request failed.
    pub fn ensure_all_succeeded(self) -> Result<Self> {
        let first = self.first_failure.as_deref().unwrap_or_default();
        ensure!(
            self.failed == 0 && self.succeeded > 0,
            "{} of {} failed: {first}",
            self.failed,
            self.failed + self.succeeded
        );
        Ok(self)
    }

    fn add_failure(&mut self, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
    }
}

/// Runs a load against a server and waits for its end.
///
/// # Errors
/// Connecting failed. Later failures are counted in the result.
pub fn run(address: SocketAddr, load: &Load) -> Result<LoadResult> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_async(address, load))
}

async fn run_async(address: SocketAddr, load: &Load) -> Result<LoadResult> {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(address).await.context("cannot connect for the load")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let kinds = load.requests.iter().map(|request| request.kind + 1).max().unwrap_or(0);
    let result = Arc::new(Mutex::new(LoadResult::new(kinds)));
    let start = Instant::now();
    let mut connections = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let source = RequestSource::new(load, number, start);
        let result = result.clone();
        connections.spawn(async move {
            let mut connection = Connection { stream, buffer: vec![0; BUFFER_BYTES] };
            connection.send_all(source, &result).await;
        });
    }
    let timeout = match &load.length {
        RunLength::Time(time) => *time + GRACE,
        RunLength::Stopped(_) => HOUR + GRACE,
        RunLength::OncePerClient { count, .. } => GRACE + Duration::from_millis(u64::from(*count)),
    };
    let all = async { while connections.join_next().await.is_some() {} };
    let in_time = time::timeout(timeout, all).await.is_ok();
    let mut result = lock(&result).clone();
    result.elapsed = start.elapsed();
    if !in_time {
        result.add_failure(format!(
            "{} connections were still waiting for a response at the end",
            connections.len()
        ));
    }
    Ok(result)
}

/// Requests of one connection.
struct RequestSource {
    requests: Arc<[LoadRequest]>,
    next: usize,
    deadline: Option<Instant>,
    stop: Option<Arc<AtomicBool>>,
    clients: Option<ClientNumbers>,
}

/// Network numbers of the clients of one connection, and the request from the current one.
struct ClientNumbers {
    next: u32,
    step: u32,
    end: u32,
    request: LoadRequest,
}

impl RequestSource {
    fn new(load: &Load, number: usize, start: Instant) -> Self {
        let next = number * load.requests.len() / load.connections.max(1);
        let (mut deadline, mut stop, mut clients) = (None, None, None);
        match &load.length {
            RunLength::Time(time) => deadline = Some(start + *time),
            RunLength::Stopped(flag) => (deadline, stop) = (Some(start + HOUR), Some(Arc::clone(flag))),
            &RunLength::OncePerClient { first, count } => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let step = u32::try_from(load.connections).unwrap_or(u32::MAX);
                let request = LoadRequest::new(0, Vec::new());
                clients = Some(ClientNumbers {
                    next: first.saturating_add(number),
                    step,
                    end: first + count,
                    request,
                });
            }
        }
        Self { requests: load.requests.clone(), next, deadline, stop, clients }
    }

    /// Returns the next request, or `None` at the end of the run.
    fn next(&mut self, now: Instant) -> Option<&LoadRequest> {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        if is_stopped || self.deadline.is_some_and(|deadline| now >= deadline) {
            return None;
        }
        let request = self.requests.get(self.next % self.requests.len())?;
        self.next += 1;
        let Some(clients) = &mut self.clients else { return Some(request) };
        if clients.next >= clients.end {
            return None;
        }
        clients.request.clone_from(request);
        clients.request.set_client(clients.next);
        clients.next = clients.next.saturating_add(clients.step);
        Some(&clients.request)
    }
}

/// One keep-alive connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends requests one after the other until the end of the run or a failure of the connection.
    async fn send_all(&mut self, mut source: RequestSource, result: &Mutex<LoadResult>) {
        let mut sent_at = Instant::now();
        while let Some(request) = source.next(sent_at) {
            let head = self.send(&request.bytes).await;
            let now = Instant::now();
            let mut result = lock(result);
            match head {
                Ok(head) if head.is_success() => {
                    result.succeeded += 1;
                    if let Some(times) = result.times.get_mut(request.kind) {
                        times.record(now - sent_at);
                    }
                }
                Ok(head) => result.add_failure(format!("{} returned status {}", request.name(), head.status)),
                Err(error) => {
                    result.add_failure(format!("{}: {error:#}", request.name()));
                    return;
                }
            }
            sent_at = now;
        }
    }

    /// Sends one request, reads the response to its end and returns the head.
    async fn send(&mut self, request: &[u8]) -> Result<Head> {
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
        ensure!(filled == whole, "{} bytes after the end of the response", filled - whole);
        Ok(head)
    }

    /// Reads available bytes into the buffer from index `from` on.
    async fn read(&mut self, from: usize) -> Result<usize> {
        let room = self.buffer.get_mut(from..).filter(|room| !room.is_empty());
        let count = self.stream.read(room.context("the head of the response is too long")?).await?;
        ensure!(count > 0, "the server closed the connection");
        Ok(count)
    }
}

/// Locks the result. All connections run on one thread, so this never waits.
fn lock(result: &Mutex<LoadResult>) -> std::sync::MutexGuard<'_, LoadResult> {
    result.lock().unwrap_or_else(PoisonError::into_inner)
}
