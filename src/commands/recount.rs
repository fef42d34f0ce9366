//! `recount`: rebuilds the rollups of the heart rates.

use anyhow::Context;
use clap::Args;

use crate::commands::{ACTING_AS_OWNER, Failure, counted, print};
use crate::config::CommonArgs;
use crate::db::recount::rebuild_rollups;
use crate::fs::privileges::Identity;

/// Arguments of `recount`.
#[derive(Args, Debug)]
pub struct RecountArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Rebuilds the rollups.
pub fn run(args: &RecountArgs) -> Result<(), Failure> {
    let settings = args.common.validate()?;
    Identity::of_owner(&settings.database).context(ACTING_AS_OWNER)?;
    let readings = rebuild_rollups(&settings.database)?;
    print(&format!(
        "rebuilt the rollups of {} in {}",
        counted(readings, "reading"),
        settings.database.display()
    ))
}
