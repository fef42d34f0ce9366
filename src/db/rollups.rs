//! Rollups of the readings by day, by 32 days and by hour, for queries over years.
//!
//! Triggers maintain them (`sql/0002_heart_rate_counts.sql`). Bulk writers turn the triggers off on their
//! connection and add to the rollups with [`RollupBuilder`] in the same transaction; the builder also marks
//! packed days as pending. [`differing_tables`] verifies the rollups; [`recount`] rebuilds them.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::db::entry_filter::EntryFilter;
use crate::db::packed_days;
use crate::db::packed_days::DayPacker;
use crate::db::reading_rows::{bpm, each_reading};
use crate::domain::grouped::Grouped;
use crate::domain::heart_rate::Bpm;
use crate::domain::statistics::{BpmAggregate, TimeBuckets};
use crate::domain::time::{DAY, HOUR, Timestamp};

/// Log2 of the days in a block.
const BLOCK_BITS: u32 = 5;
/// Days in a block.
const BLOCK: i64 = 1 << BLOCK_BITS;
/// Pending counts from which a builder is full: bounds memory for any number of contexts.
const MAX_PENDING: usize = 20_000;
/// First schema version with rollups.
const SINCE_VERSION: i64 = 2;

/// Names of the tables that are derived from the readings.
pub const TABLES: [&str; 4] =
    ["heart_rate_days", "heart_rate_blocks", "heart_rate_hours", packed_days::TABLE];

/// Reports whether a database of this schema version has rollups.
pub fn are_in(version: i64) -> bool {
    version >= SINCE_VERSION
}

/// Accumulates rollups of readings, which are written at once.
#[derive(Debug, Default)]
pub struct RollupBuilder {
    /// Counts by context, then by day and bpm.
    days: Grouped<BTreeMap<(i64, u16), u64>>,
    hours: BTreeMap<i64, BpmAggregate>,
    held: usize,
}

impl RollupBuilder {
    /// Creates a builder, and disables the triggers of this connection.
    pub fn without_triggers(connection: &Connection) -> rusqlite::Result<Self> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        Ok(Self::default())
    }

    /// Runs work that adds many readings, with a builder in the place of the triggers.
    pub fn during<T>(
        connection: &Connection,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        Self::without_triggers_during(connection, || {
            let mut counter = Self::default();
            let done = work(&mut counter)?;
            counter.write(connection)?;
            Ok(done)
        })
    }

    /// Runs work that writes the rollups itself, with the triggers disabled.
    pub fn without_triggers_during<T>(
        connection: &Connection,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        Self::without_triggers(connection)?;
        let _back = EnableTriggersOnDrop(connection);
        work()
    }

    pub fn add(&mut self, at: Timestamp, bpm: Bpm, context: Option<&str>) {
        let (day, hour) = (at.micros().div_euclid(DAY), at.micros().div_euclid(HOUR));
        let count = self.days.get_or_default(context).entry((day, bpm.get())).or_insert(0);
        self.held += usize::from(*count == 0);
        *count += 1;
        self.hours.entry(hour).or_default().add(bpm, 1);
    }

    /// Reports whether the pending counts should be written.
    pub fn is_full(&self) -> bool {
        self.held >= MAX_PENDING
    }

    /// Adds the pending counts to the tables.
    pub fn write(&mut self, c: &Connection) -> rusqlite::Result<()> {
        let Self { days, hours, .. } = std::mem::take(self);
        let mut to_days = c.prepare_cached(
            "insert into heart_rate_days values (?, ?, ?, ?)
             on conflict do update set count = count + excluded.count",
        )?;
        let mut to_blocks = c.prepare_cached(
            "insert into heart_rate_blocks values (?, ?, ?, ?)
             on conflict do update set count = count + excluded.count",
        )?;
        let mut changed_days = BTreeSet::new();
        for (context, counts) in days.into_entries() {
            let context = context.unwrap_or_default();
            let mut blocks: BTreeMap<(i64, u16), u64> = BTreeMap::new();
            for ((day, bpm), count) in counts {
                changed_days.insert(day);
                to_days.execute(params![day, context, bpm, count.cast_signed()])?;
                *blocks.entry((day >> BLOCK_BITS, bpm)).or_insert(0) += count;
            }
            for ((block, bpm), count) in blocks {
                to_blocks.execute(params![block, context, bpm, count.cast_signed()])?;
            }
        }
        let mut to_hours = c.prepare_cached(
            "insert into heart_rate_hours values (?, ?, ?, ?, ?)
             on conflict do update set
                 count = count + excluded.count, sum = sum + excluded.sum,
                 min_bpm = min(min_bpm, excluded.min_bpm), max_bpm = max(max_bpm, excluded.max_bpm)",
        )?;
        for (hour, of) in hours {
            let (count, sum) = (of.count.cast_signed(), of.sum.cast_signed());
            to_hours.execute(params![hour, count, sum, of.min, of.max])?;
        }
        changed_days.into_iter().try_for_each(|day| packed_days::mark_pending(c, day))
    }
}

/// Enables the triggers on drop, also on a panic.
struct EnableTriggersOnDrop<'c>(&'c Connection);

impl Drop for EnableTriggersOnDrop<'_> {
    fn drop(&mut self) {
        // SQLite has no reason to refuse this.
        let _ = self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true);
    }
}

/// Rebuilds all rollups in bounded memory.
pub fn recount(c: &Connection) -> rusqlite::Result<()> {
    c.execute_batch(
        "delete from heart_rate_days; delete from heart_rate_blocks; delete from heart_rate_hours;
         delete from heart_rate_packed_days",
    )?;
    let mut counter = RollupBuilder::default();
    let mut written = Ok(());
    each_reading(c, i64::MIN, i64::MAX, |at, bpm, context| {
        counter.add(at, bpm, context);
        if counter.is_full() && written.is_ok() {
            written = counter.write(c);
        }
    })?;
    written.and_then(|()| counter.write(c))
}

/// Rebuilds the rollups of the UTC days of these times, after their readings were changed without triggers.
pub fn recount_days(c: &Connection, times: impl IntoIterator<Item = Timestamp>) -> rusqlite::Result<()> {
    let days: BTreeSet<i64> = times.into_iter().map(|at| at.micros().div_euclid(DAY)).collect();
    for day in &days {
        c.prepare_cached("delete from heart_rate_days where day = ?")?.execute([day])?;
        c.prepare_cached("delete from heart_rate_hours where hour >= ? and hour < ?")?
            .execute([day * DAY / HOUR, (day + 1) * DAY / HOUR])?;
        let mut counter = RollupBuilder::default();
        let mut written = Ok(());
        each_reading(c, day * DAY, (day + 1) * DAY, |at, bpm, context| {
            counter.add(at, bpm, context);
            if counter.is_full() && written.is_ok() {
                written = counter.write(c);
            }
        })?;
        written.and_then(|()| counter.write(c))?;
    }
    // The counts of the days were added to their blocks once more.
    let blocks: BTreeSet<i64> = days.into_iter().map(|day| day >> BLOCK_BITS).collect();
    for block in blocks {
        c.prepare_cached("delete from heart_rate_blocks where block = ?")?.execute([block])?;
        c.prepare_cached(
            "insert into heart_rate_blocks (block, context, bpm, count)
             select ?1, context, bpm, sum(count) from heart_rate_days where day >= ?2 and day < ?3 group by context, bpm",
        )?
        .execute([block, block * BLOCK, (block + 1) * BLOCK])?;
    }
    Ok(())
}

/// Returns the rollup tables that differ from the readings.
pub fn differing_tables(c: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    let mut wrong = BTreeSet::new();
    let mut total = 0;
    // Schemas 2 and 3 have no packed days.
    let is_packing = c.table_exists(Some("main"), packed_days::TABLE)?;
    let mut from = i64::MIN;
    while let Some(next) = first_reading_at_or_after(c, from)? {
        let first_day = (next.div_euclid(DAY) >> BLOCK_BITS) * BLOCK;
        let mut counted = RollupBuilder::default();
        for day in first_day..first_day + BLOCK {
            let (mut packer, before) = (DayPacker::default(), total);
            each_reading(c, day * DAY, (day + 1) * DAY, |at, bpm, context| {
                counted.add(at, bpm, context);
                packer.add(at, bpm, context);
                total += 1;
            })?;
            if is_packing && total > before && !packed_days::is_pending_or_equal(c, day, &packer)? {
                wrong.insert(packed_days::TABLE);
            }
        }
        wrong.extend(differing_in_block(c, first_day, counted)?);
        from = (first_day + BLOCK) * DAY;
    }
    // Counts where no reading exists show in the sums.
    for (table, sum) in [
        ("heart_rate_days", "select coalesce(sum(count), 0) from heart_rate_days"),
        ("heart_rate_blocks", "select coalesce(sum(count), 0) from heart_rate_blocks"),
        ("heart_rate_hours", "select coalesce(sum(count), 0) from heart_rate_hours"),
    ] {
        if c.query_row(sum, [], |row| row.get::<_, i64>(0))? != total {
            wrong.insert(table);
        }
    }
    if is_packing && packed_days::has_day_without_readings(c)? {
        wrong.insert(packed_days::TABLE);
    }
    Ok(TABLES.into_iter().filter(|table| wrong.contains(table)).collect())
}

fn first_reading_at_or_after(c: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached(
        "select timestamp from heart_rate_logs indexed by heart_rate_logs_by_time
         where timestamp >= ? order by timestamp limit 1",
    )?
    .query_row([from], |row| row.get(0))
    .optional()
}

/// Compares the rollups of the block that starts at a day with those of its readings.
fn differing_in_block(
    c: &Connection,
    first_day: i64,
    counted: RollupBuilder,
) -> rusqlite::Result<impl Iterator<Item = &'static str>> {
    let (mut days, mut blocks) = (BTreeMap::new(), BTreeMap::new());
    for (context, counts) in counted.days.into_entries() {
        let context = context.unwrap_or_default();
        for ((day, bpm), count) in counts {
            days.insert((day, context.clone(), bpm), count);
            *blocks.entry((day >> BLOCK_BITS, context.clone(), bpm)).or_insert(0) += count;
        }
    }
    let stored = |query, from, until| {
        c.prepare_cached(query)?
            .query_map([from, until], |row| {
                let count: i64 = row.get(3)?;
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), count.cast_unsigned()))
            })?
            .collect::<rusqlite::Result<BTreeMap<(i64, String, u16), u64>>>()
    };
    let (first_block, end) = (first_day >> BLOCK_BITS, first_day + BLOCK);
    let stored_days = stored(
        "select day, context, bpm, count from heart_rate_days where day >= ? and day < ?",
        first_day,
        end,
    )?;
    let stored_blocks = stored(
        "select block, context, bpm, count from heart_rate_blocks where block >= ? and block < ?",
        first_block,
        first_block + 1,
    )?;
    let mut hours = BTreeMap::new();
    each_hour(c, first_day * 24, end * 24, |hour, of| _ = hours.insert(hour, of))?;
    let compared = [
        ("heart_rate_days", days == stored_days),
        ("heart_rate_blocks", blocks == stored_blocks),
        ("heart_rate_hours", counted.hours == hours),
    ];
    Ok(compared.into_iter().filter(|(_, is_equal)| !is_equal).map(|(table, _)| table))
}

/// Returns the context of a rollup row, where '' stands for none.
fn named(context: &str) -> Option<&str> {
    Some(context).filter(|context| !context.is_empty())
}

/// Passes the distribution of the readings from `since` to `until` to `each`, in any order and in parts: bpm,
/// count, context. Whole days come from the rollups.
pub fn each_count(
    c: &Connection,
    since: Timestamp,
    until: Timestamp,
    mut each: impl FnMut(Bpm, u64, Option<&str>),
) -> rusqlite::Result<()> {
    let (since, until) = (since.micros(), until.micros());
    let (first, end) = (ceil(since, DAY), until.div_euclid(DAY));
    if first >= end {
        return each_reading(c, since, until, |_, bpm, context| each(bpm, 1, context));
    }
    each_reading(c, since, first * DAY, |_, bpm, context| each(bpm, 1, context))?;
    each_reading(c, end * DAY, until, |_, bpm, context| each(bpm, 1, context))?;
    let days = "select bpm, count, context from heart_rate_days where day >= ? and day < ?";
    let (first_block, end_block) = (ceil(first, BLOCK), end.div_euclid(BLOCK));
    if first_block >= end_block {
        return add_counts(c, days, first, end, &mut each);
    }
    let blocks = "select bpm, count, context from heart_rate_blocks where block >= ? and block < ?";
    add_counts(c, days, first, first_block * BLOCK, &mut each)?;
    add_counts(c, blocks, first_block, end_block, &mut each)?;
    add_counts(c, days, end_block * BLOCK, end, &mut each)
}

fn add_counts(
    c: &Connection,
    query: &str,
    from: i64,
    until: i64,
    each: &mut impl FnMut(Bpm, u64, Option<&str>),
) -> rusqlite::Result<()> {
    let mut query = c.prepare_cached(query)?;
    let mut rows = query.query([from, until])?;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.cast_unsigned();
        each(bpm(row, 0)?, count, named(row.get_ref(2)?.as_str()?));
    }
    Ok(())
}

fn ceil(number: i64, unit: i64) -> i64 {
    -(-number).div_euclid(unit)
}

fn each_hour(
    c: &Connection,
    from: i64,
    until: i64,
    mut each: impl FnMut(i64, BpmAggregate),
) -> rusqlite::Result<()> {
    let mut query = c.prepare_cached(
        "select hour, count, sum, min_bpm, max_bpm from heart_rate_hours where hour >= ? and hour < ?
         order by hour",
    )?;
    let mut rows = query.query([from, until])?;
    while let Some(row) = rows.next()? {
        let (count, sum): (i64, i64) = (row.get(1)?, row.get(2)?);
        let (count, sum) = (count.cast_unsigned(), sum.cast_unsigned());
        each(row.get(0)?, BpmAggregate { count, sum, min: row.get(3)?, max: row.get(4)? });
    }
    Ok(())
}

/// Fills buckets from hourly rollups where no bucket ends within the hour, and otherwise from the readings.
pub fn fill_buckets(c: &Connection, buckets: &mut TimeBuckets) -> rusqlite::Result<()> {
    let edges: Vec<i64> = buckets.edges().map(Timestamp::micros).collect();
    let (Some(start), Some(end)) = (edges.first().copied(), edges.last().copied()) else { return Ok(()) };
    let mut done = start;
    let mut edges = edges.into_iter().filter(|edge| edge.rem_euclid(HOUR) != 0).peekable();
    while done < end {
        // Hours up to the next edge within an hour.
        let split = edges.peek().map_or(end, |edge| edge.div_euclid(HOUR) * HOUR);
        if split > done {
            each_hour(c, done.div_euclid(HOUR), split.div_euclid(HOUR), |hour, of| {
                buckets.push_aggregate(Timestamp::clamped(hour * HOUR), of);
            })?;
            done = split;
        }
        // Consecutive hours with edges in them.
        let mut ragged = done;
        while let Some(edge) = edges.next_if(|edge| edge.div_euclid(HOUR) * HOUR <= ragged) {
            ragged = (edge.div_euclid(HOUR) * HOUR + HOUR).min(end);
        }
        each_reading(c, done, ragged, |at, bpm, _| buckets.push(at, bpm))?;
        done = ragged;
    }
    Ok(())
}

/// Rollups used to skip readings, newest first: hours for all readings, blocks of 32 days for a context.
struct SeekPlan {
    /// Microseconds.
    unit: i64,
    /// Query for the number of readings in a period.
    within: &'static str,
    /// Query for the number of readings in each unit of a period.
    counts: &'static str,
}

const SEEK_ALL: SeekPlan = SeekPlan {
    unit: HOUR,
    within: "select count(*) from heart_rate_logs indexed by heart_rate_logs_by_time
             where timestamp >= ? and timestamp < ?",
    counts: "select hour, count from heart_rate_hours where hour >= ? and hour < ? order by hour desc",
};

const SEEK_CONTEXTS: SeekPlan = SeekPlan {
    unit: BLOCK * DAY,
    within: "select count(*) from heart_rate_logs indexed by heart_rate_logs_by_context
             where timestamp >= ? and timestamp < ? and context in (select value from json_each(?))",
    counts: "select block, sum(count) from heart_rate_blocks where block >= ? and block < ? and +context in (select value from json_each(?))
             group by block order by block desc",
};

/// Replaces most of a filter's offset by an earlier end. The remaining offset is less than the readings of an
/// hour, or of the `contexts` in 32 days.
pub fn seek(
    c: &Connection,
    mut filter: EntryFilter,
    contexts: Option<&[String]>,
) -> rusqlite::Result<EntryFilter> {
    let (since, until) = (filter.since.micros(), filter.until.micros());
    let SeekPlan { unit, within, counts } = if contexts.is_none() { SEEK_ALL } else { SEEK_CONTEXTS };
    let contexts = contexts.map(|contexts| serde_json::Value::from(contexts).to_string());
    let bound = |from: i64, to: i64| {
        let numbers = [from, to].into_iter().map(Value::from);
        params_from_iter(numbers.chain(contexts.clone().map(Value::from)))
    };
    let last = until.div_euclid(unit);
    let newest: i64 =
        c.prepare_cached(within)?.query_row(bound(since.max(last * unit), until), |row| row.get(0))?;
    let Some(mut left) = i64::from(filter.offset).checked_sub(newest).filter(|left| *left > 0) else {
        return Ok(filter);
    };
    let mut query = c.prepare_cached(counts)?;
    let mut rows = query.query(bound(ceil(since, unit), last))?;
    let mut end = last;
    while let Some(row) = rows.next()? {
        let (own, count): (i64, i64) = (row.get(0)?, row.get(1)?);
        if count > left {
            end = own + 1;
            break;
        }
        left -= count;
        end = own;
    }
    filter.until = Timestamp::clamped(end * unit);
    filter.offset = u32::try_from(left).unwrap_or(u32::MAX);
    Ok(filter)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::db::schema;

    #[test]
    fn after_counted_work_the_triggers_count_again_also_when_it_failed() {
        let mut c = Connection::open_in_memory().unwrap();
        schema::migrate(&mut c, 0, schema::migrations()).unwrap();
        let add = |c: &Connection| {
            c.execute("insert into heart_rate_logs (timestamp, bpm) values (5, 60)", []).map(drop)
        };
        let failed = RollupBuilder::during(&c, |_| Err::<(), _>(rusqlite::Error::InvalidQuery));
        assert_eq!(failed, Err(rusqlite::Error::InvalidQuery));
        add(&c).unwrap();
        RollupBuilder::during(&c, |counter| {
            add(&c)?;
            counter.add(Timestamp::clamped(5), Bpm::new(60).unwrap(), None);
            Ok(())
        })
        .unwrap();
        add(&c).unwrap();
        let counted: i64 =
            c.query_row("select sum(count) from heart_rate_days", [], |row| row.get(0)).unwrap();
        assert_eq!((counted, differing_tables(&c).unwrap()), (3, vec![]));
    }
}
