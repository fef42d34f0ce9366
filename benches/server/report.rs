//! Targets, measured values, and the table of both.

use std::fmt;
use std::fmt::Write;

/// A measured quantity with a target.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Reads,
    Posts,
    Mixed,
    Footprint,
    Limiter,
    Backups,
    Restores,
    Scale,
    Rollups,
    Pushes,
    People,
}

/// Condition that a value must meet.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Under(f64),
}

/// Unit of a value.
#[derive(Clone, Copy)]
enum Unit {
    Ratio,
    Count,
    Megabytes,
    Millis,
}

struct Target {
    stage: Stage,
    measure: Measure,
    description: &'static str,
    bound: Bound,
    unit: Unit,
}

/// Every target, in the order of the table.
#[rustfmt::skip]
const TARGETS: [Target; 66] = {
    use {Bound::*, Measure::*, Stage::*, Unit::*};
    const fn target(stage: Stage, measure: Measure, description: &'static str, bound: Bound, unit: Unit) -> Target {
        Target { stage, measure, description, bound, unit }
    }
    /// Maximum `X-Process-Time` with 5 million readings, in milliseconds.
    const fn route(path: &'static str, most: f64) -> Target {
        target(Scale, Route(path), path, AtMost(most), Millis)
    }
    [
        target(Reads, HealthRate, "GET /health, 16 connections: share of bare Rocket", AtLeast(0.6), Ratio),
        target(Reads, TodayRate, "GET /coffee/today, 16 connections: share of bare Rocket", AtLeast(0.5), Ratio),
        target(Reads, ListRate, "GET /coffee/?limit=50, 16 connections: share of bare Rocket", AtLeast(0.25), Ratio),
        target(Posts, PostRate, "POST /coffee/, 64 connections: share of bare Rocket", AtLeast(0.4), Ratio),
        target(Mixed, MixedFailures, "mixed load, 64 connections: failed requests", AtMost(0.0), Count),
        target(Mixed, MixedTail, "mixed load: p99 over median", Under(20.0), Ratio),
        target(Mixed, MixedMemory, "resident memory after the mixed load", AtMost(32e6), Megabytes),
        target(Footprint, BinarySize, "binary", AtMost(10e6), Megabytes),
        target(Footprint, IdleMemory, "resident memory, idle", AtMost(12e6), Megabytes),
        target(Footprint, StartOnCoffees, "start to first response, 36,500 coffees", AtMost(30.0), Millis),
        target(Footprint, StartOnReadings, "start to first response, 5 million readings", AtMost(60.0), Millis),
        target(Limiter, LimiterFailures, "rate limiter, each IPv6 /64 once: rejected", AtMost(0.0), Count),
        target(Limiter, LimiterMemory, "rate limiter: growth of resident memory", AtMost(16e6), Megabytes),
        target(Limiter, LimiterRejections, "rate limiter, one address 200 times: rejected", AtLeast(1.0), Count),
        target(Backups, BackupFailures, "backups under 8 writers: failed requests and backups", AtMost(0.0), Count),
        target(Backups, BackupTail, "backups under 8 writers: p99 of a write", Under(100.0), Millis),
        target(Backups, BackupLongest, "backups under 8 writers: longest write", Under(250.0), Millis),
        target(Backups, LargeBackupFailures, "the same with 5 million readings: failed requests and backups", AtMost(0.0), Count),
        target(Backups, LargeBackupTail, "the same with 5 million readings: p99 of a write", Under(100.0), Millis),
        target(Backups, LargeBackupLongest, "the same with 5 million readings: longest write", Under(250.0), Millis),
        target(Restores, RestoreFailures, "restores under 8 writers and 8 readers: failed requests", AtMost(0.0), Count),
        target(Restores, RestoreLongest, "restores of less than 100 MB: longest write", Under(25_000.0), Millis),
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
        target(Scale, HealthBesideSlowRequests, "/health beside the slowest route: p99 over idle p99", AtMost(3.0), Ratio),
        target(Scale, TodayBesideSlowRequests, "/coffee/today beside the slowest route: the same", AtMost(3.0), Ratio),
        target(Scale, ScaleMemory, "peak resident memory, 5 million readings", Under(48e6), Megabytes),
        target(Rollups, SingleWrite, "POST /heartrate/: time over that without rollups", AtMost(1.3), Ratio),
        target(Rollups, BulkImport, "import of a CSV file: time over plain inserts without rollups", AtMost(2.0), Ratio),
        target(Pushes, PushRate, "first push of 32 MB: rate over plain inserts without rollups", AtLeast(0.5), Ratio),
        target(Pushes, PushMemory, "first push of 32 MB: peak resident memory", AtMost(64e6), Megabytes),
        target(Pushes, RepeatedPush, "push of a day that was seen before: median", AtMost(10.0), Millis),
        target(Pushes, PushFailures, "first push of 32 MB beside 8 writers and 8 readers: failed requests", AtMost(0.0), Count),
        target(Pushes, PushTail, "first push of 32 MB: p99 of the other requests", AtMost(100.0), Millis),
        target(Pushes, LoadedPushMemory, "first push of 32 MB beside them: peak resident memory", AtMost(64e6), Megabytes),
        target(People, PeopleFailures, "1,000 people by Zipf's law, 64 open: failed requests", AtMost(0.0), Count),
        target(People, PeopleMemory, "1,000 people: peak resident memory", AtMost(120e6), Megabytes),
        target(People, PeopleDescriptors, "1,000 people: open file descriptors", AtMost(800.0), Count),
        target(People, PeopleClosed, "first request to a closed database: median", AtMost(25.0), Millis),
        target(People, OpenPersonMemory, "each further open database: resident memory", AtMost(1.5e6), Megabytes),
        target(People, OpenPersonTime, "request to one of 64 open databases: time over that with one", AtMost(1.1), Ratio),
        target(People, OnePersonTime, "one person: time of a request over that of --baseline", AtMost(1.05), Ratio),
        target(People, OnePersonMemory, "one person: resident memory over that of --baseline", AtMost(1.05), Ratio),
        target(People, KillFailures, "SIGKILL under this load: failed requests before", AtMost(0.0), Count),
        target(People, KillLosses, "SIGKILL: acknowledged coffees lost or stored twice", AtMost(0.0), Count),
        target(People, EveryoneBackupFailures, "backup of everyone under load: failed requests", AtMost(0.0), Count),
        target(People, EveryoneBackupTail, "backup of everyone: p99 over that without", AtMost(1.2), Ratio),
        target(People, OneRestoreFailures, "restore of one person under load: failed requests", AtMost(0.0), Count),
        target(People, OneRestoreTail, "restore of one person: p99 of the others over that without", AtMost(1.2), Ratio),
    ]
};

/// Result of a measure.
enum Outcome {
    Value(f64, String),
    Skipped(&'static str),
}

/// Paths with a target for their response time.
pub fn timed_routes() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().filter_map(|target| match target.measure {
        Measure::Route(path) => Some(path),
        _ => None,
    })
}

/// The results of a run.
#[derive(Default)]
pub struct Report {
    outcomes: Vec<(Measure, Outcome)>,
    failures: Vec<(Stage, String)>,
    ran: Vec<Stage>,
    notes: Vec<String>,
}

impl Report {
    /// Records the start of a stage: targets that it does not measure count as missed.
    pub fn begin(&mut self, stage: Stage) {
        self.ran.push(stage);
    }

    /// Records the failure of a stage.
    pub fn fail(&mut self, stage: Stage, reason: String) {
        self.failures.push((stage, reason));
    }

    /// Records a value in the unit of its target: bytes, milliseconds, a ratio or a count.
    pub fn record(&mut self, measure: Measure, value: f64, detail: String) {
        self.outcomes.push((measure, Outcome::Value(value, detail)));
    }

    /// Records that a measure is skipped.
    pub fn skip(&mut self, measure: Measure, reason: &'static str) {
        self.outcomes.push((measure, Outcome::Skipped(reason)));
    }

    /// Adds text below the table.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Reports whether no stage failed and no target was missed.
    pub fn all_met(&self) -> bool {
        self.failures.is_empty() && TARGETS.iter().all(|target| self.verdict(target) != Verdict::Missed)
    }

    fn outcome(&self, measure: Measure) -> Option<&Outcome> {
        self.outcomes.iter().find(|(recorded, _)| *recorded == measure).map(|(_, outcome)| outcome)
    }

    fn verdict(&self, target: &Target) -> Verdict {
        match self.outcome(target.measure) {
            Some(Outcome::Value(value, _)) if target.bound.holds(*value) => Verdict::Met,
            Some(Outcome::Value(..)) => Verdict::Missed,
            None if self.ran.contains(&target.stage) => Verdict::Missed,
            None | Some(Outcome::Skipped(_)) => Verdict::Skipped,
        }
    }

    fn row(&self, target: &Target) -> [String; 5] {
        let (measured, detail) = match self.outcome(target.measure) {
            Some(Outcome::Value(value, detail)) => (target.unit.show(*value), detail.clone()),
            Some(Outcome::Skipped(reason)) => ("-".to_owned(), (*reason).to_owned()),
            None if self.ran.contains(&target.stage) => ("-".to_owned(), "not measured".to_owned()),
            None => ("-".to_owned(), "not selected".to_owned()),
        };
        let verdict = self.verdict(target).to_string();
        [target.description.to_owned(), target.bound.show(target.unit), measured, verdict, detail]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["measure", "target", "measured", "", "detail"].map(str::to_owned)];
        rows.extend(TARGETS.iter().map(|target| self.row(target)));
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let [measure, target, measured, verdict] = [width(0), width(1), width(2), width(3)];
        for [a, b, c, d, e] in &rows {
            let mut line = String::new();
            write!(line, "{a:<measure$}  {b:>target$}  {c:>measured$}  {d:<verdict$}  {e}")?;
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        for (stage, reason) in &self.failures {
            writeln!(f, "\n{stage:?} failed: {reason}")?;
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "ok",
            Self::Missed => "MISS",
            Self::Skipped => "skipped",
        })
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Under(bound) => value < bound,
        }
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", unit.show(bound)),
            Self::AtMost(bound) => format!("≤ {}", unit.show(bound)),
            Self::Under(bound) => format!("< {}", unit.show(bound)),
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Count => thousands(value),
            Self::Megabytes => format!("{:.1} MB", value / 1e6),
            Self::Millis if value < 10.0 => format!("{value:.2} ms"),
            Self::Millis => format!("{value:.1} ms"),
        }
    }
}

/// Formats a whole number with thousands separators.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the median; of an even number of values the lower of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
