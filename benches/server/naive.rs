//! *Naive*: what the server's dearer questions cost when SQLite is asked as one would at first:
//! plain SQL over the raw rows, with the same indexes, each statement by itself.
//!
//! The median is a sort, a plot a `group by`, the correlation two subqueries for each coffee. What no SQL
//! gives (days in a zone other than this machine's, the lag, intervals) is left out: naive does less.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

/// Statements that answer a question, over readings or coffees from `:since` up to `:until`.
pub struct Naive(&'static [&'static str]);

const SUMMARY: &str = "select count(*), min(bpm), max(bpm), avg(bpm), avg(bpm * bpm) - avg(bpm) * avg(bpm)
    from heart_rate_logs where timestamp >= :since and timestamp < :until";
const MEDIAN: &str = "select avg(bpm) from (
    select bpm from heart_rate_logs where timestamp >= :since and timestamp < :until order by bpm
    limit 2 - (select count(*) from heart_rate_logs where timestamp >= :since and timestamp < :until) % 2
    offset (select (count(*) - 1) / 2 from heart_rate_logs where timestamp >= :since and timestamp < :until))";

pub const STATISTICS: Naive = Naive(&[
    SUMMARY,
    MEDIAN,
    "select context, count(*), avg(bpm), min(bpm), max(bpm) from heart_rate_logs
     where timestamp >= :since and timestamp < :until group by context",
]);
pub const RANGE: Naive = Naive(&[
    SUMMARY,
    MEDIAN,
    "select (timestamp - :since) * 500 / (:until - :since) as slice, count(*), min(bpm), avg(bpm), max(bpm)
     from heart_rate_logs where timestamp >= :since and timestamp < :until group by slice",
    "select * from heart_rate_logs where timestamp >= :since and timestamp < :until order by timestamp limit 100",
]);
pub const CORRELATION: Naive = Naive(&["select timestamp, caffeine_mg, coffee_type,
        (select avg(bpm) from heart_rate_logs
         where timestamp >= drunk.timestamp + 900000000 and timestamp < drunk.timestamp + 7200000000
           and context not in ('active', 'exercise', 'panic', 'sleeping', 'stressed')) as after,
        (select avg(bpm) from heart_rate_logs
         where timestamp >= drunk.timestamp - 7200000000 and timestamp < drunk.timestamp - 900000000
           and context not in ('active', 'exercise', 'panic', 'sleeping', 'stressed')) as baseline
     from coffee_logs as drunk where timestamp >= :since and timestamp < :until order by timestamp desc"]);
pub const COFFEES: Naive = Naive(&[
    "select count(*), sum(caffeine_mg), min(caffeine_mg), max(caffeine_mg) from coffee_logs
     where timestamp >= :since and timestamp < :until",
    "select coffee_type, count(*), sum(caffeine_mg), max(timestamp) from coffee_logs
     where timestamp >= :since and timestamp < :until group by coffee_type",
    "select strftime('%H', timestamp / 1000000, 'unixepoch', 'localtime') as hour, count(*), sum(caffeine_mg)
     from coffee_logs where timestamp >= :since and timestamp < :until group by hour",
    "select count(distinct date(timestamp / 1000000, 'unixepoch', 'localtime')) from coffee_logs
     where timestamp >= :since and timestamp < :until and caffeine_mg > 0",
]);
pub const TODAY: Naive = Naive(&["select count(*), sum(caffeine_mg) from coffee_logs
     where timestamp >= :since and timestamp < :until"]);
pub const CURRENT: Naive = Naive(&["select * from heart_rate_logs order by timestamp desc limit 1"]);
pub const PAGE: Naive = Naive(&["select * from heart_rate_logs order by timestamp desc, id desc limit 50"]);
/// `:since` is the offset.
pub const DEEP_PAGE: Naive =
    Naive(&["select * from heart_rate_logs order by timestamp desc, id desc limit 50 offset :since"]);

/// Opens a database to be asked naively.
///
/// # Errors
/// SQLite's own.
pub fn open(database: &Path) -> Result<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| database.display().to_string())
}

impl Naive {
    /// Asks, and reads every row of the answers.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn ask(&self, connection: &Connection, since: i64, until: i64) -> Result<()> {
        for sql in self.0 {
            let mut statement = connection.prepare(sql)?;
            for (name, value) in [(":since", since), (":until", until)] {
                if let Some(place) = statement.parameter_index(name)? {
                    statement.raw_bind_parameter(place, value)?;
                }
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                row.get_ref(0)?;
            }
        }
        Ok(())
    }
}
