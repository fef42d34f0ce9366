//! Heart-rate readings: storing one or a batch, changing, listing, statistics.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::db::coffees::coffees_between;
use crate::db::entry_filter::EntryFilter;
use crate::db::error::StoreError;
use crate::db::idempotency::{IdempotencyKey, IdempotentOutcome, execute_once};
use crate::db::packed_days::each_packed_day;
use crate::db::reading_rows::bpm;
use crate::db::rollups::{RollupBuilder, each_count, fill_buckets, seek};
use crate::db::store::{Cost, Store};
use crate::db::tombstones;
use crate::db::writer::Savepoint;
use crate::domain::caffeine::Dose;
use crate::domain::correlation::{CorrelationParams, CorrelationResult, Correlator};
use crate::domain::grouped::Grouped;
use crate::domain::heart_rate::{Bpm, NewReading, Reading, ReadingChange, ReadingId};
use crate::domain::statistics::{BpmAggregate, BpmSummary, HeartRateBucket, Histogram, TimeBuckets};
use crate::domain::text::fold_case;
use crate::domain::time::Timestamp;

/// Result of storing a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchResult {
    pub inserted: usize,
    pub duplicates: usize,
    /// Number of stored readings by context.
    pub contexts: Vec<(Option<String>, u64)>,
}

/// Statistics of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeStats {
    pub count: u64,
    pub summary: BpmSummary,
    /// First readings of the range, in time order.
    pub first: Vec<Reading>,
    /// Equal buckets of the range, if requested.
    pub buckets: Option<Vec<HeartRateBucket>>,
}

/// Statistics of a period.
#[derive(Debug)]
pub struct RateStats {
    pub overall: Histogram,
    /// Aggregates by context. Readings without a context count in `overall` only.
    pub by_context: Vec<(String, BpmAggregate)>,
}

/// Batch size from which updating the rollups at once is faster: switching triggers makes SQLite compile its
/// statements again.
const MANY: usize = 64;

impl Store {
    /// Stores a reading at `new.timestamp`, or at `now`.
    pub async fn add_reading(
        &self,
        new: NewReading,
        key: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Result<IdempotentOutcome<Reading>, StoreError> {
        // With a key, the job is several statements.
        let savepoint = if key.is_some() { Savepoint::Needed } else { Savepoint::Unneeded };
        let clock = Arc::clone(&self.response_clock);
        self.write("add_reading", savepoint, move |c| {
            execute_once(c, key.as_ref().map(|key| (key, &*clock)), &new, now, |c| {
                let reading = insert(c, &new, now)?;
                Ok((reading.id.0, reading))
            })
        })
        .await
    }

    /// Stores a batch, all or nothing. Readings that are stored already with the same natural key, as often,
    /// are duplicates and are skipped.
    pub async fn add_readings(
        &self,
        readings: Vec<NewReading>,
        now: Timestamp,
    ) -> Result<BatchResult, StoreError> {
        self.write("add_readings", Savepoint::Needed, move |c| insert_batch(c, &readings, now)).await
    }

    pub async fn reading(&self, id: ReadingId) -> Result<Option<Reading>, StoreError> {
        self.read("reading", Cost::Quick, move |c| find(c, id)).await
    }

    pub async fn latest_reading(&self) -> Result<Option<Reading>, StoreError> {
        self.read("latest_reading", Cost::Quick, latest).await
    }

    /// Changes a reading. Returns `None` when it does not exist.
    pub async fn change_reading(
        &self,
        id: ReadingId,
        change: ReadingChange,
    ) -> Result<Option<Reading>, StoreError> {
        self.write("change_reading", Savepoint::Needed, move |c| {
            let Some(mut reading) = find(c, id)? else { return Ok(None) };
            let before = (reading.timestamp, reading.bpm, reading.context.clone());
            reading.timestamp = change.timestamp.unwrap_or(reading.timestamp);
            reading.bpm = change.bpm.unwrap_or(reading.bpm);
            reading.context = change.context.unwrap_or(reading.context);
            reading.notes = change.notes.unwrap_or(reading.notes);
            let is_changed =
                (reading.timestamp, reading.bpm, &reading.context) != (before.0, before.1, &before.2);
            if is_changed {
                tombstones::add_reading(c, id)?;
            }
            c.prepare_cached(
                "update heart_rate_logs set timestamp = ?, bpm = ?, context = ?, notes = ? where id = ?",
            )?
            .execute(params![
                reading.timestamp.micros(),
                reading.bpm.get(),
                reading.context,
                reading.notes,
                id.0
            ])?;
            // The new values are the user's, too: no sample replaces them.
            if is_changed {
                tombstones::add_reading(c, id)?;
            }
            Ok(Some(reading))
        })
        .await
    }

    /// Deletes a reading. Returns false when it does not exist.
    pub async fn delete_reading(&self, id: ReadingId) -> Result<bool, StoreError> {
        self.write("delete_reading", Savepoint::Needed, move |c| {
            tombstones::add_reading(c, id)?;
            Ok(c.prepare_cached("delete from heart_rate_logs where id = ?")?.execute([id.0])? > 0)
        })
        .await
    }

    /// Lists readings, newest first; of equal timestamps the later id first.
    pub async fn readings(&self, filter: EntryFilter) -> Result<Vec<Reading>, StoreError> {
        let cost = Cost::of_list(&filter);
        self.read("readings", cost, move |c| {
            // One snapshot for all queries.
            let c = c.unchecked_transaction()?;
            let contexts = filter.label.as_deref().map(|context| spellings_of(&c, context)).transpose()?;
            let filter = if cost == Cost::Slow { seek(&c, filter, contexts.as_deref())? } else { filter };
            list(&c, &filter, contexts.as_deref())
        })
        .await
    }

    /// Returns the statistics of the readings from `start` to `end` with the first `shown` of them, or `None`
    /// without readings.
    pub async fn reading_range(
        &self,
        start: Timestamp,
        end: Timestamp,
        shown: u32,
        buckets: Option<u16>,
    ) -> Result<Option<RangeStats>, StoreError> {
        self.read("reading_range", Cost::Slow, move |c| {
            // One snapshot for all queries.
            let c = c.unchecked_transaction()?;
            let c = &*c;
            let mut all = Histogram::default();
            each_count(c, start, end, |bpm, count, _| all.add(bpm, count))?;
            let Some(summary) = all.summary() else { return Ok(None) };
            let mut slices = buckets.map(|n| TimeBuckets::new(start, end, n));
            if let Some(slices) = &mut slices {
                fill_buckets(c, slices)?;
            }
            let first = first_readings(c, start, end, shown)?;
            Ok(Some(RangeStats {
                count: all.count(),
                summary,
                first,
                buckets: slices.map(TimeBuckets::finish),
            }))
        })
        .await
    }

    /// Returns the distribution of the readings from `since` to `until`, and aggregates by context.
    pub async fn reading_stats(&self, since: Timestamp, until: Timestamp) -> Result<RateStats, StoreError> {
        self.read("reading_stats", Cost::Slow, move |c| {
            // One snapshot for all queries.
            let c = c.unchecked_transaction()?;
            let mut groups: Grouped<BpmAggregate> = Grouped::default();
            let mut overall = Histogram::default();
            each_count(&c, since, until, |bpm, count, context| {
                groups.get_or_default(context).add(bpm, count);
                overall.add(bpm, count);
            })?;
            let named = groups.into_entries().filter_map(|(context, of)| Some((context?, of)));
            Ok(RateStats { overall, by_context: named.collect() })
        })
        .await
    }

    /// Computes the correlation of coffees and heart rates in one pass in time order.
    pub async fn correlation(&self, params: CorrelationParams) -> Result<CorrelationResult, StoreError> {
        // One snapshot: coffees, packed days and rows agree.
        self.read("correlation", Cost::Slow, move |c| correlate(&*c.unchecked_transaction()?, &params)).await
    }
}

/// Computes a correlation; see [`Store::correlation`].
pub(super) fn correlate(c: &Connection, params: &CorrelationParams) -> rusqlite::Result<CorrelationResult> {
    let all = coffees_between(c, params.doses_since(), params.until)?;
    let doses: Vec<Dose> = all.iter().map(|coffee| (coffee.timestamp, coffee.caffeine_mg)).collect();
    let compared = all.into_iter().filter(|coffee| coffee.timestamp >= params.since).collect();
    let mut correlator = Correlator::new(params, compared, &doses);
    if let Some((from, to)) = correlator.span() {
        each_included_reading(c, params, from, to, |at, bpm| correlator.push(at, bpm))?;
    }
    Ok(correlator.finish())
}

fn insert(c: &Connection, new: &NewReading, now: Timestamp) -> rusqlite::Result<Reading> {
    let timestamp = new.timestamp.unwrap_or(now);
    let id = c
        .prepare_cached("insert into heart_rate_logs (timestamp, bpm, context, notes) values (?, ?, ?, ?)")?
        .insert(params![timestamp.micros(), new.bpm.get(), new.context, new.notes])?;
    Ok(Reading {
        id: ReadingId(id),
        timestamp,
        bpm: new.bpm,
        context: new.context.clone(),
        notes: new.notes.clone(),
    })
}

fn insert_batch(c: &Connection, readings: &[NewReading], now: Timestamp) -> rusqlite::Result<BatchResult> {
    if readings.len() < MANY {
        return insert_each(c, readings, now, |_, _, _| ());
    }
    RollupBuilder::during(c, |counter| {
        insert_each(c, readings, now, |at, bpm, context| counter.add(at, bpm, context))
    })
}

fn insert_each(
    c: &Connection,
    readings: &[NewReading],
    now: Timestamp,
    mut inserted_one: impl FnMut(Timestamp, Bpm, Option<&str>),
) -> rusqlite::Result<BatchResult> {
    let (mut inserted, mut duplicates) = (0, 0);
    let mut contexts: Grouped<u64> = Grouped::default();
    // By natural key: number of equal stored readings that no reading of the batch has matched yet.
    let mut stored: HashMap<NewReading, u64> = HashMap::new();
    for reading in readings {
        let timed = NewReading { timestamp: reading.timestamp.or(Some(now)), ..reading.clone() };
        let left = match stored.entry(timed) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(unseen) => {
                let equals = count_equals(c, unseen.key(), now)?;
                unseen.insert(equals)
            }
        };
        if *left > 0 {
            *left -= 1;
            duplicates += 1;
        } else {
            let stored = insert(c, reading, now)?;
            inserted_one(stored.timestamp, stored.bpm, reading.context.as_deref());
            inserted += 1;
            *contexts.get_or_default(reading.context.as_deref()) += 1;
        }
    }
    Ok(BatchResult { inserted, duplicates, contexts: contexts.into_entries().collect() })
}

/// Returns the number of stored readings with the natural key of a posted one.
fn count_equals(c: &Connection, reading: &NewReading, now: Timestamp) -> rusqlite::Result<u64> {
    c.prepare_cached(
        "select count(*) from heart_rate_logs indexed by heart_rate_logs_by_time
         where timestamp = ? and +bpm = ? and +context is ? and notes is ? and source is null",
    )?
    .query_row(
        params![reading.timestamp.unwrap_or(now).micros(), reading.bpm.get(), reading.context, reading.notes],
        |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()),
    )
}

fn find(c: &Connection, id: ReadingId) -> rusqlite::Result<Option<Reading>> {
    c.prepare_cached("select id, timestamp, bpm, context, notes from heart_rate_logs where id = ?")?
        .query_row([id.0], from_row)
        .optional()
}

pub(super) fn latest(c: &Connection) -> rusqlite::Result<Option<Reading>> {
    c.prepare_cached(
        "select id, timestamp, bpm, context, notes from heart_rate_logs indexed by heart_rate_logs_by_time
         order by timestamp desc, id desc limit 1",
    )?
    .query_row([], from_row)
    .optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Reading> {
    Ok(Reading {
        id: ReadingId(row.get(0)?),
        timestamp: Timestamp::clamped(row.get(1)?),
        bpm: bpm(row, 2)?,
        context: row.get(3)?,
        notes: row.get(4)?,
    })
}

/// Lists readings. `contexts` are the spellings of the filter's context, if it has one.
fn list(c: &Connection, filter: &EntryFilter, contexts: Option<&[String]>) -> rusqlite::Result<Vec<Reading>> {
    let (since, until) = (filter.since.micros(), filter.until.micros());
    let Some(contexts) = contexts else {
        return c
            .prepare_cached(
                "select id, timestamp, bpm, context, notes
                 from heart_rate_logs indexed by heart_rate_logs_by_time
                 where timestamp >= ? and timestamp < ?
                 order by timestamp desc, id desc limit ? offset ?",
            )?
            .query_map(params![since, until, filter.limit, filter.offset], from_row)?
            .collect();
    };
    let mut of_context = c.prepare_cached(
        "select id, timestamp, bpm, context, notes
         from heart_rate_logs indexed by heart_rate_logs_by_context
         where context = ? and timestamp >= ? and timestamp < ?
         order by timestamp desc, id desc limit ? offset ?",
    )?;
    filter.page_of_spellings(
        contexts,
        |context, limit, offset| {
            of_context.query_map(params![context, since, until, limit, offset], from_row)?.collect()
        },
        |reading: &Reading| (reading.timestamp, reading.id.0),
    )
}

/// Returns every stored spelling of a context, compared without regard to case.
fn spellings_of(c: &Connection, context: &str) -> rusqlite::Result<Vec<String>> {
    let wanted = fold_case(context);
    let mut query = c.prepare_cached(include_str!("../../sql/context_spellings.sql"))?;
    let all = query.query_map([], |row| row.get::<_, String>(0))?;
    all.filter(|spelling| spelling.as_ref().map_or(true, |text| fold_case(text) == wanted)).collect()
}

/// Passes the readings of a correlation to `each`, in time order: from packed days where there are any, and
/// otherwise from the rows.
fn each_included_reading(
    c: &Connection,
    params: &CorrelationParams,
    start: Timestamp,
    end: Timestamp,
    mut each: impl FnMut(Timestamp, Bpm),
) -> rusqlite::Result<()> {
    let mut read_until = start;
    let is_included = |context: Option<&str>| params.includes(context);
    each_packed_day(c, start, end, is_included, |day_start, day_end, readings| {
        each_included_row(c, params, read_until, day_start, &mut each)?;
        read_until = day_end;
        let inside = |at: Timestamp| at >= start && at < end;
        readings.iter().filter(|(at, _)| inside(*at)).for_each(|(at, bpm)| each(*at, *bpm));
        Ok(())
    })?;
    each_included_row(c, params, read_until, end, &mut each)
}

/// Like [`each_included_reading`], from the rows alone. The time since `start` must fit in 53 bits, which is 285
/// years; a correlation covers at most 3650 days.
fn each_included_row(
    c: &Connection,
    params: &CorrelationParams,
    start: Timestamp,
    end: Timestamp,
    each: &mut impl FnMut(Timestamp, Bpm),
) -> rusqlite::Result<()> {
    if start >= end {
        return Ok(());
    }
    // `correlation_readings.sql` depends on the number and order of `EXCLUDED_CONTEXTS`.
    let words = params.context.as_deref().into_iter().chain(params.excluded_contexts().iter().copied());
    let span = [start, end].map(|at| Value::from(at.micros()));
    let bound = span.into_iter().chain(words.map(|word| Value::from(word.to_owned())));
    let mut query = c.prepare_cached(match params.context {
        Some(_) => include_str!("../../sql/correlation_readings_of_context.sql"),
        None => include_str!("../../sql/correlation_readings.sql"),
    })?;
    let mut rows = query.query(params_from_iter(bound))?;
    while let Some(row) = rows.next()? {
        let combined: i64 = row.get(0)?;
        let bpm = combined & 1023;
        each(
            start.plus(combined >> 10),
            Bpm::new(bpm).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, bpm))?,
        );
    }
    Ok(())
}

fn first_readings(
    c: &Connection,
    start: Timestamp,
    end: Timestamp,
    limit: u32,
) -> rusqlite::Result<Vec<Reading>> {
    c.prepare_cached(
        "select id, timestamp, bpm, context, notes from heart_rate_logs indexed by heart_rate_logs_by_time
         where timestamp >= ? and timestamp < ? order by timestamp, id limit ?",
    )?
    .query_map(params![start.micros(), end.micros(), limit], from_row)?
    .collect()
}
