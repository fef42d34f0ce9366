//! Plain SQL dumps of the Docker stack: `pg_dump` with COPY blocks or INSERTs, and what
//! `sqlite3 .dump` writes. Only the two tables are read; the rest is passed over.

use std::collections::HashMap;
use std::io::BufRead;

use super::lines::{Line, read_line};
use super::rows::{ReadError, Rejection, Row, Sink};
use super::sql_tokens::{Token, Tokens, control};
use crate::model::calendar::Zone;
use crate::model::draft::{Column, Draft, Raw};
use crate::model::entry::{DOCKER_STACK, Entry, Kind};

/// Longest line of a COPY block, in bytes.
const MAX_LINE: usize = 256 * 1024;

/// What each value of a row means.
type Columns = Vec<Option<Column>>;

/// A value of a row; `None`: null.
type Value = Result<Option<Vec<u8>>, &'static str>;

/// Reads every row of the two tables. Times without an offset are UTC.
///
/// # Errors
/// Why it was not read to its end.
pub fn read(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let mut dump = Dump { tokens: Tokens::new(input), columns: HashMap::new(), zone: Zone::utc() };
    dump.statements(sink)
}

struct Dump<'a> {
    tokens: Tokens<'a>,
    /// As `create table` has them, for INSERTs that do not say.
    columns: HashMap<Kind, Columns>,
    zone: Zone,
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
                    "insert" => self.insert(sink)?,
                    "create" => self.create()?,
                    "set" => self.set()?,
                    _ => self.tokens.skip_statement()?,
                },
                _ => self.tokens.skip_statement()?,
            }
        }
    }

    /// `SET standard_conforming_strings = off` makes every backslash an escape.
    fn set(&mut self) -> Result<(), ReadError> {
        let name = self.tokens.next()?;
        loop {
            let is_off = match self.tokens.next()? {
                Token::Semicolon | Token::End => return Ok(()),
                Token::Word(word) => word == "off",
                Token::Text(text) => text == b"off",
                _ => continue,
            };
            if name == Token::Word("standard_conforming_strings".to_owned()) {
                self.tokens.backslashes = is_off;
            }
        }
    }

    /// The name of a table, without its schema, and what came behind it.
    fn table(&mut self) -> Result<(Option<Kind>, Token), ReadError> {
        let mut name = String::new();
        loop {
            match self.tokens.next()? {
                Token::Word(word) if name.is_empty() => name = word,
                Token::Quoted(quoted) if name.is_empty() => name = quoted,
                Token::Mark(b'.') => name.clear(),
                other => {
                    let kind = match name.as_str() {
                        "coffee_logs" => Some(Kind::Coffee),
                        "heart_rate_logs" => Some(Kind::HeartRate),
                        _ => None,
                    };
                    return Ok((kind, other));
                }
            }
        }
    }

    /// Names between parentheses, the first of which was read: the first word of each item.
    fn names(&mut self) -> Result<Columns, ReadError> {
        let (mut names, mut depth, mut begins) = (Vec::new(), 1, true);
        while depth > 0 {
            match self.tokens.next()? {
                Token::Mark(b'(') => depth += 1,
                Token::Mark(b')') => depth -= 1,
                Token::Mark(b',') if depth == 1 => {
                    begins = true;
                    continue;
                }
                Token::Word(name) | Token::Quoted(name) if begins => names.push(Column::named(&name)),
                Token::Semicolon | Token::End => break,
                _ => {}
            }
            begins = false;
        }
        Ok(names)
    }

    fn create(&mut self) -> Result<(), ReadError> {
        if self.tokens.next()? != Token::Word("table".to_owned()) {
            return Ok(self.tokens.skip_statement()?);
        }
        let (mut kind, mut behind) = self.table()?;
        // `create table if not exists NAME`
        while matches!(behind, Token::Word(_) | Token::Quoted(_)) {
            let name = match &behind {
                Token::Quoted(name) | Token::Word(name) => name.as_str(),
                _ => "",
            };
            kind = match name {
                "coffee_logs" => Some(Kind::Coffee),
                "heart_rate_logs" => Some(Kind::HeartRate),
                _ => None,
            };
            behind = self.tokens.next()?;
        }
        match (kind, behind) {
            (Some(kind), Token::Mark(b'(')) => {
                let mut columns = self.names()?;
                // Constraints follow the columns; none is called like a column.
                while columns.last() == Some(&None) {
                    columns.pop();
                }
                self.columns.insert(kind, columns);
                Ok(self.tokens.skip_statement()?)
            }
            (_, Token::Semicolon | Token::End) => Ok(()),
            _ => Ok(self.tokens.skip_statement()?),
        }
    }

    /// The columns of a table that nobody named: as the table was created, or as it always was.
    fn usual_columns(&self, kind: Kind) -> Columns {
        let usual = match kind {
            Kind::Coffee => {
                [Column::Id, Column::Timestamp, Column::CaffeineMg, Column::CoffeeType, Column::Notes]
            }
            Kind::HeartRate => [Column::Id, Column::Timestamp, Column::Bpm, Column::Context, Column::Notes],
        };
        self.columns.get(&kind).cloned().unwrap_or_else(|| usual.map(Some).to_vec())
    }

    fn copy(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let (kind, mut behind) = self.table()?;
        let mut columns = None;
        if behind == Token::Mark(b'(') {
            columns = Some(self.names()?);
            behind = self.tokens.next()?;
        }
        let mut from_stdin = false;
        while !matches!(behind, Token::Semicolon | Token::End) {
            from_stdin |= behind == Token::Word("stdin".to_owned());
            behind = self.tokens.next()?;
        }
        if !from_stdin {
            return Ok(());
        }
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
                    sink(Row::Rejected(Rejection::new(line, reason, content)))?;
                    continue;
                }
                (Line::Whole, Some(kind), Some(columns)) => (kind, columns),
                _ => {
                    sink(Row::PassedOver)?;
                    continue;
                }
            };
            let values: Vec<Value> = text.split(|byte| *byte == b'\t').map(|v| Ok(copied(v))).collect();
            let content = || String::from_utf8_lossy(&text).into_owned();
            sink(Row::of(line, entry(kind, columns, &values, &self.zone), content))?;
        }
    }

    fn insert(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        if self.tokens.next()? != Token::Word("into".to_owned()) {
            return Ok(self.tokens.skip_statement()?);
        }
        let (kind, mut behind) = self.table()?;
        let Some(kind) = kind else {
            if !matches!(behind, Token::Semicolon | Token::End) {
                self.tokens.skip_statement()?;
            }
            return Ok(sink(Row::PassedOver)?);
        };
        let mut columns = self.usual_columns(kind);
        if behind == Token::Mark(b'(') {
            columns = self.names()?;
            behind = self.tokens.next()?;
        }
        while !matches!(behind, Token::Semicolon | Token::End) && behind != Token::Word("values".to_owned()) {
            behind = self.tokens.next()?;
        }
        loop {
            match behind {
                Token::Mark(b'(') => {
                    let line = self.tokens.line;
                    let values = self.values()?;
                    let content = || shown(&values);
                    sink(Row::of(line, entry(kind, &columns, &values, &self.zone), content))?;
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

    /// The values of one row, behind its parenthesis.
    fn values(&mut self) -> Result<Vec<Value>, ReadError> {
        let mut values: Vec<Value> = Vec::new();
        let (mut present, mut is_cast): (Option<Value>, bool) = (None, false);
        loop {
            let token = self.tokens.next()?;
            let value = match token {
                Token::Mark(end @ (b',' | b')')) => {
                    values.push(present.take().unwrap_or(Err("is no value")));
                    is_cast = false;
                    if end == b')' {
                        return Ok(values);
                    }
                    continue;
                }
                Token::Semicolon | Token::End => return Ok(values),
                // A function, or the length in the name of a type.
                Token::Mark(b'(') => {
                    self.skip_parenthesis()?;
                    if is_cast {
                        continue;
                    }
                    Err("is an expression, not a value")
                }
                Token::Mark(b':') => {
                    is_cast = true;
                    continue;
                }
                _ if is_cast => continue,
                Token::Text(text) => Ok(Some(text)),
                Token::Number(number) => Ok(Some(number.into_bytes())),
                Token::Word(word) if word == "null" => Ok(None),
                // The name of a type: timestamp '…'.
                Token::Word(_) => continue,
                Token::Quoted(_) | Token::Mark(_) => Err("is an expression, not a value"),
            };
            present = Some(match present {
                None => value,
                Some(_) => Err("is an expression, not a value"),
            });
        }
    }

    fn skip_parenthesis(&mut self) -> Result<(), ReadError> {
        let mut depth = 1;
        while depth > 0 {
            match self.tokens.next()? {
                Token::Mark(b'(') => depth += 1,
                Token::Mark(b')') => depth -= 1,
                Token::End => break,
                _ => {}
            }
        }
        Ok(())
    }
}

fn entry(kind: Kind, columns: &Columns, values: &[Value], zone: &Zone) -> Result<Entry, String> {
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

/// A row of an INSERT as it might have been written.
fn shown(values: &[Value]) -> String {
    let value = |value: &Value| match value {
        Ok(Some(bytes)) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Ok(None) => "NULL".to_owned(),
        Err(_) => "?".to_owned(),
    };
    format!("({})", values.iter().map(value).collect::<Vec<_>>().join(", "))
}
