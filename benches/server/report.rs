//! Results of a run: one record for each goal, the table of them, and the same as JSON.

use std::fmt;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::goals::{Bound, GOALS, Goal, Measure, Stage, Unit};

/// Result of one goal.
#[derive(Debug, Serialize)]
pub struct GoalResult {
    stage: Stage,
    name: &'static str,
    goal: Bound,
    unit: Unit,
    /// `None` when it was not measured.
    measured: Option<f64>,
    /// Measured value divided by the bound; `None` for a bound of 0.
    ratio: Option<f64>,
    verdict: Verdict,
    detail: String,
}

/// Outcome of the comparison with a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Met,
    Missed,
    Skipped,
}

/// A stage that ran.
#[derive(Debug, Serialize)]
struct StageRun {
    stage: Stage,
    seconds: f64,
    /// Error that ended it.
    failure: Option<String>,
}

/// Outcome of a measure.
enum Outcome {
    Value(f64, String),
    Skipped(&'static str),
}

/// Results of a run.
#[derive(Default)]
pub struct Report {
    outcomes: Vec<(Measure, Outcome)>,
    stages: Vec<StageRun>,
    notes: Vec<String>,
}

/// The report as JSON.
#[derive(Serialize)]
struct ReportFile<'a> {
    version: &'static str,
    architecture: &'static str,
    processors: usize,
    length: &'a str,
    seconds: f64,
    stages: &'a [StageRun],
    goals: Vec<GoalResult>,
    notes: &'a [String],
}

impl Report {
    /// Records a value in the unit of its goal: bytes, milliseconds, a ratio or a count.
    pub fn record(&mut self, measure: Measure, value: f64, detail: String) {
        self.outcomes.push((measure, Outcome::Value(value, detail)));
    }

    /// Records that a measure is skipped.
    pub fn skip(&mut self, measure: Measure, reason: &'static str) {
        self.outcomes.push((measure, Outcome::Skipped(reason)));
    }

    /// Adds text above the table.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Records the end of a stage. Goals that it did not measure are missed.
    pub fn end_stage(&mut self, stage: Stage, took: Duration, failure: Option<String>) {
        self.stages.push(StageRun { stage, seconds: took.as_secs_f64(), failure });
    }

    /// Reports whether no stage failed and no goal was missed.
    pub fn all_met(&self) -> bool {
        self.stages.iter().all(|run| run.failure.is_none())
            && self.results().iter().all(|result| result.verdict != Verdict::Missed)
    }

    /// Writes everything to a file as JSON.
    pub fn write_json(&self, path: &Path, length: &str) -> Result<()> {
        let file = ReportFile {
            version: env!("CARGO_PKG_VERSION"),
            architecture: std::env::consts::ARCH,
            processors: std::thread::available_parallelism()?.get(),
            length,
            seconds: self.seconds(),
            stages: &self.stages,
            goals: self.results(),
            notes: &self.notes,
        };
        let text = serde_json::to_string_pretty(&file)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Returns the result of each goal of the stages that ran.
    fn results(&self) -> Vec<GoalResult> {
        let has_run = |goal: &&Goal| self.stages.iter().any(|run| run.stage == goal.stage);
        GOALS.iter().filter(has_run).map(|goal| self.result(goal)).collect()
    }

    fn result(&self, goal: &Goal) -> GoalResult {
        let outcome = self.outcomes.iter().find(|(measure, _)| *measure == goal.measure);
        let (measured, verdict, detail) = match outcome {
            Some((_, Outcome::Value(value, detail))) => {
                let verdict = if goal.bound.holds(*value) { Verdict::Met } else { Verdict::Missed };
                (Some(*value), verdict, detail.clone())
            }
            Some((_, Outcome::Skipped(reason))) => (None, Verdict::Skipped, (*reason).to_owned()),
            None => (None, Verdict::Missed, "not measured".to_owned()),
        };
        GoalResult {
            stage: goal.stage,
            name: goal.description,
            goal: goal.bound,
            unit: goal.unit,
            measured,
            ratio: measured.filter(|_| goal.bound.value() > 0.0).map(|value| value / goal.bound.value()),
            verdict,
            detail,
        }
    }

    /// Returns the time that all stages took.
    fn seconds(&self) -> f64 {
        self.stages.iter().map(|run| run.seconds).sum()
    }
}

/// Prints notes, failures and times first, so that the table comes last.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}\n")?;
        }
        for run in &self.stages {
            if let Some(failure) = &run.failure {
                writeln!(f, "{} failed: {failure}\n", run.stage)?;
            }
        }
        let times: Vec<_> =
            self.stages.iter().map(|run| format!("{} {:.0} s", run.stage, run.seconds)).collect();
        writeln!(f, "{}: {:.0} s in all\n", times.join(", "), self.seconds())?;
        let results = self.results();
        write_table(f, &results)?;
        let count = |verdict| results.iter().filter(|result| result.verdict == verdict).count();
        let [met, missed, skipped] = [Verdict::Met, Verdict::Missed, Verdict::Skipped].map(count);
        writeln!(f, "{met} goals met, {missed} missed, {skipped} skipped")
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, results: &[GoalResult]) -> fmt::Result {
    let mut rows = vec![["measure", "goal", "measured", "ratio", "met", "detail"].map(str::to_owned)];
    rows.extend(results.iter().map(GoalResult::row));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let [name, goal, measured, ratio, met] = [width(0), width(1), width(2), width(3), width(4)];
    for [a, b, c, d, e, detail] in &rows {
        let mut line = String::new();
        write!(line, "{a:<name$}  {b:>goal$}  {c:>measured$}  {d:>ratio$}  {e:<met$}  {detail}")?;
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

impl GoalResult {
    /// Formats the cells of the table.
    fn row(&self) -> [String; 6] {
        [
            self.name.to_owned(),
            self.goal.show(self.unit),
            self.measured.map_or("-".to_owned(), |value| self.unit.show(value)),
            self.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            self.verdict.to_string(),
            self.detail.clone(),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "yes",
            Self::Missed => "NO",
            Self::Skipped => "skipped",
        })
    }
}
