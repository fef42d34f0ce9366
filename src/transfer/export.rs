//! Entries in time order, one by one, from one state of the database: a single statement
//! reads them, so a restore meanwhile changes nothing, and memory does not grow with them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use tokio::sync::OwnedSemaphorePermit;

use crate::db::error::{OpenError, StoreError};
use crate::db::schema;
use crate::db::schema::Role;
use crate::db::store::Store;
use crate::domain::coffee::{CoffeeId, Milligrams};
use crate::domain::entry::{CoffeeEntry, Entry, EntryKind, ReadingEntry};
use crate::domain::heart_rate::{Bpm, ReadingId};
use crate::domain::time::Timestamp;

/// How long a further one waits, as a dear read does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which entries to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extract {
    pub kind: EntryKind,
    /// From this instant on; `None`: from the first.
    pub since: Option<Timestamp>,
    /// Up to but without this instant; `None`: to the last.
    pub until: Option<Timestamp>,
}

/// Why an export ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where the entries went takes no more.
    #[error(transparent)]
    Target(io::Error),
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// One of the few places for exports; given back when dropped.
#[derive(Debug)]
pub struct ExportSlot {
    _permit: OwnedSemaphorePermit,
}

impl Store {
    /// Waits for a place to export from.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when none gets free in time.
    pub async fn export_place(&self) -> Result<ExportSlot, StoreError> {
        let place = Arc::clone(&self.export_slots).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place).await.map_err(|_| StoreError::Busy)?;
        place.map(|_permit| ExportSlot { _permit }).map_err(|_| StoreError::Closed)
    }

    /// Feeds entries, oldest first (of equal instants the lower id), to `each`, on this thread.
    /// `begun` is called once the first was found, or found missing. Says how many there were.
    ///
    /// # Errors
    /// The store's faults, or those of `each`.
    pub fn export(
        &self,
        _place: &ExportSlot,
        extract: &Extract,
        begun: impl FnOnce(),
        each: impl FnMut(&Entry) -> io::Result<()>,
    ) -> Result<u64, ExportError> {
        let done = schema::connect(&self.path, Role::Reader)
            .map_err(ExportError::from)
            .and_then(|connection| read(&connection, extract, begun, each));
        if let Err(ExportError::Store(fault)) = &done {
            drop(self.note::<()>("export", Duration::ZERO, Err(fault.clone())));
        }
        done
    }
}

/// A database that nothing but an export is wanted of.
#[derive(Debug)]
pub struct Exporter(Connection);

impl Exporter {
    /// Opens a database, in use or not, to read it. None is made where there is none.
    ///
    /// # Errors
    /// That it is not there, not ours, or newer than this program.
    pub fn open(database: &Path) -> Result<Self, OpenError> {
        crate::db::open::open_to_read(database).map(Self)
    }

    /// Feeds entries, oldest first (of equal instants the lower id), to `each`; says how many.
    ///
    /// # Errors
    /// The store's faults, or those of `each`.
    pub fn run(
        &self,
        extract: &Extract,
        each: impl FnMut(&Entry) -> io::Result<()>,
    ) -> Result<u64, ExportError> {
        read(&self.0, extract, || (), each)
    }
}

fn read(
    connection: &Connection,
    extract: &Extract,
    begun: impl FnOnce(),
    mut each: impl FnMut(&Entry) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let (query, entry): (_, fn(&Row<'_>) -> rusqlite::Result<Entry>) = match extract.kind {
        EntryKind::Coffee => (
            "select id, timestamp, caffeine_mg, coffee_type, notes, source
             from coffee_logs indexed by coffee_logs_by_time
             where timestamp >= ? and timestamp < ? order by timestamp, id",
            coffee,
        ),
        EntryKind::HeartRate => (
            "select id, timestamp, bpm, context, notes, source
             from heart_rate_logs indexed by heart_rate_logs_by_time
             where timestamp >= ? and timestamp < ? order by timestamp, id",
            reading,
        ),
    };
    let since = extract.since.map_or(i64::MIN, Timestamp::micros);
    let until = extract.until.map_or(i64::MAX, Timestamp::micros);
    let mut query = connection.prepare(query)?;
    let mut rows = query.query(params![since, until])?;
    let mut next = rows.next()?;
    begun();
    let mut count = 0;
    while let Some(row) = next {
        each(&entry(row)?).map_err(ExportError::Target)?;
        count += 1;
        next = rows.next()?;
    }
    Ok(count)
}

fn coffee(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry::Coffee(CoffeeEntry {
        id: Some(CoffeeId(row.get(0)?)),
        timestamp: Timestamp::clamped(row.get(1)?),
        caffeine_mg: Milligrams::new(row.get(2)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?,
        coffee_type: row.get(3)?,
        notes: row.get(4)?,
        source: row.get(5)?,
    }))
}

fn reading(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let bpm = row.get(2)?;
    Ok(Entry::Reading(ReadingEntry {
        id: Some(ReadingId(row.get(0)?)),
        timestamp: Timestamp::clamped(row.get(1)?),
        bpm: Bpm::new(bpm).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, bpm))?,
        context: row.get(3)?,
        notes: row.get(4)?,
        source: row.get(5)?,
    }))
}
