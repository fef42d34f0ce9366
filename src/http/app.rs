//! State that all requests share.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rocket::request::Request;

use crate::clock::Clock;
use crate::config::{ReloadableSettings, Settings};
use crate::db::store::sqlite_version;
use crate::domain::limits::{MAX_CLOCK_LEAD, ValidationContext};
use crate::domain::time::{DAY, Timestamp};
use crate::http::auth_throttle::AuthThrottle;
use crate::http::body_budget::BodyBudget;
use crate::http::connections::Connections;
use crate::http::error::ApiError;
use crate::http::rate_limit::RateLimiter;
use crate::jobs::program::Program;
use crate::jobs::queue::JobQueue;
use crate::jobs::received_imports::ReceivedImports;
use crate::telemetry::host_stats::HostStats;
use crate::telemetry::metrics::{Metrics, MetricsError};
use crate::telemetry::recent_log::RecentLog;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Application state, built once.
#[derive(Debug)]
pub struct App {
    pub settings: Settings,
    /// Settings in force that a reload changes.
    current: RwLock<Arc<ReloadableSettings>>,
    pub clock: Clock,
    /// `None` when rate limits are off.
    pub(crate) limiter: Option<RateLimiter>,
    pub(crate) auth_throttle: AuthThrottle,
    pub(crate) metrics: Metrics,
    pub(crate) host_stats: HostStats,
    pub(crate) connections: Connections,
    pub(crate) body_budget: BodyBudget,
    pub(crate) jobs: Arc<JobQueue>,
    pub(crate) imports: Arc<ReceivedImports>,
    pub(crate) recent_log: RecentLog,
    pub(crate) host_name: String,
    started: Duration,
    built_at: Timestamp,
}

/// Parts of the application that the settings do not determine.
#[derive(Debug)]
pub struct AppOptions {
    /// Time at which this program was compiled: an earlier time of the clock cannot be right.
    pub built_at: Timestamp,
    /// Program whose commands jobs run.
    pub program: Program,
    pub recent_log: RecentLog,
}

/// Period after the build in which this program is assumed to be in use: 20 years, in microseconds.
/// Timestamps in it are accepted from clients while the server's own clock is known to be wrong.
const LIFETIME_MICROS: i64 = 20 * 365 * DAY;

/// Application state as handlers hold it.
pub type SharedApp = Arc<App>;

impl App {
    /// Builds the application.
    pub fn new(settings: Settings, clock: Clock, options: AppOptions) -> Result<SharedApp, MetricsError> {
        let AppOptions { built_at, program, recent_log } = options;
        let host_name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Ok(Arc::new(Self {
            limiter: settings.rate_limits.map(|rates| RateLimiter::new(&rates, &clock)),
            auth_throttle: AuthThrottle::new(&clock),
            metrics: Metrics::new(VERSION, sqlite_version())?,
            host_stats: HostStats::new(&settings.common.owner_database, &clock),
            connections: Connections::new(&settings),
            body_budget: BodyBudget::default(),
            recent_log,
            jobs: Arc::new(JobQueue::new(program, clock.clone())),
            imports: Arc::default(),
            host_name,
            started: clock.elapsed(),
            built_at,
            current: RwLock::new(Arc::new(settings.initial.clone())),
            settings,
            clock,
        }))
    }

    /// Returns the application that serves `request`.
    pub fn of<'r>(request: &'r Request<'_>) -> Result<&'r SharedApp, ApiError> {
        request.rocket().state::<SharedApp>().ok_or(ApiError::Internal)
    }

    /// Returns the settings in force that a reload changes.
    pub fn current(&self) -> Arc<ReloadableSettings> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts reloaded settings into force. Requests that are running keep those that they have read.
    pub fn replace_current(&self, reloaded: ReloadableSettings) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reloaded);
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// Reports whether the clock shows a time before this program's build or, beyond the usual drift, before the
    /// newest entry.
    pub(crate) fn clock_is_suspect(&self, newest_entry: Timestamp) -> bool {
        let now = self.clock.now();
        // An entry after this program's lifetime has a wrong time itself.
        let is_plausible = newest_entry <= self.built_at.plus(LIFETIME_MICROS);
        now < self.built_at || (is_plausible && now.plus(MAX_CLOCK_LEAD) < newest_entry)
    }

    /// Returns the limits that a person's entries are validated against.
    pub(crate) fn validation_context(&self, newest_entry: Timestamp) -> ValidationContext<'_> {
        ValidationContext {
            limits: &self.settings.entry_limits,
            zone: &self.settings.common.zone,
            now: self.clock.now(),
            latest: if self.clock_is_suspect(newest_entry) {
                self.built_at.plus(LIFETIME_MICROS)
            } else {
                self.clock.now().plus(MAX_CLOCK_LEAD)
            },
        }
    }

    /// Returns the number of callers whose requests the rate limiter counts.
    pub(crate) fn tracked_callers(&self) -> usize {
        self.limiter.as_ref().map_or(0, RateLimiter::tracked_callers)
    }

    /// Removes received files that nobody imports.
    pub fn remove_idle_imports(&self) {
        self.imports.remove_idle(self.clock.elapsed());
    }

    /// Removes callers from the rate limiter whose quota is whole again.
    pub fn remove_idle_callers(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.remove_idle();
        }
    }
}
