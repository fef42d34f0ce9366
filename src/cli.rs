//! Command-line definition.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::backup::BackupArgs;
use crate::commands::backups::BackupsArgs;
use crate::commands::check::CheckArgs;
use crate::commands::config::ConfigArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::export::ExportArgs;
use crate::commands::healthcheck::HealthcheckArgs;
use crate::commands::import::ImportArgs;
use crate::commands::key::KeyArgs;
use crate::commands::person::PersonCommandArgs;
use crate::commands::profile::ProfileArgs;
use crate::commands::prune::PruneArgs;
use crate::commands::recount::RecountArgs;
use crate::commands::restore::RestoreArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::sql::SqlArgs;
use crate::commands::verify::VerifyArgs;

/// Track your caffeine and heart rate on your own server
///
/// Flags override environment variables, which override the file `.env` in the working folder (or the file that
/// --config names).
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// Read settings from this file instead of `.env`
    // `EnvFile::load` reads this flag before clap does; here it is defined for the help.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  coffee-tracker serve                Start the server; the first start prints the API key
  coffee-tracker import export.zip    Import the data of Apple Health
  coffee-tracker backup               Create a verified backup in the folder backups";

/// Subcommand with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the HTTP server
    ///
    /// The API key comes from the variable API_KEY, from API_KEY_FILE, or from the systemd credential `api_key`. Without
    /// any of them, the first start creates a random key beside the database (mode 0600) and prints it once.
    Serve(Box<ServeArgs>),
    /// Fill an empty database with sample data
    Demo(DemoArgs),
    /// Create, list, revoke and rotate named API keys
    ///
    /// Each key is limited to its scopes: read, write, metrics, manage. A running server applies changes within two
    /// seconds. The owner's key (API_KEY) has all scopes and is not listed.
    Key(KeyArgs),
    /// Add, list, rename, remove, archive and adopt people
    ///
    /// Each person has a database, keys and backups of their own. The person whose database DATABASE_URL names is the
    /// owner. A running server applies changes within a few seconds.
    Person(PersonCommandArgs),
    /// Show or change your profile: bedtimes, half-life of caffeine and limits
    ///
    /// Values that are not set are the defaults from the settings. Works while the server is running, which uses the new
    /// values at once.
    Profile(ProfileArgs),
    /// Check keys, files, settings, backups and disk, and print what to fix
    ///
    /// Takes the same settings as `serve` and changes nothing.
    Check(Box<CheckArgs>),
    /// Ask a running server for its health; fail unless it is alive
    ///
    /// Needs no key. Exit code 0: the server is alive; 1: it is degraded, is not reachable, did not respond within ten
    /// seconds, or is another program.
    Healthcheck(HealthcheckArgs),
    /// Print the settings in effect and where each comes from
    ///
    /// Takes the same settings as `serve`. Fails if a setting is invalid.
    Config(Box<ConfigArgs>),
    /// Import entries from a file, skipping duplicates
    ///
    /// Works while the server is running. Invalid rows are reported and counted; the others are imported.
    Import(ImportArgs),
    /// Export coffees or heart rates as CSV or JSON Lines
    ///
    /// Entries are written oldest first, with every column. `import` reads both formats. The export is a consistent
    /// snapshot, also while the server is running.
    Export(ExportArgs),
    /// Run read-only SQL queries
    ///
    /// Works while the server is running. Without a query, statements are read from standard input, or from a prompt if
    /// standard input is a terminal.
    Sql(SqlArgs),
    /// Delete entries older than a date, after a backup
    ///
    /// Without --yes, only shows what would be deleted. Works while the server is running. The freed space is reused for
    /// later entries and not returned to the file system.
    Prune(PruneArgs),
    /// Back up the database and verify the copy (works while the server is running)
    ///
    /// The copy is a consistent snapshot named coffee_YYYYMMDD_HHMMSS.db (UTC). The result is shown in /health and
    /// /metrics.
    Backup(BackupArgs),
    /// List backups, or print the newest one
    Backups(BackupsArgs),
    /// Check that backup files can be restored
    #[command(
        override_usage = "coffee-tracker verify [OPTIONS] <FILE>...\n       coffee-tracker verify [OPTIONS] --newest"
    )]
    Verify(VerifyArgs),
    /// Restore a backup (works while the server is running)
    ///
    /// The backup is verified and the current database is backed up first. A running server keeps serving, first from
    /// the old data and then from the restored data. An interrupted restore leaves one of the two, never a mixture.
    #[command(override_usage = "coffee-tracker restore [OPTIONS] <FILE>")]
    Restore(RestoreArgs),
    /// Rebuild the summaries of heart rates that queries over long periods use
    ///
    /// Needed when `verify` or `check` reports that these summaries (the rollups) are wrong. Works while the server is
    /// running; its writes wait until the end.
    Recount(RecountArgs),
    /// Print the OpenAPI document
    Openapi,
}
