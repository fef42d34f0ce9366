//! Serves the application until the process is asked to stop.

mod acceptor;
mod dispatch;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rocket::tokio;
use rocket::{Build, Catcher, Rocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::http::app::SharedApp;
use crate::http::handlers::check::LastCheck;
use crate::http::handlers::pages::DocumentSource;
use crate::http::middleware::catcher::DefaultCatcher;
use crate::http::middleware::guard::{RouteTable, with_people};
use crate::http::middleware::request_fairing::RequestFairing;
use crate::http::server::acceptor::{Lifecycle, accept, drained};
use crate::http::server::dispatch::Dispatcher;
use crate::http::{openapi, routes};
use crate::people::registry::People;

/// Interval at which cached state is refreshed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Number of refreshes between two cleanups of the rate limiter and of received files.
const REFRESHES_PER_CLEANUP: u64 = 60;
/// Maximum wait for running requests during a shutdown. This, [`CLOSE_TIMEOUT`] and the writer's
/// `MAX_LOCK_WAIT_CLOSING` must add up to less than 10 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum wait for connections to close after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval at which [`wake_workers`] looks for blocked workers.
const WAKE_INTERVAL: Duration = Duration::from_millis(100);

/// Error that keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("port {} is already in use by another program; set PORT to use a different one", .0.port())]
    PortTaken(SocketAddr),
    /// The address may appear later, when the network comes up.
    #[error("cannot listen on {0}: this machine has no such address (yet); check HOST")]
    NoSuchAddress(SocketAddr),
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    #[error("cannot start the server: {0}")]
    Other(String),
}

/// Builds the Rocket instance with all routes.
pub fn rocket(app: SharedApp, people: Arc<People>) -> Rocket<Build> {
    let config = rocket::Config {
        address: app.settings.host,
        port: app.settings.port,
        workers: workers(),
        ident: rocket::config::Ident::none(),
        // Rocket's default trusts X-Real-IP, which every client can send.
        ip_header: None,
        log_level: rocket::config::LogLevel::Off,
        cli_colors: false,
        ..rocket::Config::release_default()
    };
    let routes = RouteTable(routes::table());
    let server = rocket::custom(config)
        // `security_headers` replaces Rocket's own headers.
        .attach(rocket::shield::Shield::new())
        .attach(RequestFairing(Arc::clone(&app)))
        .mount("/", routes.guarded().collect::<Vec<_>>())
        .register("/", vec![Catcher::new(None, DefaultCatcher(routes))])
        .manage(routes)
        .manage(DocumentSource(openapi::text))
        .manage(LastCheck::default())
        .manage(app);
    with_people(server, people)
}

/// Returns the number of worker threads: one for each processor, within bounds, and one that stays
/// responsive when the disk hangs.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)) + 1
}

/// Serves until SIGTERM or SIGINT. Calls `ready` with the address as soon as the server listens, and
/// `stopping` when the signal arrives. Returns when every running request has its response or
/// the drain timeout has passed.
pub async fn serve(
    app: SharedApp,
    people: Arc<People>,
    ready: impl FnOnce(SocketAddr) + Send + Sync + 'static,
    stopping: impl FnOnce() + Send + 'static,
) -> Result<(), LaunchError> {
    let wanted = SocketAddr::new(app.settings.host, app.settings.port);
    let other = |e: std::io::Error| LaunchError::Other(e.to_string());
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(other)?, signal(SignalKind::interrupt()).map_err(other)?);
    if let Some(reason) = app.connections.capacity().reason() {
        tracing::warn!("{reason}");
    }
    let listener = acceptor::bind(wanted).map_err(|e| launch_error(e, wanted))?;
    let address = listener.local_addr().map_err(other)?;
    let dispatcher = Dispatcher::untracked(rocket(Arc::clone(&app), Arc::clone(&people)))
        .await
        .map_err(|e| LaunchError::Other(e.kind().to_string()))?;
    let (lifecycle, stage) = watch::channel(Lifecycle::Running);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&app), Arc::new(dispatcher), stage));
    wake_workers(Arc::downgrade(&people))?;
    let background = [
        tokio::spawn(refresh_state(Arc::clone(&app), Arc::clone(&people))),
        tokio::spawn(refresh_people(people)),
    ];
    ready(address);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name} received: completing running requests");
    stopping();
    lifecycle.send_replace(Lifecycle::Draining);
    // Closes the listening socket.
    drop(accepting.await);
    if !drained(&app, Instant::now() + DRAIN_TIMEOUT).await {
        tracing::warn!("requests that did not complete in time were aborted");
        lifecycle.send_replace(Lifecycle::Closing);
        drained(&app, Instant::now() + CLOSE_TIMEOUT).await;
    }
    background.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Starts a thread that wakes another worker while one is blocked by a read from the disk.
///
/// Tokio's workers take turns waiting for sockets. If the one that woke up for a request is then blocked
/// by a disk that hangs, the others stay asleep and the sockets unattended.
fn wake_workers(people: Weak<People>) -> Result<(), LaunchError> {
    let runtime = tokio::runtime::Handle::current();
    let wake = move || {
        while let Some(people) = people.upgrade() {
            if people.resources().has_inline_reads() {
                drop(runtime.spawn(async {}));
            }
            drop(people);
            std::thread::sleep(WAKE_INTERVAL);
        }
    };
    let thread = std::thread::Builder::new().name("wake".into()).spawn(wake);
    thread.map(drop).map_err(|e| LaunchError::Other(e.to_string()))
}

async fn refresh_state(app: SharedApp, people: Arc<People>) {
    let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
    for tick in 1_u64.. {
        ticks.tick().await;
        people.refresh_databases().await;
        if tick.is_multiple_of(REFRESHES_PER_CLEANUP) {
            app.remove_idle_callers();
            app.remove_idle_imports();
        }
    }
}

/// Refreshes people and keys on a blocking thread, as a sync of an SD card may take seconds.
async fn refresh_people(people: Arc<People>) {
    let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let people = Arc::clone(&people);
        drop(tokio::task::spawn_blocking(move || people.refresh_people()).await);
    }
}

fn launch_error(error: std::io::Error, wanted: SocketAddr) -> LaunchError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => LaunchError::PortTaken(wanted),
        std::io::ErrorKind::AddrNotAvailable => LaunchError::NoSuchAddress(wanted),
        _ => LaunchError::Bind(wanted, error),
    }
}
