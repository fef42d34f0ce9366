//! The database, its backups, and the room for both.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use indicatif::DecimalBytes;

use crate::backup::retention::newest_to_verify;
use crate::backup::verify::verify_file;
use crate::commands::backups::{all, other_backups};
use crate::commands::check::{Finding, advice, ago, must, ok};
use crate::commands::counted;
use crate::config::Place;
use crate::db::health::BackupRecord;
use crate::db::lock_file::{LockRecord, LockState};
use crate::db::replace_file::ensure_not_lost;
use crate::domain::time::Timestamp;
use crate::fs::disk_space::Disk;
use crate::fs::paths::with_suffix;
use crate::fs::privileges::Identity;

/// Is it there, whole, and of the past?
pub fn database(database: &Path, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "database";
    if let Err(e) = ensure_not_lost(database) {
        return vec![must(ABOUT, format!("{e} (docs/RUNBOOK.md, The database is gone)"))];
    }
    if matches!(LockRecord::read(database).state, LockState::Moved { .. }) {
        let sentence = format!(
            "{} or its log was moved, deleted or replaced while a server ran (docs/RUNBOOK.md, The database is gone)",
            database.display()
        );
        return vec![must(ABOUT, sentence)];
    }
    if !database.exists() {
        return vec![advice(
            ABOUT,
            format!("{} is not there yet: the first start makes it", database.display()),
        )];
    }
    let found = verify_file(database);
    if !found.is_sound() {
        let why = found.reasons.join("; ");
        let sentence =
            format!("{}: {why}: restore a backup (docs/RUNBOOK.md, Restoring)", database.display());
        return vec![must(ABOUT, sentence)];
    }
    let contents = found.contents.unwrap_or_default();
    let sound = format!(
        "{}: sound, {}, {}, {}",
        database.display(),
        DecimalBytes(found.size_bytes),
        counted(contents.coffees, "coffee"),
        counted(contents.readings, "reading"),
    );
    let mut findings = vec![ok(ABOUT, sound)];
    if !found.differing_rollups.is_empty() {
        let sentence = "its counts differ from its readings, statistics are wrong: coffee-tracker recount";
        findings.push(must(ABOUT, sentence));
    }
    if let Some(newest) = contents.newest.filter(|newest| *newest > now) {
        let sentence =
            format!("the newest entry is of {newest}, which is still to come: set the clock, or correct it");
        findings.push(must(ABOUT, sentence));
    }
    findings
}

/// Is there a fresh one that can be restored, and does one lie elsewhere?
pub fn backups(place: &Place, identity: &Identity, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "backups";
    let folder = place.backups.display();
    let (newest, others): (Option<PathBuf>, String) = match all(place, identity) {
        Ok(files) => {
            let others = other_backups(&files);
            (newest_to_verify(files), others)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return vec![must(ABOUT, format!("none in {folder}: coffee-tracker backup, each night"))];
        }
        Err(e) => return vec![must(ABOUT, format!("{folder} cannot be looked into: {e}"))],
    };
    let Some(newest) = newest else {
        let sentence =
            format!("none of this database in {folder}{others}: coffee-tracker backup, each night");
        return vec![must(ABOUT, sentence)];
    };
    let name = newest.display();
    let found = verify_file(&newest);
    let mut findings = Vec::new();
    let age = fs::metadata(&newest)
        .and_then(|m| m.modified())
        .map(|at| now.micros() - Timestamp::from(at).micros());
    findings.push(match age {
        _ if !found.is_sound() => {
            must(ABOUT, format!("{name} cannot be restored: {}: make another", found.reasons.join("; ")))
        }
        Ok(age) if age > BackupRecord::STALE => {
            must(ABOUT, format!("{name} is {} old: is the timer at work?", ago(age)))
        }
        Ok(age) if !found.has_digests => {
            let sentence =
                format!("{name} can be restored, {} old; made before backups carried digests", ago(age));
            ok(ABOUT, sentence)
        }
        Ok(age) => ok(ABOUT, format!("{name} can be restored, {} old", ago(age))),
        Err(e) => must(ABOUT, format!("{name}: {e}")),
    });
    if fs::metadata(&newest).is_ok_and(|file| file.mode() & 0o077 != 0) {
        findings.push(must(ABOUT, format!("others may read {name}: chmod 600 {name}")));
    }
    if let Some(why) = BackupRecord::read(&place.database).error {
        findings.push(must(ABOUT, format!("the last attempt failed: {why}: coffee-tracker backup")));
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    if device(&newest).is_some() && device(&newest) == device(&place.database) {
        let sentence = "they lie on the disk of the database and would die with it: copy them elsewhere too";
        findings.push(advice(ABOUT, sentence));
    }
    findings
}

/// Is there room left?
pub fn disk(database: &Path) -> Finding {
    const ABOUT: &str = "disk";
    let folder = database.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("."));
    let disk = match Disk::of(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
        Ok(disk) => disk,
        Err(e) => return must(ABOUT, format!("{} cannot be asked: {e}", folder.display())),
    };
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let needed = 2 * (size(database) + size(&with_suffix(database, "-wal")));
    let sentence = format!("{:.0}% used, {} free", disk.used_percent, DecimalBytes(disk.free_bytes));
    if disk.free_bytes < needed {
        return must(ABOUT, format!("{sentence}: a backup and a restore want {}", DecimalBytes(needed)));
    }
    if disk.is_low() {
        return must(ABOUT, format!("{sentence}: make room before writes are refused"));
    }
    ok(ABOUT, sentence)
}
