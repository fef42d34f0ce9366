//! Tables as text: aligned columns or CSV.
//!
//! Memory does not grow with the rows: the first rows determine the column widths, and a wider value in a later row
//! shifts the columns to its right.

use std::io;
use std::io::Write;

use anyhow::Context;

use crate::commands::{Failure, print};
use crate::domain::text::escape_control;

/// Format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Aligned columns, numbers to the right, control characters escaped.
    Aligned,
    /// CSV (RFC 4180) with a header and lines that end in `\n`; null is empty.
    Csv,
}

/// Number of rows that determine the column widths.
const MEASURED_ROWS: usize = 1000;

/// Writer of one or more tables.
pub struct TableWriter<W: Write> {
    to: W,
    style: Style,
    /// Header and rows that are kept until the column widths are known.
    pending: Vec<Vec<String>>,
    columns: Vec<ColumnLayout>,
    tables: u64,
}

/// Width and alignment of a column.
#[derive(Clone, Copy)]
struct ColumnLayout {
    width: usize,
    is_number: bool,
}

impl<W: Write> TableWriter<W> {
    /// Creates a writer. `to` should be buffered.
    pub fn new(to: W, style: Style) -> Self {
        Self { to, style, pending: Vec::new(), columns: Vec::new(), tables: 0 }
    }

    pub fn begin(&mut self, columns: &[String]) -> io::Result<()> {
        if self.tables > 0 {
            writeln!(self.to)?;
        }
        self.tables += 1;
        match self.style {
            Style::Csv => self.write_csv(columns.iter().map(String::as_str)),
            Style::Aligned => {
                self.columns.clear();
                self.pending = vec![columns.iter().map(|name| escape_control(name)).collect()];
                Ok(())
            }
        }
    }

    pub fn row(&mut self, row: &[Option<String>]) -> io::Result<()> {
        let values = row.iter().map(|value| value.as_deref().unwrap_or_default());
        if self.style == Style::Csv {
            return self.write_csv(values);
        }
        let row: Vec<String> = values.map(escape_control).collect();
        if !self.columns.is_empty() {
            return self.write_aligned(&row);
        }
        self.pending.push(row);
        if self.pending.len() > MEASURED_ROWS { self.measure() } else { Ok(()) }
    }

    pub fn end(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.measure()?;
        }
        self.to.flush()
    }

    fn measure(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let Some((header, rows)) = pending.split_first() else { return Ok(()) };
        let column = |n: usize| ColumnLayout {
            width: pending.iter().filter_map(|row| row.get(n)).map(|v| v.chars().count()).max().unwrap_or(0),
            is_number: !rows.is_empty()
                && rows.iter().filter_map(|row| row.get(n)).all(|v| v.is_empty() || v.parse::<f64>().is_ok()),
        };
        self.columns = (0..header.len()).map(column).collect();
        self.write_aligned(header)?;
        let rule: Vec<String> = self.columns.iter().map(|column| "-".repeat(column.width)).collect();
        self.write_aligned(&rule)?;
        rows.iter().try_for_each(|row| self.write_aligned(row))
    }

    fn write_aligned(&mut self, row: &[String]) -> io::Result<()> {
        let mut line = String::new();
        for (n, (value, column)) in row.iter().zip(&self.columns).enumerate() {
            if n > 0 {
                line.push_str("  ");
            }
            match column.is_number {
                true => line.push_str(&format!("{value:>width$}", width = column.width)),
                false => line.push_str(&format!("{value:<width$}", width = column.width)),
            }
        }
        writeln!(self.to, "{}", line.trim_end())
    }

    fn write_csv<'a>(&mut self, values: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut line = csv::WriterBuilder::new().from_writer(Vec::new());
        line.write_record(values).map_err(io::Error::other)?;
        let line = line.into_inner().map_err(|e| io::Error::from(e.error().kind()))?;
        self.to.write_all(&line)
    }
}

/// Prints a table to standard output, aligned.
pub fn print_table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let mut table = TableWriter::new(Vec::new(), Style::Aligned);
    let written = table.begin(&columns.map(str::to_owned)).and_then(|()| {
        rows.into_iter().try_for_each(|row| table.row(&row.map(Some)))?;
        table.end()
    });
    written.context("the table could not be printed")?;
    print(String::from_utf8_lossy(&table.to).trim_end())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn written(style: Style, columns: &[&str], rows: &[&[Option<&str>]]) -> String {
        let mut writer = TableWriter::new(Vec::new(), style);
        let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
        writer.begin(&columns).unwrap();
        for row in rows {
            let row: Vec<Option<String>> = row.iter().map(|value| value.map(str::to_owned)).collect();
            writer.row(&row).unwrap();
        }
        writer.end().unwrap();
        String::from_utf8(writer.to).unwrap()
    }

    #[test]
    fn numbers_are_aligned_right_and_text_left() {
        let rows: [&[Option<&str>]; 3] = [
            &[Some("1"), Some("espresso"), Some("95.0")],
            &[Some("20"), None, Some("7.5")],
            &[Some("3"), Some("Kännchen"), None],
        ];
        let text = written(Style::Aligned, &["id", "coffee_type", "mg"], &rows);
        let expected = "id  coffee_type    mg\n--  -----------  ----\n 1  espresso     95.0\n20                7.5\n 3  Kännchen\n";
        assert_eq!(text, expected);
        assert_eq!(
            written(Style::Aligned, &["id", "coffee_type"], &[]),
            "id  coffee_type\n--  -----------\n"
        );
    }

    #[test]
    fn control_characters_are_escaped_except_in_csv() {
        let rows: [&[Option<&str>]; 2] =
            [&[Some("a\nb\u{1b}[31m"), Some("say \"hi\", you")], &[None, Some("")]];
        let aligned = written(Style::Aligned, &["notes", "more"], &rows);
        assert!(aligned.contains("a\\nb\\u{1b}[31m  say \"hi\", you\n"), "{aligned}");
        let csv = written(Style::Csv, &["notes", "more"], &rows);
        assert_eq!(csv, "notes,more\n\"a\nb\u{1b}[31m\",\"say \"\"hi\"\", you\"\n,\n");
    }

    #[test]
    fn a_wide_value_after_many_rows_is_not_truncated() {
        let mut writer = TableWriter::new(Vec::new(), Style::Aligned);
        writer.begin(&["n".to_owned(), "text".to_owned()]).unwrap();
        for n in 0..MEASURED_ROWS {
            writer.row(&[Some(n.to_string()), Some("x".to_owned())]).unwrap();
        }
        assert!(writer.pending.is_empty(), "no more rows are kept");
        writer.row(&[Some("123456".to_owned()), Some("wide".repeat(10))]).unwrap();
        writer.end().unwrap();
        let text = String::from_utf8(writer.to).unwrap();
        assert_eq!(text.lines().count(), MEASURED_ROWS + 3);
        assert!(text.ends_with(&format!("123456  {}\n", "wide".repeat(10))), "{text}");
    }
}
