//! Export of entries in time order. A single statement reads them, so that memory does not grow with their number and a
//! restore meanwhile changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use tokio::sync::OwnedSemaphorePermit;

use crate::db::error::{OpenError, StoreError};
use crate::db::open::open_to_read;
use crate::db::schema;
use crate::db::schema::Role;
use crate::db::store::Store;
use crate::domain::coffee::Milligrams;
use crate::domain::entry::{Amount, Entry, EntryKind, IdInFile};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::Timestamp;

/// Maximum wait of an export for another one to end.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Selection of entries to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportFilter {
    pub kind: EntryKind,
    /// First instant; `None`: from the first entry on.
    pub since: Option<Timestamp>,
    /// Instant behind the last one; `None`: up to the last entry.
    pub until: Option<Timestamp>,
}

/// Error that ends an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(io::Error),
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Permit for one of the few concurrent exports.
#[derive(Debug)]
pub struct ExportSlot {
    _permit: OwnedSemaphorePermit,
}

impl Store {
    /// Waits for a permit to export.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when none becomes available in time.
    pub async fn export_slot(&self) -> Result<ExportSlot, StoreError> {
        let permit = Arc::clone(&self.resources.export_slots).acquire_owned();
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, permit).await.map_err(|_| StoreError::Busy)?;
        permit.map(|_permit| ExportSlot { _permit }).map_err(|_| StoreError::Closed)
    }

    /// Passes entries to `write`, oldest first (equal instants by id), on this thread. Calls `on_start` once the first
    /// row was read, or there is none. Returns the number of entries.
    pub fn export(
        &self,
        _permit: &ExportSlot,
        filter: &ExportFilter,
        on_start: impl FnOnce(),
        write: impl FnMut(&Entry) -> io::Result<()>,
    ) -> Result<u64, ExportError> {
        let exported = schema::connect(&self.path, Role::Reader)
            .map_err(ExportError::from)
            .and_then(|connection| export(&connection, filter, on_start, write));
        if let Err(ExportError::Store(fault)) = &exported {
            drop(self.record_outcome::<()>("export", Duration::ZERO, Err(fault.clone())));
        }
        exported
    }
}

/// Database that is open for exports only, whether a server uses it or not.
#[derive(Debug)]
pub struct Exporter(Connection);

impl Exporter {
    pub fn open(database: &Path) -> Result<Self, OpenError> {
        open_to_read(database).map(Self)
    }

    /// Passes entries to `write`, oldest first (equal instants by id). Returns their number.
    pub fn export(
        &self,
        filter: &ExportFilter,
        write: impl FnMut(&Entry) -> io::Result<()>,
    ) -> Result<u64, ExportError> {
        export(&self.0, filter, || (), write)
    }
}

fn export(
    connection: &Connection,
    filter: &ExportFilter,
    on_start: impl FnOnce(),
    mut write: impl FnMut(&Entry) -> io::Result<()>,
) -> Result<u64, ExportError> {
    let mut query = connection.prepare(match filter.kind {
        EntryKind::Coffee => {
            "select id, timestamp, caffeine_mg, coffee_type, notes, source
             from coffee_logs indexed by coffee_logs_by_time
             where timestamp >= ? and timestamp < ? order by timestamp, id"
        }
        EntryKind::HeartRate => {
            "select id, timestamp, bpm, context, notes, source
             from heart_rate_logs indexed by heart_rate_logs_by_time
             where timestamp >= ? and timestamp < ? order by timestamp, id"
        }
    })?;
    let since = filter.since.map_or(i64::MIN, Timestamp::micros);
    let until = filter.until.map_or(i64::MAX, Timestamp::micros);
    let mut rows = query.query(params![since, until])?;
    let mut next = rows.next()?;
    on_start();
    let mut count = 0;
    while let Some(row) = next {
        write(&read_entry(filter.kind, row)?).map_err(ExportError::Output)?;
        count += 1;
        next = rows.next()?;
    }
    Ok(count)
}

fn read_entry(kind: EntryKind, row: &Row<'_>) -> rusqlite::Result<Entry> {
    let amount = match kind {
        EntryKind::Coffee => Milligrams::new(row.get(2)?).map(Amount::Caffeine),
        EntryKind::HeartRate => Bpm::new(row.get(2)?).map(Amount::HeartRate),
    };
    Ok(Entry {
        id: Some(IdInFile(row.get(0)?)),
        timestamp: Timestamp::clamped(row.get(1)?),
        amount: amount.ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?,
        label: row.get(3)?,
        notes: row.get(4)?,
        source: row.get(5)?,
    })
}
