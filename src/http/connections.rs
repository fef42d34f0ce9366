//! Table of open connections: admission, progress, deadlines and eviction.
//!
//! Every connection is registered when it is accepted. A newcomer over a limit evicts a
//! connection that does no work, so that a limit never keeps a well-behaved client out.
//! Sockets and HTTP are left to `acceptor`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::config::Settings;
use crate::http::middleware::client_address::{Client, ClientKey};

/// Connections of one client that have not sent the headers of a request yet.
const UNPROVEN_PER_CLIENT: usize = 32;
/// Descriptors for everything but connections: databases, logs, backups, the runtime.
const OTHER_DESCRIPTORS: usize = 128;
/// Connections that were evicted and whose sockets are still to be closed; part of the above.
pub const CLOSING: usize = 32;
/// Fewest connections that are served, whatever the descriptor limit.
const FEWEST: usize = 8;

/// Number of connections that the settings and the descriptor limit allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections that are held at most.
    pub connections: usize,
    /// Descriptor limit that keeps `connections` below `MAX_CONNECTIONS`.
    pub reduced_by: Option<u64>,
}

impl Capacity {
    /// Capacity of a process that may raise its descriptor limit to the hard limit.
    pub fn of_process(max_connections: usize) -> Self {
        Self::within(max_connections, getrlimit(Resource::Nofile).maximum)
    }

    /// Raises the soft descriptor limit as far as needed, and returns the resulting capacity.
    fn raise(max_connections: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let wanted = (2 * max_connections + OTHER_DESCRIPTORS) as u64;
        let allowed = limit.maximum.map_or(wanted, |hard| wanted.min(hard));
        if limit.current.is_some_and(|current| current < allowed) {
            let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
            if let Err(e) = setrlimit(Resource::Nofile, raised) {
                tracing::debug!("the descriptor limit stays at {:?}: {e}", limit.current);
            }
        }
        Self::within(max_connections, getrlimit(Resource::Nofile).current)
    }

    fn within(max_connections: usize, descriptors: Option<u64>) -> Self {
        let Some(limit) = descriptors else { return Self { connections: max_connections, reduced_by: None } };
        let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHER_DESCRIPTORS).max(FEWEST);
        let reduced_by = (room < max_connections).then_some(limit);
        Self { connections: room.min(max_connections), reduced_by }
    }

    /// Explanation of a reduced capacity.
    pub fn reason(&self) -> Option<String> {
        let limit = self.reduced_by?;
        Some(format!(
            "the descriptor limit of {limit} allows {} connections, fewer than MAX_CONNECTIONS: raise LimitNOFILE",
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
    /// Silence between requests, and of a client that does not read its response.
    pub idle: Duration,
}

/// Activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The headers of a request are awaited: of the first one, or after some of its bytes came.
    Headers,
    /// The request's body is awaited.
    Body,
    /// A handler runs or produces a part of the response.
    Handling,
    /// The client is to take a part of the response.
    Sending,
    /// Between requests.
    Idle,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    /// Start of the request whose headers are awaited or arrived last.
    request_began: Instant,
    /// Last time that bytes moved or the phase changed.
    last: Instant,
    /// Requests whose headers arrived.
    requests: u64,
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    pub peer: SocketAddr,
    client: ClientKey,
    /// A trusted proxy carries the connections of many clients.
    is_proxy: bool,
    timeouts: Timeouts,
    progress: Mutex<Progress>,
    /// Signalled when the connection has been evicted.
    pub evicted: Notify,
}

impl Connection {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut progress = self.progress();
        (progress.phase, progress.last) = (phase, Instant::now());
    }

    /// Records bytes from the client.
    pub fn received(&self) {
        let mut progress = self.progress();
        progress.last = Instant::now();
        if progress.phase == Phase::Idle {
            (progress.phase, progress.request_began) = (Phase::Headers, progress.last);
        }
    }

    /// Records bytes that the client's side has taken.
    pub fn sent(&self) {
        self.progress().last = Instant::now();
    }

    /// Records complete headers. Returns the deadline for the body, and whether they were the first.
    fn begin_request(&self) -> (Instant, bool) {
        let mut progress = self.progress();
        let now = Instant::now();
        if progress.phase == Phase::Idle {
            // It was received together with the request before.
            progress.request_began = now;
        }
        (progress.phase, progress.last) = (Phase::Handling, now);
        progress.requests += 1;
        (progress.request_began + self.timeouts.request, progress.requests == 1)
    }

    /// Records that the handler waits for the body.
    pub fn await_body(&self) {
        self.enter(Phase::Body);
    }

    /// Records that the server works on the response.
    pub fn handle(&self) {
        self.enter(Phase::Handling);
    }

    /// Records that a part of the response is ready for the client.
    pub fn send(&self) {
        self.enter(Phase::Sending);
    }

    /// Records the end of a response.
    pub fn complete_request(&self) {
        let mut progress = self.progress();
        (progress.phase, progress.last) = (Phase::Idle, Instant::now());
    }

    /// Time at which the connection is to be closed unless something happens before.
    pub fn due(&self) -> Option<Instant> {
        let progress = self.progress();
        match progress.phase {
            Phase::Headers => Some(progress.request_began + self.timeouts.headers),
            Phase::Sending | Phase::Idle => Some(progress.last + self.timeouts.idle),
            // The body has a deadline of its own, in `body`.
            Phase::Body | Phase::Handling => None,
        }
    }

    /// Time since the first byte of a request whose headers are incomplete.
    pub fn incomplete_for(&self) -> Option<Duration> {
        let progress = self.progress();
        (progress.phase == Phase::Headers).then(|| progress.request_began.elapsed())
    }

    /// Reports whether the client has not sent a byte yet.
    pub fn is_silent(&self) -> bool {
        let progress = self.progress();
        progress.requests == 0 && progress.phase == Phase::Headers && progress.last == progress.request_began
    }

    /// Reports whether a request is being read, handled or answered.
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
    /// Signalled when a connection has left the table.
    pub left: Notify,
}

impl Connections {
    /// An empty table. Raises the descriptor limit.
    pub fn new(settings: &Settings) -> Self {
        let (request, idle) = (settings.request_timeout, settings.idle_timeout);
        Self {
            capacity: Capacity::raise(settings.max_connections),
            timeouts: Timeouts { headers: settings.header_timeout.min(request), request, idle },
            next_id: AtomicU64::new(0),
            table: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// Number of connections that can be held.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.table().all.len()
    }

    /// Registers a connection, and evicts others when that exceeds a limit. Returns `None`
    /// when every connection is at work.
    pub fn admit(&self, peer: SocketAddr, trusted_proxies: &[IpNet]) -> Option<Arc<Connection>> {
        let now = Instant::now();
        let address = peer.ip().to_canonical();
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            peer,
            client: Client { address }.key(),
            is_proxy: trusted_proxies.iter().any(|network| network.contains(&address)),
            timeouts: self.timeouts,
            progress: Mutex::new(Progress {
                phase: Phase::Headers,
                request_began: now,
                last: now,
                requests: 0,
            }),
            evicted: Notify::new(),
        });
        let mut table = self.table();
        if table.unproven.get(&connection.client).is_some_and(|ids| ids.len() >= UNPROVEN_PER_CLIENT)
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

    /// Evicts one connection that does no work, as when the system has no descriptor left.
    pub fn evict_one(&self) {
        self.table().evict_one();
    }

    /// Removes a connection that has ended.
    pub fn remove(&self, connection: &Connection) {
        let mut table = self.table();
        table.all.remove(&connection.id);
        table.forget_unproven(connection);
        drop(table);
        self.left.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<u64, Arc<Connection>>,
    /// Connections of each client that have not sent the headers of a request, oldest first.
    unproven: HashMap<ClientKey, VecDeque<u64>>,
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
    fn evict_unproven(&mut self, client: ClientKey) {
        if let Some(oldest) = self.unproven.get(&client).and_then(VecDeque::front).copied() {
            self.evict(oldest);
        }
    }

    /// Evicts the least useful connection. Returns whether there was one that does no work.
    fn evict_one(&mut self) -> bool {
        // Of the client that holds most of them, and of those the oldest.
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
        match least_worthy(&self.all) {
            Some(id) => {
                self.evict(id);
                true
            }
            None => false,
        }
    }
}

/// Connection to evict among those without a running handler: that of the client with the most of
/// them, and of those the one that has been silent for the longest time.
fn least_worthy(table: &HashMap<u64, Arc<Connection>>) -> Option<u64> {
    let candidates = || table.values().filter(|c| c.progress().phase != Phase::Handling);
    let mut held: HashMap<ClientKey, usize> = HashMap::new();
    for connection in candidates().filter(|c| !c.is_proxy) {
        *held.entry(connection.client).or_default() += 1;
    }
    let rank = |c: &&Arc<Connection>| {
        let share = if c.is_proxy { 1 } else { held.get(&c.client).copied().unwrap_or(1) };
        (std::cmp::Reverse(share), c.progress().last, c.id)
    };
    candidates().min_by_key(rank).map(|c| c.id)
}
