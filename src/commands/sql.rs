//! `sql`: answers statements that read, from the command line, a pipe or a prompt. Old
//! `sqlite3` programs may harm a file that a server writes; the SQLite in here does not.

use std::io::{self, BufRead, BufWriter, ErrorKind, IsTerminal, Read, Write};

use anyhow::Context;
use clap::Args;

use super::{Failure, unwritten};
use crate::config::RawPlace;
use crate::formats::table::{Style, TableWriter};
use crate::store::{Asker, Identity, Piece, SqlError, sqlite_version};

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
            SqlError::Store(e) if e.is_passing() => Self::Busy(e.to_string()),
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
    let asker = Asker::open(&place.database)?;
    let style = if args.csv { Style::Csv } else { Style::Aligned };
    let answered = match &args.query {
        Some(query) => answer(&asker, query, style),
        None if io::stdin().is_terminal() => {
            eprintln!(
                "{} with SQLite {}, to read only. Begin with the views coffees and heart_rates; \
                 end a statement with ; and the session with Ctrl-D.",
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
            answer(&asker, &text, style)
        }
    };
    match answered {
        // Whoever read it has seen enough.
        Err(SqlError::Target(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn answer(asker: &Asker, text: &str, style: Style) -> Result<(), SqlError> {
    let mut table = TableWriter::new(BufWriter::new(io::stdout().lock()), style);
    asker.ask(text, |piece| match piece {
        Piece::Columns(names) => table.begin(names),
        Piece::Row(row) => table.row(row),
        Piece::End => table.end(),
    })
}

/// Prompts on standard error, so that the answers can go elsewhere.
fn converse(asker: &Asker, style: Style) -> Result<(), Failure> {
    let mut text = String::new();
    loop {
        eprint!("{}", if text.is_empty() { "coffee> " } else { "   ...> " });
        let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut text));
        let is_over = read.context("standard input cannot be read")? == 0;
        let said = text.trim();
        if matches!(said, "exit" | "quit" | ".exit" | ".quit") {
            return Ok(());
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
