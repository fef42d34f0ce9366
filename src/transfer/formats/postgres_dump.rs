//! Plain SQL dumps of the Docker stack: `pg_dump` with COPY blocks or INSERTs, and what
//! `sqlite3 .dump` writes. Only the two tables are read; the rest is passed over.

use std::collections::HashMap;
use std::io::BufRead;

use crate::domain::calendar::Zone;
use crate::domain::entry::{DOCKER_STACK, Entry, EntryKind};
use crate::transfer::formats::import_row::{Column, Draft, Raw};
use crate::transfer::formats::lines::{Line, read_line};
use crate::transfer::formats::rows::{ReadError, Rejection, Sink, one_line};
use crate::transfer::formats::sql_tokens::{Token, Tokens, control};
use crate::transfer::formats::sql_values::{MAX_VALUES, Value, shown, values};

/// Longest line of a COPY block, in bytes.
const MAX_LINE: usize = 256 * 1024;

/// Longest name of an encoding that is quoted, in characters.
const MAX_ENCODING: usize = 40;

/// What each value of a row means: one more than may be at most, so that it shows.
type Columns = Vec<Option<Column>>;

/// Reads every row of the two tables. Times without an offset are UTC.
///
/// # Errors
/// Why it was not read to its end.
pub fn read(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let tokens = Tokens::new(input);
    let mut dump = Dump { tokens, columns: HashMap::new(), zone: Zone::utc(), has_tables: false };
    dump.statements(sink)?;
    if !dump.has_tables {
        let why = "it is no dump: no statement in it makes or fills a table";
        return Err(ReadError::Unusable(why.to_owned()));
    }
    Ok(())
}

struct Dump<'a> {
    tokens: Tokens<'a>,
    /// As `create table` has them, for INSERTs that do not say.
    columns: HashMap<EntryKind, Columns>,
    zone: Zone,
    /// Some statement made or filled a table, whichever: an empty stack has no rows.
    has_tables: bool,
}

impl Dump<'_> {
    fn statements(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        loop {
            if self.tokens.at_shell_command()? {
                self.tokens.skip_line()?;
                continue;
            }
            match self.tokens.next()? {
                Token::End => return Ok(()),
                Token::Semicolon => {}
                Token::Word(word) => match word.as_str() {
                    "copy" => self.copy(sink)?,
                    "insert" | "replace" => self.insert(sink)?,
                    "create" => self.create()?,
                    "set" => self.set()?,
                    _ => self.tokens.skip_statement()?,
                },
                _ => self.tokens.skip_statement()?,
            }
        }
    }

    /// Reads on behind the statement of which this token was read.
    fn skip_behind(&mut self, last: &Token) -> Result<(), ReadError> {
        match last {
            Token::Semicolon | Token::End => Ok(()),
            _ => Ok(self.tokens.skip_statement()?),
        }
    }

    /// `SET standard_conforming_strings = off` makes every backslash an escape, and
    /// `SET client_encoding` says what the bytes of the text mean.
    fn set(&mut self) -> Result<(), ReadError> {
        let name = match self.tokens.next()? {
            Token::Word(name) => name,
            other => return self.skip_behind(&other),
        };
        loop {
            let value = match self.tokens.next()? {
                Token::Semicolon | Token::End => return Ok(()),
                Token::Word(word) if word != "to" => word,
                Token::Text(text) => String::from_utf8_lossy(&text).to_lowercase(),
                _ => continue,
            };
            match name.as_str() {
                "standard_conforming_strings" => self.tokens.backslashes = value == "off",
                "client_encoding" => check_encoding(&value)?,
                _ => {}
            }
        }
    }

    /// The name of a table, without its schema, and what came behind it.
    fn table(&mut self) -> Result<(Option<EntryKind>, Token), ReadError> {
        let mut name = String::new();
        loop {
            match self.tokens.next()? {
                Token::Word(word) if name.is_empty() => name = word,
                Token::Quoted(quoted) if name.is_empty() => name = quoted,
                Token::Mark(b'.') => name.clear(),
                other => {
                    let kind = match name.as_str() {
                        "coffee_logs" => Some(EntryKind::Coffee),
                        "heart_rate_logs" => Some(EntryKind::HeartRate),
                        _ => None,
                    };
                    return Ok((kind, other));
                }
            }
        }
    }

    /// Names between parentheses, the first of which was read: the first word of each item.
    /// Also the token that ended them: the parenthesis, unless they broke off.
    fn names(&mut self) -> Result<(Columns, Token), ReadError> {
        let (mut names, mut depth, mut begins) = (Vec::new(), 1, true);
        loop {
            match self.tokens.next()? {
                Token::Mark(b'(') => depth += 1,
                Token::Mark(b')') if depth == 1 => return Ok((names, Token::Mark(b')'))),
                Token::Mark(b')') => depth -= 1,
                Token::Mark(b',') if depth == 1 => {
                    begins = true;
                    continue;
                }
                Token::Word(name) | Token::Quoted(name) if begins && names.len() <= MAX_VALUES => {
                    names.push(Column::named(&name));
                }
                end @ (Token::Semicolon | Token::End) => return Ok((names, end)),
                _ => {}
            }
            begins = false;
        }
    }

    fn create(&mut self) -> Result<(), ReadError> {
        let what = self.tokens.next()?;
        if what != Token::Word("table".to_owned()) {
            return self.skip_behind(&what);
        }
        self.has_tables = true;
        let (mut kind, mut behind) = self.table()?;
        // `create table if not exists NAME`
        while matches!(behind, Token::Word(_) | Token::Quoted(_)) {
            let name = match &behind {
                Token::Quoted(name) | Token::Word(name) => name.as_str(),
                _ => "",
            };
            kind = match name {
                "coffee_logs" => Some(EntryKind::Coffee),
                "heart_rate_logs" => Some(EntryKind::HeartRate),
                _ => None,
            };
            behind = self.tokens.next()?;
        }
        match (kind, behind) {
            (Some(kind), Token::Mark(b'(')) => {
                let (mut columns, end) = self.names()?;
                // Constraints follow the columns; none is called like a column.
                while columns.last() == Some(&None) {
                    columns.pop();
                }
                self.columns.insert(kind, columns);
                self.skip_behind(&end)
            }
            (_, behind) => self.skip_behind(&behind),
        }
    }

    /// The columns of a table that nobody named: as the table was created, or as it always was.
    fn usual_columns(&self, kind: EntryKind) -> Columns {
        let usual = match kind {
            EntryKind::Coffee => {
                [Column::Id, Column::Timestamp, Column::CaffeineMg, Column::CoffeeType, Column::Notes]
            }
            EntryKind::HeartRate => {
                [Column::Id, Column::Timestamp, Column::Bpm, Column::Context, Column::Notes]
            }
        };
        self.columns.get(&kind).cloned().unwrap_or_else(|| usual.map(Some).to_vec())
    }

    fn copy(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let (kind, mut behind) = self.table()?;
        let mut columns = None;
        if behind == Token::Mark(b'(') {
            let (names, end) = self.names()?;
            columns = Some(names);
            behind = end;
        }
        let mut from_stdin = false;
        while !matches!(behind, Token::Semicolon | Token::End) {
            from_stdin |= behind == Token::Word("stdin".to_owned());
            behind = self.tokens.next()?;
        }
        if !from_stdin {
            return Ok(());
        }
        self.has_tables = true;
        self.tokens.skip_line()?;
        let columns = kind.map(|kind| columns.unwrap_or_else(|| self.usual_columns(kind)));
        let mut text = Vec::new();
        loop {
            let line = self.tokens.line;
            let end = read_line(self.tokens.input(), &mut text, MAX_LINE)?;
            self.tokens.line += 1;
            let (kind, columns) = match (end, kind, &columns) {
                (Line::End, ..) => {
                    return Err(ReadError::Broken { line, why: "a COPY block has no end".to_owned() });
                }
                _ if text == br"\." => return Ok(()),
                (Line::TooLong, Some(_), _) => {
                    let reason = format!("is longer than {MAX_LINE} bytes");
                    let content = String::from_utf8_lossy(&text).into_owned();
                    sink.reject(Rejection::new(line, reason, content))?;
                    continue;
                }
                (Line::Whole, Some(kind), Some(columns)) => (kind, columns),
                _ => {
                    sink.pass_over()?;
                    continue;
                }
            };
            let values = text.split(|byte| *byte == b'\t').take(MAX_VALUES + 1);
            let values: Vec<Value> = values.map(|value| Ok(copied(value))).collect();
            let content = || String::from_utf8_lossy(&text).into_owned();
            sink.entry(line, entry(kind, columns, &values, &self.zone), content)?;
        }
    }

    /// Behind `insert` or `replace`.
    fn insert(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let mut word = self.tokens.next()?;
        if word == Token::Word("or".to_owned()) {
            // What is done with a row that is there already.
            word = self.tokens.next()?;
            if word != Token::Semicolon {
                word = self.tokens.next()?;
            }
        }
        if word != Token::Word("into".to_owned()) {
            return self.skip_behind(&word);
        }
        self.has_tables = true;
        let (kind, mut behind) = self.table()?;
        let Some(kind) = kind else {
            self.skip_behind(&behind)?;
            return Ok(sink.pass_over()?);
        };
        let mut columns = self.usual_columns(kind);
        if behind == Token::Mark(b'(') {
            (columns, behind) = self.names()?;
        }
        while !matches!(behind, Token::Semicolon | Token::End) && behind != Token::Word("values".to_owned()) {
            behind = self.tokens.next()?;
        }
        loop {
            match behind {
                Token::Mark(b'(') => {
                    let line = self.tokens.line;
                    let (values, end) = values(&mut self.tokens)?;
                    let content = || shown(&values);
                    sink.entry(line, entry(kind, &columns, &values, &self.zone), content)?;
                    if end != Token::Mark(b')') {
                        behind = end;
                        continue;
                    }
                }
                Token::Semicolon => return Ok(()),
                Token::End => {
                    let why = "an INSERT has no end".to_owned();
                    return Err(ReadError::Broken { line: self.tokens.line, why });
                }
                _ => {}
            }
            behind = self.tokens.next()?;
        }
    }
}

/// Whether text in that encoding can be read.
fn check_encoding(name: &str) -> Result<(), ReadError> {
    if ["utf8", "utf-8", "unicode", "sql_ascii", "default"].contains(&name) {
        return Ok(());
    }
    let name = one_line(&name.to_uppercase(), MAX_ENCODING);
    Err(ReadError::Unusable(format!(
        "its text is in {name}: make the dump again with `pg_dump --encoding=UTF8`"
    )))
}

fn entry(kind: EntryKind, columns: &Columns, values: &[Value], zone: &Zone) -> Result<Entry, String> {
    for (count, what) in [(columns.len(), "columns"), (values.len(), "values")] {
        if count > MAX_VALUES {
            return Err(format!("has more than {MAX_VALUES} {what}"));
        }
    }
    if values.len() != columns.len() {
        return Err(format!("has {} values where the table has {} columns", values.len(), columns.len()));
    }
    let mut draft = Draft::default();
    for (column, value) in columns.iter().zip(values) {
        let Some(column) = column else { continue };
        let raw = match value {
            Ok(None) => Raw::Nothing,
            Ok(Some(bytes)) => std::str::from_utf8(bytes).map_or(Raw::Unfit("is not UTF-8"), Raw::Text),
            Err(why) => Raw::Unfit(why),
        };
        draft.set(*column, raw);
    }
    draft.set(Column::Source, Raw::Text(DOCKER_STACK));
    draft.entry(kind, zone)
}

/// A value of a COPY line, unescaped; `None`: null.
fn copied(value: &[u8]) -> Option<Vec<u8>> {
    if value == br"\N" {
        return None;
    }
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let Some((letter, behind)) = rest.split_first().filter(|_| *byte == b'\\') else {
            text.push(*byte);
            continue;
        };
        let (base, most, digits) = match letter {
            b'0'..=b'7' => (8, 3, rest),
            b'x' => (16, 2, behind),
            _ => (10, 0, rest),
        };
        let number = digits.iter().take(most).map_while(|byte| char::from(*byte).to_digit(base));
        let (code, count) = number.fold((0, 0), |(code, count), digit| (code * base + digit, count + 1));
        if count > 0 {
            text.push((code & 0xff) as u8);
            rest = digits.get(count..).unwrap_or_default();
        } else {
            text.push(control(*letter));
            rest = behind;
        }
    }
    Some(text)
}
