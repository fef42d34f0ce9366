//! Connections that say nothing are closed, and there are never too many.
//!
//! Rocket 0.5 sets no time-out on a connection and offers no listener of one's own, so a
//! client that sends half a request, or none, would be held for ever. Once a second a
//! thread looks through this process's sockets (/proc/self/fd), and shuts those that have
//! been neither answered nor at work for too long: it gets a duplicate of the descriptor
//! by pidfd_getfd(2) (Linux 5.6) and shuts that down, upon which the server's own end
//! sees the end of the stream. Bodies that trickle while a handler reads them have a
//! deadline of their own, in `body`.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::net::connect_unspec;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::App;
use super::exchange::UNMATCHED;

/// How often the sockets are looked through.
const ROUND: Duration = Duration::from_secs(1);
const SHARDS: usize = 16;

/// What each peer was last seen doing.
#[derive(Debug, Default)]
pub struct Connections {
    shards: [Mutex<HashMap<SocketAddr, Activity>>; SHARDS],
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Activity {
    /// Requests at work.
    busy: u32,
    last: Instant,
    /// A stream is on its way that an end in good order would make look whole.
    half_sent: bool,
}

impl Connections {
    /// A request of `peer` has arrived.
    pub fn begin(&self, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        let now = Instant::now();
        let mut shard = self.shard(peer);
        let activity = shard.entry(peer).or_insert(Activity { busy: 0, last: now, half_sent: false });
        *activity = Activity { busy: activity.busy + 1, last: now, ..*activity };
    }

    /// A request of `peer` has its answer.
    pub fn end(&self, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        if let Some(activity) = self.shard(peer).get_mut(&peer) {
            let busy = activity.busy.saturating_sub(1);
            *activity = Activity { busy, last: Instant::now(), ..*activity };
        }
    }

    /// A stream to `peer` begins, or has come to its end.
    pub fn set_half_sent(&self, peer: Option<SocketAddr>, half_sent: bool) {
        let Some(peer) = peer else { return };
        if let Some(activity) = self.shard(peer).get_mut(&peer) {
            activity.half_sent = half_sent;
        }
    }

    /// Breaks off every stream that is on its way.
    pub fn cut_half_sent(&self) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let half_sent = shard.iter().filter(|(_, activity)| activity.half_sent);
            let peers: Vec<SocketAddr> = half_sent.map(|(peer, _)| *peer).collect();
            drop(shard);
            for peer in peers {
                cut(peer);
            }
        }
    }

    fn activity(&self, peer: SocketAddr) -> Option<Activity> {
        self.shard(peer).get(&peer).copied()
    }

    fn forget_all_but(&self, peers: &HashMap<SocketAddr, ()>) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|peer, activity| activity.busy > 0 || peers.contains_key(peer));
        }
    }

    fn shard(&self, peer: SocketAddr) -> MutexGuard<'_, HashMap<SocketAddr, Activity>> {
        let place = self.hasher.hash_one(peer) as usize % SHARDS;
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after the connections to `port` for as long as the application lives.
///
/// # Errors
/// The system gives no thread, or a kernel older than 5.6 runs: then nothing is closed.
pub fn watch(app: Weak<App>, port: u16) -> io::Result<()> {
    let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut watch = Watch { app, port, this_process, sockets: HashMap::new() };
    let run = move || {
        loop {
            std::thread::sleep(ROUND);
            let Some(app) = watch.app.upgrade() else { break };
            if let Err(e) = watch.round(&app) {
                tracing::warn!("the connections could not be looked through: {e}");
            }
        }
    };
    std::thread::Builder::new().name("connections".into()).spawn(run).map(drop)
}

/// Ends the connection of `peer` at once: what it has not been sent, it will not get. False
/// when there is none, or the system does not let go of it.
pub fn cut(peer: SocketAddr) -> bool {
    let Ok(this_process) = pidfd_open(getpid(), PidfdFlags::empty()) else { return false };
    let mut sockets = open_sockets().unwrap_or_default().into_iter();
    sockets.any(|(descriptor, _)| {
        let duplicate = pidfd_getfd(&this_process, descriptor, PidfdGetfdFlags::empty());
        let socket = duplicate.ok().map(TcpStream::from);
        let is_it = |socket: &TcpStream| socket.peer_addr().is_ok_and(|found| found == peer);
        socket.filter(is_it).is_some_and(|socket| reset(&socket))
    })
}

/// Not an end in good order, by which a client of HTTP/1.0 would know the end of the body.
fn reset(socket: &TcpStream) -> bool {
    connect_unspec(socket).is_ok()
}

/// A descriptor and the inode of the socket behind it: together they name a connection.
type SocketName = (RawFd, u64);

/// A connection without a request at work.
struct Silent {
    name: SocketName,
    peer: SocketAddr,
    /// It has sent a whole request before.
    has_asked: bool,
    half_sent: bool,
    silence: Duration,
}

struct Watch {
    app: Weak<App>,
    port: u16,
    this_process: OwnedFd,
    /// The sockets seen, with the peer of those that are connections to us, and since when.
    sockets: HashMap<SocketName, (Option<SocketAddr>, Instant)>,
}

impl Watch {
    fn round(&mut self, app: &App) -> io::Result<()> {
        let now = Instant::now();
        let open = open_sockets()?;
        self.sockets.retain(|name, _| open.contains(name));
        for name in open {
            if !self.sockets.contains_key(&name) {
                let peer = self.connection(name.0).and_then(|socket| socket.peer_addr().ok());
                self.sockets.insert(name, (peer, now));
            }
        }
        let peers = self.sockets.values().filter_map(|(peer, _)| Some(((*peer)?, ()))).collect();
        app.connections.forget_all_but(&peers);
        let mut silent = self.silent(app, now);
        // Beyond the cap those go first that never asked for anything, then the longest silent.
        silent.sort_unstable_by_key(|s| (s.has_asked, std::cmp::Reverse(s.silence)));
        let excess = peers.len().saturating_sub(app.settings.max_connections);
        for (n, connection) in silent.into_iter().enumerate() {
            if n < excess || connection.silence >= app.settings.idle_timeout {
                self.close(app, &connection);
            }
        }
        Ok(())
    }

    /// The connections without a request at work.
    fn silent(&self, app: &App, now: Instant) -> Vec<Silent> {
        let silence = |(name, (peer, since)): (&SocketName, &(Option<SocketAddr>, Instant))| {
            let peer = (*peer)?;
            let activity = app.connections.activity(peer);
            let last = match activity {
                Some(activity) if activity.busy > 0 => return None,
                Some(activity) => activity.last.max(*since),
                None => *since,
            };
            let silence = now.saturating_duration_since(last);
            let half_sent = activity.is_some_and(|activity| activity.half_sent);
            Some(Silent { name: *name, peer, has_asked: activity.is_some(), half_sent, silence })
        };
        self.sockets.iter().filter_map(silence).collect()
    }

    fn close(&self, app: &App, silent: &Silent) {
        let peer = silent.peer;
        // The descriptor may have passed to another connection meanwhile.
        let Some(mut socket) =
            self.connection(silent.name.0).filter(|s| s.peer_addr().is_ok_and(|p| p == peer))
        else {
            return;
        };
        if app.connections.activity(peer).is_none() {
            let id = format!("{:032x}", fastrand::u128(..));
            drop(socket.write(timed_out(&id).as_bytes()));
            app.metrics.observe("other", UNMATCHED, 408, silent.silence.as_secs_f64());
            tracing::info!(target: "request", id = id.as_str(), status = 408, client = %peer.ip(), "request");
        }
        if !(silent.half_sent && reset(&socket)) {
            drop(socket.shutdown(Shutdown::Both));
        }
        app.metrics.idle_closed();
        tracing::debug!(client = %peer.ip(), "a silent connection was closed");
    }

    /// A duplicate of a descriptor, if it is a connection to us.
    fn connection(&self, descriptor: RawFd) -> Option<TcpStream> {
        let duplicate = pidfd_getfd(&self.this_process, descriptor, PidfdGetfdFlags::empty()).ok()?;
        let socket = TcpStream::from(duplicate);
        (socket.local_addr().ok()?.port() == self.port && socket.peer_addr().is_ok()).then_some(socket)
    }
}

/// What a client hears that never finished its request. It may not listen.
fn timed_out(id: &str) -> String {
    let body = format!(
        r#"{{"type":"about:blank","title":"Request Timeout","status":408,"detail":"The request did not arrive in time","request_id":"{id}"}}"#
    );
    format!(
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         X-Request-ID: {id}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn open_sockets() -> io::Result<std::collections::HashSet<SocketName>> {
    let mut sockets = std::collections::HashSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // A descriptor that is closed while we look is no longer of interest.
        let Ok(target) = fs::read_link(&path) else { continue };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let descriptor = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        sockets.extend(descriptor.zip(inode));
    }
    Ok(sockets)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_to_a_silent_client_are_well_formed_http() {
        let text = timed_out("some-id");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length: usize =
            head.lines().find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok()).unwrap();
        assert_eq!(body.len(), length);
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["status"], &problem["request_id"]), (&408.into(), &"some-id".into()));
    }
}
