//! Goals: the measured quantities, their bounds and units.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::numbers::thousands;

/// A measured quantity with a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    HealthRate,
    TodayRate,
    ListRate,
    PostRate,
    MixedFailures,
    MixedTail,
    MixedMemory,
    BinarySize,
    IdleMemory,
    StartOnCoffees,
    StartOnReadings,
    LimiterFailures,
    LimiterMemory,
    LimiterRejections,
    BackupFailures,
    BackupTail,
    BackupLongest,
    LargeBackupFailures,
    LargeBackupTail,
    LargeBackupLongest,
    RestoreFailures,
    RestoreLongest,
    /// `X-Process-Time` of a path.
    Route(&'static str),
    HealthBesideSlowRequests,
    TodayBesideSlowRequests,
    ScaleMemory,
    SingleWrite,
    BulkImport,
    PushRate,
    PushMemory,
    RepeatedPush,
    PushFailures,
    PushTail,
    LoadedPushMemory,
    PeopleFailures,
    PeopleMemory,
    PeopleDescriptors,
    PeopleClosed,
    OpenPersonMemory,
    OpenPersonTime,
    OnePersonTime,
    OnePersonMemory,
    KillFailures,
    KillLosses,
    EveryoneBackupFailures,
    EveryoneBackupTail,
    OneRestoreFailures,
    OneRestoreTail,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Footprint,
    Reads,
    Posts,
    Mixed,
    Limiter,
    Backups,
    Restores,
    Scale,
    Rollups,
    Pushes,
    People,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Condition that a value must meet.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Under(f64),
}

/// Unit of a value.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Ratio,
    Count,
    Bytes,
    Milliseconds,
}

/// Bound of a measure.
pub struct Goal {
    pub stage: Stage,
    pub measure: Measure,
    pub description: &'static str,
    pub bound: Bound,
    pub unit: Unit,
}

/// Every goal, in the order of the table.
#[rustfmt::skip]
pub const GOALS: [Goal; 66] = {
    use {Bound::*, Measure::*, Stage::*, Unit::*};
    const fn goal(stage: Stage, measure: Measure, description: &'static str, bound: Bound, unit: Unit) -> Goal {
        Goal { stage, measure, description, bound, unit }
    }
    /// Maximum `X-Process-Time` with 5 million readings, in milliseconds.
    const fn route(path: &'static str, most: f64) -> Goal {
        goal(Scale, Route(path), path, AtMost(most), Milliseconds)
    }
    [
        goal(Reads, HealthRate, "GET /health, 16 connections: share of bare Rocket", AtLeast(0.6), Ratio),
        goal(Reads, TodayRate, "GET /coffee/today, 16 connections: share of bare Rocket", AtLeast(0.5), Ratio),
        goal(Reads, ListRate, "GET /coffee/?limit=50, 16 connections: share of bare Rocket", AtLeast(0.25), Ratio),
        goal(Posts, PostRate, "POST /coffee/, 64 connections: share of bare Rocket", AtLeast(0.4), Ratio),
        goal(Mixed, MixedFailures, "mixed load, 64 connections: failed requests", AtMost(0.0), Count),
        goal(Mixed, MixedTail, "mixed load: p99 over median", Under(20.0), Ratio),
        goal(Mixed, MixedMemory, "resident memory after the mixed load", AtMost(32e6), Bytes),
        goal(Footprint, BinarySize, "binary", AtMost(16e6), Bytes),
        goal(Footprint, IdleMemory, "resident memory, idle", AtMost(20e6), Bytes),
        goal(Footprint, StartOnCoffees, "start to first response, 36,500 coffees", AtMost(30.0), Milliseconds),
        goal(Footprint, StartOnReadings, "start to first response, 5 million readings", AtMost(60.0), Milliseconds),
        goal(Limiter, LimiterFailures, "rate limiter, each IPv6 /64 once: rejected", AtMost(0.0), Count),
        goal(Limiter, LimiterMemory, "rate limiter: growth of resident memory", AtMost(16e6), Bytes),
        goal(Limiter, LimiterRejections, "rate limiter, one address 200 times: rejected", AtLeast(1.0), Count),
        goal(Backups, BackupFailures, "backups under 8 writers: failed requests and backups", AtMost(0.0), Count),
        goal(Backups, BackupTail, "backups under 8 writers: p99 of a write", Under(100.0), Milliseconds),
        goal(Backups, BackupLongest, "backups under 8 writers: longest write", Under(250.0), Milliseconds),
        goal(Backups, LargeBackupFailures, "backups under 8 writers, 5 million readings: failed requests and backups", AtMost(0.0), Count),
        goal(Backups, LargeBackupTail, "backups under 8 writers, 5 million readings: p99 of a write", Under(100.0), Milliseconds),
        goal(Backups, LargeBackupLongest, "backups under 8 writers, 5 million readings: longest write", Under(250.0), Milliseconds),
        goal(Restores, RestoreFailures, "restores under 8 writers and 8 readers: failed requests", AtMost(0.0), Count),
        goal(Restores, RestoreLongest, "restores of less than 100 MB: longest write", Under(25_000.0), Milliseconds),
        route("/heartrate/stats?days=365", 5.0),
        route("/heartrate/stats?days=3650", 25.0),
        route("/heartrate/range?start=YEAR&end=NOW&buckets=500", 15.0),
        route("/heartrate/correlation?days=30", 10.0),
        route("/heartrate/correlation?days=365", 60.0),
        route("/coffee/stats?days=365", 3.0),
        route("/coffee/stats?days=3650", 25.0),
        route("/coffee/today", 1.0),
        route("/coffee/week", 1.0),
        route("/coffee/active", 1.0),
        route("/heartrate/current", 1.0),
        route("/coffee/?limit=50", 1.0),
        route("/heartrate/?limit=50", 1.0),
        route("/heartrate/?limit=50&context=resting", 1.0),
        route("/heartrate/?limit=50&offset=1000000", 30.0),
        route("/heartrate/?limit=50&offset=1000000&since=DECADE&until=MONTH", 30.0),
        route("/heartrate/?limit=50&offset=1000000&context=resting", 30.0),
        route("/coffee/?limit=50&offset=1000000", 30.0),
        route("/coffee/?limit=50&offset=1000000&coffee_type=espresso", 30.0),
        goal(Scale, HealthBesideSlowRequests, "/health beside the slowest route: p99 over idle p99", AtMost(3.0), Ratio),
        goal(Scale, TodayBesideSlowRequests, "/coffee/today beside the slowest route: p99 over idle p99", AtMost(3.0), Ratio),
        goal(Scale, ScaleMemory, "peak resident memory, 5 million readings", Under(48e6), Bytes),
        goal(Rollups, SingleWrite, "POST /heartrate/: time over that without rollups", AtMost(1.3), Ratio),
        goal(Rollups, BulkImport, "import of a CSV file: time over plain inserts without rollups", AtMost(2.0), Ratio),
        goal(Pushes, PushRate, "first push of 32 MB: rate over plain inserts without rollups", AtLeast(0.5), Ratio),
        goal(Pushes, PushMemory, "first push of 32 MB: peak resident memory", AtMost(64e6), Bytes),
        goal(Pushes, RepeatedPush, "push of a day that was seen before: median", AtMost(10.0), Milliseconds),
        goal(Pushes, PushFailures, "first push of 32 MB beside 8 writers and 8 readers: failed requests", AtMost(0.0), Count),
        goal(Pushes, PushTail, "first push of 32 MB beside 8 writers and 8 readers: p99 of their requests", AtMost(100.0), Milliseconds),
        goal(Pushes, LoadedPushMemory, "first push of 32 MB beside 8 writers and 8 readers: peak resident memory", AtMost(64e6), Bytes),
        goal(People, PeopleFailures, "1,000 people by Zipf's law, 64 open: failed requests", AtMost(0.0), Count),
        goal(People, PeopleMemory, "1,000 people: peak resident memory", AtMost(120e6), Bytes),
        goal(People, PeopleDescriptors, "1,000 people: open file descriptors", AtMost(800.0), Count),
        goal(People, PeopleClosed, "first request to a closed database: median", AtMost(25.0), Milliseconds),
        goal(People, OpenPersonMemory, "each further open database: resident memory", AtMost(1.5e6), Bytes),
        goal(People, OpenPersonTime, "request to one of 64 open databases: time over that with one", AtMost(1.1), Ratio),
        goal(People, OnePersonTime, "one person: time of a request over that of --baseline", AtMost(1.05), Ratio),
        goal(People, OnePersonMemory, "one person: resident memory over that of --baseline", AtMost(1.05), Ratio),
        goal(People, KillFailures, "1,000 people under load, before SIGKILL: failed requests", AtMost(0.0), Count),
        goal(People, KillLosses, "SIGKILL: acknowledged coffees lost or stored twice", AtMost(0.0), Count),
        goal(People, EveryoneBackupFailures, "backup of everyone under load: failed requests", AtMost(0.0), Count),
        goal(People, EveryoneBackupTail, "backup of everyone: p99 over p99 without a backup", AtMost(1.2), Ratio),
        goal(People, OneRestoreFailures, "restore of one person under load: failed requests", AtMost(0.0), Count),
        goal(People, OneRestoreTail, "restore of one person: p99 of the others over p99 without a restore", AtMost(1.2), Ratio),
    ]
};

/// Paths with a goal for their response time.
pub fn timed_routes() -> impl Iterator<Item = &'static str> {
    GOALS.iter().filter_map(|goal| match goal.measure {
        Measure::Route(path) => Some(path),
        _ => None,
    })
}

impl Bound {
    /// Reports whether a value meets the bound.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Under(bound) => value < bound,
        }
    }

    /// Returns the bounding value.
    pub fn value(self) -> f64 {
        match self {
            Self::AtLeast(bound) | Self::AtMost(bound) | Self::Under(bound) => bound,
        }
    }

    /// Formats the bound with its sign and unit.
    pub fn show(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", unit.show(bound)),
            Self::AtMost(bound) => format!("≤ {}", unit.show(bound)),
            Self::Under(bound) => format!("< {}", unit.show(bound)),
        }
    }
}

impl Unit {
    /// Formats a value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Count => thousands(value),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds => format!("{value:.1} ms"),
        }
    }
}
