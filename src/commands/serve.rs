//! `serve`: settings, logs, key, store, server, and back, in that order.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;

use crate::auth::owner_key::{ApiKeys, KeyOrigin, OwnerKeyError};
use crate::backup::open::{open_new_store, open_store};
use crate::clock::Clock;
use crate::commands::{Failure, print, systemd};
use crate::config::{KeySource, RawSettings, Settings};
use crate::db::store;
use crate::db::store::Store;
use crate::domain::time::{SECOND, Timestamp};
use crate::fs::privileges::Identity;
use crate::http;
use crate::http::App;
use crate::telemetry::logging;
use crate::telemetry::logging::is_journal;

/// Connections for dear reads, and threads to run them.
const SLOW_READERS: u32 = 2;

/// Settings, and how to begin.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Begin with an empty database where a former one is gone; a log that it left is moved aside
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    settings: RawSettings,
}

impl From<RawSettings> for ServeArgs {
    fn from(settings: RawSettings) -> Self {
        Self { new: false, settings }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// Why it does not.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let ServeArgs { new, settings: raw } = args;
    let (to_journal, out_to_journal) = (is_journal(std::io::stderr()), is_journal(std::io::stdout()));
    // Terminals inherit the variable from their session; it speaks for one stream only.
    let environment = |name: &str| match name {
        "JOURNAL_STREAM" if !to_journal => None,
        name => std::env::var(name).ok(),
    };
    let settings = raw.check(environment)?;
    let identity =
        Identity::of_owner(&settings.place.database).context("the rights of the database's owner")?;
    logging::start(settings.log).map_err(anyhow::Error::from_boxed)?;
    let under_systemd = to_journal || out_to_journal;
    let load = || ApiKeys::load(&settings.key, settings.debug);
    let loaded = match settings.key {
        // It is made beside the database.
        KeySource::Made(_) => load(),
        _ => identity.as_caller(load).context("the rights of the caller")?,
    };
    let (keys, origin) = loaded.map_err(|e| key_failure(&e))?;
    let ready = Arc::new(AtomicBool::new(false));
    let done = open_and_serve(settings, new, keys, &origin, &ready, under_systemd);
    if done.is_err() && !ready.load(Ordering::Relaxed) {
        // A key that was made and never shown helps nobody: the next start makes another.
        origin.remove_created();
    }
    done
}

fn open_and_serve(
    settings: Settings,
    new: bool,
    keys: ApiKeys,
    origin: &KeyOrigin,
    ready: &Arc<AtomicBool>,
    under_systemd: bool,
) -> Result<(), Failure> {
    settings.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let workers = http::workers();
    let opening = systemd::Opening::begin();
    let open = if new { open_new_store } else { open_store };
    let store = open(&store::Options {
        path: settings.place.database.clone(),
        backups: settings.place.backups.clone(),
        // A disk that hangs leaves one worker to answer everything that needs no disk.
        quick_readers: u32::try_from(workers).unwrap_or(3) - 1,
        slow_readers: SLOW_READERS,
        slow_query: settings.slow_query,
    })?;
    drop(opening);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads((SLOW_READERS + store::MAX_EXPORTS) as usize + 4)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let (origin, ready) = (origin.clone(), Arc::clone(ready));
    let announce = move |address| {
        ready.store(true, Ordering::Relaxed);
        tracing::info!("listening on http://{address}");
        systemd::ready(address);
        if let Err(e) = banner(address, &origin, under_systemd) {
            tracing::warn!("{e}");
        }
    };
    let served = runtime.block_on(serve(settings, store, keys, announce));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served
}

async fn serve(
    settings: Settings,
    store: Store,
    keys: ApiKeys,
    announce: impl FnOnce(SocketAddr) + Send + Sync + 'static,
) -> Result<(), Failure> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sqlite = store::sqlite_version(),
        database = %store.path().display(),
        timezone = settings.place.zone.name(),
        "starting"
    );
    let app = App::new(settings, store, keys, Clock::system(), built_at())
        .await
        .context("the server could not be started")?;
    let fed = tokio::spawn(systemd::feed(Arc::clone(&app)));
    let served = http::serve(app.clone(), announce, systemd::stopping).await;
    fed.abort();
    app.store.close();
    if served.is_ok() {
        tracing::info!("stopped");
    }
    Ok(served?)
}

/// When this program was made.
fn built_at() -> Timestamp {
    Timestamp::clamped(env!("BUILT_AT").parse::<i64>().unwrap_or(0).saturating_mul(SECOND))
}

fn key_failure(error: &OwnerKeyError) -> Failure {
    if let OwnerKeyError::Unwritable { error: why, .. } = error
        && why.kind() == std::io::ErrorKind::StorageFull
    {
        return Failure::Busy(error.to_string());
    }
    Failure::Configuration(vec![error.to_string()])
}

/// What whoever started it needs next. The key is shown once, and never to a journal.
fn banner(address: SocketAddr, origin: &KeyOrigin, under_systemd: bool) -> Result<(), Failure> {
    if under_systemd {
        return Ok(());
    }
    print(&format!("Listening on http://{address}"))?;
    let here = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => SocketAddr::new([127, 0, 0, 1].into(), address.port()),
        IpAddr::V6(v6) if v6.is_unspecified() => SocketAddr::new([127, 0, 0, 1].into(), address.port()),
        _ => address,
    };
    let from_file = |path: &Path| format!("$(cat {})", path.display());
    let key = match origin {
        KeyOrigin::Created { key, path } => {
            print(&format!("API key: {key}"))?;
            print(&format!("  (made just now and kept in {}; it is not shown again)", path.display()))?;
            key.clone()
        }
        KeyOrigin::Existing(path) => {
            print(&format!("API key: in {}", path.display()))?;
            from_file(path)
        }
        KeyOrigin::Configured => {
            print("API key: as configured")?;
            "$API_KEY".to_owned()
        }
    };
    print(&format!(
        "Log a coffee:\n  curl -H \"Authorization: Bearer {key}\" -d '{{\"caffeine_mg\": 95, \"coffee_type\": \"espresso\"}}' http://{here}/coffee/"
    ))
}
