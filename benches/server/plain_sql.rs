//! Plain SQL: the statements that one would write first for the slower routes, over the rows and without
//! rollups, with the same indexes.
//!
//! The median is a sort, a plot a `group by`, and the correlation two subqueries per coffee. Plain SQL omits
//! what SQL cannot express: days in another time zone, the lag and the intervals.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

/// Statements with the result of a route, for the entries from `:since` up to `:until`.
pub struct PlainSql(&'static [&'static str]);

const SUMMARY: &str = "select count(*), min(bpm), max(bpm), avg(bpm), avg(bpm * bpm) - avg(bpm) * avg(bpm)
    from heart_rate_logs where timestamp >= :since and timestamp < :until";
const MEDIAN: &str = "select avg(bpm) from (
    select bpm from heart_rate_logs where timestamp >= :since and timestamp < :until order by bpm
    limit 2 - (select count(*) from heart_rate_logs where timestamp >= :since and timestamp < :until) % 2
    offset (select (count(*) - 1) / 2 from heart_rate_logs where timestamp >= :since and timestamp < :until))";

pub const STATISTICS: PlainSql = PlainSql(&[
    SUMMARY,
    MEDIAN,
    "select context, count(*), avg(bpm), min(bpm), max(bpm) from heart_rate_logs
     where timestamp >= :since and timestamp < :until group by context",
]);
pub const RANGE: PlainSql = PlainSql(&[
    SUMMARY,
    MEDIAN,
    "select (timestamp - :since) * 500 / (:until - :since) as slice, count(*), min(bpm), avg(bpm), max(bpm)
     from heart_rate_logs where timestamp >= :since and timestamp < :until group by slice",
    "select * from heart_rate_logs where timestamp >= :since and timestamp < :until order by timestamp limit 100",
]);
pub const CORRELATION: PlainSql = PlainSql(&["select timestamp, caffeine_mg, coffee_type,
        (select avg(bpm) from heart_rate_logs
         where timestamp >= coffee.timestamp + 900000000 and timestamp < coffee.timestamp + 7200000000
           and context not in ('active', 'exercise', 'panic', 'sleeping', 'stressed')) as after,
        (select avg(bpm) from heart_rate_logs
         where timestamp >= coffee.timestamp - 7200000000 and timestamp < coffee.timestamp - 900000000
           and context not in ('active', 'exercise', 'panic', 'sleeping', 'stressed')) as baseline
     from coffee_logs as coffee where timestamp >= :since and timestamp < :until order by timestamp desc"]);
pub const COFFEES: PlainSql = PlainSql(&[
    "select count(*), sum(caffeine_mg), min(caffeine_mg), max(caffeine_mg) from coffee_logs
     where timestamp >= :since and timestamp < :until",
    "select coffee_type, count(*), sum(caffeine_mg), max(timestamp) from coffee_logs
     where timestamp >= :since and timestamp < :until group by coffee_type",
    "select strftime('%H', timestamp / 1000000, 'unixepoch', 'localtime') as hour, count(*), sum(caffeine_mg)
     from coffee_logs where timestamp >= :since and timestamp < :until group by hour",
    "select count(distinct date(timestamp / 1000000, 'unixepoch', 'localtime')) from coffee_logs
     where timestamp >= :since and timestamp < :until and caffeine_mg > 0",
]);
pub const TODAY: PlainSql = PlainSql(&["select count(*), sum(caffeine_mg) from coffee_logs
     where timestamp >= :since and timestamp < :until"]);
pub const CURRENT: PlainSql = PlainSql(&["select * from heart_rate_logs order by timestamp desc limit 1"]);
pub const PAGE: PlainSql =
    PlainSql(&["select * from heart_rate_logs order by timestamp desc, id desc limit 50"]);
/// `:since` is the offset of the page.
pub const DEEP_PAGE: PlainSql =
    PlainSql(&["select * from heart_rate_logs order by timestamp desc, id desc limit 50 offset :since"]);

/// Opens a database for reading.
pub fn open(database: &Path) -> Result<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| database.display().to_string())
}

impl PlainSql {
    /// Executes the statements and reads every row.
    pub fn run(&self, connection: &Connection, since: i64, until: i64) -> Result<()> {
        for sql in self.0 {
            let mut statement = connection.prepare(sql)?;
            for (name, value) in [(":since", since), (":until", until)] {
                if let Some(index) = statement.parameter_index(name)? {
                    statement.raw_bind_parameter(index, value)?;
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
