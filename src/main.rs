//! Entry point: loads the `.env` file, parses the command line, runs the command and sets the exit code.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use coffee_tracker::cli::{Cli, Command};
use coffee_tracker::commands;
use coffee_tracker::commands::Failure;
use coffee_tracker::config::EnvFile;
use coffee_tracker::telemetry::logging;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            logging::print_failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    // The data is private: new files are readable by their owner alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let env_file = EnvFile::load().map_err(|e| Failure::Configuration(vec![e]))?;
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    if !matches!(cli.command, Command::Serve(_)) {
        logging::start_for_command();
        commands::end_with_server();
    }
    let of_command = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    match cli.command {
        Command::Serve(args) => commands::serve::run(*args, of_command, env_file),
        Command::Backup(args) => commands::backup::run(&args),
        Command::Backups(args) => commands::backups::run(args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Restore(args) => commands::restore::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Profile(args) => commands::profile::run(&args),
        Command::Prune(args) => commands::prune::run(&args),
        Command::Recount(args) => commands::recount::run(&args),
        Command::Import(args) => commands::import::run(args),
        Command::Sql(args) => commands::sql::run(&args),
        Command::Key(args) => commands::key::run(args),
        Command::Person(args) => commands::person::run(args),
        Command::Check(args) => commands::check::run(&args, &env_file.path),
        Command::Healthcheck(args) => commands::healthcheck::run(&args),
        Command::Config(args) => commands::config::run(&args, of_command, &env_file),
        Command::Openapi => commands::print(coffee_tracker::http::openapi_document()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
