//! The benchmark of the server: speed against bare Rocket, the tail under a mixed load,
//! size, memory, start, the limiter, and answers over ten years of readings; each with its
//! target, in one table.
//!
//! `main` reads the options and runs the stages; what they measure stands in a file each.
//! The exit code is 1 when a target is missed.

mod bare;
mod counting;
mod fire;
mod footprint;
mod growth;
mod histogram;
mod http;
mod limiter;
mod load;
mod machine;
mod mixed;
mod naive;
mod process;
mod rates;
mod report;
mod scale;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use report::{Report, Stage};
use server::Setup;

/// A stage's name on the command line, and what it does.
type StageEntry = (&'static str, Stage, fn(&Setup, &mut Report) -> Result<()>);

/// All stages, in order: the quiet ones first.
const STAGES: [StageEntry; 9] = [
    ("footprint", Stage::Footprint, footprint::footprint),
    ("reads", Stage::Reads, rates::reads),
    ("posts", Stage::Posts, rates::posts),
    ("mixed", Stage::Mixed, mixed::mixed),
    ("limiter", Stage::Limiter, limiter::limiter),
    ("backups", Stage::Backups, fire::backups),
    ("restores", Stage::Restores, fire::restores),
    ("scale", Stage::Scale, scale::scale),
    ("counting", Stage::Counting, counting::counting),
];

/// Measures the server and compares it with its targets.
#[derive(Parser)]
#[command(name = "cargo bench --bench server --", disable_version_flag = true)]
struct Options {
    /// Fewer and shorter rounds, no 5 million readings: under a minute and a half.
    #[arg(long)]
    quick: bool,
    /// Exit with 0 though a target is missed.
    #[arg(long)]
    no_fail: bool,
    /// Only these stages: footprint, reads, posts, mixed, limiter, backups, restores, scale, counting.
    #[arg(long, value_delimiter = ',', value_parser = STAGES.map(|(name, ..)| name))]
    only: Vec<String>,
    /// Measure another build of the server.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_coffee-tracker"), hide_default_value = true)]
    binary: PathBuf,
    /// Append the server's log to this file; otherwise it is written and thrown away.
    #[arg(long, value_name = "FILE")]
    server_log: Option<PathBuf>,
    /// Be the bare server, with answers of so many bytes.
    #[arg(long, hide = true, value_name = "BYTES")]
    bare: Option<usize>,
    /// Given by `cargo bench`; without it, as under `cargo test`, nothing runs.
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

/// Does what the options say; whether all is as it should be.
fn run(options: &Options) -> Result<bool> {
    if let Some(bytes) = options.bare {
        bare::serve(bytes)?;
        return Ok(true);
    }
    if !options.bench {
        println!("Nothing measured: this is run by `cargo bench --bench server`.");
        return Ok(true);
    }
    let report = measure(options)?;
    println!("\n{report}");
    Ok(options.no_fail || report.all_reached())
}

/// Runs the stages; one that breaks off does not keep the others from running.
fn measure(options: &Options) -> Result<Report> {
    let log = options.server_log.as_ref().map(std::path::absolute).transpose()?;
    let binary = std::path::absolute(&options.binary)?;
    eprintln!("demonstration data");
    let setup = Setup::new(binary, options.quick, log).context("cannot make the data to measure with")?;
    let mut report = Report::default();
    if let Some(doubts) = machine::doubts()? {
        eprintln!("  {doubts}");
        report.note(doubts);
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
