//! `serve`: starts settings, logging, key, store and server, in that order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{ArgMatches, Args};

use tokio::sync::oneshot;

use crate::auth::owner_key;
use crate::auth::owner_key::{KeyOrigin, OwnerKeyError};
use crate::backup::open::{open_new_store, open_store};
use crate::clock::Clock;
use crate::commands::healthcheck::local_address;
use crate::commands::reload::{Hangups, Reloader};
use crate::commands::{Failure, act_as_owner, print, systemd};
use crate::config::{EnvFile, KeySource, SettingSources, Settings, SettingsArgs};
use crate::db::store;
use crate::db::store::{Store, StoreResources};
use crate::domain::time::{SECOND, Timestamp};
use crate::http;
use crate::http::body_budget::MAX_STREAMS;
use crate::http::{App, AppOptions};
use crate::jobs::program::Program;
use crate::people::registry::{People, PeopleOptions};
use crate::telemetry::logging;
use crate::telemetry::logging::is_journal;

/// Connections for slow queries, and threads that run them.
const SLOW_READERS: u32 = 2;

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Create an empty database if the previous one is missing; a leftover write-ahead log (-wal) is renamed, not
    /// deleted
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the server until it is stopped. The sources of its settings are `matches` and `file`.
pub fn run(args: ServeArgs, matches: &ArgMatches, file: EnvFile) -> Result<(), Failure> {
    let hangups = Hangups::receive().context("cannot receive signals")?;
    let ServeArgs { new, settings: raw } = args;
    let (to_journal, out_to_journal) = (is_journal(std::io::stderr()), is_journal(std::io::stdout()));
    // Terminals inherit the variable from their session, so it counts only if it names this stream.
    let environment = |name: &str| match name {
        "JOURNAL_STREAM" if !to_journal => None,
        name => std::env::var(name).ok(),
    };
    let mut settings = raw.validate(environment)?;
    settings.initial.texts = SettingSources::texts_at_start(matches);
    let identity = act_as_owner(&settings.common.database)?;
    let (recent_log, min_log_level) =
        logging::start(settings.initial.log_level, settings.log_format).map_err(anyhow::Error::from_boxed)?;
    let under_systemd = to_journal || out_to_journal;
    let load = || owner_key::load(&settings.initial.key, settings.initial.debug);
    let loaded = match settings.initial.key {
        // A generated key belongs to the owner of the database.
        KeySource::Generated(_) => load(),
        _ => identity.as_caller(load).context("cannot act as the caller")?,
    };
    let (key, origin) = loaded.map_err(|e| key_failure(&e))?;
    let ready = Arc::new(AtomicBool::new(false));
    let options = AppOptions { built_at: built_at(), program: Program::default(), recent_log };
    let sources = SettingSources::of_process(matches, file);
    let reloader = Reloader { hangups, sources, identity, min_log_level };
    let done = open_and_serve(settings, options, reloader, new, (key, &origin), &ready, under_systemd);
    if done.is_err() && !ready.load(Ordering::Relaxed) {
        // A generated key that was never printed is of no use: the next start generates another.
        origin.remove_created();
    }
    done
}

fn open_and_serve(
    settings: Settings,
    options: AppOptions,
    reloader: Reloader,
    new: bool,
    (owner_key, origin): (String, &KeyOrigin),
    ready: &Arc<AtomicBool>,
    under_systemd: bool,
) -> Result<(), Failure> {
    settings.warnings.iter().for_each(|note| tracing::warn!("{note}"));
    let workers = http::workers();
    let opening = systemd::Opening::begin();
    let open = if new { open_new_store } else { open_store };
    // Leaves one worker for requests that need no disk, so that they are served while a disk hangs.
    let quick_readers = u32::try_from(workers).unwrap_or(3) - 1;
    let people = PeopleOptions {
        settings: settings.common.clone(),
        owner_key,
        max_open: http::Capacity::of_process(&settings).open_people,
        removed_person_days: settings.removed_person_days,
        slow_query: settings.slow_query,
        resources: StoreResources::new(quick_readers, SLOW_READERS),
    };
    let store = open(&people.of_owner(quick_readers, SLOW_READERS))?;
    drop(opening);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads((SLOW_READERS + store::MAX_EXPORTS) as usize + MAX_STREAMS + 4)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (origin, ready) = (origin.clone(), Arc::clone(ready));
    let announce = move |address| {
        ready.store(true, Ordering::Relaxed);
        tracing::info!("listening on http://{address}");
        systemd::ready(address);
        if let Err(e) = banner(address, &origin, under_systemd) {
            tracing::warn!("{e}");
        }
    };
    let served = runtime.block_on(serve(settings, options, reloader, store, people, announce));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served
}

async fn serve(
    settings: Settings,
    options: AppOptions,
    reloader: Reloader,
    store: Store,
    people: PeopleOptions,
    announce: impl FnOnce(SocketAddr) + Send + Sync + 'static,
) -> Result<(), Failure> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sqlite = store::sqlite_version(),
        database = %store.path().display(),
        timezone = settings.common.zone.name(),
        "starting"
    );
    let clock = Clock::system();
    let people =
        Arc::new(People::new(people, store, clock.clone()).await.context("cannot start the server")?);
    let app = App::new(settings, clock, options).context("cannot start the server")?;
    let fed = tokio::spawn(systemd::feed_watchdog(Arc::clone(&people)));
    let (listening, address) = oneshot::channel();
    let reloading = tokio::spawn(reloader.run(Arc::clone(&app), Arc::clone(&people), address));
    let ready = move |address| {
        announce(address);
        if listening.send(address).is_err() {
            tracing::error!("settings cannot be reloaded: the task has ended");
        }
    };
    let stopping = move || {
        reloading.abort();
        systemd::stopping();
    };
    let served = http::serve(app, Arc::clone(&people), ready, stopping).await;
    fed.abort();
    people.close();
    if served.is_ok() {
        tracing::info!("stopped");
    }
    Ok(served?)
}

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

/// Prints the address and the key for the user who started the server. The key never goes to a journal.
fn banner(address: SocketAddr, origin: &KeyOrigin, under_systemd: bool) -> Result<(), Failure> {
    if under_systemd {
        return Ok(());
    }
    print(&format!("Listening on http://{address}"))?;
    let here = local_address(address);
    let from_file = |path: &Path| format!("$(cat {})", path.display());
    let key = match origin {
        KeyOrigin::Created { key, path } => {
            print(&format!("API key: {key}"))?;
            print(&format!("  (created and saved in {}; it is not shown again)", path.display()))?;
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
