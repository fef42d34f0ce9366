//! The only place that knows Rocket: what is asked, who may ask it, how it is answered.
//!
//! `routes` is the table of contents. `acceptor` owns the sockets and `dispatch` hands
//! requests to Rocket. A request passes `exchange` (id, clock), `admission`
//! (host, limit, key), its parsers (`body`, `query`) and its handler (`coffee`,
//! `heart_rate`, `export`, `open`, `pages`, `scrape`); whatever goes wrong ends in `error`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rocket::http::RawStr;
use rocket::http::uri::Origin;
use rocket::{Build, Rocket};

use crate::auth::owner_key::Keys;
use crate::clock::Clock;
use crate::config::Settings;
use crate::db::store::Store;
use crate::domain::limits::{CLOCK_DRIFT, ValidationContext};
use crate::domain::time::{DAY, Timestamp};
use crate::http::connections::Connections;
use crate::http::extract::json_body::BodyBudget;
use crate::http::middleware::guard::Access;
use crate::http::middleware::rate_limit::{Brake, Limiter};
use crate::telemetry::host_stats::FactBook;
use crate::telemetry::metrics::Metrics;

/// Everything a request may need, built once.
#[derive(Debug)]
pub struct App {
    pub settings: Settings,
    pub store: Store,
    pub clock: Clock,
    pub(crate) keys: Keys,
    /// `None`: limits are off.
    pub(crate) limiter: Option<Limiter>,
    pub(crate) brake: Brake,
    pub(crate) metrics: Metrics,
    pub(crate) facts: FactBook,
    pub(crate) connections: Connections,
    pub(crate) body_budget: BodyBudget,
    pub(crate) host_name: String,
    began: Duration,
    built_at: Timestamp,
    /// Microseconds since 1970 of the newest entry known.
    newest: AtomicI64,
}

/// Why the application cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the store cannot be read: {0}")]
    Store(#[from] crate::db::error::StoreError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] crate::telemetry::metrics::MetricsError),
}

/// How long this program may be in use after it was made, microseconds: 20 years. A client's
/// time within it is believed when the server's own cannot be right.
const LIFETIME: i64 = 20 * 365 * DAY;

/// The application as handlers have it.
pub type Shared = Arc<App>;

/// The request's path and query.
pub(crate) type RequestUri<'r> = &'r Origin<'r>;

impl App {
    /// Puts the parts together. `built_at` is when this program was made: a clock that is
    /// older cannot be right.
    ///
    /// # Errors
    /// A metric that cannot be registered, or a store that cannot be read.
    pub async fn new(
        settings: Settings,
        store: Store,
        keys: Keys,
        clock: Clock,
        built_at: Timestamp,
    ) -> Result<Shared, BuildError> {
        let newest = store.overview().await?.newest();
        let host_name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Ok(Arc::new(Self {
            limiter: settings.rates.map(|rates| Limiter::new(&rates, &clock)),
            brake: Brake::new(&clock),
            metrics: Metrics::new(
                crate::http::handlers::health::VERSION,
                crate::db::store::sqlite_version(),
            )?,
            facts: FactBook::default(),
            connections: Connections::new(&settings),
            body_budget: BodyBudget::default(),
            host_name,
            began: clock.elapsed(),
            built_at,
            newest: AtomicI64::new(newest.map_or(i64::MIN, Timestamp::micros)),
            keys: keys.with_named(&settings.place.database),
            settings,
            store,
            clock,
        }))
    }

    /// Does a route with this access ask for a key?
    pub(crate) fn needs_key(&self, access: Access) -> bool {
        match access {
            Access::Metrics if self.settings.metrics_public => false,
            access => access.scope().is_some(),
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.began)
    }

    /// Remembers that an entry with this time was stored.
    pub(crate) fn note_entry(&self, at: Timestamp) {
        self.newest.fetch_max(at.micros(), Ordering::Relaxed);
    }

    /// Is the clock older than this program or the newest entry (as far as clocks drift)?
    pub(crate) fn clock_is_suspect(&self) -> bool {
        let now = self.clock.now();
        let newest = self.newest.load(Ordering::Relaxed);
        // An entry from beyond this program's life says nothing about the clock.
        let is_telling = newest <= self.built_at.plus(LIFETIME).micros();
        now < self.built_at || (is_telling && now.plus(CLOCK_DRIFT).micros() < newest)
    }

    /// What an entry is checked against.
    pub(crate) fn check(&self) -> ValidationContext<'_> {
        ValidationContext {
            limits: &self.settings.rules,
            zone: &self.settings.place.zone,
            latest: if self.clock_is_suspect() {
                self.built_at.plus(LIFETIME)
            } else {
                self.clock.now().plus(CLOCK_DRIFT)
            },
        }
    }

    /// Looks up what is held in memory: the database may change under a running server, by
    /// a restore or an import.
    pub(crate) async fn refresh(&self) {
        if let Ok(newest) = self.store.overview().await {
            self.newest.store(newest.newest().map_or(i64::MIN, Timestamp::micros), Ordering::Relaxed);
        }
    }

    /// Follows the file of named keys, and notes when they were last used. Reads and writes files.
    pub fn tend_keys(&self) {
        self.keys.named.tend(self.clock.elapsed());
    }

    /// Forgets what the limiter need not remember.
    pub fn sweep(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.sweep();
        }
    }
}

/// The server, not yet launched.
pub fn rocket(app: Shared) -> Rocket<Build> {
    let config = rocket::Config {
        address: app.settings.host,
        port: app.settings.port,
        workers: workers(),
        ident: rocket::config::Ident::none(),
        // Rocket's default believes X-Real-IP, which anyone can send.
        ip_header: None,
        log_level: rocket::config::LogLevel::Off,
        cli_colors: false,
        ..rocket::Config::release_default()
    };
    rocket::custom(config)
        // Security headers come from `headers`, and only when they are wanted.
        .attach(rocket::shield::Shield::new())
        .attach(crate::http::middleware::request_context::ExchangeFairing(Arc::clone(&app)))
        .mount("/", crate::http::routes::guarded())
        .register("/", vec![crate::http::middleware::catcher::catcher()])
        .manage(app)
}

/// Threads that answer requests: as many as may read from the disk at once, and one that never does.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)) + 1
}

/// Cuts a list that was asked for one entry too many, and says where the next page is.
pub(crate) fn next_page<T>(
    uri: RequestUri<'_>,
    path: &str,
    entries: &mut Vec<T>,
    limit: u32,
    offset: u32,
) -> Option<String> {
    if entries.len() <= limit as usize {
        return None;
    }
    entries.truncate(limit as usize);
    let query = uri.query().map_or("", |query| query.as_str());
    // A name may be percent-encoded: %6Fffset.
    let is_offset = |part: &str| {
        let name = part.split('=').next().unwrap_or(part);
        RawStr::new(name).url_decode().is_ok_and(|name| name == "offset")
    };
    let kept = query.split('&').filter(|part| !part.is_empty() && !is_offset(part));
    let mut next: String = kept.map(|part| format!("{part}&")).collect();
    next.push_str(&format!("offset={}", u64::from(offset) + u64::from(limit)));
    Some(format!("{path}?{next}"))
}
