//! Errors of the parts of an input, such as the tables of a database or the files of a folder: a part that cannot be read
//! does not prevent reading the others.

use std::fmt;

use crate::transfer::formats::sink::ReadError;

/// Errors of the parts that were read so far.
#[derive(Debug, Default)]
pub struct PartErrors {
    first: Option<ReadError>,
    count: u64,
}

impl PartErrors {
    /// Records the error of a part.
    ///
    /// # Errors
    /// The receiver of the rows was dropped: no other part can be read either.
    pub fn record(&mut self, part: impl fmt::Display, read: Result<(), ReadError>) -> Result<(), ReadError> {
        match read {
            Ok(()) => {}
            Err(ReadError::SinkClosed) => return Err(ReadError::SinkClosed),
            Err(error) => {
                self.count += 1;
                self.first.get_or_insert_with(|| ReadError::Unusable(format!("{part}: {error}")));
            }
        }
        Ok(())
    }

    /// Returns the first error, with the number of the others.
    pub fn finish(self) -> Result<(), ReadError> {
        match (self.first, self.count) {
            (None, _) => Ok(()),
            (Some(first), 1) => Err(first),
            (Some(first), count) => {
                let others = if count == 2 { "another one" } else { &format!("{} others", count - 1) };
                Err(ReadError::Unusable(format!("{first} (and {others} could not be read completely)")))
            }
        }
    }
}
