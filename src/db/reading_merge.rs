//! Plan of merging readings of apps and devices with the stored ones.
//!
//! A reading is the same sample as a stored one when source, time and heart rate are equal, or when another source
//! has the same heart rate in the same second: health apps copy each other's samples. A reading of the same source
//! and time with another heart rate is a changed value; resting heart rates are separate, since a device may report
//! one at the time of a usual reading. Readings that were deleted or changed here are left alone, see
//! [`crate::db::tombstones`].

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::db::reading_rows::bpm;
use crate::db::sources::NewestBySource;
use crate::db::tombstones;
use crate::domain::entry::EntryKind;
use crate::domain::heart_rate::{Bpm, ReadingId};
use crate::domain::sample::{ReadingSample, SampleContext, SampleCounts};
use crate::domain::time::{MINUTE, SECOND, Timestamp};

/// Longest time between two samples whose stored readings are read by one query.
const MAX_GAP: i64 = MINUTE;

/// Handling of a reading with the source and the time of a stored one and another heart rate.
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

/// New values of a stored reading.
#[derive(Clone, Copy, Debug)]
struct ChangedReading {
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
            plan.merge(sample, &mut known, on_changed);
        }
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty()
    }

    fn merge(&mut self, sample: &ReadingSample, known: &mut KnownReadings, on_changed: OnChangedValue) {
        match known.find(sample, on_changed) {
            ReadingMatch::Duplicate => self.counts.duplicates += 1,
            ReadingMatch::Known(index) => {
                if let Some(found) = known.reading(sample, index) {
                    self.change(found, sample);
                }
                self.counts.updated += 1;
            }
            ReadingMatch::New => {
                known.add(&KnownRow::of_sample(sample, Place::Added(self.added.len())));
                self.added.push(sample.clone());
                self.counts.inserted += 1;
            }
        }
    }

    /// Gives a known reading the heart rate of a sample, and its context if it has none.
    fn change(&mut self, known: &mut KnownReading, sample: &ReadingSample) {
        let context = sample.context.filter(|_| known.context.is_none());
        known.bpm = sample.bpm;
        known.context = known.context.or(context.map(KnownContext::of));
        match known.place {
            Place::Stored(id) => {
                let change =
                    self.changed.entry(id).or_insert(ChangedReading { bpm: sample.bpm, context: None });
                change.bpm = sample.bpm;
                change.context = change.context.or(context);
            }
            Place::Added(index) => {
                if let Some(added) = self.added.get_mut(index) {
                    added.bpm = sample.bpm;
                    added.context = added.context.or(context);
                }
            }
            Place::Buried => {}
        }
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes the changes of stored readings. The triggers must be enabled.
    pub fn write_changes(&self, c: &Connection) -> rusqlite::Result<()> {
        let mut update = c.prepare_cached(
            "update heart_rate_logs set bpm = ?, context = coalesce(?, context) where id = ?",
        )?;
        self.changed.iter().try_for_each(|(id, change)| {
            let context = change.context.map(SampleContext::name);
            update.execute(params![change.bpm.get(), context, id.0]).map(drop)
        })
    }

    /// Inserts the added readings and passes each to `on_insert`.
    pub fn insert_added(
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
    Known(usize),
}

/// Stored, added and buried readings that can be equal to one of the samples.
struct KnownReadings {
    sources: HashMap<Arc<str>, SourceIndex>,
    by_identity: HashMap<(Timestamp, SourceIndex), Vec<KnownReading>>,
    /// Sources of the readings of a second with the same heart rate.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Stored(ReadingId),
    /// Index in [`ReadingPlan::added`].
    Added(usize),
    /// Deleted or changed here.
    Buried,
}

/// Sources that have the same heart rate in the same second.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ValueSources {
    #[default]
    None,
    /// Only one source of the samples.
    One(SourceIndex),
    /// Several sources, or one that is none of the samples'.
    Others,
}

/// Reading to compare samples with.
struct KnownRow<'a> {
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

impl<'a> KnownRow<'a> {
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
    /// Reads the stored and buried readings in the seconds of the samples. Memory depends on the samples alone.
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
                known.read_buried(c, start, end)?;
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
            self.add(&KnownRow::of_row(row, Place::Stored(ReadingId(row.get(4)?)))?);
        }
        Ok(())
    }

    fn read_buried(&mut self, c: &Connection, start: i64, end: i64) -> rusqlite::Result<()> {
        let mut query = c.prepare_cached(
            "select timestamp, cast(amount as integer), context, source from tombstones
             where kind = 'heartrate' and timestamp >= ? and timestamp < ?",
        )?;
        let mut rows = query.query([start, end])?;
        while let Some(row) = rows.next()? {
            self.add(&KnownRow::of_row(row, Place::Buried)?);
        }
        Ok(())
    }

    /// Adds a reading, unless no sample can be equal to it.
    fn add(&mut self, row: &KnownRow<'_>) {
        let source = row.source.and_then(|source| self.sources.get(source).copied());
        if let Some(sources) = self.by_value.get_mut(&(second(row.timestamp), row.bpm)) {
            *sources = match (*sources, source) {
                (ValueSources::None, Some(source)) => ValueSources::One(source),
                (ValueSources::One(known), Some(source)) if known == source => *sources,
                _ => ValueSources::Others,
            };
        }
        let Some(of_identity) = source.and_then(|s| self.by_identity.get_mut(&(row.timestamp, s))) else {
            return;
        };
        let KnownRow { place, bpm, context, .. } = *row;
        // A table may have any number of equal rows.
        let is_equal = |known: &KnownReading| {
            known.bpm == bpm
                && known.context == context
                && (known.place == Place::Buried) == (place == Place::Buried)
        };
        if !of_identity.iter().any(is_equal) {
            of_identity.push(KnownReading { place, bpm, context });
        }
    }

    /// Returns the reading that [`Self::find`] found.
    fn reading(&mut self, sample: &ReadingSample, index: usize) -> Option<&mut KnownReading> {
        let source = self.sources.get(&sample.source).copied()?;
        self.by_identity.get_mut(&(sample.timestamp, source))?.get_mut(index)
    }

    fn find(&self, sample: &ReadingSample, on_changed: OnChangedValue) -> ReadingMatch {
        let source = self.sources.get(&sample.source).copied().unwrap_or_default();
        let is_resting = sample.context == Some(SampleContext::Resting);
        let has_same_identity =
            |known: &KnownReading| (known.context == Some(KnownContext::Resting)) == is_resting;
        let of_identity = self.by_identity.get(&(sample.timestamp, source)).map_or(&[][..], Vec::as_slice);
        let is_buried = |known: &KnownReading| {
            known.place == Place::Buried && (has_same_identity(known) || known.bpm == sample.bpm)
        };
        if of_identity.iter().any(is_buried) {
            return ReadingMatch::Duplicate;
        }
        let find = |wanted: &dyn Fn(&KnownReading) -> bool| of_identity.iter().position(wanted);
        if let Some(index) = find(&|known| known.bpm == sample.bpm) {
            // A file may know the context of a reading that was pushed without one.
            let adds_context = sample.context.is_some()
                && of_identity.iter().all(|k| k.bpm != sample.bpm || k.context.is_none());
            return if adds_context { ReadingMatch::Known(index) } else { ReadingMatch::Duplicate };
        }
        let by_value =
            self.by_value.get(&(second(sample.timestamp), sample.bpm)).copied().unwrap_or_default();
        if by_value != ValueSources::None && by_value != ValueSources::One(source) {
            return ReadingMatch::Duplicate;
        }
        match find(&has_same_identity).filter(|_| on_changed == OnChangedValue::Replace) {
            Some(index) => ReadingMatch::Known(index),
            None => ReadingMatch::New,
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
