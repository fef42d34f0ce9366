//! Plan of merging samples of heart rates with the stored readings. The first rule that applies decides:
//!
//! 1. A sample that the user has deleted or changed is a duplicate, see [`crate::db::tombstones`].
//! 2. The stored reading of the same source and time is the same sample. Another heart rate replaces its value; in a
//!    file, both are kept. Resting heart rates are separate, since a device may report one at the time of a usual
//!    reading.
//! 3. A reading of another source with the same heart rate in the same second is the same sample: health apps copy
//!    each other's samples.
//! 4. Any other sample is new.
//!
//! A stored reading without a context gets that of its sample.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::db::reading_rows::bpm;
use crate::db::rollups::{RollupBuilder, recount_days};
use crate::db::sources::NewestBySource;
use crate::db::tombstones;
use crate::domain::entry::EntryKind;
use crate::domain::heart_rate::{Bpm, ReadingId};
use crate::domain::sample::{ReadingSample, SampleContext, SampleCounts};
use crate::domain::time::{SECOND, Timestamp};

/// Longest time between two samples whose stored readings are read by one query. Beyond it, another search of the index
/// costs less than the readings between them, which may be one every second.
const MAX_GAP: i64 = 10 * SECOND;

/// Handling of a sample with the source and the time of a stored reading and another heart rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChangedValue {
    /// The stored reading gets the heart rate: an app sends an average again when it has changed.
    Replace,
    /// Both are stored: a file may have several readings of that time.
    Add,
}

/// Changes that merge readings with the stored ones.
#[derive(Debug, Default)]
pub struct ReadingPlan {
    pub added: Vec<ReadingSample>,
    changed: HashMap<ReadingId, ChangedReading>,
    pub counts: SampleCounts,
}

/// New values of a reading.
#[derive(Clone, Copy, Debug)]
struct ChangedReading {
    /// Time of the reading, which does not change.
    timestamp: Timestamp,
    bpm: Bpm,
    /// `None` keeps the context.
    context: Option<SampleContext>,
}

impl ReadingPlan {
    /// Compares samples with the stored readings, in the order of the samples.
    pub fn new(
        c: &Connection,
        samples: &[ReadingSample],
        on_changed: OnChangedValue,
    ) -> rusqlite::Result<Self> {
        let mut known = KnownReadings::around(c, samples)?;
        let mut plan = Self::default();
        for sample in samples {
            match known.find(sample, on_changed) {
                ReadingMatch::Duplicate => plan.counts.duplicates += 1,
                ReadingMatch::Changed(index) => {
                    if let Some((place, change)) = known.change(sample, index) {
                        plan.record(place, change);
                    }
                    plan.counts.updated += 1;
                }
                ReadingMatch::New => {
                    known.add(&ComparedReading::of_sample(sample, Place::Added(plan.added.len())));
                    plan.added.push(sample.clone());
                    plan.counts.inserted += 1;
                }
            }
        }
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty()
    }

    /// Records the change of a reading that is stored, or that this plan adds.
    fn record(&mut self, place: Place, new: ChangedReading) {
        match place {
            Place::Stored(id) => {
                let change = self.changed.entry(id).or_insert(new);
                (change.bpm, change.context) = (new.bpm, change.context.or(new.context));
            }
            Place::Added(index) => {
                if let Some(added) = self.added.get_mut(index) {
                    (added.bpm, added.context) = (new.bpm, added.context.or(new.context));
                }
            }
            Place::Tombstone => {}
        }
    }

    /// Writes the plan. The triggers of the rollups must be disabled.
    pub fn write(&self, c: &Connection) -> rusqlite::Result<()> {
        let mut rollups = RollupBuilder::default();
        self.insert_added(c, |sample| {
            rollups.add(sample.timestamp, sample.bpm, sample.context.map(SampleContext::name));
        })?;
        rollups.write(c)?;
        let mut update = c.prepare_cached(
            "update heart_rate_logs set bpm = ?, context = coalesce(?, context) where id = ?",
        )?;
        for (id, change) in &self.changed {
            let context = change.context.map(SampleContext::name);
            update.execute(params![change.bpm.get(), context, id.0])?;
        }
        recount_days(c, self.changed.values().map(|change| change.timestamp))
    }

    fn insert_added(
        &self,
        c: &Connection,
        mut on_insert: impl FnMut(&ReadingSample),
    ) -> rusqlite::Result<()> {
        let mut insert = c.prepare_cached(
            "insert into heart_rate_logs (timestamp, bpm, context, source) values (?, ?, ?, ?)",
        )?;
        let mut newest = NewestBySource::default();
        for sample in &self.added {
            let context = sample.context.map(SampleContext::name);
            insert.execute(params![sample.timestamp.micros(), sample.bpm.get(), context, sample.source])?;
            newest.add(EntryKind::HeartRate, &sample.source, sample.timestamp);
            on_insert(sample);
        }
        newest.write(c)
    }
}

/// Result of comparing a sample with the known readings.
enum ReadingMatch {
    New,
    Duplicate,
    /// The known reading of that source and time with this index gets the sample's heart rate or its context.
    Changed(usize),
}

/// Readings that can be equal to one of the samples: stored ones, those of tombstones, and those that the plan adds.
struct KnownReadings {
    sources: HashMap<Arc<str>, SourceIndex>,
    by_identity: HashMap<(Timestamp, SourceIndex), Vec<KnownReading>>,
    by_value: HashMap<(i64, Bpm), ValueSources>,
}

/// Index of a source of the samples.
type SourceIndex = u32;

/// Reading of the same source and time as a sample.
#[derive(Clone, Copy)]
struct KnownReading {
    place: Place,
    bpm: Bpm,
    context: Option<KnownContext>,
}

/// Context of a known reading, as far as it matters for comparisons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownContext {
    Resting,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Stored(ReadingId),
    /// Index in [`ReadingPlan::added`].
    Added(usize),
    Tombstone,
}

/// Sources of the readings of one second with the same heart rate, at most [`MAX_VALUE_SOURCES`]. `None` is a source
/// that none of the samples has.
#[derive(Default)]
struct ValueSources(Vec<Option<SourceIndex>>);

/// Two suffice unless values change.
const MAX_VALUE_SOURCES: usize = 8;

impl ValueSources {
    fn add(&mut self, source: Option<SourceIndex>) {
        if self.0.len() < MAX_VALUE_SOURCES {
            self.0.push(source);
        }
    }

    fn remove(&mut self, source: SourceIndex) {
        if let Some(index) = self.0.iter().position(|known| *known == Some(source)) {
            self.0.swap_remove(index);
        }
    }

    fn has_other_than(&self, source: SourceIndex) -> bool {
        self.0.iter().any(|known| *known != Some(source))
    }
}

/// Reading that samples are compared with.
struct ComparedReading<'a> {
    place: Place,
    timestamp: Timestamp,
    bpm: Bpm,
    context: Option<KnownContext>,
    source: Option<&'a str>,
}

impl KnownContext {
    fn of(context: SampleContext) -> Self {
        Self::from_name(context.name())
    }

    fn from_name(name: &str) -> Self {
        if name == SampleContext::Resting.name() { Self::Resting } else { Self::Other }
    }
}

impl<'a> ComparedReading<'a> {
    fn of_sample(sample: &'a ReadingSample, place: Place) -> Self {
        Self {
            place,
            timestamp: sample.timestamp,
            bpm: sample.bpm,
            context: sample.context.map(KnownContext::of),
            source: Some(&sample.source),
        }
    }

    /// Reads timestamp, heart rate, context and source from the first columns of a row.
    fn of_row(row: &'a Row<'_>, place: Place) -> rusqlite::Result<Self> {
        Ok(Self {
            place,
            timestamp: Timestamp::clamped(row.get(0)?),
            bpm: bpm(row, 1)?,
            context: row.get_ref(2)?.as_str_or_null()?.map(KnownContext::from_name),
            source: row.get_ref(3)?.as_str_or_null()?,
        })
    }
}

impl KnownReadings {
    /// Reads the stored readings and the tombstones in the seconds of the samples. Memory depends on the samples alone.
    fn around(c: &Connection, samples: &[ReadingSample]) -> rusqlite::Result<Self> {
        let mut known =
            Self { sources: HashMap::new(), by_identity: HashMap::new(), by_value: HashMap::new() };
        for sample in samples {
            let next = SourceIndex::try_from(known.sources.len()).unwrap_or(SourceIndex::MAX);
            let source = *known.sources.entry(Arc::clone(&sample.source)).or_insert(next);
            known.by_identity.entry((sample.timestamp, source)).or_default();
            known.by_value.entry((second(sample.timestamp), sample.bpm)).or_default();
        }
        let has_tombstones = tombstones::exist(c)?;
        for (start, end) in periods(samples) {
            known.read_stored(c, start, end)?;
            if has_tombstones {
                known.read_tombstones(c, start, end)?;
            }
        }
        Ok(known)
    }

    fn read_stored(&mut self, c: &Connection, start: i64, end: i64) -> rusqlite::Result<()> {
        let mut query = c.prepare_cached(
            "select timestamp, bpm, context, source, id from heart_rate_logs indexed by heart_rate_logs_by_time
             where timestamp >= ? and timestamp < ? order by timestamp, id",
        )?;
        let mut rows = query.query([start, end])?;
        while let Some(row) = rows.next()? {
            self.add(&ComparedReading::of_row(row, Place::Stored(ReadingId(row.get(4)?)))?);
        }
        Ok(())
    }

    fn read_tombstones(&mut self, c: &Connection, start: i64, end: i64) -> rusqlite::Result<()> {
        let mut query = c.prepare_cached(
            "select timestamp, cast(amount as integer), context, source from tombstones
             where kind = 'heartrate' and timestamp >= ? and timestamp < ?",
        )?;
        let mut rows = query.query([start, end])?;
        while let Some(row) = rows.next()? {
            self.add(&ComparedReading::of_row(row, Place::Tombstone)?);
        }
        Ok(())
    }

    /// Adds a reading, unless no sample can be equal to it.
    fn add(&mut self, row: &ComparedReading<'_>) {
        let source = row.source.and_then(|source| self.sources.get(source).copied());
        if let Some(sources) = self.by_value.get_mut(&(second(row.timestamp), row.bpm)) {
            sources.add(source);
        }
        let Some(of_identity) = source.and_then(|s| self.by_identity.get_mut(&(row.timestamp, s))) else {
            return;
        };
        let ComparedReading { place, bpm, context, .. } = *row;
        // A table may have any number of equal rows.
        let is_equal = |known: &KnownReading| {
            known.bpm == bpm
                && known.context == context
                && (known.place == Place::Tombstone) == (place == Place::Tombstone)
        };
        if !of_identity.iter().any(is_equal) {
            of_identity.push(KnownReading { place, bpm, context });
        }
    }

    /// Gives the reading with an index that [`Self::find`] returned the heart rate of a sample, and its context if it has
    /// none. Returns the place of the reading and the change.
    fn change(&mut self, sample: &ReadingSample, index: usize) -> Option<(Place, ChangedReading)> {
        let source = self.sources.get(&sample.source).copied()?;
        let known = self.by_identity.get_mut(&(sample.timestamp, source))?.get_mut(index)?;
        let context = sample.context.filter(|_| known.context.is_none());
        let former = std::mem::replace(&mut known.bpm, sample.bpm);
        known.context = known.context.or(context.map(KnownContext::of));
        let place = known.place;
        if let Some(sources) = self.by_value.get_mut(&(second(sample.timestamp), former)) {
            sources.remove(source);
        }
        self.by_value.entry((second(sample.timestamp), sample.bpm)).or_default().add(Some(source));
        Some((place, ChangedReading { timestamp: sample.timestamp, bpm: sample.bpm, context }))
    }

    fn find(&self, sample: &ReadingSample, on_changed: OnChangedValue) -> ReadingMatch {
        let source = self.sources.get(&sample.source).copied().unwrap_or_default();
        let of_identity = self.by_identity.get(&(sample.timestamp, source)).map_or(&[][..], Vec::as_slice);
        let is_same_kind =
            |known: &KnownReading| (known.context == Some(KnownContext::Resting)) == sample.is_resting();
        let replaces = on_changed == OnChangedValue::Replace;
        let (mut own, mut other_kind) = (None, None);
        for (index, known) in of_identity.iter().enumerate() {
            let is_equal = known.bpm == sample.bpm;
            match (known.place, is_same_kind(known)) {
                (Place::Tombstone, _) if is_equal => return ReadingMatch::Duplicate,
                (Place::Tombstone, true) if replaces => return ReadingMatch::Duplicate,
                (Place::Tombstone, _) => {}
                (_, true) if is_equal => own = Some(index),
                (_, true) if replaces => own = own.or(Some(index)),
                (_, false) if is_equal => other_kind = Some(index),
                _ => {}
            }
        }
        let Some((index, known)) = own.or(other_kind).and_then(|n| Some((n, of_identity.get(n)?))) else {
            let by_value = self.by_value.get(&(second(sample.timestamp), sample.bpm));
            let is_copy = by_value.is_some_and(|sources| sources.has_other_than(source));
            return if is_copy { ReadingMatch::Duplicate } else { ReadingMatch::New };
        };
        // A file may know the context of a reading that was pushed without one.
        let adds_context = known.context.is_none() && sample.context.is_some();
        if known.bpm != sample.bpm || adds_context {
            ReadingMatch::Changed(index)
        } else {
            ReadingMatch::Duplicate
        }
    }
}

fn second(at: Timestamp) -> i64 {
    at.micros().div_euclid(SECOND)
}

/// Returns the periods that contain the seconds of the samples, in microseconds, without long gaps between the samples.
fn periods(samples: &[ReadingSample]) -> Vec<(i64, i64)> {
    let mut seconds: Vec<i64> = samples.iter().map(|sample| second(sample.timestamp)).collect();
    seconds.sort_unstable();
    let mut periods: Vec<(i64, i64)> = Vec::new();
    for start in seconds.into_iter().map(|second| second * SECOND) {
        match periods.last_mut() {
            Some((_, end)) if start - *end <= MAX_GAP => *end = start + SECOND,
            _ => periods.push((start, start + SECOND)),
        }
    }
    periods
}
