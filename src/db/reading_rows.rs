//! Access to rows of heart-rate readings in time order.

use rusqlite::{Connection, Row};

use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Filter of a list of readings, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingFilter {
    /// Start of the period, inclusive; `until` is exclusive.
    pub since: Timestamp,
    pub until: Timestamp,
    pub context: Option<String>,
    pub limit: u32,
    pub offset: u32,
}

/// Passes every reading of a period to `each`, in time order.
pub fn each_reading(
    c: &Connection,
    start: Timestamp,
    end: Timestamp,
    each: impl FnMut(Timestamp, Bpm, Option<&str>),
) -> rusqlite::Result<()> {
    each_within(c, start.micros(), end.micros(), each)
}

/// Like [`each_reading`], in microseconds since 1970, without the bounds of a timestamp.
pub fn each_within(
    c: &Connection,
    start: i64,
    end: i64,
    mut each: impl FnMut(Timestamp, Bpm, Option<&str>),
) -> rusqlite::Result<()> {
    let mut query = c.prepare_cached(
        "select timestamp, bpm, context from heart_rate_logs indexed by heart_rate_logs_by_time
         where timestamp >= ? and timestamp < ? order by timestamp",
    )?;
    let mut rows = query.query([start, end])?;
    while let Some(row) = rows.next()? {
        each(Timestamp::clamped(row.get(0)?), bpm(row, 1)?, row.get_ref(2)?.as_str_or_null()?);
    }
    Ok(())
}
pub fn bpm(row: &Row<'_>, column: usize) -> rusqlite::Result<Bpm> {
    let value = row.get(column)?;
    Bpm::new(value).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, value))
}
