//! The command line: what can be said to `coffee-tracker`.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::backup::BackupArgs;
use crate::commands::backups::BackupsArgs;
use crate::commands::check::CheckArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::export::ExportArgs;
use crate::commands::import::ImportArgs;
use crate::commands::key::KeyArgs;
use crate::commands::prune::PruneArgs;
use crate::commands::recount::RecountArgs;
use crate::commands::restore::RestoreArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::sql::SqlArgs;
use crate::commands::verify::VerifyArgs;
use crate::config::RawSettings;

/// Logs what people drink and how their heart answers: one binary, one SQLite file.
///
/// Settings come from flags, then the environment, then a file `.env` in the working folder
/// (or the one named by --config).
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Read settings from this file instead of `.env`
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub serve: RawSettings,
}

impl Cli {
    /// What is said with `args`, the program's name first. `--config` may stand anywhere.
    ///
    /// # Errors
    /// What cannot be understood; a setting before a command among it, which would not reach that.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut program = Self::command();
        let said = program.try_get_matches_from_mut(lone_debug(&program, args))?;
        let is_said = |id: &str| said.value_source(id) == Some(ValueSource::CommandLine);
        let stray = program
            .get_arguments()
            .map(|arg| arg.get_id().as_str())
            .find(|id| *id != "config" && is_said(id));
        if let (Some(_), Some(setting)) = (said.subcommand(), stray) {
            let sentence = misplaced(&program, &said, setting);
            return Err(program.error(ErrorKind::ArgumentConflict, sentence));
        }
        Self::from_arg_matches(&said)
    }
}

/// Gives `--debug` before a command its value, which would otherwise be the command.
fn lone_debug(program: &clap::Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    for place in 1..args.len() {
        let is_command = |arg: &OsString| program.find_subcommand(arg).is_some();
        if args[place] == "--debug" && args.get(place + 1).is_some_and(is_command) {
            args[place] = "--debug=true".into();
        }
    }
    args
}

/// Explains why an option before a command is refused, and names its place.
fn misplaced(program: &clap::Command, said: &ArgMatches, setting: &str) -> String {
    let flag = format!("--{}", setting.replace('_', "-"));
    let (mut words, mut matches, mut innermost) = ("coffee-tracker".to_owned(), said, program);
    while let Some((name, inner)) = matches.subcommand() {
        words = format!("{words} {name}");
        matches = inner;
        innermost = innermost.find_subcommand(name).unwrap_or(innermost);
    }
    if innermost.get_arguments().any(|arg| arg.get_id() == setting) {
        format!("{flag} belongs after the command: {words} {flag} …")
    } else {
        format!("{flag} is an option of `coffee-tracker serve`; `{words}` does not have it")
    }
}

/// What to do; without any, serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer requests until told to stop (the default)
    ///
    /// The API key comes from the variable API_KEY, from API_KEY_FILE, or from systemd's credential
    /// `api_key`. Without any of them a random one is made on first start, kept beside the database
    /// (mode 0600), and shown once.
    Serve(Box<ServeArgs>),
    /// Make a verified copy of the database, whether a server runs or not
    ///
    /// The copy is named coffee_YYYYMMDD_HHMMSS.db (UTC) and is one state of the database, whatever is
    /// written meanwhile. The outcome shows in /health and /metrics.
    Backup(BackupArgs),
    /// List backups, or print the newest one
    Backups(BackupsArgs),
    /// Say whether files can be restored, and every reason why not
    Verify(VerifyArgs),
    /// Bring a backup back, whether a server runs or not
    ///
    /// The backup is verified and the present state backed up first. A server that runs goes on
    /// answering, from the old state and then from the new one. A restore that dies half-way leaves
    /// one of them.
    Restore(RestoreArgs),
    /// Fill an empty database with a plausible person
    Demo(DemoArgs),
    /// Write coffees or heart rates down, as CSV or JSON Lines
    ///
    /// Oldest first, with every column; `import` reads both. A server may run meanwhile: what is written
    /// is wholly of one state.
    Export(ExportArgs),
    /// Remove what is older than a date, after a backup
    ///
    /// Without --yes it only says what it would remove. A server may run meanwhile. The room is used by
    /// later entries, not given back to the system.
    Prune(PruneArgs),
    /// Count the readings anew, where `verify` or `check` found their counts wrong
    ///
    /// The counts answer for long spans of time. A server may run meanwhile; its writes wait.
    Recount(RecountArgs),
    /// Bring entries from a file; what is stored already adds nothing
    ///
    /// The server may run meanwhile. Rows that do not fit are shown and counted, and keep no
    /// other from coming in.
    Import(ImportArgs),
    /// Answer SQL statements that read; nothing can be changed
    ///
    /// A server may run meanwhile. Without a query, statements come from standard input, at a prompt
    /// when that is a terminal.
    Sql(SqlArgs),
    /// Make, list, revoke and rotate named API keys
    ///
    /// Each is good for its scopes: read, write, metrics. A server that runs follows within a second or
    /// two. The owner's key (API_KEY) is good for everything and not among them.
    Key(KeyArgs),
    /// Say whether this installation is fit to be relied on, and what to do where it is not
    ///
    /// Takes the settings that `serve` takes, and changes nothing.
    Check(Box<CheckArgs>),
    /// Print the OpenAPI document
    Openapi,
}
