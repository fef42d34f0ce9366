//! Progress on standard error: bars on a terminal, or JSON lines for a server that runs the command.

use std::env;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::backup::snapshot::ProgressStage;
use crate::jobs::program::{ProgressLine, RUN_BY_SERVER};

/// Reports whether a server runs this command for its API.
pub fn is_run_by_server() -> bool {
    env::var_os(RUN_BY_SERVER).is_some()
}

/// Ends this process together with the server that runs it.
pub fn end_with_server() {
    if is_run_by_server()
        && let Err(e) = set_parent_process_death_signal(Some(Signal::KILL))
    {
        tracing::debug!("the command would outlive the server: {e}");
    }
}

/// Creates a bar over `length` steps, hidden when quiet. Without a length it cannot estimate the time left.
pub fn bar(length: impl Into<Option<u64>>, template: &str, quiet: bool) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() && !quiet {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(length.into(), target);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Reports to the server how much of the file to import was read.
pub fn report_import(done: u64, total: u64) {
    eprintln!("{}", ProgressLine::Importing { done, total }.to_json());
}

pub fn of_copy(quiet: bool) -> ProgressBar {
    bar(1, "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left", quiet)
}

pub fn show(bar: &ProgressBar, stage: ProgressStage) {
    if is_run_by_server() {
        let line = match stage {
            ProgressStage::Copying { done, total } => ProgressLine::Copying { done, total },
            ProgressStage::Checking => ProgressLine::Checking,
        };
        return eprintln!("{}", line.to_json());
    }
    match stage {
        ProgressStage::Copying { done, total } => {
            bar.set_message("copying");
            bar.set_length(total.max(done));
            bar.set_position(done);
        }
        ProgressStage::Checking => {
            bar.set_message("checking");
            bar.set_position(bar.length().unwrap_or(1));
        }
    }
}
