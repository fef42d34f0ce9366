//! Every series, described once. Names are the contract: dashboards and alerts use them.
//!
//! What happens is counted as it happens; what is (sizes, ages, the newest entries) is
//! asked when somebody scrapes. Labels that people choose are normalised and capped, so
//! that nobody can blow up the cardinality.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// A series that cannot be registered.
pub use prometheus::Error as MetricsError;

use crate::config::LimitClass;
use crate::db::error::StoreError;
use crate::db::health::Gauges;
use crate::domain::coffee::Milligrams;

/// Values of one label that users choose, before the rest becomes `other`.
const LABEL_VALUES: usize = 50;

/// Seconds. A Pi answers most requests in the first of these.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// All series.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    coffees: IntCounterVec,
    caffeine: prometheus::Counter,
    heart_rates: IntCounterVec,
    rate_limited: IntCounterVec,
    auth_failures: IntCounterVec,
    idle_closed: IntCounter,
    types: Names,
    contexts: Names,
    now: Now,
    scrape: Mutex<()>,
}

/// What is asked at a scrape.
#[derive(Debug)]
struct Now {
    caffeine_last: Gauge,
    coffee_last: Gauge,
    active_caffeine: Gauge,
    caffeine_today: Gauge,
    bpm_current: Gauge,
    heart_rate_last: Gauge,
    database_faults: IntCounterVec,
    queue_depth: IntGauge,
    commits: IntCounter,
    rows_committed: IntCounter,
    readers: IntGaugeVec,
    database_bytes: IntGaugeVec,
    disk_bytes: IntGaugeVec,
    backup_last: Gauge,
    backup_bytes: Gauge,
    backup_ok: Gauge,
    tracked_clients: IntGauge,
    up: GaugeVec,
}

/// What a scrape finds out.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Instant (seconds since 1970) and dose of the newest coffee.
    pub last_coffee: Option<(f64, f64)>,
    /// Instant (seconds since 1970) and pulse of the newest reading.
    pub last_reading: Option<(f64, u16)>,
    pub active_caffeine_mg: f64,
    pub caffeine_today_mg: f64,
    pub store: Gauges,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub healthy: bool,
    /// Free bytes and size of the file system that holds the database.
    pub disk: Option<(u64, u64)>,
    /// Seconds since 1970 of the last good backup, and its size.
    pub backup: Option<(f64, u64)>,
    pub backup_failed: bool,
    pub tracked_clients: usize,
}

/// The values a label has had so far.
#[derive(Debug, Default)]
struct Names(Mutex<HashSet<String>>);

impl Names {
    /// `name` in lower case, or `none`, or `other` when there are too many.
    fn label(&self, name: Option<&str>) -> String {
        let Some(name) = name else { return "none".to_owned() };
        let name = name.to_lowercase();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            name
        } else if known.len() < LABEL_VALUES {
            known.insert(name.clone());
            name
        } else {
            "other".to_owned()
        }
    }
}

/// Makes and registers series.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn register<C>(&mut self, made: prometheus::Result<C>) -> prometheus::Result<C>
    where
        C: prometheus::core::Collector + Clone + 'static,
    {
        let made = made?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&mut self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(name, help))
    }

    fn count(&mut self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help))
    }

    fn counts(&mut self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), &[label]))
    }
}

impl Metrics {
    /// All series, at their start.
    ///
    /// # Errors
    /// A name that is used twice or badly formed: a fault of ours.
    pub fn new(version: &str, sqlite_version: &str) -> prometheus::Result<Self> {
        let mut make = Maker { registry: Registry::new() };
        #[cfg(target_os = "linux")]
        make.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = Opts::new("coffee_tracker_build_info", "Always 1; what runs")
            .const_label("version", version)
            .const_label("sqlite_version", sqlite_version);
        make.register(Gauge::with_opts(build))?.set(1.0);
        let rate_limited = make.counters("rate_limited_total", "Requests over the limit", &["class"])?;
        let auth_failures = make.counters(
            "auth_failures_total",
            "Requests whose key is missing, wrong, or lacks the scope",
            &["reason"],
        )?;
        // A series that begins with its first event hides it: nothing has grown.
        LimitClass::ALL.iter().for_each(|class| drop(rate_limited.with_label_values(&[class.name()])));
        ["missing", "wrong", "scope"]
            .iter()
            .for_each(|reason| drop(auth_failures.with_label_values(&[reason])));
        let latency = HistogramOpts::new("http_request_duration_seconds", "Time to answer")
            .buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            requests: make.counters(
                "http_requests_total",
                "Requests answered",
                &["method", "path", "status"],
            )?,
            durations: make.register(HistogramVec::new(latency, &["method", "path"]))?,
            coffees: make.counters("coffee_logged_total", "Coffees logged over HTTP", &["type"])?,
            caffeine: make
                .register(prometheus::Counter::new("caffeine_mg_total", "Caffeine logged over HTTP, mg"))?,
            heart_rates: make.counters(
                "heartrate_logged_total",
                "Readings logged over HTTP",
                &["context"],
            )?,
            rate_limited,
            auth_failures,
            idle_closed: make
                .register(IntCounter::new("http_idle_closed_total", "Silent connections closed"))?,
            types: Names::default(),
            contexts: Names::default(),
            now: Now::new(&mut make)?,
            scrape: Mutex::new(()),
            registry: make.registry,
        })
    }

    /// Counts an answer.
    pub fn observe(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let mut digits = [0_u8; 3];
        let status = three_digits(status, &mut digits);
        self.requests.with_label_values(&[method, route, status]).inc();
        self.durations.with_label_values(&[method, route]).observe(seconds);
    }

    /// Counts a coffee.
    pub fn coffee_logged(&self, coffee_type: Option<&str>, dose: Milligrams) {
        self.coffees.with_label_values(&[&self.types.label(coffee_type)]).inc();
        self.caffeine.inc_by(dose.mg());
    }

    /// Counts readings.
    pub fn heart_rates_logged(&self, context: Option<&str>, readings: u64) {
        self.heart_rates.with_label_values(&[&self.contexts.label(context)]).inc_by(readings);
    }

    /// Counts a request over the limit.
    pub fn rate_limited(&self, class: LimitClass) {
        self.rate_limited.with_label_values(&[class.name()]).inc();
    }

    /// Counts a request without a valid key.
    pub fn auth_failure(&self, reason: &str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that was closed for its silence.
    pub fn idle_closed(&self) {
        self.idle_closed.inc();
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// The encoder's.
    pub fn text(&self, observed: &Observed) -> prometheus::Result<Vec<u8>> {
        // Two scrapes at once must not both bring a counter up.
        let _alone = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.set(observed);
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    *digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + (d % 10) as u8);
    std::str::from_utf8(digits).unwrap_or("000")
}

/// Brings a counter to a count that somebody else keeps.
fn bring_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

impl Now {
    fn new(make: &mut Maker) -> prometheus::Result<Self> {
        Ok(Self {
            caffeine_last: make.gauge("caffeine_last_mg", "Dose of the newest coffee, mg")?,
            coffee_last: make.gauge("coffee_last_timestamp_seconds", "When the newest coffee was drunk")?,
            active_caffeine: make.gauge("caffeine_active_mg", "Caffeine in the body by the model, mg")?,
            caffeine_today: make.gauge("caffeine_today_mg", "Caffeine of the calendar day so far, mg")?,
            bpm_current: make.gauge("heartrate_bpm_current", "The newest reading, beats per minute")?,
            heart_rate_last: make
                .gauge("heartrate_last_timestamp_seconds", "When the newest reading was taken")?,
            database_faults: make.counters(
                "database_errors_total",
                "Faults of the database by kind",
                &["kind"],
            )?,
            queue_depth: make.count("store_write_queue_depth", "Writes waiting or at work")?,
            commits: make.register(IntCounter::new("store_commits_total", "Transactions committed"))?,
            rows_committed: make.register(IntCounter::new(
                "store_rows_committed_total",
                "Rows added, changed or deleted with them",
            ))?,
            readers: make.counts("store_readers", "Connections of the read pools by state", "state")?,
            database_bytes: make.counts("database_size_bytes", "Size of the database and its log", "file")?,
            disk_bytes: make.counts(
                "disk_bytes",
                "The disk that holds the database: free and size",
                "kind",
            )?,
            backup_last: make
                .gauge("backup_last_success_timestamp_seconds", "When the last good backup was made")?,
            backup_bytes: make.gauge("backup_last_size_bytes", "Size of the last good backup")?,
            backup_ok: make
                .gauge("backup_last_result", "1: the last backup succeeded, 0: it failed or there is none")?,
            tracked_clients: make
                .count("rate_limit_tracked_clients", "Clients that the limiter remembers")?,
            up: make.register(GaugeVec::new(Opts::new("component_up", "1: healthy"), &["component"]))?,
        })
    }

    fn set(&self, seen: &Observed) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (coffee_at, dose) = seen.last_coffee.unwrap_or_default();
        self.coffee_last.set(coffee_at);
        self.caffeine_last.set(dose);
        let (reading_at, bpm) = seen.last_reading.unwrap_or_default();
        self.heart_rate_last.set(reading_at);
        self.bpm_current.set(f64::from(bpm));
        self.active_caffeine.set(seen.active_caffeine_mg);
        self.caffeine_today.set(seen.caffeine_today_mg);
        for (kind, faults) in StoreError::KINDS.iter().zip(seen.store.faults) {
            bring_to(&self.database_faults.with_label_values(&[kind]), faults);
        }
        self.queue_depth.set(whole(seen.store.queue_depth as u64));
        bring_to(&self.commits, seen.store.commits);
        bring_to(&self.rows_committed, seen.store.rows_committed);
        self.readers.with_label_values(&["busy"]).set(seen.store.readers_busy.into());
        self.readers.with_label_values(&["total"]).set(seen.store.readers_total.into());
        self.database_bytes.with_label_values(&["main"]).set(whole(seen.database_bytes));
        self.database_bytes.with_label_values(&["wal"]).set(whole(seen.wal_bytes));
        if let Some((free, size)) = seen.disk {
            self.disk_bytes.with_label_values(&["free"]).set(whole(free));
            self.disk_bytes.with_label_values(&["size"]).set(whole(size));
        }
        let (backup_at, backup_bytes) = seen.backup.unwrap_or_default();
        self.backup_last.set(backup_at);
        self.backup_bytes.set(backup_bytes as f64);
        self.backup_ok.set(f64::from(u8::from(seen.backup.is_some() && !seen.backup_failed)));
        self.tracked_clients.set(whole(seen.tracked_clients as u64));
        self.up.with_label_values(&["database"]).set(f64::from(u8::from(seen.healthy)));
    }
}
