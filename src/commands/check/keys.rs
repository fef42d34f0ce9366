//! Checks of the named keys, and of a key in the settings file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::auth::key_file::KeyFile;
use crate::commands::check::installation::MAX_KEY_AGE;
use crate::commands::check::{Finding, advice, format_age, must, ok};
use crate::commands::counted;
use crate::config::{KeySource, Settings};
use crate::domain::time::Timestamp;

/// Checks that other users cannot read a settings file with the owner's key.
pub fn config(settings: &Settings, file: &Path) -> Option<Finding> {
    let KeySource::Given(key) = &settings.key else { return None };
    let is_open = fs::metadata(file).is_ok_and(|found| found.mode() & 0o007 != 0);
    let is_there = || fs::read_to_string(file).is_ok_and(|text| text.contains(key.as_str()));
    let sentence = || format!("other users can read it in {0}: run `chmod 600 {0}`", file.display());
    (is_open && is_there()).then(|| must("API key", sentence()))
}

/// Checks that the named keys can be read and none is old.
pub fn named(database: &Path, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "named keys";
    let keys = match KeyFile::of(database).read() {
        Ok((keys, _)) => keys,
        Err(e) => return vec![must(ABOUT, e.to_string())],
    };
    let keys: Vec<_> = keys.into_iter().filter(|key| key.is_valid_at(now)).collect();
    let age = |created: Timestamp| now.micros() - created.micros();
    let mut findings: Vec<Finding> = keys
        .iter()
        // A rotated key expires by itself.
        .filter(|key| key.expires.is_none() && age(key.created) > MAX_KEY_AGE)
        .map(|key| {
            let (name, age) = (&key.name, format_age(age(key.created)));
            advice(ABOUT, format!("{name} is {age} old: run `coffee-tracker key rotate {name}`"))
        })
        .collect();
    if findings.is_empty() {
        findings.push(ok(ABOUT, counted(keys.len() as u64, "key")));
    }
    findings
}
