//! `recount`: counts the readings anew, where their counts were found wrong.

use anyhow::Context;
use clap::Args;

use crate::commands::{Failure, counted, print};
use crate::config::RawPlace;
use crate::db::recount::rebuild_rollups;
use crate::fs::privileges::Identity;

/// Where.
#[derive(Args, Debug)]
pub struct RecountArgs {
    #[command(flatten)]
    place: RawPlace,
}

/// Counts.
///
/// # Errors
/// Why nothing was changed.
pub fn run(args: RecountArgs) -> Result<(), Failure> {
    let place = args.place.check()?;
    Identity::of_owner(&place.database).context("the rights of the database's owner")?;
    let readings = rebuild_rollups(&place.database)?;
    print(&format!("Counted {} in {}.", counted(readings, "reading"), place.database.display()))
}
