//! From a built application to a server that answers, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Another program has the port.
    #[error("{0} is taken by another program: choose another PORT, or stop that one")]
    PortTaken(SocketAddr),
    /// The address is not this machine's, or the port not ours to take.
    #[error("{0} cannot be listened on: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// Anything else.
    #[error("the server could not be started: {0}")]
    Other(String),
}

/// Serves until SIGTERM or SIGINT; `ready` is called with the address once it answers.
/// Returns when every request that was running has its answer.
///
/// # Errors
/// Why it does not run.
pub async fn serve(
    app: Shared,
    ready: impl FnOnce(SocketAddr) + Send + Sync + 'static,
) -> Result<(), LaunchError> {
    let wanted = SocketAddr::new(app.settings.host, app.settings.port);
    let io = |e: std::io::Error| LaunchError::Other(e.to_string());
    raise_descriptor_limit();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(io)?, signal(SignalKind::interrupt()).map_err(io)?);
    let (watched, kept) = (Arc::downgrade(&app), Arc::clone(&app));
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
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: finishing what runs");
        stop.notify();
    });
    let keeper = tokio::spawn(async move {
        let mut rounds = tokio::time::interval(REFRESH);
        for round in 1_u64.. {
            rounds.tick().await;
            kept.refresh().await;
            if round.is_multiple_of(SWEEP) {
                kept.sweep();
            }
        }
    });
    let served = server.launch().await.map(drop).or_else(|e| stopped_or_failed(&e, wanted));
    keeper.abort();
    served
}

/// A client that would not end its request is cut off at last: that is a stop like any other.
fn stopped_or_failed(error: &rocket::Error, wanted: SocketAddr) -> Result<(), LaunchError> {
    match error.kind() {
        ErrorKind::Shutdown(_, None) => {
            tracing::warn!("requests that did not end in time were cut off");
            Ok(())
        }
        _ => Err(launch_error(error, wanted)),
    }
}

fn launch_error(error: &rocket::Error, wanted: SocketAddr) -> LaunchError {
    match error.kind() {
        ErrorKind::Bind(e) if e.kind() == std::io::ErrorKind::AddrInUse => LaunchError::PortTaken(wanted),
        ErrorKind::Bind(e) => LaunchError::Bind(wanted, std::io::Error::new(e.kind(), e.to_string())),
        other => LaunchError::Other(other.to_string()),
    }
}

/// Every connection is a descriptor: take as many as this process may have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the descriptor limit stays at {:?}: {e}", limit.current);
    }
}
