//! Prometheus metrics. Their names are a contract with dashboards and alerts.
//!
//! Events are counted when they happen; gauges (sizes, ages, the newest entries) are set when the metrics are
//! read. Labels with users' text are normalized, and their number is limited.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Error of registering or encoding a metric.
pub use prometheus::Error as MetricsError;

use crate::config::LimitClass;
use crate::db::error::StoreError;
use crate::db::health::Gauges;
use crate::domain::coffee::Milligrams;

/// Maximum number of values of a label with users' text; further ones become `other`.
const MAX_LABEL_VALUES: usize = 50;

/// Upper bounds of the buckets in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// All metrics.
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
    type_labels: LabelValues,
    context_labels: LabelValues,
    observed: ObservedMetrics,
    encoding: Mutex<()>,
}

/// Metrics that are set from an [`Observation`].
#[derive(Debug)]
struct ObservedMetrics {
    caffeine_last: Gauge,
    coffee_last: Gauge,
    active_caffeine: Gauge,
    caffeine_today: Gauge,
    bpm_current: Gauge,
    heart_rate_last: Gauge,
    database_errors: IntCounterVec,
    queue_depth: IntGauge,
    commits: IntCounter,
    rows_committed: IntCounter,
    readers: IntGaugeVec,
    database_bytes: IntGaugeVec,
    disk_bytes: IntGaugeVec,
    backup_last: Gauge,
    backup_bytes: Gauge,
    backup_ok: Gauge,
    tracked_callers: IntGauge,
    component_up: GaugeVec,
}

/// Values that are read when the metrics are encoded.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Time (seconds since 1970) and dose (mg) of the newest coffee.
    pub last_coffee: Option<(f64, f64)>,
    /// Time (seconds since 1970) and heart rate (bpm) of the newest reading.
    pub last_reading: Option<(f64, u16)>,
    pub active_caffeine_mg: f64,
    pub caffeine_today_mg: f64,
    pub store: Gauges,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    pub is_healthy: bool,
    /// Free and total bytes of the file system that holds the database.
    pub disk: Option<(u64, u64)>,
    /// Time (seconds since 1970) and size (bytes) of the last successful backup.
    pub backup: Option<(f64, u64)>,
    pub backup_failed: bool,
    pub tracked_callers: usize,
}

/// Values of a label so far.
#[derive(Debug, Default)]
struct LabelValues(Mutex<HashSet<String>>);

impl LabelValues {
    /// Returns `name` in lower case, `none`, or `other` when there are too many values.
    fn label(&self, name: Option<&str>) -> String {
        let Some(name) = name else { return "none".to_owned() };
        let name = name.to_lowercase();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            name
        } else if known.len() < MAX_LABEL_VALUES {
            known.insert(name.clone());
            name
        } else {
            "other".to_owned()
        }
    }
}

/// Registry that creates and registers metrics.
struct Registrar {
    registry: Registry,
}

impl Registrar {
    fn register<C>(&mut self, metric: prometheus::Result<C>) -> prometheus::Result<C>
    where
        C: prometheus::core::Collector + Clone + 'static,
    {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
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
    /// Creates and registers all metrics.
    pub fn new(version: &str, sqlite_version: &str) -> prometheus::Result<Self> {
        let mut registrar = Registrar { registry: Registry::new() };
        #[cfg(target_os = "linux")]
        registrar.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = Opts::new("coffee_tracker_build_info", "Always 1; the labels have the versions")
            .const_label("version", version)
            .const_label("sqlite_version", sqlite_version);
        registrar.register(Gauge::with_opts(build))?.set(1.0);
        let rate_limited =
            registrar.counters("rate_limited_total", "Requests that exceeded a rate limit", &["class"])?;
        let auth_failures = registrar.counters(
            "auth_failures_total",
            "Requests with a missing or wrong key, or a key without the required scope",
            &["reason"],
        )?;
        // Starts every series at 0, because `increase` ignores the first value of a series.
        LimitClass::ALL.iter().for_each(|class| drop(rate_limited.with_label_values(&[class.name()])));
        ["missing", "wrong", "scope"]
            .iter()
            .for_each(|reason| drop(auth_failures.with_label_values(&[reason])));
        let latency = HistogramOpts::new("http_request_duration_seconds", "Duration of requests in seconds")
            .buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            requests: registrar.counters(
                "http_requests_total",
                "HTTP requests",
                &["method", "path", "status"],
            )?,
            durations: registrar.register(HistogramVec::new(latency, &["method", "path"]))?,
            coffees: registrar.counters("coffee_logged_total", "Coffees logged over HTTP", &["type"])?,
            caffeine: registrar.register(prometheus::Counter::new(
                "caffeine_mg_total",
                "Milligrams of caffeine logged over HTTP",
            ))?,
            heart_rates: registrar.counters(
                "heartrate_logged_total",
                "Heart-rate readings logged over HTTP",
                &["context"],
            )?,
            rate_limited,
            auth_failures,
            idle_closed: registrar.register(IntCounter::new(
                "http_idle_closed_total",
                "Connections closed because they were idle",
            ))?,
            type_labels: LabelValues::default(),
            context_labels: LabelValues::default(),
            observed: ObservedMetrics::new(&mut registrar)?,
            encoding: Mutex::new(()),
            registry: registrar.registry,
        })
    }

    /// Counts a request and its duration.
    pub fn observe_request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let mut digits = [0_u8; 3];
        let status = three_digits(status, &mut digits);
        self.requests.with_label_values(&[method, route, status]).inc();
        self.durations.with_label_values(&[method, route]).observe(seconds);
    }

    /// Counts a coffee.
    pub fn count_coffee(&self, coffee_type: Option<&str>, dose: Milligrams) {
        self.coffees.with_label_values(&[&self.type_labels.label(coffee_type)]).inc();
        self.caffeine.inc_by(dose.mg());
    }

    /// Counts readings.
    pub fn count_readings(&self, context: Option<&str>, readings: u64) {
        self.heart_rates.with_label_values(&[&self.context_labels.label(context)]).inc_by(readings);
    }

    /// Counts a request that exceeded its rate limit.
    pub fn count_rate_limited(&self, class: LimitClass) {
        self.rate_limited.with_label_values(&[class.name()]).inc();
    }

    /// Counts a request without a valid key or scope.
    pub fn count_auth_failure(&self, reason: &str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that was closed because it was idle.
    pub fn count_idle_closed(&self) {
        self.idle_closed.inc();
    }

    /// Encodes all metrics in Prometheus' text format.
    pub fn encode(&self, observed: &Observation) -> prometheus::Result<Vec<u8>> {
        // Concurrent calls must not both increase a counter.
        let _guard = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        self.observed.set(observed);
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    *digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + (d % 10) as u8);
    std::str::from_utf8(digits).unwrap_or("000")
}

/// Raises a counter to a count that is kept elsewhere.
fn raise_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

impl ObservedMetrics {
    fn new(registrar: &mut Registrar) -> prometheus::Result<Self> {
        Ok(Self {
            caffeine_last: registrar.gauge("caffeine_last_mg", "Dose of the newest coffee in milligrams")?,
            coffee_last: registrar.gauge("coffee_last_timestamp_seconds", "Time of the newest coffee")?,
            active_caffeine: registrar
                .gauge("caffeine_active_mg", "Estimated caffeine in the body in milligrams")?,
            caffeine_today: registrar
                .gauge("caffeine_today_mg", "Caffeine of the current calendar day in milligrams")?,
            bpm_current: registrar.gauge("heartrate_bpm_current", "Newest heart rate in beats per minute")?,
            heart_rate_last: registrar
                .gauge("heartrate_last_timestamp_seconds", "Time of the newest heart-rate reading")?,
            database_errors: registrar.counters(
                "database_errors_total",
                "Database errors by kind",
                &["kind"],
            )?,
            queue_depth: registrar.count("store_write_queue_depth", "Writes that are queued or running")?,
            commits: registrar.register(IntCounter::new("store_commits_total", "Committed transactions"))?,
            rows_committed: registrar.register(IntCounter::new(
                "store_rows_committed_total",
                "Rows added, changed or deleted by committed transactions",
            ))?,
            readers: registrar.counts("store_readers", "Connections of the read pools by state", "state")?,
            database_bytes: registrar.counts(
                "database_size_bytes",
                "Size of the database file and its write-ahead log",
                "file",
            )?,
            disk_bytes: registrar.counts(
                "disk_bytes",
                "Free and total space of the disk that holds the database",
                "kind",
            )?,
            backup_last: registrar
                .gauge("backup_last_success_timestamp_seconds", "Time of the last successful backup")?,
            backup_bytes: registrar.gauge("backup_last_size_bytes", "Size of the last successful backup")?,
            backup_ok: registrar.gauge(
                "backup_last_result",
                "1 if the last backup succeeded, 0 if it failed or there is none",
            )?,
            tracked_callers: registrar
                .count("rate_limit_tracked_clients", "Callers that the rate limiter tracks")?,
            component_up: registrar.register(GaugeVec::new(
                Opts::new("component_up", "1 if the component is healthy, otherwise 0"),
                &["component"],
            ))?,
        })
    }

    fn set(&self, seen: &Observation) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (coffee_at, dose) = seen.last_coffee.unwrap_or_default();
        self.coffee_last.set(coffee_at);
        self.caffeine_last.set(dose);
        let (reading_at, bpm) = seen.last_reading.unwrap_or_default();
        self.heart_rate_last.set(reading_at);
        self.bpm_current.set(f64::from(bpm));
        self.active_caffeine.set(seen.active_caffeine_mg);
        self.caffeine_today.set(seen.caffeine_today_mg);
        for (kind, errors) in StoreError::KINDS.iter().zip(seen.store.faults) {
            raise_to(&self.database_errors.with_label_values(&[kind]), errors);
        }
        self.queue_depth.set(whole(seen.store.queue_depth as u64));
        raise_to(&self.commits, seen.store.commits);
        raise_to(&self.rows_committed, seen.store.rows_committed);
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
        self.tracked_callers.set(whole(seen.tracked_callers as u64));
        self.component_up.with_label_values(&["database"]).set(f64::from(u8::from(seen.is_healthy)));
    }
}
