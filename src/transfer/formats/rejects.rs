//! The file of rejected rows: CSV with line, reason and what stood there.

use std::io;
use std::io::Write;

use crate::transfer::formats::rows::Rejection;

/// Writes rejected rows.
pub struct Rejects<W: Write>(csv::Writer<W>);

impl<W: Write> Rejects<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(["line", "reason", "content"])?;
        Ok(Self(writer))
    }

    /// Adds one.
    ///
    /// # Errors
    /// The output's.
    pub fn add(&mut self, rejection: &Rejection) -> io::Result<()> {
        let line = rejection.line.to_string();
        Ok(self.0.write_record([&line, &rejection.reason, &rejection.content])?)
    }

    /// Hands everything to the output.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}
