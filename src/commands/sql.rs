//! `sql`: runs read-only SQL statements from the command line, a pipe or a prompt.
//!
//! It replaces the program `sqlite3`, whose older versions may damage a file that a server is writing.

use std::io;
use std::io::{BufRead, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::ops::ControlFlow;

use anyhow::Context;
use clap::Args;

use crate::commands::table::{Style, TableWriter};
use crate::commands::{Failure, act_as_owner, unwritten};
use crate::config::PersonArgs;
use crate::db::read_only_session::{ReadOnlySession, SqlError, SqlOutput};
use crate::db::store::sqlite_version;

/// Maximum size of statements on standard input, bytes.
const MAX_INPUT_BYTES: u64 = 1 << 20;

#[derive(Args, Debug)]
pub struct SqlArgs {
    /// SQL statements, separated by `;` [default: read from standard input]
    query: Option<String>,

    /// Print CSV instead of aligned columns
    #[arg(long)]
    csv: bool,

    #[command(flatten)]
    common: PersonArgs,
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Store(e) => e.into(),
            SqlError::Target(e) => unwritten("the result", &e),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Runs the statements up to the first that fails.
pub fn run(args: &SqlArgs) -> Result<(), Failure> {
    let settings = args.common.validate()?;
    act_as_owner(&settings.database)?;
    let asker = ReadOnlySession::open(&settings.database)?;
    let style = if args.csv { Style::Csv } else { Style::Aligned };
    let result = match &args.query {
        Some(query) => run_script(&asker, query, style),
        None if io::stdin().is_terminal() => {
            eprintln!(
                "{} with SQLite {}, read-only. Enter SQL statements that end with ; or the commands .tables, \
                 .schema, .help and .quit (this is not the program sqlite3). Start with the views coffees and \
                 heart_rates.",
                settings.database.display(),
                sqlite_version()
            );
            return prompt(&asker, style);
        }
        None => {
            let mut text = String::new();
            let read = io::stdin().take(MAX_INPUT_BYTES + 1).read_to_string(&mut text);
            if read.context("cannot read standard input")? as u64 > MAX_INPUT_BYTES {
                return Err(Failure::Usage(format!("standard input is longer than {MAX_INPUT_BYTES} bytes")));
            }
            run_script(&asker, &text, style)
        }
    };
    match result {
        // A pager or `head` may close the pipe early.
        Err(SqlError::Target(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Output of `.help`.
const COMMANDS: &str = "\
.tables         list tables and views
.schema [NAME]  show the statements that created them
.help           show this list
.quit           leave (also .exit, or Ctrl-D)
";

/// Runs a script: lines with prompt commands, then statements.
fn run_script(asker: &ReadOnlySession, text: &str, style: Style) -> Result<(), SqlError> {
    let mut rest = text.trim_start();
    while rest.starts_with('.') {
        let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if command(asker, line, style)?.is_break() {
            return Ok(());
        }
        rest = behind.trim_start();
    }
    run_statements(asker, rest, style)
}

/// Runs a command of the prompt.
fn command(asker: &ReadOnlySession, line: &str, style: Style) -> Result<ControlFlow<()>, SqlError> {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    let name = words.next().unwrap_or_default();
    match name {
        ".quit" | ".exit" | ".q" => return Ok(ControlFlow::Break(())),
        ".tables" => run_statements(
            asker,
            "select name, type from sqlite_schema
             where type in ('table', 'view') and name not like 'sqlite@_%' escape '@' order by name",
            style,
        )?,
        ".schema" => schema(asker, words.next())?,
        ".help" => io::stdout().write_all(COMMANDS.as_bytes()).map_err(SqlError::Target)?,
        other => {
            let known = "use .tables, .schema, .help, .quit or SQL";
            return Err(SqlError::Statement(format!("unknown command {other}: {known}")));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Prints the statements that created all tables, indexes, views and triggers, or only those of the table `only`.
fn schema(asker: &ReadOnlySession, only: Option<&str>) -> Result<(), SqlError> {
    let mut to = BufWriter::new(io::stdout().lock());
    let query = "select tbl_name, sql from sqlite_schema where sql is not null
                 order by tbl_name, type not in ('table', 'view'), name";
    asker.ask(query, |piece| match piece {
        SqlOutput::Row([Some(table), Some(sql)])
            if only.is_none_or(|only| only.eq_ignore_ascii_case(table)) =>
        {
            writeln!(to, "{sql};")
        }
        SqlOutput::End => to.flush(),
        _ => Ok(()),
    })
}

fn run_statements(asker: &ReadOnlySession, text: &str, style: Style) -> Result<(), SqlError> {
    let mut table = TableWriter::new(BufWriter::new(io::stdout().lock()), style);
    asker.ask(text, |piece| match piece {
        SqlOutput::Columns(names) => table.begin(names),
        SqlOutput::Row(row) => table.row(row),
        SqlOutput::End => table.end(),
    })
}

/// Runs the prompt. It is printed to standard error, so that results can be redirected.
fn prompt(asker: &ReadOnlySession, style: Style) -> Result<(), Failure> {
    let mut text = String::new();
    loop {
        eprint!("{}", if text.is_empty() { "coffee> " } else { "   ...> " });
        let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut text));
        let is_at_end = read.context("cannot read standard input")? == 0;
        let input = text.trim();
        if matches!(input, "exit" | "quit") {
            return Ok(());
        }
        if input.starts_with('.') {
            match command(asker, input, style) {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) => {}
                Err(e) => eprintln!("{}", Failure::from(e)),
            }
            text.clear();
            continue;
        }
        if (is_at_end || input.ends_with(';'))
            && let Err(e) = run_statements(asker, input, style)
        {
            eprintln!("{}", Failure::from(e));
        }
        if is_at_end {
            eprintln!();
            return Ok(());
        }
        if input.is_empty() || input.ends_with(';') {
            text.clear();
        }
    }
}
