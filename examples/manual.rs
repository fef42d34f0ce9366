//! Generates manual pages and shell completions from the command-line definition. Run it with `make manual`.
//!
//!   manual FOLDER      writes FOLDER/man/*.1, FOLDER/bash, FOLDER/fish, FOLDER/zsh

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use coffee_tracker::cli::Cli;

/// Name of the program.
const PROGRAM: &str = "coffee-tracker";

/// Entries of the section EXIT STATUS.
const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "Success."),
    ("1", "The command failed, or `check` found a problem."),
    ("2", "Usage error."),
    ("75", "Temporary failure, such as a held lock or a full disk: try again later."),
    ("78", "Configuration error: change a setting, or the file it refers to, before you try again."),
];
/// Entries of the section FILES.
const FILES: [(&str, &str); 4] = [
    (
        "data/coffee.db, data/coffee.key, backups/",
        "Database, key and backups, when the program runs from a folder.",
    ),
    ("/var/lib/coffee-tracker", "Database and backups of the service."),
    ("/etc/coffee-tracker/coffee-tracker.env", "Settings of the service."),
    ("/etc/coffee-tracker/api_key", "The owner's key of the service, readable only by root."),
];

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: manual FOLDER"))?;
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
        fs::write(folder.join(shell.to_string()), script)?;
    }
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    write_pages(&pages, &program)
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(folder: &Path, command: &Command) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_pages(folder, subcommand)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(folder.join(format!("{name}.1")), page(command.clone())?)
}

/// Renders a page in roff.
fn page(mut command: Command) -> io::Result<Vec<u8>> {
    let is_program = command.get_name() == PROGRAM;
    let has_subcommands = command.get_subcommands().next().is_some();
    // The synopsis of clap_mangen would list all options, more than thirty.
    let usage = command.render_usage().to_string();
    let man = Man::new(command)
        .source(concat!("coffee-tracker ", env!("CARGO_PKG_VERSION")))
        .manual("Coffee Tracker");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(&usage).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    if is_program {
        section("EXIT STATUS", &EXIT_STATUS).to_writer(&mut page)?;
        section("FILES", &FILES).to_writer(&mut page)?;
    }
    Ok(page)
}

/// Renders the usage lines as the section SYNOPSIS.
fn synopsis(usage: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for line in usage.trim_start_matches("Usage:").lines().map(str::trim) {
        roff.text([roman(line)]).control("br", []);
    }
    roff
}

/// Renders a section with a list of terms and their meanings.
fn section(title: &str, terms: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in terms {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
    roff
}
