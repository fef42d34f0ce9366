//! Prometheus metrics. Their names are a contract with dashboards and alerts.
//!
//! Events are counted when they happen; sizes, ages and the newest entries are read for each encoding. Labels
//! with users' text are normalized, and their number is limited.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};

/// Error of registering or encoding a metric.
pub use prometheus::Error as MetricsError;

use crate::config::LimitClass;
use crate::domain::coffee::Milligrams;
use crate::domain::person::PersonName;

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
    caffeine: Counter,
    heart_rates: IntCounterVec,
    rate_limited: IntCounterVec,
    auth_failures: IntCounterVec,
    idle_closed: IntCounter,
    type_labels: LabelValues,
    context_labels: LabelValues,
    source_labels: LabelValues,
}

/// Values of a label so far.
#[derive(Debug, Default)]
struct LabelValues(Mutex<HashSet<String>>);

impl LabelValues {
    /// Returns `name` in lower case, `none`, or `other` when there are too many values. Only the owner adds values:
    /// the words of other people do not appear in the metrics.
    fn label(&self, name: Option<&str>, is_owner: bool) -> String {
        name.map_or_else(|| "none".to_owned(), |name| self.exact_label(&name.to_lowercase(), is_owner))
    }

    /// Like [`Self::label`], without a change of case.
    fn exact_label(&self, name: &str, is_owner: bool) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) {
            name.to_owned()
        } else if is_owner && known.len() < MAX_LABEL_VALUES {
            known.insert(name.to_owned());
            name.to_owned()
        } else {
            "other".to_owned()
        }
    }
}

impl Metrics {
    /// Creates and registers all metrics.
    pub fn new(version: &str, sqlite_version: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let build = Opts::new("coffee_tracker_build_info", "Always 1; the labels have the versions")
            .const_label("version", version)
            .const_label("sqlite_version", sqlite_version);
        register(&registry, Gauge::with_opts(build))?.set(1.0);
        let rate_limited = counters("rate_limited_total", "Requests that exceeded a rate limit", &["class"])?;
        let help = "Requests with a missing or wrong key, or a key without the required scope";
        let auth_failures = counters("auth_failures_total", help, &["reason"])?;
        // Starts every series at 0, because `increase` ignores the first value of a series.
        LimitClass::ALL.iter().for_each(|class| drop(rate_limited.with_label_values(&[class.name()])));
        ["missing", "wrong", "scope", "origin"]
            .iter()
            .for_each(|reason| drop(auth_failures.with_label_values(&[reason])));
        let durations =
            HistogramOpts::new("http_request_duration_seconds", "Duration of requests in seconds")
                .buckets(LATENCY_BUCKETS.to_vec());
        let caffeine = Counter::new("caffeine_mg_total", "Milligrams of caffeine logged over HTTP");
        let idle_closed = IntCounter::new(
            "http_idle_closed_total",
            "Connections closed early: idle, headers incomplete, evicted or refused",
        );
        Ok(Self {
            requests: counters("http_requests_total", "HTTP requests", &["method", "path", "status"])?,
            durations: register(&registry, HistogramVec::new(durations, &["method", "path"]))?,
            coffees: counters("coffee_logged_total", "Coffees logged over HTTP", &["type"])?,
            caffeine: register(&registry, caffeine)?,
            heart_rates: counters(
                "heartrate_logged_total",
                "Heart-rate readings logged over HTTP",
                &["context"],
            )?,
            rate_limited,
            auth_failures,
            idle_closed: register(&registry, idle_closed)?,
            type_labels: LabelValues::default(),
            context_labels: LabelValues::default(),
            source_labels: LabelValues::default(),
            registry,
        })
    }

    /// Counts a request and its duration.
    pub fn observe_request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let mut digits = [0_u8; 3];
        let status = three_digits(status, &mut digits);
        self.requests.with_label_values(&[method, route, status]).inc();
        self.durations.with_label_values(&[method, route]).observe(seconds);
    }

    /// Counts a coffee of a person.
    pub fn count_coffee(&self, coffee_type: Option<&str>, dose: Milligrams, is_owner: bool) {
        self.coffees.with_label_values(&[&self.type_labels.label(coffee_type, is_owner)]).inc();
        self.caffeine.inc_by(dose.mg());
    }

    /// Counts readings of a person.
    pub fn count_readings(&self, context: Option<&str>, readings: u64, is_owner: bool) {
        self.heart_rates.with_label_values(&[&self.context_labels.label(context, is_owner)]).inc_by(readings);
    }

    /// Returns the label of an app or device, or `other`.
    pub fn source_label(&self, name: &str, is_owner: bool) -> String {
        self.source_labels.exact_label(name, is_owner)
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
    pub fn count_closed_early(&self) {
        self.idle_closed.inc();
    }

    /// Encodes all metrics in Prometheus' text format.
    pub fn encode(&self, observed: &ObservedMetrics) -> prometheus::Result<Vec<u8>> {
        let mut families = self.registry.gather();
        families.extend(observed.server.gather());
        for mut of_people in observed.people.gather() {
            match families.iter_mut().find(|family| family.name() == of_people.name()) {
                Some(family) => family.mut_metric().extend(of_people.take_metric()),
                None => families.push(of_people),
            }
        }
        families.sort_by(|one, other| one.name().cmp(other.name()));
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    *digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + (d % 10) as u8);
    std::str::from_utf8(digits).unwrap_or("000")
}

/// Metrics whose values are read for each encoding.
#[derive(Debug, Default)]
pub struct ObservedMetrics {
    /// Values of the server and of the owner, without the label `person`.
    server: Registry,
    /// Values of everyone else, with it. A registry cannot hold both kinds under one name.
    people: Registry,
    gauges_of_people: Mutex<HashMap<&'static str, GaugeVec>>,
}

impl ObservedMetrics {
    /// Adds a gauge.
    pub fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        register(&self.server, Gauge::new(name, help)).map(|gauge| gauge.set(value))
    }

    /// Adds a gauge about a person, with the label `person` unless it is the owner.
    pub fn gauge_of(
        &self,
        name: &'static str,
        help: &str,
        person: Option<&PersonName>,
        value: f64,
    ) -> prometheus::Result<()> {
        let Some(person) = person else { return self.gauge(name, help, value) };
        self.vec_of_people(name, help, &["person"])?.with_label_values(&[person.as_str()]).set(value);
        Ok(())
    }

    /// Adds a gauge about a person with a value for each value of `label`.
    pub fn gauges_of(
        &self,
        name: &'static str,
        help: &str,
        person: Option<&PersonName>,
        label: &str,
        values: &[(&str, f64)],
    ) -> prometheus::Result<()> {
        let Some(person) = person else { return self.gauges(name, help, label, values) };
        let gauges = self.vec_of_people(name, help, &["person", label])?;
        values.iter().for_each(|(of, value)| gauges.with_label_values(&[person.as_str(), of]).set(*value));
        Ok(())
    }

    /// Returns the gauge of everyone except the owner.
    fn vec_of_people(&self, name: &'static str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let mut gauges = self.gauges_of_people.lock().unwrap_or_else(PoisonError::into_inner);
        match gauges.entry(name) {
            Entry::Occupied(gauge) => Ok(gauge.get().clone()),
            Entry::Vacant(new) => {
                let gauge = register(&self.people, GaugeVec::new(Opts::new(name, help), labels))?;
                Ok(new.insert(gauge).clone())
            }
        }
    }

    /// Adds a gauge with a value for each value of `label`.
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, f64)],
    ) -> prometheus::Result<()> {
        let gauges = register(&self.server, GaugeVec::new(Opts::new(name, help), &[label]))?;
        values.iter().for_each(|(label, value)| gauges.with_label_values(&[label]).set(*value));
        Ok(())
    }

    /// Adds a counter.
    pub fn counter(&self, name: &str, help: &str, count: u64) -> prometheus::Result<()> {
        register(&self.server, IntCounter::new(name, help)).map(|counter| counter.inc_by(count))
    }

    /// Adds a counter with a count for each value of `label`.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Iterator<Item = (&'static str, u64)>,
    ) -> prometheus::Result<()> {
        let counters = register(&self.server, IntCounterVec::new(Opts::new(name, help), &[label]))?;
        counts.for_each(|(label, count)| counters.with_label_values(&[label]).inc_by(count));
        Ok(())
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
