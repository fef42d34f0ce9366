//! Rows with any columns as text: aligned for people, or CSV.
//!
//! Memory does not grow with the rows: the first ones set how wide a column is, and a later
//! value that is wider moves what stands right of it.

use std::io;
use std::io::Write;

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In columns, numbers to the right; what could steer a terminal is escaped.
    Aligned,
    /// RFC 4180 with a header, lines ending in `\n`, values as they are; null is empty.
    Csv,
}

/// So many rows set how wide a column is.
const MEASURED: usize = 1000;

/// Writes the rows of one query after the other.
pub struct TableWriter<W: Write> {
    to: W,
    style: Style,
    /// Rows that wait for the width of their columns, the header first; empty once it is known.
    waiting: Vec<Vec<String>>,
    columns: Vec<ColumnLayout>,
    tables: u64,
}

/// How wide a column is, and whether only numbers stand in it.
#[derive(Clone, Copy)]
struct ColumnLayout {
    width: usize,
    is_number: bool,
}

impl<W: Write> TableWriter<W> {
    /// Begins. Writes in small pieces, so `to` should gather them.
    pub fn new(to: W, style: Style) -> Self {
        Self { to, style, waiting: Vec::new(), columns: Vec::new(), tables: 0 }
    }

    /// A query's rows begin, with these columns.
    ///
    /// # Errors
    /// Those of the place written to.
    pub fn begin(&mut self, columns: &[String]) -> io::Result<()> {
        if self.tables > 0 {
            writeln!(self.to)?;
        }
        self.tables += 1;
        match self.style {
            Style::Csv => self.write_csv(columns.iter().map(String::as_str)),
            Style::Aligned => {
                self.columns.clear();
                self.waiting = vec![columns.iter().map(|name| printable(name)).collect()];
                Ok(())
            }
        }
    }

    /// Writes one row.
    ///
    /// # Errors
    /// Those of the place written to.
    pub fn row(&mut self, row: &[Option<String>]) -> io::Result<()> {
        let values = row.iter().map(|value| value.as_deref().unwrap_or_default());
        if self.style == Style::Csv {
            return self.write_csv(values);
        }
        let row: Vec<String> = values.map(printable).collect();
        if !self.columns.is_empty() {
            return self.write_aligned(&row);
        }
        self.waiting.push(row);
        if self.waiting.len() > MEASURED { self.measure() } else { Ok(()) }
    }

    /// The query has no more rows.
    ///
    /// # Errors
    /// Those of the place written to.
    pub fn end(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.measure()?;
        }
        self.to.flush()
    }

    fn measure(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some((header, rows)) = waiting.split_first() else { return Ok(()) };
        let column = |n: usize| ColumnLayout {
            width: waiting.iter().filter_map(|row| row.get(n)).map(|v| v.chars().count()).max().unwrap_or(0),
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

/// On one line, and nothing that a terminal would obey.
fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
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
    fn numbers_stand_to_the_right_and_text_to_the_left() {
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
    fn what_could_steer_a_terminal_is_escaped_and_csv_has_it_as_it_is() {
        let rows: [&[Option<&str>]; 2] =
            [&[Some("a\nb\u{1b}[31m"), Some("say \"hi\", you")], &[None, Some("")]];
        let aligned = written(Style::Aligned, &["notes", "more"], &rows);
        assert!(aligned.contains("a\\nb\\u{1b}[31m  say \"hi\", you\n"), "{aligned}");
        let csv = written(Style::Csv, &["notes", "more"], &rows);
        assert_eq!(csv, "notes,more\n\"a\nb\u{1b}[31m\",\"say \"\"hi\"\", you\"\n,\n");
    }

    #[test]
    fn a_wide_value_after_many_rows_is_written_whole() {
        let mut writer = TableWriter::new(Vec::new(), Style::Aligned);
        writer.begin(&["n".to_owned(), "text".to_owned()]).unwrap();
        for n in 0..MEASURED {
            writer.row(&[Some(n.to_string()), Some("x".to_owned())]).unwrap();
        }
        assert!(writer.waiting.is_empty(), "no more rows are kept");
        writer.row(&[Some("123456".to_owned()), Some("wide".repeat(10))]).unwrap();
        writer.end().unwrap();
        let text = String::from_utf8(writer.to).unwrap();
        assert_eq!(text.lines().count(), MEASURED + 3);
        assert!(text.ends_with(&format!("123456  {}\n", "wide".repeat(10))), "{text}");
    }
}
