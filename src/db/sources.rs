//! Apps and devices that entries come from.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::db::error::StoreError;
use crate::db::store::{Cost, Store};
use crate::domain::entry::EntryKind;
use crate::domain::time::Timestamp;

/// App or device that entries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySource {
    pub kind: EntryKind,
    pub name: String,
    /// Time of the newest entry that it delivered.
    pub newest_at: Timestamp,
}

/// Newest entry of each source.
#[derive(Debug, Default)]
pub struct NewestBySource {
    coffees: HashMap<String, Timestamp>,
    readings: HashMap<String, Timestamp>,
}

impl NewestBySource {
    pub fn add(&mut self, kind: EntryKind, source: &str, at: Timestamp) {
        let newest = match kind {
            EntryKind::Coffee => &mut self.coffees,
            EntryKind::HeartRate => &mut self.readings,
        };
        match newest.get_mut(source) {
            Some(newest) => *newest = at.max(*newest),
            None => drop(newest.insert(source.to_owned(), at)),
        }
    }

    /// Stores the times that are newer than the stored ones.
    pub fn write(&self, c: &Connection) -> rusqlite::Result<()> {
        let mut upsert = c.prepare_cached(
            "insert into sources (kind, name, newest_at) values (?, ?, ?)
             on conflict do update set newest_at = excluded.newest_at where excluded.newest_at > newest_at",
        )?;
        let coffees = self.coffees.iter().map(|source| (EntryKind::Coffee, source));
        let readings = self.readings.iter().map(|source| (EntryKind::HeartRate, source));
        coffees.chain(readings).try_for_each(|(kind, (name, at))| {
            upsert.execute(params![kind.name(), name, at.micros()]).map(drop)
        })
    }
}

impl Store {
    /// Returns the sources of all entries, the one with the newest entry first, at most `limit` of each kind.
    pub async fn sources(&self, limit: u32) -> Result<Vec<EntrySource>, StoreError> {
        self.read("sources", Cost::Quick, move |c| {
            let c = c.unchecked_transaction()?;
            let mut sources = read_sources(&c, EntryKind::HeartRate, limit)?;
            sources.extend(read_sources(&c, EntryKind::Coffee, limit)?);
            sources.sort_by_key(|source| std::cmp::Reverse(source.newest_at));
            Ok(sources)
        })
        .await
    }
}

/// Reads the sources of a kind; see [`Store::sources`].
pub(super) fn read_sources(
    c: &Connection,
    kind: EntryKind,
    limit: u32,
) -> rusqlite::Result<Vec<EntrySource>> {
    c.prepare_cached(
        "select name, newest_at from sources indexed by sources_by_time
         where kind = ? order by newest_at desc, name desc limit ?",
    )?
    .query_map(params![kind.name(), limit], |row| {
        Ok(EntrySource { kind, name: row.get(0)?, newest_at: Timestamp::clamped(row.get(1)?) })
    })?
    .collect()
}
