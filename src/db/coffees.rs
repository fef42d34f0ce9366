//! Coffees: storing, changing, listing, statistics.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::db::coffee_types::{TypeNames, spellings_of};
use crate::db::entry_filter::EntryFilter;
use crate::db::error::StoreError;
use crate::db::idempotency::{IdempotencyKey, IdempotentOutcome, execute_once};
use crate::db::store::{Cost, Store};
use crate::db::tombstones;
use crate::db::writer::Savepoint;
use crate::domain::calendar::{Date, Zone};
use crate::domain::coffee::{Coffee, CoffeeChange, CoffeeId, Milligrams, NewCoffee};
use crate::domain::correlation::CoffeeToCompare;
use crate::domain::grouped::Grouped;
use crate::domain::time::Timestamp;

/// Total of a day or another period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CaffeineTotal {
    pub total_mg: f64,
    pub coffee_count: u64,
}

/// Total of one coffee type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeTotal {
    pub coffee_type: Option<String>,
    pub total: CaffeineTotal,
    pub last: Timestamp,
}

/// Statistics of a period, computed in one pass in time order.
#[derive(Clone, Debug, PartialEq)]
pub struct CoffeeStats {
    pub total: CaffeineTotal,
    pub max_mg: f64,
    pub min_mg: f64,
    pub by_type: Vec<TypeTotal>,
    pub by_hour: [CaffeineTotal; 24],
    pub days_with_caffeine: u32,
}

/// A coffee type that the user drinks.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnType {
    pub coffee_type: String,
    pub count: u64,
    /// Most frequent recent dose.
    pub usual_mg: f64,
    pub last: Timestamp,
}

/// Window of a quick query, hours: a month has about a hundred coffees.
const A_MONTH: f64 = 31.0 * 24.0;

impl Store {
    /// Stores a coffee at `new.timestamp`, or at `now`.
    pub async fn add_coffee(
        &self,
        new: NewCoffee,
        key: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Result<IdempotentOutcome<Coffee>, StoreError> {
        // With a key, the job is several statements.
        let savepoint = if key.is_some() { Savepoint::Needed } else { Savepoint::Unneeded };
        let clock = Arc::clone(&self.response_clock);
        self.write("add_coffee", savepoint, move |c| {
            execute_once(c, key.as_ref().map(|key| (key, &*clock)), &new, now, |c| {
                let coffee = insert(c, &new, now)?;
                Ok((coffee.id.0, coffee))
            })
        })
        .await
    }

    pub async fn coffee(&self, id: CoffeeId) -> Result<Option<Coffee>, StoreError> {
        self.read("coffee", Cost::Quick, move |c| find(c, id)).await
    }

    /// Changes a coffee. Returns `None` when it does not exist.
    pub async fn change_coffee(
        &self,
        id: CoffeeId,
        change: CoffeeChange,
    ) -> Result<Option<Coffee>, StoreError> {
        self.write("change_coffee", Savepoint::Needed, move |c| {
            let Some(mut coffee) = find(c, id)? else { return Ok(None) };
            let before = (coffee.timestamp, coffee.caffeine_mg);
            coffee.timestamp = change.timestamp.unwrap_or(coffee.timestamp);
            coffee.caffeine_mg = change.caffeine_mg.unwrap_or(coffee.caffeine_mg);
            coffee.coffee_type = change.coffee_type.unwrap_or(coffee.coffee_type);
            coffee.notes = change.notes.unwrap_or(coffee.notes);
            let is_changed = (coffee.timestamp, coffee.caffeine_mg) != before;
            if is_changed {
                tombstones::add_coffee(c, id)?;
            }
            c.prepare_cached(
                "update coffee_logs set timestamp = ?, caffeine_mg = ?, coffee_type = ?, notes = ? where id = ?",
            )?
            .execute(params![
                coffee.timestamp.micros(),
                coffee.caffeine_mg.mg(),
                coffee.coffee_type,
                coffee.notes,
                id.0
            ])?;
            // The new values are the user's, too: no sample replaces them.
            if is_changed {
                tombstones::add_coffee(c, id)?;
            }
            Ok(Some(coffee))
        })
        .await
    }

    /// Deletes a coffee. Returns false when it does not exist.
    pub async fn delete_coffee(&self, id: CoffeeId) -> Result<bool, StoreError> {
        self.write("delete_coffee", Savepoint::Needed, move |c| {
            tombstones::add_coffee(c, id)?;
            Ok(c.prepare_cached("delete from coffee_logs where id = ?")?.execute([id.0])? > 0)
        })
        .await
    }

    /// Lists coffees, newest first; of equal timestamps the later id first.
    pub async fn coffees(&self, filter: EntryFilter) -> Result<Vec<Coffee>, StoreError> {
        self.read("coffees", Cost::of_list(&filter), move |c| list(c, &filter)).await
    }

    /// Returns the total from `since` (inclusive) to `until` (exclusive).
    pub async fn caffeine_between(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<CaffeineTotal, StoreError> {
        self.read("caffeine_between", Cost::Quick, move |c| {
            c.prepare_cached(
                "select total(caffeine_mg), count(*) from coffee_logs indexed by coffee_logs_by_time
                 where timestamp >= ? and timestamp < ?",
            )?
            .query_row(params![since.micros(), until.micros()], caffeine_total)
        })
        .await
    }

    /// Returns the total like [`Self::caffeine_between`], and the daily limit that the person has set.
    pub async fn caffeine_and_limit(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<(CaffeineTotal, Option<f64>), StoreError> {
        self.read("caffeine_and_limit", Cost::Quick, move |c| {
            // One statement instead of two, since `GET /coffee/today` is requested the most often.
            c.prepare_cached(
                "select total(caffeine_mg), count(*), (select daily_limit_mg from profile where id = 1)
                 from coffee_logs indexed by coffee_logs_by_time where timestamp >= ? and timestamp < ?",
            )?
            .query_row(params![since.micros(), until.micros()], |row| Ok((caffeine_total(row)?, row.get(2)?)))
        })
        .await
    }

    /// Returns the total of each local day that begins at or after `since`, up to `until`, newest first.
    pub async fn caffeine_by_day(
        &self,
        since: Timestamp,
        until: Timestamp,
        zone: Zone,
    ) -> Result<Vec<(Date, CaffeineTotal)>, StoreError> {
        self.read("caffeine_by_day", cost_of(since, until), move |c| {
            let mut days: Vec<(Date, CaffeineTotal)> = Vec::new();
            doses(c, since, until, |at, mg, _| {
                let mg = mg.mg();
                let date = zone.date(at);
                match days.last_mut() {
                    Some((last, total)) if *last == date => total.add(mg),
                    _ => days.push((date, CaffeineTotal { total_mg: mg, coffee_count: 1 })),
                }
            })?;
            days.reverse();
            Ok(days)
        })
        .await
    }

    /// Returns the statistics of a period, or `None` without coffees.
    pub async fn coffee_stats(
        &self,
        since: Timestamp,
        until: Timestamp,
        zone: Zone,
    ) -> Result<Option<CoffeeStats>, StoreError> {
        self.read("coffee_stats", cost_of(since, until), move |c| fold_stats(c, since, until, &zone)).await
    }

    /// Returns the types logged since `since`, most frequent first, at most `limit`.
    pub async fn own_types(&self, since: Timestamp, limit: u32) -> Result<Vec<OwnType>, StoreError> {
        self.read("own_types", Cost::Slow, move |c| {
            let names = TypeNames::read(c)?;
            let mut habits: Grouped<Habit> = Grouped::default();
            let mut query = c.prepare_cached(include_str!("../../sql/own_types.sql"))?;
            let mut rows = query.query([since.micros()])?;
            while let Some(row) = rows.next()? {
                let habit = habits.get_or_default(Some(names.shown(row.get_ref(0)?.as_str()?)));
                let times = row.get::<_, i64>(2)?.unsigned_abs();
                habit.add(row.get(1)?, times, Timestamp::clamped(row.get(3)?));
            }
            let types = habits.into_entries().filter_map(|(name, habit)| habit.into_type(name?));
            let mut types: Vec<OwnType> = types.collect();
            types.sort_by_key(|own| std::cmp::Reverse((own.count, own.last)));
            types.truncate(limit as usize);
            Ok(types)
        })
        .await
    }

    /// Returns the input of the caffeine model, read from one snapshot: every dose from `since` to `until` in
    /// time order, and the `latest` doses up to `at`, newest first.
    pub async fn intake(
        &self,
        (since, until): (Timestamp, Timestamp),
        at: Timestamp,
        latest: u32,
    ) -> Result<(Vec<(Timestamp, Milligrams)>, Vec<Milligrams>), StoreError> {
        self.read("intake", Cost::Quick, move |c| {
            let c = c.unchecked_transaction()?;
            let mut all = Vec::new();
            doses(&c, since, until, |at, mg, _| all.push((at, mg)))?;
            let mut query = c.prepare_cached(
                "select caffeine_mg from coffee_logs indexed by coffee_logs_by_time
                 where timestamp <= ? order by timestamp desc limit ?",
            )?;
            let newest = query.query_map(params![at.micros(), latest], |row| milligrams(row, 0))?;
            Ok((all, newest.collect::<Result<_, _>>()?))
        })
        .await
    }
}

/// Frequency of each dose of a type, and its last use.
#[derive(Debug, Default)]
struct Habit {
    /// Number of uses and the last one. Key: `f64::to_bits` of the dose in milligrams.
    doses: HashMap<u64, (u64, Timestamp)>,
}

impl Habit {
    fn add(&mut self, mg: f64, times: u64, last: Timestamp) {
        let dose = self.doses.entry(mg.to_bits()).or_insert((0, last));
        *dose = (dose.0 + times, dose.1.max(last));
    }

    /// Returns the type with its most frequent dose; of equally frequent doses the latest. `None` without
    /// doses.
    fn into_type(self, coffee_type: String) -> Option<OwnType> {
        let usual = self.doses.iter().max_by_key(|(dose, how_often)| (**how_often, **dose))?;
        Some(OwnType {
            coffee_type,
            count: self.doses.values().map(|(times, _)| times).sum(),
            usual_mg: f64::from_bits(*usual.0),
            last: self.doses.values().map(|(_, last)| *last).max()?,
        })
    }
}

/// Reads a total and a number of coffees, the first two columns of a row.
fn caffeine_total(row: &Row<'_>) -> rusqlite::Result<CaffeineTotal> {
    Ok(CaffeineTotal { total_mg: row.get(0)?, coffee_count: row.get::<_, i64>(1)?.unsigned_abs() })
}

fn cost_of(since: Timestamp, until: Timestamp) -> Cost {
    if until.hours_since(since) <= A_MONTH { Cost::Quick } else { Cost::Slow }
}

impl CaffeineTotal {
    fn add(&mut self, mg: f64) {
        self.total_mg += mg;
        self.coffee_count += 1;
    }
}

pub(super) fn insert(c: &Connection, new: &NewCoffee, now: Timestamp) -> rusqlite::Result<Coffee> {
    let timestamp = new.timestamp.unwrap_or(now);
    let id = c
        .prepare_cached(
            "insert into coffee_logs (timestamp, caffeine_mg, coffee_type, notes) values (?, ?, ?, ?)",
        )?
        .insert(params![timestamp.micros(), new.caffeine_mg.mg(), new.coffee_type, new.notes])?;
    Ok(Coffee {
        id: CoffeeId(id),
        timestamp,
        caffeine_mg: new.caffeine_mg,
        coffee_type: new.coffee_type.clone(),
        notes: new.notes.clone(),
    })
}

fn find(c: &Connection, id: CoffeeId) -> rusqlite::Result<Option<Coffee>> {
    c.prepare_cached("select id, timestamp, caffeine_mg, coffee_type, notes from coffee_logs where id = ?")?
        .query_row([id.0], from_row)
        .optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Coffee> {
    Ok(Coffee {
        id: CoffeeId(row.get(0)?),
        timestamp: Timestamp::clamped(row.get(1)?),
        caffeine_mg: milligrams(row, 2)?,
        coffee_type: row.get(3)?,
        notes: row.get(4)?,
    })
}

fn milligrams(row: &Row<'_>, column: usize) -> rusqlite::Result<Milligrams> {
    Milligrams::new(row.get(column)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, 0))
}

fn list(c: &Connection, filter: &EntryFilter) -> rusqlite::Result<Vec<Coffee>> {
    let (since, until) = (filter.since.micros(), filter.until.micros());
    let Some(coffee_type) = &filter.label else {
        return c
            .prepare_cached(
                "select id, timestamp, caffeine_mg, coffee_type, notes
                 from coffee_logs indexed by coffee_logs_by_time
                 where timestamp >= ? and timestamp < ?
                 order by timestamp desc, id desc limit ? offset ?",
            )?
            .query_map(params![since, until, filter.limit, filter.offset], from_row)?
            .collect();
    };
    let mut of_spelling = c.prepare_cached(
        "select id, timestamp, caffeine_mg, coffee_type, notes
         from coffee_logs indexed by coffee_logs_by_type
         where coffee_type = ? and timestamp >= ? and timestamp < ?
         order by timestamp desc, id desc limit ? offset ?",
    )?;
    filter.page_of_spellings(
        &spellings_of(c, coffee_type)?,
        |spelling, limit, offset| {
            of_spelling.query_map(params![spelling, since, until, limit, offset], from_row)?.collect()
        },
        |coffee: &Coffee| (coffee.timestamp, coffee.id.0),
    )
}

/// Passes every dose of a period to `each`, in time order.
fn doses(
    c: &Connection,
    since: Timestamp,
    until: Timestamp,
    mut each: impl FnMut(Timestamp, Milligrams, Option<&str>),
) -> rusqlite::Result<()> {
    let mut query = c.prepare_cached(
        "select timestamp, caffeine_mg, coffee_type from coffee_logs indexed by coffee_logs_by_time
         where timestamp >= ? and timestamp < ? order by timestamp, id",
    )?;
    let mut rows = query.query(params![since.micros(), until.micros()])?;
    while let Some(row) = rows.next()? {
        let coffee_type = row.get_ref(2)?.as_str_or_null()?;
        each(Timestamp::clamped(row.get(0)?), milligrams(row, 1)?, coffee_type);
    }
    Ok(())
}

fn fold_stats(
    c: &Connection,
    since: Timestamp,
    until: Timestamp,
    zone: &Zone,
) -> rusqlite::Result<Option<CoffeeStats>> {
    let names = TypeNames::read(c)?;
    let mut types: Grouped<(CaffeineTotal, Option<Timestamp>)> = Grouped::default();
    let mut day: Option<(Date, f64)> = None;
    let mut stats = CoffeeStats {
        total: CaffeineTotal::default(),
        max_mg: 0.0,
        min_mg: f64::INFINITY,
        by_type: Vec::new(),
        by_hour: [CaffeineTotal::default(); 24],
        days_with_caffeine: 0,
    };
    doses(c, since, until, |at, mg, coffee_type| {
        let mg = mg.mg();
        stats.total.add(mg);
        stats.max_mg = stats.max_mg.max(mg);
        stats.min_mg = stats.min_mg.min(mg);
        let (date, time) = zone.local(at);
        if let Some(hour) = stats.by_hour.get_mut(time.hour()) {
            hour.add(mg);
        }
        let so_far = day.filter(|(last, _)| *last == date).map_or(0.0, |(_, total)| total);
        stats.days_with_caffeine += u32::from(so_far == 0.0 && mg > 0.0);
        day = Some((date, so_far + mg));
        let (total, last) = types.get_or_default(coffee_type.map(|spelling| names.shown(spelling)));
        total.add(mg);
        *last = Some(at);
    })?;
    if stats.total.coffee_count == 0 {
        return Ok(None);
    }
    let by_type = types.into_entries().map(|(coffee_type, (total, last))| TypeTotal {
        coffee_type,
        total,
        last: last.unwrap_or(since),
    });
    stats.by_type = by_type.collect();
    stats.by_type.sort_by_key(|t| std::cmp::Reverse((t.total.coffee_count, t.last)));
    Ok(Some(stats))
}

/// Returns the coffees of a period in time order, for the correlation.
pub(super) fn coffees_between(
    c: &Connection,
    since: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Vec<CoffeeToCompare>> {
    // Counted first: a vector that grows by doubling needs twice the memory while it grows.
    let count: i64 = c
        .prepare_cached(
            "select count(*) from coffee_logs indexed by coffee_logs_by_time
             where timestamp >= ? and timestamp < ?",
        )?
        .query_row([since.micros(), until.micros()], |row| row.get(0))?;
    let mut all = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let names = TypeNames::read(c)?;
    let mut types: Grouped<Option<Arc<str>>> = Grouped::default();
    doses(c, since, until, |timestamp, caffeine_mg, coffee_type| {
        let coffee_type = coffee_type.map(|name| {
            types.get_or_default(Some(name)).get_or_insert_with(|| names.shown(name).into()).clone()
        });
        all.push(CoffeeToCompare { timestamp, caffeine_mg, coffee_type });
    })?;
    Ok(all)
}
