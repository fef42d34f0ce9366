//! Lines of a file that may be longer than memory: what is too long is dropped, and said.

use std::io;
use std::io::{BufRead, Read};

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Whole,
    /// Its beginning is there, the rest was dropped.
    TooLong,
    /// There is none any more.
    End,
}

/// Reads a line, without its end, into `line`.
///
/// # Errors
/// The input's.
pub fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<Line> {
    line.clear();
    let mut read_anything = false;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if available.is_empty() {
            let kept = if line.len() > max { Line::TooLong } else { Line::Whole };
            return Ok(if read_anything { kept } else { Line::End });
        }
        read_anything = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = &available[..end.unwrap_or(available.len())];
        // One byte more than may be, so that it shows.
        let room = (max + 1).saturating_sub(line.len());
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            if line.len() > max {
                line.truncate(max);
                return Ok(Line::TooLong);
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Line::Whole);
        }
    }
}

/// Longest piece that is read in one go, in bytes: see [`Counted::begin_piece`].
const MAX_PIECE: usize = 4 << 20;

/// Counts the lines that were read from an input, and bounds what is read in one go.
pub struct Counted<'a> {
    input: &'a mut dyn BufRead,
    line: u64,
    piece: usize,
}

impl<'a> Counted<'a> {
    /// Starts at line 1.
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, line: 1, piece: 0 }
    }

    /// From here on 4 MiB can be read, then an error comes: whoever gathers a piece of the
    /// input in memory calls this when the next one begins.
    pub fn begin_piece(&mut self) {
        self.piece = 0;
    }

    /// Reports whether the piece that was begun is too long.
    pub fn is_piece_too_long(&self) -> bool {
        self.piece > MAX_PIECE
    }

    /// The line that is read next.
    pub fn line(&self) -> u64 {
        self.line
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.input.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece > MAX_PIECE {
            return Err(io::Error::other("what stands there has no end within 4 MiB"));
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed lies in the buffer, so this reads nothing and cannot fail.
        if let Ok(available) = self.input.fill_buf() {
            let used = available.get(..count).unwrap_or_default();
            self.line += used.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.piece += count;
        self.input.consume(count);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_what_is_too_long_is_said() {
        let mut input = io::BufReader::with_capacity(3, &b"one\r\n\ntoo long\nlast"[..]);
        let (mut line, mut all) = (Vec::new(), Vec::new());
        loop {
            let end = read_line(&mut input, &mut line, 5).unwrap();
            if end == Line::End {
                break;
            }
            all.push((end, String::from_utf8_lossy(&line).into_owned()));
        }
        let expected =
            [(Line::Whole, "one"), (Line::Whole, ""), (Line::TooLong, "too l"), (Line::Whole, "last")];
        assert_eq!(all, expected.map(|(end, text)| (end, text.to_owned())));
    }
}
