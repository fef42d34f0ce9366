//! Access to rows of heart-rate readings in time order.

use rusqlite::{Connection, Row};

use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Passes the readings from `start` to `end` (microseconds since 1970) to `each`, in time order.
pub fn each_reading(
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

/// Returns the heart rate in a column.
///
/// # Errors
/// A value that is no heart rate.
pub fn bpm(row: &Row<'_>, column: usize) -> rusqlite::Result<Bpm> {
    let value = row.get(column)?;
    Bpm::new(value).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, value))
}
