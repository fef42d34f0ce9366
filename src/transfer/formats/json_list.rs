//! Elements of a JSON list, one at a time, so that memory does not grow with the list. An element that is not valid JSON, or
//! too long, does not affect the others.

use std::io;
use std::io::BufRead;

/// Maximum length of an element, in bytes.
pub const MAX_ELEMENT: usize = 64 * 1024;

/// Reader of the elements of a list.
pub struct JsonListReader<'i> {
    input: &'i mut dyn BufRead,
    /// Line of the next byte, counted from 1.
    line: u64,
    element: Vec<u8>,
    state: ListState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListState {
    Unopened,
    Open,
    Closed,
}

/// Outcome of reading an element.
#[derive(Debug, PartialEq, Eq)]
pub enum ListElement<'e> {
    /// The element, without blanks around it, and the line on which it begins.
    Complete { line: u64, text: &'e [u8] },
    /// Beginning of an element that is longer than [`MAX_ELEMENT`].
    TooLong { line: u64, text: &'e [u8] },
    /// The list has ended.
    End,
    /// The input is not a list, or ends within it.
    Broken { line: u64, reason: &'static str },
}

/// Position within an element.
#[derive(Clone, Copy, Default)]
struct Nesting {
    /// Number of open lists and objects.
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Returns whether the element ends before this byte.
    fn is_end(self, byte: u8) -> bool {
        self.depth == 0 && !self.is_in_string && matches!(byte, b',' | b']')
    }

    fn advance(&mut self, byte: u8) {
        if self.is_in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl<'i> JsonListReader<'i> {
    pub fn new(input: &'i mut dyn BufRead) -> Self {
        Self { input, line: 1, element: Vec::new(), state: ListState::Unopened }
    }

    /// Reads the next element. Empty ones, as after a trailing comma, are left out.
    pub fn read_next(&mut self) -> io::Result<ListElement<'_>> {
        if self.state == ListState::Unopened {
            if self.skip_blanks()? != Some(b'[') {
                return Ok(ListElement::Broken { line: self.line, reason: "this is not a JSON list" });
            }
            self.input.consume(1);
            self.state = ListState::Open;
        }
        while self.state == ListState::Open {
            self.skip_blanks()?;
            let line = self.line;
            let (length, end) = self.read_element()?;
            match end {
                None => {
                    let reason = "the end of the list is missing";
                    return Ok(ListElement::Broken { line, reason });
                }
                Some(b']') => self.state = ListState::Closed,
                Some(_) => {}
            }
            if length > MAX_ELEMENT {
                return Ok(ListElement::TooLong { line, text: &self.element });
            }
            if length > 0 {
                return Ok(ListElement::Complete { line, text: self.element.trim_ascii_end() });
            }
        }
        Ok(ListElement::End)
    }

    /// Skips blanks and byte order marks. Returns the next byte.
    fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = self.input.fill_buf()?;
            let is_blank = |byte: &u8| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte);
            let count = available.iter().take_while(|byte| is_blank(byte)).count();
            let next = available.get(count).copied();
            let is_end = available.is_empty();
            self.line += count_lines(&available[..count]);
            self.input.consume(count);
            if is_end || next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Reads an element and the byte that ends it. Returns its length and this byte, or `None` at the end of the input.
    fn read_element(&mut self) -> io::Result<(usize, Option<u8>)> {
        self.element.clear();
        let (mut nesting, mut length) = (Nesting::default(), 0_usize);
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok((length, None));
            }
            let end = available.iter().position(|byte| {
                let is_end = nesting.is_end(*byte);
                nesting.advance(*byte);
                is_end
            });
            let piece = &available[..end.unwrap_or(available.len())];
            length = length.saturating_add(piece.len());
            let kept = piece.len().min(MAX_ELEMENT - self.element.len());
            self.element.extend_from_slice(&piece[..kept]);
            self.line += count_lines(piece);
            let ended_by = end.map(|end| available[end]);
            let consumed = piece.len() + usize::from(ended_by.is_some());
            self.input.consume(consumed);
            if ended_by.is_some() {
                return Ok((length, ended_by));
            }
        }
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Returns the elements with their lines, read through a buffer of this size.
    fn elements(text: &str, buffer: usize) -> Vec<String> {
        let mut input = BufReader::with_capacity(buffer, text.as_bytes());
        let mut list = JsonListReader::new(&mut input);
        let mut found = Vec::new();
        loop {
            let element = list.read_next().unwrap();
            let (line, text) = match element {
                ListElement::Complete { line, text } => (line, String::from_utf8_lossy(text).into_owned()),
                ListElement::TooLong { line, text } => (line, format!("{} bytes", text.len())),
                ListElement::Broken { line, reason } => (line, reason.to_owned()),
                ListElement::End => return found,
            };
            let is_broken = matches!(element, ListElement::Broken { .. });
            found.push(format!("{line}: {text}"));
            if is_broken {
                return found;
            }
        }
    }

    #[test]
    fn elements_are_found_in_any_form_and_across_buffers() {
        let long = format!("[1, \"{}\", 2]", "x".repeat(MAX_ELEMENT));
        for (text, expected) in [
            ("[]", &[][..]),
            ("\u{feff} [\n\n]\n", &[]),
            ("[1,2]", &["1: 1", "1: 2"]),
            (
                "[{\n \"a\": \"],}\\\"\",\n \"b\": [1, {}]\n}, {\n}\n ,]",
                &["1: {\n \"a\": \"],}\\\"\",\n \"b\": [1, {}]\n}", "4: {\n}"],
            ),
            ("[}, 1]", &["1: }", "1: 1"]),
            ("[1] trailing", &["1: 1"]),
            (&long, &["1: 1", "1: 65536 bytes", "1: 2"]),
            ("[1, 2", &["1: 1", "1: the end of the list is missing"]),
            ("[{\"a\": \"", &["1: the end of the list is missing"]),
            ("[\n", &["2: the end of the list is missing"]),
            ("\n{}", &["2: this is not a JSON list"]),
            ("", &["1: this is not a JSON list"]),
        ] {
            for buffer in [1, 2, 7, 4096] {
                assert_eq!(elements(text, buffer), expected, "{text:.40} with a buffer of {buffer}");
            }
        }
    }
}
