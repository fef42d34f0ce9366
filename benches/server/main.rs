//! Benchmark of the server: request rates compared with bare Rocket, latency under a mixed load, size,
//! memory, start, rate limiter, backups, response times with ten years of readings, pushes of
//! health apps, and a thousand people.
//!
//! Each measure has a goal. All are printed in one table and written to `target/bench.json`. The exit code is 1
//! when a goal is missed.

mod backups;
mod bare;
mod footprint;
mod goals;
mod growth;
mod histogram;
mod http;
mod limiter;
mod load;
mod machine;
mod mixed;
mod numbers;
mod people;
mod plain_sql;
mod process;
mod pushes;
mod rates;
mod report;
mod rollups;
mod scale;
mod server;
mod zipf;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use goals::Stage;
use report::Report;
use server::{Length, Setup};

/// A stage and its function.
type StageEntry = (Stage, fn(&Setup, &mut Report) -> Result<()>);

/// All stages in order. Those that put little load on the machine come first.
const STAGES: [StageEntry; 11] = [
    (Stage::Footprint, footprint::footprint),
    (Stage::Reads, rates::reads),
    (Stage::Posts, rates::posts),
    (Stage::Mixed, mixed::mixed),
    (Stage::Limiter, limiter::limiter),
    (Stage::Backups, backups::backups),
    (Stage::Restores, backups::restores),
    (Stage::Scale, scale::scale),
    (Stage::Rollups, rollups::rollups),
    (Stage::Pushes, pushes::pushes),
    (Stage::People, people::people),
];

/// Measure the server and compare the results with their goals
#[derive(Parser)]
#[command(name = "cargo bench --bench server --", disable_version_flag = true)]
struct Options {
    /// Run fewer and shorter rounds, without 5 million readings (about three minutes)
    #[arg(long)]
    quick: bool,
    /// Run more and longer rounds (about 25 minutes; without it about 15)
    #[arg(long, conflicts_with = "quick")]
    long: bool,
    /// Exit with 0 even when a goal is missed
    #[arg(long)]
    no_fail: bool,
    /// Run only these stages
    #[arg(long, value_delimiter = ',')]
    only: Vec<Stage>,
    /// Write the results to this file [default: target/bench.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure another build of the server
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_coffee-tracker"), hide_default_value = true)]
    binary: PathBuf,
    /// Compare a server with one person with this earlier build
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Append the log of the server to this file (default: discard it)
    #[arg(long, value_name = "FILE")]
    server_log: Option<PathBuf>,
    /// Run as bare Rocket, with responses of this size
    #[arg(long, hide = true, value_name = "BYTES")]
    bare: Option<usize>,
    /// Set by `cargo bench`; without it, as under `cargo test`, nothing runs
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmark and returns whether all goals were met.
fn run(options: &Options) -> Result<bool> {
    if let Some(bytes) = options.bare {
        bare::serve(bytes)?;
        return Ok(true);
    }
    if !options.bench {
        println!("Nothing was measured: run `cargo bench --bench server`.");
        return Ok(true);
    }
    let report = measure(options)?;
    let default = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    let json = options.json.as_ref().unwrap_or(&default);
    report.write_json(json, options.length().name())?;
    println!("\n{report}written to {}", json.display());
    Ok(options.no_fail || report.all_met())
}

/// Runs the stages. One that fails does not prevent the others from running.
fn measure(options: &Options) -> Result<Report> {
    let log = options.server_log.as_ref().map(std::path::absolute).transpose()?;
    let binary = std::path::absolute(&options.binary)?;
    let baseline = options.baseline.as_ref().map(std::path::absolute).transpose()?;
    eprintln!("sample data");
    let setup =
        Setup::new(binary, baseline, options.length(), log).context("cannot create the sample data")?;
    let mut report = Report::default();
    if let Some(warning) = machine::busy_warning()? {
        eprintln!("  {warning}");
        report.note(warning);
    }
    for (stage, run) in STAGES {
        if !options.only.is_empty() && !options.only.contains(&stage) {
            continue;
        }
        eprintln!("{stage}");
        let began = Instant::now();
        let failure = run(&setup, &mut report).err().map(|error| format!("{error:#}"));
        report.end_stage(stage, began.elapsed(), failure);
    }
    Ok(report)
}

impl Options {
    fn length(&self) -> Length {
        match (self.quick, self.long) {
            (true, _) => Length::Quick,
            (_, true) => Length::Long,
            _ => Length::Normal,
        }
    }
}
