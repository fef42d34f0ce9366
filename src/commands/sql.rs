//! `sql`: answers statements that read, from the command line, a pipe or a prompt. Old
//! `sqlite3` programs may harm a file that a server writes; the SQLite in here does not.

use std::io;
use std::io::{BufRead, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::ops::ControlFlow;

use anyhow::Context;
use clap::Args;

use crate::commands::table::{Style, TableWriter};
use crate::commands::{Failure, unwritten};
use crate::config::RawPlace;
use crate::db::read_only_session::{ReadOnlySession, SqlError, SqlOutput};
use crate::db::store::sqlite_version;
use crate::fs::privileges::Identity;

/// Longest text that a pipe may bring.
const LONGEST: u64 = 1 << 20;

/// What to ask.
#[derive(Args, Debug)]
pub struct SqlArgs {
    /// Statements, separated by `;`. Without any they come from standard input
    query: Option<String>,

    /// Write CSV instead of aligned columns
    #[arg(long)]
    csv: bool,

    #[command(flatten)]
    place: RawPlace,
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Store(e) if e.is_transient() => Self::Busy(e.to_string()),
            SqlError::Target(e) => unwritten("the answer", &e),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Answers.
///
/// # Errors
/// Why there is no answer to one of the statements; those after it were not asked.
pub fn run(args: &SqlArgs) -> Result<(), Failure> {
    let place = args.place.clone().check()?;
    Identity::of_owner(&place.database).context("the rights of the database's owner")?;
    let asker = ReadOnlySession::open(&place.database)?;
    let style = if args.csv { Style::Csv } else { Style::Aligned };
    let answered = match &args.query {
        Some(query) => answer_all(&asker, query, style),
        None if io::stdin().is_terminal() => {
            eprintln!(
                "{} with SQLite {}, read-only. This prompt takes SQL statements that end with ; and the \
                 commands .tables, .schema, .help and .quit (it is not the program sqlite3). Begin with the \
                 views coffees and heart_rates.",
                place.database.display(),
                sqlite_version()
            );
            return converse(&asker, style);
        }
        None => {
            let mut text = String::new();
            let read = io::stdin().take(LONGEST + 1).read_to_string(&mut text);
            if read.context("standard input cannot be read")? as u64 > LONGEST {
                return Err(Failure::Usage(format!("more than {LONGEST} bytes of statements")));
            }
            answer_all(&asker, &text, style)
        }
    };
    match answered {
        // Whoever read it has seen enough.
        Err(SqlError::Target(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The commands of the prompt, as `.help` shows them.
const COMMANDS: &str = "\
.tables         list tables and views
.schema [NAME]  show the statements that created them
.help           show this list
.quit           leave (also .exit, or Ctrl-D)
";

/// Answers text that begins with commands of the prompt, a line each, and goes on with statements.
fn answer_all(asker: &ReadOnlySession, text: &str, style: Style) -> Result<(), SqlError> {
    let mut rest = text.trim_start();
    while rest.starts_with('.') {
        let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if command(asker, line, style)?.is_break() {
            return Ok(());
        }
        rest = behind.trim_start();
    }
    answer(asker, rest, style)
}

/// Runs a command of the prompt.
fn command(asker: &ReadOnlySession, line: &str, style: Style) -> Result<ControlFlow<()>, SqlError> {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    let name = words.next().unwrap_or_default();
    match name {
        ".quit" | ".exit" | ".q" => return Ok(ControlFlow::Break(())),
        ".tables" => answer(
            asker,
            "select name, type from sqlite_schema
             where type in ('table', 'view') and name not like 'sqlite@_%' escape '@' order by name",
            style,
        )?,
        ".schema" => schema(asker, words.next())?,
        ".help" => io::stdout().write_all(COMMANDS.as_bytes()).map_err(SqlError::Target)?,
        other => {
            let known = "this prompt has .tables, .schema, .help and .quit; everything else is SQL";
            return Err(SqlError::Statement(format!("there is no command {other}: {known}")));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Prints the statements that created tables, indexes, views and triggers; those of one name alone.
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

fn answer(asker: &ReadOnlySession, text: &str, style: Style) -> Result<(), SqlError> {
    let mut table = TableWriter::new(BufWriter::new(io::stdout().lock()), style);
    asker.ask(text, |piece| match piece {
        SqlOutput::Columns(names) => table.begin(names),
        SqlOutput::Row(row) => table.row(row),
        SqlOutput::End => table.end(),
    })
}

/// Prompts on standard error, so that the answers can go elsewhere.
fn converse(asker: &ReadOnlySession, style: Style) -> Result<(), Failure> {
    let mut text = String::new();
    loop {
        eprint!("{}", if text.is_empty() { "coffee> " } else { "   ...> " });
        let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut text));
        let is_over = read.context("standard input cannot be read")? == 0;
        let said = text.trim();
        if matches!(said, "exit" | "quit") {
            return Ok(());
        }
        if said.starts_with('.') {
            match command(asker, said, style) {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) => {}
                Err(e) => eprintln!("{}", Failure::from(e)),
            }
            text.clear();
            continue;
        }
        if (is_over || said.ends_with(';'))
            && let Err(e) = answer(asker, said, style)
        {
            eprintln!("{}", Failure::from(e));
        }
        if is_over {
            eprintln!();
            return Ok(());
        }
        if said.is_empty() || said.ends_with(';') {
            text.clear();
        }
    }
}
