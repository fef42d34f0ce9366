//! `recount`: rebuilds the rollups of the heart rates.

use clap::Args;

use crate::commands::{Failure, act_as_owner, counted, print};
use crate::config::PersonArgs;
use crate::db::recount::rebuild_rollups;

#[derive(Args, Debug)]
pub struct RecountArgs {
    #[command(flatten)]
    common: PersonArgs,
}

pub fn run(args: &RecountArgs) -> Result<(), Failure> {
    let settings = args.common.validate()?;
    act_as_owner(&settings.database)?;
    let readings = rebuild_rollups(&settings.database)?;
    print(&format!(
        "rebuilt the rollups of {} in {}",
        counted(readings, "reading"),
        settings.database.display()
    ))
}
