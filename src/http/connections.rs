//! Table of open connections: limits, progress, deadlines and eviction.
//!
//! Every connection is registered when it is accepted. A new connection over a limit evicts one whose handler
//! is not running, so that idle connections cannot exhaust the limit. Sockets and HTTP are left to `acceptor`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::config::Settings;
use crate::http::client_address::{Client, ClientNetwork};

/// Maximum number of connections of one client that have not sent the headers of a request yet.
const MAX_WITHOUT_REQUEST_PER_CLIENT: usize = 32;
/// File descriptors for everything but connections and the databases of further people: the owner's database, logs,
/// the runtime.
const OTHER_DESCRIPTORS: usize = 128;
/// File descriptors of the open database of a person other than the owner: database and log of up to four connections,
/// shared memory, and the lock.
const DESCRIPTORS_PER_PERSON: usize = 10;
/// Maximum number of evicted connections whose sockets are not closed yet; part of [`OTHER_DESCRIPTORS`].
pub const MAX_CLOSING: usize = 32;
/// Minimum number of connections, whatever the descriptor limit.
const MIN_CONNECTIONS: usize = 8;

/// Number of connections that the settings and the descriptor limit allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of open databases of people other than the owner.
    pub open_people: usize,
    /// Descriptor limit that keeps `connections` below the setting `MAX_CONNECTIONS`.
    pub reduced_by: Option<u64>,
}

impl Capacity {
    /// Returns the capacity of a process that may raise its descriptor limit to the hard limit.
    pub fn of_process(settings: &Settings) -> Self {
        Self::within(settings, getrlimit(Resource::Nofile).maximum)
    }

    /// Raises the soft descriptor limit as far as needed, and returns the resulting capacity.
    fn raise(settings: &Settings) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let people = settings.max_open_people * DESCRIPTORS_PER_PERSON;
        // Twice the connections, as a margin: `within` needs only one descriptor for each.
        let wanted = (2 * settings.max_connections + OTHER_DESCRIPTORS + people) as u64;
        let allowed = limit.maximum.map_or(wanted, |hard| wanted.min(hard));
        if limit.current.is_some_and(|current| current < allowed) {
            let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
            if let Err(e) = setrlimit(Resource::Nofile, raised) {
                tracing::debug!("the descriptor limit stays at {:?}: {e}", limit.current);
            }
        }
        Self::within(settings, getrlimit(Resource::Nofile).current)
    }

    /// Divides the descriptors. Connections come first, as most servers have few people.
    fn within(settings: &Settings, descriptors: Option<u64>) -> Self {
        let (max_connections, max_open_people) = (settings.max_connections, settings.max_open_people);
        let Some(limit) = descriptors else {
            return Self { connections: max_connections, open_people: max_open_people, reduced_by: None };
        };
        let room = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .saturating_sub(OTHER_DESCRIPTORS)
            .max(MIN_CONNECTIONS);
        let connections = room.min(max_connections);
        let for_people = room.saturating_sub(connections) / DESCRIPTORS_PER_PERSON;
        Self {
            connections,
            open_people: for_people.clamp(1, max_open_people),
            reduced_by: (room < max_connections).then_some(limit),
        }
    }

    /// Explains a reduced capacity.
    pub fn reason(&self) -> Option<String> {
        let limit = self.reduced_by?;
        Some(format!(
            "the file descriptor limit of {limit} allows only {} connections, fewer than MAX_CONNECTIONS; raise LimitNOFILE",
            self.connections
        ))
    }
}

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Headers of one request.
    pub headers: Duration,
    /// Headers and body of one request.
    pub request: Duration,
    /// Time without traffic between requests, or while a response is sent.
    pub idle: Duration,
}

/// Activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Receiving the headers of a request, or waiting for the first one.
    Headers,
    /// Receiving the body of a request.
    Body,
    /// A handler runs or produces a part of the response.
    Handling,
    /// Sending a part of the response.
    Sending,
    /// Between requests, or sending a response that was produced in one piece.
    Idle,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    /// Start of the current or last request.
    request_start: Instant,
    /// Last traffic or change of the phase.
    last_activity: Instant,
    /// Number of requests whose headers are complete.
    requests: u64,
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    pub peer: SocketAddr,
    client: ClientNetwork,
    /// Trusted proxies are exempt from the limits of one client.
    is_proxy: bool,
    timeouts: Timeouts,
    progress: Mutex<Progress>,
    /// Notified when the connection is evicted.
    pub evicted: Notify,
}

impl Connection {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut progress = self.progress();
        (progress.phase, progress.last_activity) = (phase, Instant::now());
    }

    /// Records bytes from the client.
    pub fn received(&self) {
        let mut progress = self.progress();
        progress.last_activity = Instant::now();
        if progress.phase == Phase::Idle {
            (progress.phase, progress.request_start) = (Phase::Headers, progress.last_activity);
        }
    }

    /// Records bytes to the client.
    pub fn sent(&self) {
        self.progress().last_activity = Instant::now();
    }

    /// Records complete headers. Returns the deadline for the body, and whether the request is the first.
    fn begin_request(&self) -> (Instant, bool) {
        let mut progress = self.progress();
        let now = Instant::now();
        if progress.phase == Phase::Idle {
            // The request arrived together with the previous one.
            progress.request_start = now;
        }
        (progress.phase, progress.last_activity) = (Phase::Handling, now);
        progress.requests += 1;
        (progress.request_start + self.timeouts.request, progress.requests == 1)
    }

    /// Records that the handler waits for the body.
    pub fn enter_body_phase(&self) {
        self.enter(Phase::Body);
    }

    /// Records that the server works on the response.
    pub fn enter_handling_phase(&self) {
        self.enter(Phase::Handling);
    }

    /// Records that a part of the response is ready for the client.
    pub fn enter_sending_phase(&self) {
        self.enter(Phase::Sending);
    }

    /// Records that the response has been produced. It may still have to be sent, which the idle timeout bounds, too.
    pub fn complete_request(&self) {
        let mut progress = self.progress();
        (progress.phase, progress.last_activity) = (Phase::Idle, Instant::now());
    }

    /// Returns the deadline of the current phase. Activity extends it only while sending and between requests.
    pub fn due(&self) -> Option<Instant> {
        let progress = self.progress();
        match progress.phase {
            Phase::Headers => Some(progress.request_start + self.timeouts.headers),
            Phase::Sending | Phase::Idle => Some(progress.last_activity + self.timeouts.idle),
            // The extractor of the body applies its deadline.
            Phase::Body | Phase::Handling => None,
        }
    }

    /// Returns the time for which the headers of a request have been incomplete: for the first request since the
    /// connection was accepted, for a later one since its first byte.
    pub fn incomplete_for(&self) -> Option<Duration> {
        let progress = self.progress();
        (progress.phase == Phase::Headers).then(|| progress.request_start.elapsed())
    }

    /// Reports whether the client has not sent any bytes.
    pub fn is_silent(&self) -> bool {
        let progress = self.progress();
        progress.requests == 0
            && progress.phase == Phase::Headers
            && progress.last_activity == progress.request_start
    }

    /// Reports whether a request is in progress whose headers are complete.
    pub fn is_working(&self) -> bool {
        matches!(self.progress().phase, Phase::Body | Phase::Handling | Phase::Sending)
    }
}

/// Every open connection.
#[derive(Debug)]
pub struct Connections {
    capacity: Capacity,
    timeouts: Timeouts,
    next_id: AtomicU64,
    table: Mutex<Table>,
    /// Notified when a connection has been removed.
    pub removed: Notify,
}

impl Connections {
    /// Creates an empty table and raises the descriptor limit.
    pub fn new(settings: &Settings) -> Self {
        let (request, idle) = (settings.request_timeout, settings.idle_timeout);
        Self {
            capacity: Capacity::raise(settings),
            timeouts: Timeouts { headers: settings.header_timeout.min(request), request, idle },
            next_id: AtomicU64::new(0),
            table: Mutex::default(),
            removed: Notify::new(),
        }
    }

    /// Returns the maximum number of open connections.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.table().all.len()
    }

    /// Registers a connection, and evicts others over a limit. Returns `None` when all connections are in use.
    pub fn register(&self, peer: SocketAddr, trusted_proxies: &[IpNet]) -> Option<Arc<Connection>> {
        let now = Instant::now();
        let address = peer.ip().to_canonical();
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            peer,
            client: Client { address }.network(),
            is_proxy: trusted_proxies.iter().any(|network| network.contains(&address)),
            timeouts: self.timeouts,
            progress: Mutex::new(Progress {
                phase: Phase::Headers,
                request_start: now,
                last_activity: now,
                requests: 0,
            }),
            evicted: Notify::new(),
        });
        let mut table = self.table();
        if table
            .unproven
            .get(&connection.client)
            .is_some_and(|ids| ids.len() >= MAX_WITHOUT_REQUEST_PER_CLIENT)
            && !connection.is_proxy
        {
            table.evict_unproven(connection.client);
        }
        while table.all.len() >= self.capacity.connections {
            if !table.evict_one() {
                return None;
            }
        }
        table.all.insert(connection.id, Arc::clone(&connection));
        table.unproven.entry(connection.client).or_default().push_back(connection.id);
        Some(connection)
    }

    /// Records complete headers, and returns the deadline for the body.
    pub fn begin_request(&self, connection: &Connection) -> Instant {
        let (deadline, is_first) = connection.begin_request();
        if is_first {
            self.table().forget_unproven(connection);
        }
        deadline
    }

    /// Evicts one connection whose handler is not running.
    pub fn evict_one(&self) {
        self.table().evict_one();
    }

    /// Removes a closed connection.
    pub fn remove(&self, connection: &Connection) {
        let mut table = self.table();
        table.all.remove(&connection.id);
        table.forget_unproven(connection);
        drop(table);
        self.removed.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<u64, Arc<Connection>>,
    /// Connections of each client that have not sent the headers of a request yet, oldest first.
    unproven: HashMap<ClientNetwork, VecDeque<u64>>,
}

impl Table {
    fn forget_unproven(&mut self, connection: &Connection) {
        if let Some(ids) = self.unproven.get_mut(&connection.client) {
            ids.retain(|id| *id != connection.id);
            if ids.is_empty() {
                self.unproven.remove(&connection.client);
            }
        }
    }

    fn evict(&mut self, id: u64) {
        if let Some(connection) = self.all.remove(&id) {
            self.forget_unproven(&connection);
            connection.evicted.notify_one();
        }
    }

    /// Evicts the oldest unproven connection of a client.
    fn evict_unproven(&mut self, client: ClientNetwork) {
        if let Some(oldest) = self.unproven.get(&client).and_then(VecDeque::front).copied() {
            self.evict(oldest);
        }
    }

    /// Evicts one connection whose handler is not running. Reports whether there was one.
    fn evict_one(&mut self) -> bool {
        // The client with the most of them loses its oldest one.
        let rank = |ids: &VecDeque<u64>| {
            let oldest = ids.front().copied();
            let is_proxy = oldest.and_then(|id| self.all.get(&id)).is_some_and(|c| c.is_proxy);
            (if is_proxy { 1 } else { ids.len() }, std::cmp::Reverse(oldest))
        };
        if let Some((client, _)) = self.unproven.iter().max_by_key(|(_, ids)| rank(ids)) {
            let client = *client;
            self.evict_unproven(client);
            return true;
        }
        match eviction_candidate(&self.all) {
            Some(id) => {
                self.evict(id);
                true
            }
            None => false,
        }
    }
}

/// Selects a connection without a running handler: of the client with the most of them, the one that has been
/// inactive for the longest time.
fn eviction_candidate(table: &HashMap<u64, Arc<Connection>>) -> Option<u64> {
    let candidates = || table.values().filter(|c| c.progress().phase != Phase::Handling);
    let mut counts: HashMap<ClientNetwork, usize> = HashMap::new();
    for connection in candidates().filter(|c| !c.is_proxy) {
        *counts.entry(connection.client).or_default() += 1;
    }
    let rank = |c: &&Arc<Connection>| {
        let share = if c.is_proxy { 1 } else { counts.get(&c.client).copied().unwrap_or(1) };
        (std::cmp::Reverse(share), c.progress().last_activity, c.id)
    };
    candidates().min_by_key(rank).map(|c| c.id)
}
