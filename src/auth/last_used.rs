//! File with the time each named key was last used. It is separate from the key file, which the server
//! never writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::auth::key::KeyDigest;
use crate::domain::time::Timestamp;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

const SUFFIX: &str = ".keys.used";

/// Time of the last use of each key that has been used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastUsed(BTreeMap<KeyDigest, Timestamp>);

impl LastUsed {
    /// Reads the file of `database`; empty when it cannot be read.
    pub fn read(database: &Path) -> Self {
        let text = fs::read(with_suffix(database, SUFFIX));
        text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Replaces the file of `database`.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        write_atomically(&with_suffix(database, SUFFIX), &serde_json::to_vec(self)?)
    }

    /// Returns the last use of a key.
    pub fn of(&self, key: &KeyDigest) -> Option<Timestamp> {
        self.0.get(key).copied()
    }
}

impl FromIterator<(KeyDigest, Timestamp)> for LastUsed {
    fn from_iter<I: IntoIterator<Item = (KeyDigest, Timestamp)>>(uses: I) -> Self {
        Self(uses.into_iter().collect())
    }
}
