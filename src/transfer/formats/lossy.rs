//! Text that is UTF-8 whatever comes: what is none is handed on as U+FFFD, so that a stray
//! byte in a name costs a character and not the entry.

use std::io;
use std::io::{BufRead, Read};
use std::str::from_utf8;

/// Stands for bytes that are no character.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Hands on its input as UTF-8.
pub struct Lossy<'a> {
    input: &'a mut dyn BufRead,
    /// How much of the input's buffer is known to be UTF-8.
    valid: usize,
    /// What comes before the input's buffer, and how much of it has been taken.
    instead: Vec<u8>,
    taken: usize,
}

impl<'a> Lossy<'a> {
    /// Reads from there.
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, valid: 0, instead: Vec::new(), taken: 0 }
    }

    fn look_on(&mut self) -> io::Result<()> {
        self.instead.clear();
        self.taken = 0;
        let available = self.input.fill_buf()?;
        match from_utf8(available) {
            Ok(_) => self.valid = available.len(),
            Err(e) if e.valid_up_to() > 0 => self.valid = e.valid_up_to(),
            Err(e) => match e.error_len() {
                Some(length) => {
                    self.input.consume(length);
                    self.instead.extend_from_slice(REPLACEMENT);
                }
                None => self.join()?,
            },
        }
        Ok(())
    }

    /// The buffer ends within a character: the rest of it is fetched.
    fn join(&mut self) -> io::Result<()> {
        let mut character = Vec::new();
        while let Some(byte) = self.input.fill_buf()?.first() {
            character.push(*byte);
            match from_utf8(&character) {
                Ok(_) => {
                    self.input.consume(1);
                    self.instead = character;
                    return Ok(());
                }
                Err(e) if e.error_len().is_none() => self.input.consume(1),
                Err(_) => break,
            }
        }
        self.instead.extend_from_slice(REPLACEMENT);
        Ok(())
    }
}

impl Read for Lossy<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Lossy<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.instead.len() && self.valid == 0 {
            self.look_on()?;
        }
        match self.instead.get(self.taken..) {
            Some(instead) if !instead.is_empty() => Ok(instead),
            _ => Ok(self.input.fill_buf()?.get(..self.valid).unwrap_or_default()),
        }
    }

    fn consume(&mut self, count: usize) {
        if self.taken < self.instead.len() {
            self.taken += count;
        } else {
            self.valid -= count;
            self.input.consume(count);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_the_standard_library_makes_it_wherever_buffers_end() {
        let texts: [&[u8]; 7] = [
            b"",
            "a é € 😀".as_bytes(),
            b"a\xffb\xc3",
            b"\xe2\x82A\xe2\x82",
            b"\xf0\x9f\x98\xf0\x9f\x98\x80",
            b"\xc3\xc3\xa9\x80\x80",
            b"\xed\xa0\x80 \xf5 \xc0\xaf",
        ];
        for text in texts {
            for size in 1..=9 {
                let mut input = io::BufReader::with_capacity(size, text);
                let mut read = String::new();
                Lossy::new(&mut input).read_to_string(&mut read).unwrap();
                assert_eq!(read, String::from_utf8_lossy(text), "{text:?} by {size}");
            }
        }
    }
}
