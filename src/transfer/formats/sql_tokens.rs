//! SQL, word by word, as PostgreSQL and SQLite write it into dumps: strings with their
//! escapes, quoted identifiers, dollar quotes, comments. Memory is bounded by the longest token.

use std::io;
use std::io::BufRead;

/// Longest token that is kept; the rest of it is dropped, and what it was cannot be stored.
const MAX_TOKEN: usize = 64 * 1024;
/// Longest tag of a dollar quote: PostgreSQL's names have 63 bytes.
const MAX_TAG: usize = 64;

/// A word of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword or an identifier, lower case.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// A string, unescaped.
    Text(Vec<u8>),
    Number(String),
    /// Any other character.
    Mark(u8),
    /// The end of a statement.
    Semicolon,
    /// The end of the file.
    End,
}

/// Reads tokens.
pub struct Tokens<'a> {
    input: &'a mut dyn BufRead,
    /// The line that is read, from 1.
    pub line: u64,
    /// Backslashes are escapes in every string, not just in `E'…'`.
    pub backslashes: bool,
}

impl<'a> Tokens<'a> {
    /// Starts at line 1.
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, line: 1, backslashes: false }
    }

    /// The lines below a `COPY`: the rest of this one is dropped.
    ///
    /// # Errors
    /// The input's.
    pub fn skip_line(&mut self) -> io::Result<()> {
        while let Some(byte) = self.next_byte()? {
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }

    /// The input itself, at the beginning of a line; whoever reads lines counts them.
    pub fn input(&mut self) -> &mut dyn BufRead {
        self.input
    }

    /// Whether the next byte that is not blank begins a command for the shell: `\connect`.
    ///
    /// # Errors
    /// The input's.
    pub fn at_shell_command(&mut self) -> io::Result<bool> {
        self.skip_blanks()?;
        Ok(self.peek()? == Some(b'\\'))
    }

    /// Reads on behind the end of the statement.
    ///
    /// # Errors
    /// The input's.
    pub fn skip_statement(&mut self) -> io::Result<()> {
        while !matches!(self.next()?, Token::Semicolon | Token::End) {}
        Ok(())
    }

    /// The next token.
    ///
    /// # Errors
    /// The input's.
    pub fn next(&mut self) -> io::Result<Token> {
        loop {
            self.skip_blanks()?;
            let Some(byte) = self.next_byte()? else { return Ok(Token::End) };
            return Ok(match byte {
                b'-' if self.peek()? == Some(b'-') => {
                    self.skip_line()?;
                    continue;
                }
                b'/' if self.peek()? == Some(b'*') => {
                    self.skip_comment()?;
                    continue;
                }
                b';' => Token::Semicolon,
                b'\'' => Token::Text(self.quoted(b'\'', self.backslashes)?),
                b'"' => Token::Quoted(String::from_utf8_lossy(&self.quoted(b'"', false)?).into_owned()),
                b'$' => self.dollar()?,
                b'0'..=b'9' => Token::Number(self.word(byte)?),
                b'-' | b'+' | b'.' if self.peek()?.is_some_and(|b| b.is_ascii_digit() || b == b'.') => {
                    Token::Number(self.word(byte)?)
                }
                byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                    let word = self.word(byte)?.to_lowercase();
                    match self.peek()? {
                        Some(b'\'') if word == "e" => {
                            self.next_byte()?;
                            Token::Text(self.quoted(b'\'', true)?)
                        }
                        _ => Token::Word(word),
                    }
                }
                other => Token::Mark(other),
            });
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.line += u64::from(byte == b'\n');
            self.input.consume(1);
        }
        Ok(byte)
    }

    fn skip_blanks(&mut self) -> io::Result<()> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.next_byte()?;
        }
        Ok(())
    }

    /// Behind `/*`; such comments nest.
    fn skip_comment(&mut self) -> io::Result<()> {
        let (mut depth, mut last) = (1, self.next_byte()?);
        last = last.filter(|byte| *byte != b'*');
        while depth > 0 {
            let Some(byte) = self.next_byte()? else { break };
            match (last, byte) {
                (Some(b'*'), b'/') => depth -= 1,
                (Some(b'/'), b'*') => depth += 1,
                _ => {
                    last = Some(byte);
                    continue;
                }
            }
            last = None;
        }
        Ok(())
    }

    /// Letters, digits and what numbers and names may hold.
    fn word(&mut self, first: u8) -> io::Result<String> {
        let mut word = vec![first];
        let is_number = !(first.is_ascii_alphabetic() || first == b'_' || first >= 0x80);
        while let Some(byte) = self.peek()? {
            let after_exponent = matches!(word.last(), Some(b'e' | b'E'));
            let goes_on = byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'$')
                || byte >= 0x80
                || is_number && (byte == b'.' || after_exponent && matches!(byte, b'+' | b'-'));
            if !goes_on {
                break;
            }
            self.next_byte()?;
            if word.len() < MAX_TOKEN {
                word.push(byte);
            }
        }
        Ok(String::from_utf8_lossy(&word).into_owned())
    }

    /// What stands between quotes, behind the first.
    fn quoted(&mut self, quote: u8, backslashes: bool) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        while let Some(byte) = self.next_byte()? {
            let byte = match byte {
                byte if byte == quote => {
                    if self.peek()? != Some(quote) {
                        break;
                    }
                    self.next_byte()?;
                    quote
                }
                b'\\' if backslashes => {
                    self.escape(&mut text)?;
                    text.truncate(MAX_TOKEN);
                    continue;
                }
                byte => byte,
            };
            if text.len() < MAX_TOKEN {
                text.push(byte);
            }
        }
        Ok(text)
    }

    /// What follows a backslash in `E'…'`.
    fn escape(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let Some(byte) = self.next_byte()? else { return Ok(()) };
        match byte {
            b'x' => match self.digits(16, 2)? {
                Some(code) => text.push(code as u8),
                None => text.push(b'x'),
            },
            b'u' | b'U' => {
                let code = self.digits(16, if byte == b'u' { 4 } else { 8 })?;
                let character = code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            b'0'..=b'7' => {
                let first = u32::from(byte - b'0');
                let (second, third) = (self.digits(8, 1)?, None);
                let code = second.map_or(first, |digit| first * 8 + digit);
                let third = if second.is_some() { self.digits(8, 1)? } else { third };
                text.push(third.map_or(code, |digit| code * 8 + digit) as u8);
            }
            other => text.push(control(other)),
        }
        Ok(())
    }

    /// Up to `most` digits of that base.
    fn digits(&mut self, base: u32, most: usize) -> io::Result<Option<u32>> {
        let mut number: Option<u32> = None;
        for _ in 0..most {
            let digit = self.peek()?.and_then(|byte| char::from(byte).to_digit(base));
            let Some(digit) = digit else { break };
            self.next_byte()?;
            number = Some(number.unwrap_or(0).wrapping_mul(base).wrapping_add(digit));
        }
        Ok(number)
    }

    /// `$$…$$` and `$tag$…$tag$`: bodies of functions, never a value of ours. Also `$1`.
    fn dollar(&mut self) -> io::Result<Token> {
        let mut tag = vec![b'$'];
        while let Some(byte) = self.peek()? {
            match byte {
                b'$' => {
                    self.next_byte()?;
                    tag.push(b'$');
                    break;
                }
                byte if tag.len() <= MAX_TAG
                    && (byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80) =>
                {
                    self.next_byte()?;
                    tag.push(byte);
                }
                _ => return Ok(Token::Mark(b'$')),
            }
        }
        let mut last: Vec<u8> = Vec::with_capacity(tag.len() + 1);
        while last != tag {
            let Some(byte) = self.next_byte()? else { break };
            last.push(byte);
            if last.len() > tag.len() {
                last.remove(0);
            }
        }
        Ok(Token::Mark(b'$'))
    }
}

/// The character that a letter behind a backslash means; any other means itself.
pub fn control(letter: u8) -> u8 {
    match letter {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Vec<Token> {
        let mut input = sql.as_bytes();
        let mut tokens = Tokens::new(&mut input);
        let mut all = Vec::new();
        loop {
            match tokens.next().unwrap() {
                Token::End => return all,
                token => all.push(token),
            }
        }
    }

    fn text(text: &str) -> Token {
        Token::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn strings_are_unescaped_as_postgresql_does() {
        for (sql, expected) in [
            ("'it''s'", "it's"),
            (r"'a\nb'", r"a\nb"),
            (r"E'a\nb\\\'c'", "a\nb\\'c"),
            (r"e'\x41\101\u00e9\7'", "AAé\u{7}"),
            ("'two\nlines; -- no comment'", "two\nlines; -- no comment"),
        ] {
            assert_eq!(tokens(sql), [text(expected)], "{sql}");
        }
    }

    #[test]
    fn comments_dollar_quotes_and_marks_are_told_apart() {
        let word = |word: &str| Token::Word(word.to_owned());
        assert_eq!(
            tokens("-- a; b\nSELECT /* x /* y */ ; */ \"Od\"\"d\" $f$ '; $$ $f$ -1.5e-3, 7;"),
            [
                word("select"),
                Token::Quoted("Od\"d".to_owned()),
                Token::Mark(b'$'),
                Token::Number("-1.5e-3".to_owned()),
                Token::Mark(b','),
                Token::Number("7".to_owned()),
                Token::Semicolon,
            ]
        );
    }
}
