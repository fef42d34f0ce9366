//! State that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rocket::request::Request;

use crate::auth::api_keys::ApiKeys;
use crate::clock::Clock;
use crate::config::Settings;
use crate::db::error::StoreError;
use crate::db::store::{Store, sqlite_version};
use crate::domain::advice::CaffeineProfile;
use crate::domain::coffee::Coffee;
use crate::domain::limits::{MAX_CLOCK_LEAD, ValidationContext};
use crate::domain::time::{DAY, Timestamp};
use crate::http::auth_throttle::AuthThrottle;
use crate::http::body_budget::BodyBudget;
use crate::http::connections::Connections;
use crate::http::error::ApiError;
use crate::http::rate_limit::RateLimiter;
use crate::telemetry::host_stats::HostStats;
use crate::telemetry::metrics::Metrics;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Application state, built once.
#[derive(Debug)]
pub struct App {
    pub settings: Settings,
    pub store: Store,
    pub clock: Clock,
    pub(crate) keys: ApiKeys,
    /// `None` when rate limits are off.
    pub(crate) limiter: Option<RateLimiter>,
    pub(crate) auth_throttle: AuthThrottle,
    pub(crate) metrics: Metrics,
    pub(crate) host_stats: HostStats,
    pub(crate) connections: Connections,
    pub(crate) body_budget: BodyBudget,
    pub(crate) host_name: String,
    started: Duration,
    built_at: Timestamp,
    /// Time of the newest known entry, microseconds since 1970.
    newest_entry: AtomicI64,
}

/// Error while the application is built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the database cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] crate::telemetry::metrics::MetricsError),
}

/// Period after the build in which this program is assumed to be in use: 20 years, in microseconds.
/// Timestamps in it are accepted from clients while the server's own clock is known to be wrong.
const LIFETIME_MICROS: i64 = 20 * 365 * DAY;

/// Application state as handlers hold it.
pub type SharedApp = Arc<App>;

impl App {
    /// Builds the application. `built_at` is the time this program was compiled: an earlier time of the
    /// clock cannot be right.
    pub async fn new(
        settings: Settings,
        store: Store,
        keys: ApiKeys,
        clock: Clock,
        built_at: Timestamp,
    ) -> Result<SharedApp, BuildError> {
        let newest = store.overview().await?.newest();
        let host_name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Ok(Arc::new(Self {
            limiter: settings.rate_limits.map(|rates| RateLimiter::new(&rates, &clock)),
            auth_throttle: AuthThrottle::new(&clock),
            metrics: Metrics::new(VERSION, sqlite_version())?,
            host_stats: HostStats::new(store.path(), &clock),
            connections: Connections::new(&settings),
            body_budget: BodyBudget::default(),
            host_name,
            started: clock.elapsed(),
            built_at,
            newest_entry: AtomicI64::new(newest.map_or(i64::MIN, Timestamp::micros)),
            keys: keys.with_named(&settings.common.database),
            settings,
            store,
            clock,
        }))
    }

    /// Returns the application that serves `request`.
    pub fn of<'r>(request: &'r Request<'_>) -> Result<&'r SharedApp, ApiError> {
        request.rocket().state::<SharedApp>().ok_or(ApiError::Internal)
    }

    /// Returns the profile in effect: the person's own values over the defaults of the settings.
    pub(crate) async fn profile(&self) -> Result<CaffeineProfile, StoreError> {
        Ok(self.store.own_profile().await?.over(&self.settings.profile))
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// Records a stored coffee in the metrics and as the newest entry.
    pub(crate) fn record_coffee(&self, coffee: &Coffee) {
        self.metrics.count_coffee(coffee.coffee_type.as_deref(), coffee.caffeine_mg);
        self.record_entry(coffee.timestamp);
    }

    /// Records the time of a stored entry.
    pub(crate) fn record_entry(&self, at: Timestamp) {
        self.newest_entry.fetch_max(at.micros(), Ordering::Relaxed);
    }

    /// Reports whether the clock shows a time before this program's build or, beyond the usual drift,
    /// before the newest entry.
    pub(crate) fn clock_is_suspect(&self) -> bool {
        let now = self.clock.now();
        let newest = self.newest_entry.load(Ordering::Relaxed);
        // An entry after this program's lifetime has a wrong time itself.
        let is_plausible = newest <= self.built_at.plus(LIFETIME_MICROS).micros();
        now < self.built_at || (is_plausible && now.plus(MAX_CLOCK_LEAD).micros() < newest)
    }

    /// Returns the limits that entries are validated against.
    pub(crate) fn validation_context(&self) -> ValidationContext<'_> {
        ValidationContext {
            limits: &self.settings.entry_limits,
            zone: &self.settings.common.zone,
            latest: if self.clock_is_suspect() {
                self.built_at.plus(LIFETIME_MICROS)
            } else {
                self.clock.now().plus(MAX_CLOCK_LEAD)
            },
        }
    }

    /// Refreshes what is cached from the database, which a restore or an import may change.
    pub(crate) async fn refresh(&self) {
        if let Ok(overview) = self.store.overview().await {
            let newest = overview.newest().map_or(i64::MIN, Timestamp::micros);
            self.newest_entry.store(newest, Ordering::Relaxed);
        }
    }

    /// Reloads the named keys if their file has changed, and saves when they were last used. Blocks on files.
    pub fn refresh_keys(&self) {
        self.keys.named.refresh(self.clock.elapsed());
    }

    /// Returns the number of callers whose requests the rate limiter counts.
    pub(crate) fn tracked_callers(&self) -> usize {
        self.limiter.as_ref().map_or(0, RateLimiter::tracked_callers)
    }

    /// Removes callers from the rate limiter whose quota is whole again.
    pub fn remove_idle_callers(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.remove_idle();
        }
    }
}
