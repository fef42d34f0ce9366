//! Reads the command line, does what it says, and knows the only exit codes.

use std::path::Path;
use std::process::ExitCode;

use coffee_tracker::cli::{Cli, Command};
use coffee_tracker::commands;
use coffee_tracker::commands::Failure;
use coffee_tracker::commands::serve::ServeArgs;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            coffee_tracker::telemetry::logging::last_words(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    // What people drink is nobody else's: files are made for their owner alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    read_env_file()?;
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|e| e.exit());
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        coffee_tracker::telemetry::logging::start_for_command();
    }
    match cli.command {
        None => commands::serve::run(ServeArgs::from(cli.serve)),
        Some(Command::Serve(args)) => commands::serve::run(*args),
        Some(Command::Backup(args)) => commands::backup::run(&args),
        Some(Command::Backups(args)) => commands::backups::run(args),
        Some(Command::Verify(args)) => commands::verify::run(&args),
        Some(Command::Restore(args)) => commands::restore::run(&args),
        Some(Command::Demo(args)) => commands::demo::run(args),
        Some(Command::Export(args)) => commands::export::run(&args),
        Some(Command::Prune(args)) => commands::prune::run(args),
        Some(Command::Recount(args)) => commands::recount::run(args),
        Some(Command::Import(args)) => commands::import::run(args),
        Some(Command::Sql(args)) => commands::sql::run(&args),
        Some(Command::Key(args)) => commands::key::run(args),
        Some(Command::Check(args)) => {
            let config = cli.config.unwrap_or_else(|| ".env".into());
            commands::check::run(*args, &config)
        }
        Some(Command::Openapi) => commands::print(coffee_tracker::http::openapi_document()),
    }
}

/// `.env`, or the file after `--config`, fills in what the environment does not say. It has
/// to be read before the command line, whose defaults come from the environment.
fn read_env_file() -> Result<(), Failure> {
    let mut args = std::env::args_os().skip_while(|arg| arg != "--config").skip(1);
    let named = args.next().or_else(|| {
        std::env::args_os().find_map(|arg| Some(arg.to_str()?.strip_prefix("--config=")?.into()))
    });
    let (file, required) = named.as_ref().map_or((Path::new(".env"), false), |file| (Path::new(file), true));
    match dotenvy::from_path(file) {
        Ok(()) => Ok(()),
        Err(e) if !required && e.not_found() => Ok(()),
        Err(e) => Err(Failure::Configuration(vec![format!("{} cannot be read: {e}", file.display())])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
