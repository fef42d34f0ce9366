//! The values of a row, as INSERTs of PostgreSQL and SQLite have them. The two functions that
//! `sqlite3 .dump` writes for line ends are evaluated; no other expression is.

use std::io;

use crate::transfer::formats::sql_tokens::{Token, Tokens};

/// How many values or columns are kept: whatever has more is no row of ours.
pub const MAX_VALUES: usize = 256;
/// Largest total of a row's values that is kept, bytes: more than any row of ours has.
const MAX_ROW: usize = 256 * 1024;
/// Longest content of a rejected row that is written out, in bytes.
const MAX_SHOWN: usize = 16 * 1024;
/// Longest text that a function may make, in bytes.
const MAX_EVALUATED: usize = 64 * 1024;
/// How many tokens of a function's arguments are kept: two replacements, one within the other,
/// have eighteen.
const MAX_ARGUMENTS: usize = 32;

const EXPRESSION: &str = "is an expression, not a value";
const TOO_LONG: &str = "is too long, or belongs to a row that is";

/// A value of a row; `None`: null.
pub type Value = Result<Option<Vec<u8>>, &'static str>;

/// Reads the values of one row, behind its parenthesis: one more than are kept at most, so
/// that it shows. Also gives the token that ended them: the parenthesis, unless they broke off.
///
/// # Errors
/// The input's.
pub fn values(tokens: &mut Tokens<'_>) -> io::Result<(Vec<Value>, Token)> {
    let mut values: Vec<Value> = Vec::new();
    let mut room = MAX_ROW;
    let (mut present, mut is_cast): (Option<Value>, bool) = (None, false);
    let mut word = String::new();
    loop {
        let token = tokens.next()?;
        let value = match token {
            Token::Mark(end @ (b',' | b')')) => {
                if values.len() <= MAX_VALUES {
                    let value = present.take().unwrap_or(Err("is no value"));
                    let length = value.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len));
                    values.push(if length > room { Err(TOO_LONG) } else { value });
                    room = room.saturating_sub(length);
                }
                (present, is_cast) = (None, false);
                if end == b')' {
                    return Ok((values, token));
                }
                continue;
            }
            Token::Semicolon | Token::End => return Ok((values, token)),
            // A function, or the length in the name of a type.
            Token::Mark(b'(') => {
                let arguments = arguments(tokens)?;
                if is_cast {
                    continue;
                }
                evaluated(&word, &arguments).map(Some).ok_or(EXPRESSION)
            }
            Token::Mark(b':') => {
                is_cast = true;
                continue;
            }
            _ if is_cast => continue,
            Token::Text(text) => Ok(Some(text)),
            Token::Number(number) => Ok(Some(number.into_bytes())),
            Token::Word(word) if word == "null" => Ok(None),
            // The name of a type, timestamp '…', or of a function.
            Token::Word(name) => {
                word = name;
                continue;
            }
            Token::Quoted(_) | Token::Mark(_) => Err(EXPRESSION),
        };
        word.clear();
        present = Some(match present {
            None => value,
            Some(_) => Err(EXPRESSION),
        });
    }
}

/// Reads to the end of a parenthesis that was opened: its tokens, or none if there are many.
fn arguments(tokens: &mut Tokens<'_>) -> io::Result<Vec<Token>> {
    let (mut all, mut count, mut depth) = (Vec::new(), 0_usize, 1);
    loop {
        let token = tokens.next()?;
        match token {
            Token::Mark(b'(') => depth += 1,
            Token::Mark(b')') => depth -= 1,
            _ => {}
        }
        if depth == 0 || token == Token::End {
            return Ok(all);
        }
        count += 1;
        match count <= MAX_ARGUMENTS {
            true => all.push(token),
            false => all.clear(),
        }
    }
}

/// `replace('a\nb','\n',char(10))`, also around another, and `unistr('a\u000ab')`.
fn evaluated(function: &str, arguments: &[Token]) -> Option<Vec<u8>> {
    match (function, arguments) {
        ("unistr", [Token::Text(text)]) => unistr(text),
        (
            "replace",
            [
                subject @ ..,
                Token::Mark(b','),
                Token::Text(old),
                Token::Mark(b','),
                Token::Word(char),
                Token::Mark(b'('),
                Token::Number(code),
                Token::Mark(b')'),
            ],
        ) if char == "char" && !old.is_empty() => {
            let subject = match subject {
                [Token::Text(text)] => text.clone(),
                [Token::Word(inner), Token::Mark(b'('), arguments @ .., Token::Mark(b')')] => {
                    evaluated(inner, arguments)?
                }
                _ => return None,
            };
            replaced(&subject, old, char::from_u32(code.parse().ok()?)?)
        }
        _ => None,
    }
}

/// `None` when it grows too long.
fn replaced(subject: &[u8], old: &[u8], new: char) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(subject.len());
    let mut rest = subject;
    while let Some((byte, behind)) = rest.split_first() {
        if text.len() > MAX_EVALUATED {
            return None;
        }
        match rest.strip_prefix(old) {
            Some(behind) => {
                text.extend_from_slice(new.encode_utf8(&mut [0; 4]).as_bytes());
                rest = behind;
            }
            None => {
                text.push(*byte);
                rest = behind;
            }
        }
    }
    Some(text)
}

/// The escapes `\XXXX`, `\uXXXX`, `\+XXXXXX`, `\UXXXXXXXX` and `\\`; `None` if there is another.
fn unistr(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        let (length, digits) = match behind.split_first()? {
            (b'\\', behind) => {
                text.push(b'\\');
                rest = behind;
                continue;
            }
            (b'u', digits) => (4, digits),
            (b'+', digits) => (6, digits),
            (b'U', digits) => (8, digits),
            _ => (4, behind),
        };
        let (digits, behind) = digits.split_at_checked(length)?;
        let code = digits
            .iter()
            .try_fold(0_u32, |code, digit| Some(code.checked_mul(16)? + char::from(*digit).to_digit(16)?))?;
        text.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        rest = behind;
    }
    Some(text)
}

/// A row as it might have been written.
pub fn shown(values: &[Value]) -> String {
    let value = |value: &Value| match value {
        Ok(Some(bytes)) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Ok(None) => "NULL".to_owned(),
        Err(_) => "?".to_owned(),
    };
    let mut text = "(".to_owned();
    for (place, one) in values.iter().enumerate() {
        if place > 0 {
            text.push_str(", ");
        }
        text.push_str(&value(one));
        if text.len() > MAX_SHOWN {
            return text;
        }
    }
    text.push(')');
    text
}
