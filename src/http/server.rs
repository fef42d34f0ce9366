//! From a built application to a server that answers, until it is told to stop.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rocket::tokio;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::http::acceptor;
use crate::http::acceptor::{Lifecycle, accept, drained};
use crate::http::app::{Shared, rocket};
use crate::http::dispatch::Dispatcher;

/// How often what is held in memory is looked up again.
const REFRESH: Duration = Duration::from_secs(1);
/// The limiter forgets once in so many of those rounds.
const SWEEP: u64 = 60;

/// Longest wait for running requests when the server stops, and for connections to close after
/// that. With the writer's last seconds this stays under the ten that a stop may take.
const GRACE: Duration = Duration::from_secs(4);
const MERCY: Duration = Duration::from_secs(2);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Another program has the port.
    #[error("{0} is taken by another program: choose another PORT, or stop that one")]
    PortTaken(SocketAddr),
    /// The address is not this machine's: not yet, when its network is still to come up.
    #[error("{0} cannot be listened on: this machine has no such address (yet): look at HOST")]
    NoSuchAddress(SocketAddr),
    /// The port is not ours to take.
    #[error("{0} cannot be listened on: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// Anything else.
    #[error("the server could not be started: {0}")]
    Other(String),
}

/// Serves until SIGTERM or SIGINT; `ready` is called with the address once it is listened on,
/// `stopping` when the signal has come. Returns when every request that was running has its answer.
///
/// # Errors
/// Why it does not run.
pub async fn serve(
    app: Shared,
    ready: impl FnOnce(SocketAddr) + Send + Sync + 'static,
    stopping: impl FnOnce() + Send + 'static,
) -> Result<(), LaunchError> {
    let wanted = SocketAddr::new(app.settings.host, app.settings.port);
    let io = |e: std::io::Error| LaunchError::Other(e.to_string());
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(io)?, signal(SignalKind::interrupt()).map_err(io)?);
    if let Some(reason) = app.connections.capacity().reason() {
        tracing::warn!("{reason}");
    }
    let listener = acceptor::bind(wanted).map_err(|e| launch_error(e, wanted))?;
    let address = listener.local_addr().map_err(io)?;
    let dispatcher = Dispatcher::untracked(rocket(Arc::clone(&app)))
        .await
        .map_err(|e| LaunchError::Other(e.kind().to_string()))?;
    let (lifecycle, follow) = watch::channel(Lifecycle::Running);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&app), Arc::new(dispatcher), follow));
    wake_others(Arc::downgrade(&app))?;
    let (keeper, key_keeper) =
        (tokio::spawn(keep(Arc::clone(&app))), tokio::spawn(keep_keys(Arc::clone(&app))));
    ready(address);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name}: finishing what runs");
    stopping();
    lifecycle.send_replace(Lifecycle::Draining);
    // The listening socket goes with it.
    drop(accepting.await);
    if !drained(&app, Instant::now() + GRACE).await {
        tracing::warn!("requests that did not end in time were cut off");
        lifecycle.send_replace(Lifecycle::Closing);
        drained(&app, Instant::now() + MERCY).await;
    }
    keeper.abort();
    key_keeper.abort();
    app.keys.named.note_all();
    Ok(())
}

/// Wakes another worker while one reads from the disk.
///
/// Tokio's workers take turns waiting for sockets. One that wakes up for a request and then hangs with
/// the disk leaves the others asleep, and nobody at the sockets.
fn wake_others(app: Weak<crate::http::app::App>) -> Result<(), LaunchError> {
    const PAUSE: Duration = Duration::from_millis(100);
    let runtime = tokio::runtime::Handle::current();
    let wake = move || {
        while let Some(app) = app.upgrade() {
            if app.store.has_inline_reads() {
                drop(runtime.spawn(async {}));
            }
            drop(app);
            std::thread::sleep(PAUSE);
        }
    };
    let thread = std::thread::Builder::new().name("wake".into()).spawn(wake);
    thread.map(drop).map_err(|e| LaunchError::Other(e.to_string()))
}

/// Looks up what is held in memory, and forgets what need not be.
async fn keep(app: Shared) {
    let mut rounds = tokio::time::interval(REFRESH);
    for round in 1_u64.. {
        rounds.tick().await;
        app.refresh().await;
        if round.is_multiple_of(SWEEP) {
            app.sweep();
        }
    }
}

/// Follows the named keys. A card may take seconds to sync: nobody who answers waits for it.
async fn keep_keys(app: Shared) {
    let mut rounds = tokio::time::interval(REFRESH);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let app = Arc::clone(&app);
        drop(tokio::task::spawn_blocking(move || app.tend_keys()).await);
    }
}

fn launch_error(error: std::io::Error, wanted: SocketAddr) -> LaunchError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => LaunchError::PortTaken(wanted),
        std::io::ErrorKind::AddrNotAvailable => LaunchError::NoSuchAddress(wanted),
        _ => LaunchError::Bind(wanted, error),
    }
}
