//! Record of the backups of a database: which were requested by a person, and when each was last verified.
//!
//! It is a file beside the database. Files of older versions, and backups that were copied into the folder by hand,
//! are not in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// Record of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// A person requested it, rather than a timer.
    #[serde(default)]
    pub is_manual: bool,
    /// Time of the last successful verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
}

/// Records of backups by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalog(BTreeMap<String, CatalogEntry>);

impl Catalog {
    /// Reads the record beside `database`; an empty one if it is missing or unreadable.
    pub fn read(database: &Path) -> Self {
        let text = fs::read(with_suffix(database, SUFFIX)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Returns the record of the backup at `path`.
    pub fn entry(&self, path: &Path) -> CatalogEntry {
        file_name(path).and_then(|name| self.0.get(name).cloned()).unwrap_or_default()
    }
}

/// Suffix of the file with the record.
const SUFFIX: &str = ".backups.json";

/// Changes the record of the backup at `path`. Records of files that are gone from its folder are dropped.
pub fn record(database: &Path, path: &Path, change: impl FnOnce(&mut CatalogEntry)) -> io::Result<()> {
    let Some(name) = file_name(path) else { return Ok(()) };
    let mut catalog = Catalog::read(database);
    catalog.0.retain(|other, _| path.with_file_name(other).exists());
    change(catalog.0.entry(name.to_owned()).or_default());
    write_atomically(&with_suffix(database, SUFFIX), &serde_json::to_vec(&catalog)?)
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_as_long_as_their_backups_exist() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let database = at("coffee.db");
        for name in ["one.db", "two.db"] {
            fs::write(at(name), "").unwrap();
        }
        let time = Timestamp::clamped(7);
        record(&database, &at("one.db"), |entry| entry.is_manual = true).unwrap();
        record(&database, &at("two.db"), |entry| entry.verified_at = Some(time)).unwrap();
        let catalog = Catalog::read(&database);
        assert_eq!(catalog.entry(&at("one.db")), CatalogEntry { is_manual: true, verified_at: None });
        assert_eq!(catalog.entry(&at("two.db")), CatalogEntry { is_manual: false, verified_at: Some(time) });
        assert_eq!(catalog.entry(&at("three.db")), CatalogEntry::default());
        fs::remove_file(at("one.db")).unwrap();
        record(&database, &at("two.db"), |_| {}).unwrap();
        assert_eq!(Catalog::read(&database).entry(&at("one.db")), CatalogEntry::default());
        fs::write(at("coffee.db.backups.json"), "{").unwrap();
        assert_eq!(Catalog::read(&database), Catalog::default());
    }
}
