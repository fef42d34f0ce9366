//! Progress bars on standard error, when it is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::backup::snapshot::ProgressStage;

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

pub fn of_copy(quiet: bool) -> ProgressBar {
    bar(1, "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left", quiet)
}

pub fn show(bar: &ProgressBar, stage: ProgressStage) {
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
