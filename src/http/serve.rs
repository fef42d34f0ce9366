//! From a built application to a server that answers, until it is told to stop.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::tokio;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::{Shared, connections, rocket};

/// How often what is held in memory is looked up again.
const REFRESH: Duration = Duration::from_secs(1);
/// The limiter forgets once in so many of those rounds.
const SWEEP: u64 = 60;

/// How long a stop waits for running requests, and then for their answers to be sent.
/// With the writer's last seconds this stays under the ten that a stop may take.
pub(super) const GRACE: Duration = Duration::from_secs(4);
pub(super) const MERCY: Duration = Duration::from_secs(2);

/// Shortly before the grace is over, streams are broken off: Rocket would end them in good order.
const LAST_CALL: Duration = Duration::from_millis(3500);

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
    set_descriptor_limit(app.settings.max_connections);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(io)?, signal(SignalKind::interrupt()).map_err(io)?);
    let (watched, kept) = (Arc::downgrade(&app), Arc::clone(&app));
    let streaming = Arc::downgrade(&app);
    let server = rocket(app)
        .attach(AdHoc::on_liftoff("ready", move |server| {
            Box::pin(async move {
                let address = SocketAddr::new(server.config().address, server.config().port);
                if let Err(e) = connections::watch(watched, address.port()) {
                    tracing::warn!("silent connections are not closed here: {e}");
                }
                ready(address);
            })
        }))
        .ignite()
        .await
        .map_err(|e| launch_error(&e, wanted))?;
    let stop = server.shutdown();
    let told = Arc::new(OnceLock::new());
    let tell = Arc::clone(&told);
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: finishing what runs");
        stopping();
        tell.get_or_init(Instant::now);
        stop.notify();
        tokio::time::sleep(LAST_CALL).await;
        if let Some(app) = streaming.upgrade() {
            app.connections.cut_half_sent();
        }
    });
    let (keeper, key_keeper) =
        (tokio::spawn(keep(Arc::clone(&kept))), tokio::spawn(keep_keys(Arc::clone(&kept))));
    let served = match server.launch().await {
        Ok(_) => Ok(()),
        Err(e) => finish(&e, wanted, told.get().copied()).await,
    };
    keeper.abort();
    key_keeper.abort();
    kept.keys.named.note_all();
    served
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

/// Rocket gives up at once, not after its grace, when the signal meets it at the wrong
/// moment: then what still runs is waited for here. A client that would not end its
/// request is cut off at last; that is a stop like any other.
async fn finish(error: &rocket::Error, wanted: SocketAddr, told: Option<Instant>) -> Result<(), LaunchError> {
    let ErrorKind::Shutdown(server, None) = error.kind() else {
        return Err(launch_error(error, wanted));
    };
    let deadline = told.unwrap_or_else(Instant::now) + GRACE + MERCY;
    // Every open connection holds the server.
    while Arc::strong_count(server) > 1 {
        if Instant::now() >= deadline {
            tracing::warn!("requests that did not end in time were cut off");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn launch_error(error: &rocket::Error, wanted: SocketAddr) -> LaunchError {
    match error.kind() {
        ErrorKind::Bind(e) if e.kind() == std::io::ErrorKind::AddrInUse => LaunchError::PortTaken(wanted),
        ErrorKind::Bind(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => {
            LaunchError::NoSuchAddress(wanted)
        }
        ErrorKind::Bind(e) => LaunchError::Bind(wanted, std::io::Error::new(e.kind(), e.to_string())),
        other => LaunchError::Other(other.to_string()),
    }
}

/// Every connection is a descriptor. Twice as many as shall be held at once may come between
/// two looks at them; more wait in the kernel.
fn set_descriptor_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * connections as u64 + 128;
    let current = limit.maximum.map_or(wanted, |hard| wanted.min(hard));
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }) {
        tracing::debug!("the descriptor limit stays at {:?}: {e}", limit.current);
    }
}
