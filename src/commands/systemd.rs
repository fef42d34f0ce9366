//! Notifications to systemd while the server starts, runs and stops, and its watchdog.
//!
//! Does nothing without `NOTIFY_SOCKET` in the environment. The watchdog triggers only when a restart could help; the
//! state of the database is reported by `/health`.

use std::io;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::commands::healthcheck::local_address;
use crate::people::registry::People;

/// Extension of the start timeout that each request asks for.
const EXTENSION: Duration = Duration::from_secs(30);
/// Interval between requests for an extension.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum time to open the database, after which no extension is requested.
const MAX_START: Duration = Duration::from_secs(3600);
/// Timeout of the first request, which the server sends to itself.
const FIRST_RESPONSE: Duration = Duration::from_secs(30);

fn is_enabled() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("cannot notify systemd: {e}");
    }
}

fn in_background(name: &str, work: impl FnOnce() + Send + 'static) {
    if is_enabled()
        && let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(work)
    {
        tracing::warn!("cannot notify systemd: {e}");
    }
}

/// Repeated extension of the start timeout while the database is opened, until dropped.
///
/// A migration with its backup, or a long log, can take longer than the start timeout of the unit.
#[derive(Debug)]
pub struct Opening(#[expect(dead_code, reason = "the thread lasts as long as its channel")] Sender<()>);

impl Opening {
    pub fn begin() -> Self {
        let (open, end) = channel();
        in_background("opening", move || {
            let began = Instant::now();
            let more = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
            while began.elapsed() < MAX_START {
                notify(&[NotifyState::ExtendTimeoutUsec(more), NotifyState::Status("Opening the database")]);
                if end.recv_timeout(EXTENSION_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        });
        Self(open)
    }
}

/// Reports the server as ready once it has responded at `address`.
pub fn ready(address: SocketAddr) {
    in_background("ready", move || match first_response(address) {
        Ok(()) => notify(&[NotifyState::Ready, NotifyState::Status(&listening(address))]),
        Err(e) => tracing::error!("the server does not respond at {address}: {e}"),
    });
}

/// Reports that the settings are being reloaded, until [`reloaded`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("Reloading the settings")]),
        Err(e) => tracing::warn!("cannot notify systemd: {e}"),
    }
}

/// Reports the end of a reload.
pub fn reloaded(address: SocketAddr, has_succeeded: bool) {
    let listening = listening(address);
    let failed = format!("{listening}; the last reload failed");
    let status = if has_succeeded { &listening } else { &failed };
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Finishing requests")]);
}

fn listening(address: SocketAddr) -> String {
    format!("Listening on http://{address}")
}

/// Sends a request to the server and waits for the response.
fn first_response(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&local_address(address), FIRST_RESPONSE)?;
    stream.set_read_timeout(Some(FIRST_RESPONSE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 9];
    stream.read_exact(&mut start)?;
    // A 503 counts too: `/health` reports the reason.
    if &start == b"HTTP/1.1 " { Ok(()) } else { Err(io::Error::other("not an HTTP response")) }
}

/// Feeds the watchdog while the writer and a reader respond within its period. A running restore or import and a full
/// disk count as responding.
pub async fn feed_watchdog(people: Arc<People>) {
    let Some(period) = sd_notify::watchdog_enabled().filter(|_| is_enabled()) else { return };
    let mut interval = tokio::time::interval(period / 3);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_fed = true;
    loop {
        interval.tick().await;
        let answers = people.answers(period).await;
        if answers {
            notify(&[NotifyState::Watchdog]);
        }
        if is_fed && !answers {
            tracing::error!(
                "the writer or the disk has not responded for {period:?}: the watchdog is not fed"
            );
            notify(&[NotifyState::Status("The database does not respond")]);
        } else if answers && !is_fed {
            tracing::warn!("the writer and the disk respond again");
            notify(&[NotifyState::Status("Serving")]);
        }
        is_fed = answers;
    }
}
