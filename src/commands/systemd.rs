//! What systemd is told while the server starts, runs and stops, and when its watchdog is fed.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing here does anything. How well the database
//! is, `/health` tells: the watchdog asks only whether a restart could help.

use std::io;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::http::SharedApp;

/// How much longer the start may take each time that more time is asked for.
const MORE_TIME: Duration = Duration::from_secs(30);
/// How often it is asked for.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A disk that has hung for so long is not waited for.
const LONGEST_START: Duration = Duration::from_secs(3600);
/// How long the first request to ourselves may take.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be told anything: {e}");
    }
}

fn in_background(name: &str, work: impl FnOnce() + Send + 'static) {
    if is_listening()
        && let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(work)
    {
        tracing::warn!("systemd cannot be told anything: {e}");
    }
}

/// The database is being opened: a migration with its backup, or a long log, may draw that out
/// beyond what the unit allows a start. Ends when dropped.
#[derive(Debug)]
pub struct Opening(#[expect(dead_code, reason = "the thread lasts as long as its channel")] Sender<()>);

impl Opening {
    /// Goes on asking for more time.
    pub fn begin() -> Self {
        let (open, end) = channel();
        in_background("opening", move || {
            let began = Instant::now();
            let more = u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX);
            while began.elapsed() < LONGEST_START {
                tell(&[NotifyState::ExtendTimeoutUsec(more), NotifyState::Status("Opening the database")]);
                if end.recv_timeout(ASK_AGAIN) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        });
        Self(open)
    }
}

/// The server listens at `address`: says so once it has answered there.
pub fn ready(address: SocketAddr) {
    in_background("ready", move || match first_answer(address) {
        Ok(()) => tell(&[NotifyState::Ready, NotifyState::Status(&listening(address))]),
        Err(e) => tracing::error!("the server does not answer at {address}: {e}"),
    });
}

/// The server has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Finishing what runs")]);
}

fn listening(address: SocketAddr) -> String {
    format!("Listening on http://{address}")
}

/// Asks the server as anyone may, and waits until it answers.
fn first_answer(address: SocketAddr) -> io::Result<()> {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(here, address.port()), FIRST_ANSWER)?;
    stream.set_read_timeout(Some(FIRST_ANSWER))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 9];
    stream.read_exact(&mut start)?;
    // Also a 503: whoever looks at it finds what is wrong.
    if &start == b"HTTP/1.1 " { Ok(()) } else { Err(io::Error::other("not in HTTP")) }
}

/// Feeds the watchdog, when there is one, for as long as the database answers: the writer is not
/// silent for the watchdog's own time, and a reader says something. What takes the file or the disk
/// away for a while (a restore, an import, no room) is no reason to starve.
pub async fn feed(app: SharedApp) {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|_| is_listening()) else { return };
    let mut rounds = tokio::time::interval(patience / 3);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_fed = true;
    loop {
        rounds.tick().await;
        let answers = app.store.answers(patience).await;
        if answers {
            tell(&[NotifyState::Watchdog]);
        }
        if is_fed && !answers {
            tracing::error!(
                "the writer or the disk has been silent for {patience:?}: the watchdog is not fed"
            );
            tell(&[NotifyState::Status("The database does not answer")]);
        } else if answers && !is_fed {
            tracing::warn!("the writer and the disk answer again");
            tell(&[NotifyState::Status("Serving")]);
        }
        is_fed = answers;
    }
}
