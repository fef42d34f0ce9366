//! Manual pages and what shells complete, made from the one definition of the command line: `make manual`
//! writes them into a folder, for the package and for `make install`. The program itself carries neither.
//!
//!   manual FOLDER      FOLDER/man/*.1, FOLDER/bash, FOLDER/fish, FOLDER/zsh

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use coffee_tracker::cli::Cli;

/// The program's name, as it is typed.
const PROGRAM: &str = "coffee-tracker";

/// What the page of the program says beyond its options.
const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "Done."),
    ("1", "It failed, or something must be seen to."),
    ("2", "The command line cannot be understood."),
    ("75", "Busy, or no room: try again later."),
    ("78", "A setting, or what it points to, must be changed first."),
];
const FILES: [(&str, &str); 4] = [
    ("data/coffee.db, data/coffee.key, backups/", "Database, key and backups in a folder of one's own."),
    ("/var/lib/coffee-tracker", "Database and backups of the service."),
    ("/etc/coffee-tracker/coffee-tracker.env", "Settings of the service."),
    ("/etc/coffee-tracker/api_key", "The owner's key of the service; root's alone."),
];

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("into which folder?"))?;
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

/// The page of a command, and of each below it.
fn write_pages(folder: &Path, command: &Command) -> io::Result<()> {
    for below in command.get_subcommands() {
        write_pages(folder, below)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(folder.join(format!("{name}.1")), page(command.clone())?)
}

/// A page in roff.
fn page(mut command: Command) -> io::Result<Vec<u8>> {
    let is_program = command.get_name() == PROGRAM;
    let has_more = command.get_subcommands().next().is_some();
    // The library's own synopsis lists each of some thirty options.
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
    if has_more {
        man.render_subcommands_section(&mut page)?;
    }
    if is_program {
        section("EXIT STATUS", &EXIT_STATUS).to_writer(&mut page)?;
        section("FILES", &FILES).to_writer(&mut page)?;
    }
    Ok(page)
}

/// A line for each way to call it.
fn synopsis(usage: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for line in usage.trim_start_matches("Usage:").lines().map(str::trim) {
        roff.text([roman(line)]).control("br", []);
    }
    roff
}

/// A list of terms and what they mean.
fn section(title: &str, terms: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in terms {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
    roff
}
