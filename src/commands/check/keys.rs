//! Checks of the named keys, and of a key in the settings file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::auth::key::NamedKey;
use crate::auth::key_file::KeyFile;
use crate::commands::check::installation::MAX_KEY_AGE;
use crate::commands::check::{Findings, format_age};
use crate::commands::counted;
use crate::config::{KeySource, Settings};
use crate::domain::time::Timestamp;

/// Checks that other users cannot read a settings file with the owner's key.
pub fn config(report: &mut Findings, settings: &Settings, file: &Path) {
    let KeySource::Given(key) = &settings.initial.key else { return };
    let is_open = fs::metadata(file).is_ok_and(|found| found.mode() & 0o007 != 0);
    if is_open && fs::read_to_string(file).is_ok_and(|text| text.contains(key.as_str())) {
        let path = file.display();
        report.must("API key", format!("other users can read it in {path}: run `chmod 600 {path}`"));
    }
}

/// Checks that the named keys can be read and none is old.
pub fn named(report: &mut Findings, database: &Path, now: Timestamp) {
    const ABOUT: &str = "named keys";
    let mut keys = match KeyFile::of(database).read() {
        Ok((keys, _)) => keys,
        Err(e) => return report.must(ABOUT, e.to_string()),
    };
    keys.retain(|key| key.is_valid_at(now));
    let age = |key: &NamedKey| now.micros() - key.created.micros();
    // A rotated key expires by itself.
    let old = keys.iter().filter(|key| key.expires.is_none() && age(key) > MAX_KEY_AGE);
    let old: Vec<&NamedKey> = old.collect();
    for key in &old {
        let (name, age) = (&key.name, format_age(age(key)));
        report.advice(ABOUT, format!("{name} is {age} old: run `coffee-tracker key rotate {name}`"));
    }
    if old.is_empty() {
        report.ok(ABOUT, counted(keys.len() as u64, "key"));
    }
}
