//! When each key was last used, as a running server notes it: a file of its own, so that the
//! server never writes the one that says which keys there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::auth::key::KeyDigest;
use crate::domain::time::Timestamp;
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::write_atomically;

/// When each key was last used; those that never were are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uses(BTreeMap<KeyDigest, Timestamp>);

impl Uses {
    /// As they were noted beside `database`; none when that cannot be read.
    pub fn read(database: &Path) -> Self {
        let text = fs::read(with_suffix(database, ".keys.used"));
        text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Notes them beside `database`, instead of what was noted there.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        write_atomically(&with_suffix(database, ".keys.used"), &serde_json::to_vec(self)?)
    }

    /// When this key was last used.
    pub fn of(&self, key: &KeyDigest) -> Option<Timestamp> {
        self.0.get(key).copied()
    }
}

impl FromIterator<(KeyDigest, Timestamp)> for Uses {
    fn from_iter<I: IntoIterator<Item = (KeyDigest, Timestamp)>>(uses: I) -> Self {
        Self(uses.into_iter().collect())
    }
}
