//! Benchmark of the server: request rates compared with bare Rocket, latency under a mixed load, size,
//! memory, start, rate limiter, backups, response times with ten years of readings, pushes of
//! health apps, and a thousand people.
//!
//! Each measure has a target, and all are printed in one table. The exit code is 1 when a target is missed.

mod backups;
mod bare;
mod footprint;
mod growth;
mod histogram;
mod http;
mod limiter;
mod load;
mod machine;
mod mixed;
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

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use report::{Report, Stage};
use server::Setup;

/// Name of a stage on the command line, its identifier and its function.
type StageEntry = (&'static str, Stage, fn(&Setup, &mut Report) -> Result<()>);

/// All stages in order. Those that put little load on the machine come first.
const STAGES: [StageEntry; 11] = [
    ("footprint", Stage::Footprint, footprint::footprint),
    ("reads", Stage::Reads, rates::reads),
    ("posts", Stage::Posts, rates::posts),
    ("mixed", Stage::Mixed, mixed::mixed),
    ("limiter", Stage::Limiter, limiter::limiter),
    ("backups", Stage::Backups, backups::backups),
    ("restores", Stage::Restores, backups::restores),
    ("scale", Stage::Scale, scale::scale),
    ("rollups", Stage::Rollups, rollups::rollups),
    ("pushes", Stage::Pushes, pushes::pushes),
    ("people", Stage::People, people::people),
];

/// Measure the server and compare the results with their targets
#[derive(Parser)]
#[command(name = "cargo bench --bench server --", disable_version_flag = true)]
struct Options {
    /// Run fewer and shorter rounds, without 5 million readings (under 90 seconds)
    #[arg(long)]
    quick: bool,
    /// Exit with 0 even when a target is missed
    #[arg(long)]
    no_fail: bool,
    /// Run only these stages
    #[arg(long, value_delimiter = ',', value_parser = STAGES.map(|(name, ..)| name))]
    only: Vec<String>,
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

/// Runs the benchmark and returns whether all targets were met.
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
    println!("\n{report}");
    Ok(options.no_fail || report.all_met())
}

/// Runs the stages. One that fails does not prevent the others from running.
fn measure(options: &Options) -> Result<Report> {
    let log = options.server_log.as_ref().map(std::path::absolute).transpose()?;
    let binary = std::path::absolute(&options.binary)?;
    let baseline = options.baseline.as_ref().map(std::path::absolute).transpose()?;
    eprintln!("sample data");
    let setup = Setup::new(binary, baseline, options.quick, log).context("cannot create the sample data")?;
    let mut report = Report::default();
    if let Some(warning) = machine::busy_warning()? {
        eprintln!("  {warning}");
        report.note(warning);
    }
    for (name, stage, run) in STAGES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("{name}");
        report.begin(stage);
        if let Err(error) = run(&setup, &mut report) {
            report.fail(stage, format!("{error:#}"));
        }
    }
    Ok(report)
}
