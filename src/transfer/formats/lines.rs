//! Reading of lines and other pieces whose length is not bounded by the file.

use std::io;
use std::io::{BufRead, Read};

/// Outcome of [`read_line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRead {
    Complete,
    /// The line was cut to the maximum length, and its rest was skipped.
    TooLong,
    EndOfFile,
}

/// Reads a line of at most `max` bytes into `line`, without its end.
pub fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>, max: usize) -> io::Result<LineRead> {
    line.clear();
    let count = (&mut *input).take(max as u64 + 1).read_until(b'\n', line)?;
    if count == 0 {
        return Ok(LineRead::EndOfFile);
    }
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
        return Ok(LineRead::Complete);
    }
    if count <= max {
        return Ok(LineRead::Complete);
    }
    line.truncate(max);
    input.skip_until(b'\n')?;
    Ok(LineRead::TooLong)
}

/// Removes the byte order mark that some editors write at the beginning of a file.
pub fn strip_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Maximum size of a piece that [`PieceReader`] reads, in bytes.
const MAX_PIECE: usize = 4 << 20;

/// Reader that counts lines and fails when a piece of the input is too long to be kept in memory.
pub struct PieceReader<R> {
    input: R,
    line: u64,
    piece_bytes: usize,
}

impl<R: BufRead> PieceReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, line: 1, piece_bytes: 0 }
    }

    /// Starts a new piece: 4 MiB can be read from here on.
    pub fn begin_piece(&mut self) {
        self.piece_bytes = 0;
    }

    /// Returns whether reading failed because the piece is too long.
    pub fn is_piece_too_long(&self) -> bool {
        self.piece_bytes > MAX_PIECE
    }

    pub fn line(&self) -> u64 {
        self.line
    }
}

impl<R: BufRead> Read for PieceReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for PieceReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece_bytes > MAX_PIECE {
            return Err(io::Error::other("an element is longer than 4 MiB"));
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // The consumed bytes are in the buffer, so this does not read and cannot fail.
        if let Ok(available) = self.input.fill_buf() {
            let consumed = available.get(..count).unwrap_or_default();
            self.line += consumed.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        self.piece_bytes += count;
        self.input.consume(count);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_the_next_line_is_complete() {
        let mut input = io::BufReader::with_capacity(3, &b"one\r\n\nseven..\r\ntoo long\nlast"[..]);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        loop {
            let outcome = read_line(&mut input, &mut line, 7).unwrap();
            if outcome == LineRead::EndOfFile {
                break;
            }
            lines.push((outcome, String::from_utf8_lossy(&line).into_owned()));
        }
        let expected = [
            (LineRead::Complete, "one"),
            (LineRead::Complete, ""),
            (LineRead::TooLong, "seven.."),
            (LineRead::TooLong, "too lon"),
            (LineRead::Complete, "last"),
        ];
        assert_eq!(lines, expected.map(|(outcome, text)| (outcome, text.to_owned())));
    }
}
