//! Reader of JSON that fails at a string that is too long: a JSON parser would hold all of it in memory.

use std::io;
use std::io::Read;

/// Maximum length of a string, in bytes.
pub const MAX_STRING_BYTES: usize = 64 * 1024;

/// Reader that passes JSON on.
pub struct BoundedStrings<R> {
    inner: R,
    state: StringState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StringState {
    Outside,
    /// Within a string, with the number of its bytes so far.
    Inside(usize),
    /// Within a string, after a backslash.
    Escaped(usize),
}

impl<R: Read> BoundedStrings<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, state: StringState::Outside }
    }
}

impl<R: Read> Read for BoundedStrings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for byte in buffer.iter().take(count) {
            self.state = match (self.state, byte) {
                (StringState::Outside, b'"') => StringState::Inside(0),
                (StringState::Outside, _) | (StringState::Inside(_), b'"') => StringState::Outside,
                (StringState::Inside(length), _) if length >= MAX_STRING_BYTES => {
                    let message = format!("a string is longer than {MAX_STRING_BYTES} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                (StringState::Inside(length), b'\\') => StringState::Escaped(length + 1),
                (StringState::Inside(length) | StringState::Escaped(length), _) => {
                    StringState::Inside(length + 1)
                }
            };
        }
        Ok(count)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<String> {
        let mut passed = String::new();
        BoundedStrings::new(text.as_bytes()).read_to_string(&mut passed).map(|_| passed)
    }

    #[test]
    fn a_string_that_is_too_long_is_an_error_whatever_it_contains() {
        for part in ["a", r#"\""#, r"\\", "é"] {
            let longest = part.repeat(MAX_STRING_BYTES / part.len());
            let whole = format!(r#"{{"{longest}": ["{longest}", 1]}}"#);
            assert_eq!(read(&whole).unwrap(), whole);
            let error = read(&format!(r#"["x", "{longest}{part}"]"#)).unwrap_err();
            assert_eq!(error.to_string(), "a string is longer than 65536 bytes");
        }
    }
}
