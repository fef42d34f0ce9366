//! Merges samples that an app has sent with the stored entries. [`crate::db::reading_merge`] has the rules for readings.
//! A coffee is identified by its source and its time.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::db::error::StoreError;
use crate::db::reading_merge::{OnChangedValue, ReadingPlan};
use crate::db::rollups::RollupBuilder;
use crate::db::sources::NewestBySource;
use crate::db::store::{Cost, Store};
use crate::db::tombstones;
use crate::db::writer::Savepoint;
use crate::domain::coffee::Milligrams;
use crate::domain::entry::EntryKind;
use crate::domain::sample::{CoffeeSample, ReadingSample, SampleBatch, SampleContext, SampleCounts};
use crate::domain::time::Timestamp;

/// Maximum number of samples in a transaction, for which other writes wait: usually some 20 ms.
const CHUNK: usize = 4096;

/// Samples that were stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeResult {
    pub counts: SampleCounts,
    /// Number of added readings by context.
    pub contexts: HashMap<Option<SampleContext>, u64>,
    /// Doses of the added coffees.
    pub doses: Vec<Milligrams>,
}

impl MergeResult {
    fn add(&mut self, other: Self) {
        self.counts.add(other.counts);
        for (context, readings) in other.contexts {
            *self.contexts.entry(context).or_default() += readings;
        }
        self.doses.extend(other.doses);
    }
}

impl Store {
    /// Merges samples in short transactions, in the order of their times. Samples that are stored already cost no
    /// transaction.
    ///
    /// # Errors
    /// As for every write. `result` has what was stored, also before a failure.
    pub async fn merge_samples(
        &self,
        batch: SampleBatch,
        result: &mut MergeResult,
    ) -> Result<(), StoreError> {
        let SampleBatch { mut readings, mut coffees } = batch;
        let received = (readings.len() + coffees.len()) as u64;
        // Stable sorts: of several samples with one identity, the last one is the latest value.
        readings.sort_by(|a, b| identity(a).cmp(&identity(b)));
        keep_last_of_equals(&mut readings, |a, b| identity(a) == identity(b));
        coffees.sort_by(|a, b| (a.timestamp, &a.source).cmp(&(b.timestamp, &b.source)));
        keep_last_of_equals(&mut coffees, |a, b| (a.timestamp, &a.source) == (b.timestamp, &b.source));
        result.counts.duplicates = received - (readings.len() + coffees.len()) as u64;
        for chunk in into_chunks(readings) {
            result.add(self.merge_readings(chunk).await?);
        }
        for chunk in into_chunks(coffees) {
            result.add(self.merge_coffees(chunk).await?);
        }
        Ok(())
    }

    async fn merge_readings(&self, chunk: Vec<ReadingSample>) -> Result<MergeResult, StoreError> {
        let chunk = Arc::new(chunk);
        let compared = Arc::clone(&chunk);
        let comparison = self.read("compare_readings", Cost::Slow, move |c| {
            let plan = ReadingPlan::new(&*c.unchecked_transaction()?, &compared, OnChangedValue::Replace)?;
            Ok(plan.is_empty().then_some(plan.counts))
        });
        if let Some(counts) = comparison.await? {
            return Ok(MergeResult { counts, ..MergeResult::default() });
        }
        self.write("merge_readings", Savepoint::Needed, move |c| {
            // Planned again, since the entries may have changed meanwhile.
            let plan = ReadingPlan::new(c, &chunk, OnChangedValue::Replace)?;
            RollupBuilder::without_triggers_during(c, || plan.write(c))?;
            let mut result = MergeResult { counts: plan.counts, ..MergeResult::default() };
            for sample in &plan.added {
                *result.contexts.entry(sample.context).or_default() += 1;
            }
            Ok(result)
        })
        .await
    }

    async fn merge_coffees(&self, chunk: Vec<CoffeeSample>) -> Result<MergeResult, StoreError> {
        let received = chunk.len() as u64;
        let unknown = self.read("compare_coffees", Cost::Slow, move |c| {
            let c = c.unchecked_transaction()?;
            let mut unknown = Vec::new();
            for sample in chunk {
                if match_coffee(&c, &sample)? != SampleMatch::Duplicate {
                    unknown.push(sample);
                }
            }
            Ok(unknown)
        });
        let unknown = unknown.await?;
        let mut result = MergeResult::default();
        result.counts.duplicates = received - unknown.len() as u64;
        if unknown.is_empty() {
            return Ok(result);
        }
        self.write("merge_coffees", Savepoint::Needed, move |c| {
            let mut newest = NewestBySource::default();
            for sample in &unknown {
                match match_coffee(c, sample)? {
                    SampleMatch::Duplicate => result.counts.duplicates += 1,
                    SampleMatch::Changed(id) => {
                        change_dose(c, id, sample.caffeine_mg)?;
                        result.counts.updated += 1;
                    }
                    SampleMatch::New => {
                        insert_coffee(c, sample)?;
                        newest.add(EntryKind::Coffee, &sample.source, sample.timestamp);
                        result.doses.push(sample.caffeine_mg);
                        result.counts.inserted += 1;
                    }
                }
            }
            newest.write(c)?;
            Ok(result)
        })
        .await
    }
}

/// Identity of a pushed reading: time, source, and whether it is a resting heart rate.
fn identity(sample: &ReadingSample) -> (Timestamp, &str, bool) {
    (sample.timestamp, &sample.source, sample.is_resting())
}

/// Removes all but the last of consecutive equal items.
fn keep_last_of_equals<T>(items: &mut Vec<T>, are_equal: impl Fn(&T, &T) -> bool) {
    // `dedup_by` keeps the first one, which gets the value of the one that is removed.
    items.dedup_by(|later, kept| {
        let is_equal = are_equal(later, kept);
        if is_equal {
            std::mem::swap(later, kept);
        }
        is_equal
    });
}

fn into_chunks<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Comparison of a sample with the stored entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SampleMatch {
    New,
    /// Stored already, or deleted or changed by the user.
    Duplicate,
    /// The entry with this id has another value.
    Changed(i64),
}

fn match_coffee(c: &Connection, sample: &CoffeeSample) -> rusqlite::Result<SampleMatch> {
    if tombstones::has_coffee(c, sample.timestamp, &sample.source, None)? {
        return Ok(SampleMatch::Duplicate);
    }
    // The entry with the same dose first: a file may have several coffees of that time.
    let found: Option<(i64, bool)> = c
        .prepare_cached(
            "select id, caffeine_mg = ?3 from coffee_logs indexed by coffee_logs_by_time
             where timestamp = ?1 and source = ?2 order by caffeine_mg = ?3 desc, id limit 1",
        )?
        .query_row(params![sample.timestamp.micros(), sample.source, sample.caffeine_mg.mg()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(match found {
        None => SampleMatch::New,
        Some((_, true)) => SampleMatch::Duplicate,
        Some((id, false)) => SampleMatch::Changed(id),
    })
}

fn change_dose(c: &Connection, id: i64, dose: Milligrams) -> rusqlite::Result<()> {
    c.prepare_cached("update coffee_logs set caffeine_mg = ? where id = ?")?
        .execute(params![dose.mg(), id])
        .map(drop)
}

fn insert_coffee(c: &Connection, sample: &CoffeeSample) -> rusqlite::Result<()> {
    c.prepare_cached("insert into coffee_logs (timestamp, caffeine_mg, source) values (?, ?, ?)")?
        .execute(params![sample.timestamp.micros(), sample.caffeine_mg.mg(), sample.source])
        .map(drop)
}
