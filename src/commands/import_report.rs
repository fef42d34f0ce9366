//! Result of an import as JSON (`import --json`): the counts, the period and the sources of the file, and the first
//! rejections without the values of their rows.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::domain::entry::Entry;
use crate::domain::time::Timestamp;
use crate::transfer::formats::sink::Rejection;
use crate::transfer::import::ImportCounts;

/// Maximum number of reported rejections.
const MAX_REJECTIONS: usize = 20;
/// Maximum number of reported sources, and of those that are counted.
const MAX_SOURCES: usize = 10;
const MAX_COUNTED_SOURCES: usize = 1000;

/// Summary of the rows of a file.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Times of the oldest and of the newest valid entry.
    period: Option<(Timestamp, Timestamp)>,
    /// Number of valid entries of each source.
    sources: HashMap<String, u64>,
    rejections: Vec<Value>,
}

/// Number of the rows that are not entries.
#[derive(Clone, Copy, Debug)]
pub struct SkippedRows {
    pub rejected: u64,
    /// The rejected rows that could be stored, but are outside the limits for new entries.
    pub out_of_range: u64,
    pub unsupported: u64,
}

impl ImportReport {
    pub fn add_entry(&mut self, entry: &Entry) {
        let time = entry.timestamp;
        let (oldest, newest) = self.period.unwrap_or((time, time));
        self.period = Some((oldest.min(time), newest.max(time)));
        let Some(source) = &entry.source else { return };
        if let Some(count) = self.sources.get_mut(source) {
            *count += 1;
        } else if self.sources.len() < MAX_COUNTED_SOURCES {
            self.sources.insert(source.clone(), 1);
        }
    }

    pub fn add_rejection(&mut self, rejection: &Rejection) {
        if self.rejections.len() < MAX_REJECTIONS {
            let Rejection { position, reason, .. } = rejection;
            self.rejections.push(json!({"position": position.to_string(), "reason": without_value(reason)}));
        }
    }

    pub fn to_json(&self, counts: &ImportCounts, skipped: SkippedRows, is_dry_run: bool) -> Value {
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by(|(name, count), (other, other_count)| other_count.cmp(count).then(name.cmp(other)));
        let sources = sources.into_iter().take(MAX_SOURCES);
        let sources: Vec<_> = sources.map(|(name, count)| json!({"name": name, "entries": count})).collect();
        json!({
            "is_dry_run": is_dry_run,
            "coffees_added": counts.coffees_added,
            "readings_added": counts.readings_added,
            "updated": counts.updated,
            "duplicates": counts.duplicates,
            "rejected": skipped.rejected,
            "out_of_range": skipped.out_of_range,
            "unsupported": skipped.unsupported,
            "oldest": self.period.map(|(oldest, _)| oldest),
            "newest": self.period.map(|(_, newest)| newest),
            "sources": sources,
            "rejections": self.rejections,
        })
    }
}

/// Cuts a reason before the value that it quotes: in a file whose columns are shifted, that is the text of a note.
pub fn without_value(reason: &str) -> &str {
    let quote = reason.find(" (got ").into_iter().chain(reason.find(['"', '`'])).min();
    reason[..quote.unwrap_or(reason.len())].trim_end_matches([' ', ':', ',', '('])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_reported_without_the_value_of_the_row() {
        for (reason, reported) in [
            ("caffeine_mg: must be a number (got \"felt dizzy\")", "caffeine_mg: must be a number"),
            (
                "is not a JSON object: invalid type: string \"felt dizzy\", expected a map",
                "is not a JSON object: invalid type: string",
            ),
            ("bpm: 400 is above MAX_HEART_RATE_BPM (250)", "bpm: 400 is above MAX_HEART_RATE_BPM (250)"),
            ("\"", ""),
        ] {
            assert_eq!(without_value(reason), reported);
        }
    }
}
