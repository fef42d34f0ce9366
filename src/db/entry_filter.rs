//! Filter of lists of coffees and of readings.

use std::cmp::Reverse;

use crate::domain::time::Timestamp;

/// Filter of a list of entries, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryFilter {
    /// Start of the period, inclusive; `until` is exclusive.
    pub since: Timestamp,
    pub until: Timestamp,
    /// Coffee type, or context of readings.
    pub label: Option<String>,
    pub limit: u32,
    pub offset: u32,
}

impl EntryFilter {
    /// Returns the page of entries whose label has one of these spellings. `of_spelling` lists the entries of one,
    /// newest first, by limit and offset.
    ///
    /// The newest entries of several spellings are merged: a single query would sort all entries of all spellings.
    pub fn page_of_spellings<T>(
        &self,
        spellings: &[String],
        mut of_spelling: impl FnMut(&str, u32, u32) -> rusqlite::Result<Vec<T>>,
        time_and_id: impl Fn(&T) -> (Timestamp, i64),
    ) -> rusqlite::Result<Vec<T>> {
        if let [one] = spellings {
            return of_spelling(one, self.limit, self.offset);
        }
        let mut newest = Vec::new();
        for spelling in spellings {
            newest.append(&mut of_spelling(spelling, self.limit.saturating_add(self.offset), 0)?);
        }
        newest.sort_unstable_by_key(|entry| Reverse(time_and_id(entry)));
        Ok(newest.into_iter().skip(self.offset as usize).take(self.limit as usize).collect())
    }
}
