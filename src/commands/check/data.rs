//! Checks of the database, its backups and the disk space.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use indicatif::DecimalBytes;

use crate::backup::retention::newest_to_verify;
use crate::backup::verify::verify_file;
use crate::commands::backups::{all, other_backups};
use crate::commands::check::{Findings, format_age};
use crate::commands::counted_entries;
use crate::config::CommonSettings;
use crate::db::health::BackupRecord;
use crate::db::lock_file::{LockRecord, LockState};
use crate::db::replace_file::ensure_not_lost;
use crate::domain::time::Timestamp;
use crate::fs::disk_space::Disk;
use crate::fs::paths::with_suffix;
use crate::fs::privileges::Identity;
use crate::people::moving;

/// Checks that the database is intact and has no entries in the future.
pub fn database(report: &mut Findings, database: &Path, now: Timestamp) {
    const ABOUT: &str = "database";
    let path = database.display();
    if let Err(e) = ensure_not_lost(database) {
        return report.must(ABOUT, format!("{e} (docs/RUNBOOK.md, The database is gone)"));
    }
    if matches!(LockRecord::read(database).state, LockState::Moved { .. }) {
        let moved = "was moved, deleted or replaced while the server was running";
        return report
            .must(ABOUT, format!("{path} or its log {moved} (docs/RUNBOOK.md, The database is gone)"));
    }
    if !database.exists() {
        return report.advice(ABOUT, format!("{path} does not exist yet: the first start creates it"));
    }
    let found = verify_file(database);
    if !found.is_sound() {
        let why = found.reasons.join("; ");
        return report.must(ABOUT, format!("{path}: {why}: restore a backup (docs/RUNBOOK.md, Restoring)"));
    }
    let contents = found.contents.unwrap_or_default();
    let (size, entries) = (DecimalBytes(found.size_bytes), counted_entries(&contents));
    report.ok(ABOUT, format!("{path} is intact: {size}, {entries}"));
    if !found.differing_rollups.is_empty() {
        report.must(ABOUT, "its rollups are wrong: run `coffee-tracker recount`");
    }
    if let Some(newest) = contents.newest.filter(|newest| *newest > now) {
        let advice = "set the clock or correct the entry";
        report.must(ABOUT, format!("the newest entry is dated {newest}, in the future: {advice}"));
    }
}

/// Reports a person who is being moved to another machine.
pub fn current_move(report: &mut Findings, database: &Path) {
    const ABOUT: &str = "move";
    match moving::current_move(database) {
        Ok(None) => {}
        Ok(Some(found)) => {
            let (direction, since) = (found.direction.name(), found.frozen_since);
            let state = format!("{direction}, and frozen since {since}: changes are rejected");
            report.advice(ABOUT, format!("{state} (docs/PEOPLE.md, Move a person to another machine)"));
        }
        Err(e) => report.must(ABOUT, e.to_string()),
    }
}

/// Checks that the newest backup is recent, can be restored and is on another disk.
pub fn backups(report: &mut Findings, settings: &CommonSettings, identity: &Identity, now: Timestamp) {
    const ABOUT: &str = "backups";
    const EVERY_NIGHT: &str = "run `coffee-tracker backup` every night";
    let folder = settings.backups.display();
    let files = match all(settings, identity) {
        Ok(files) => files,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return report.must(ABOUT, format!("there is no folder {folder}: {EVERY_NIGHT}"));
        }
        Err(e) => return report.must(ABOUT, format!("cannot read {folder}: {e}")),
    };
    let others = other_backups(&files);
    let Some(newest) = newest_to_verify(files) else {
        let missing = format!("there is no backup of this database in {folder}{others}");
        return report.must(ABOUT, format!("{missing}: {EVERY_NIGHT}"));
    };
    let name = newest.display();
    let found = verify_file(&newest);
    let modified = fs::metadata(&newest).and_then(|file| file.modified());
    match modified.map(|at| now.micros() - Timestamp::from(at).micros()) {
        _ if !found.is_sound() => {
            let why = found.reasons.join("; ");
            report.must(ABOUT, format!("{name} cannot be restored: {why}: make another backup"));
        }
        Ok(age) if age > BackupRecord::STALE => {
            report.must(ABOUT, format!("{name} is {} old: check the timer of the backups", format_age(age)));
        }
        Ok(age) => {
            let undigested =
                if found.has_digests { "" } else { ", without digests (made by an older version)" };
            report.ok(ABOUT, format!("{name} can be restored, {} old{undigested}", format_age(age)));
        }
        Err(e) => report.must(ABOUT, format!("{name}: {e}")),
    }
    if fs::metadata(&newest).is_ok_and(|file| file.mode() & 0o077 != 0) {
        report.must(ABOUT, format!("other users can read {name}: run `chmod 600 {name}`"));
    }
    if let Some(why) = BackupRecord::read(&settings.database).error {
        report.must(ABOUT, format!("the last backup failed: {why}: run `coffee-tracker backup`"));
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    if device(&newest).is_some() && device(&newest) == device(&settings.database) {
        report.advice(ABOUT, "they are on the same disk as the database: copy them to another disk too");
    }
}

pub fn disk(report: &mut Findings, database: &Path) {
    const ABOUT: &str = "disk";
    let folder = database.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("."));
    let disk = match Disk::of(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
        Ok(disk) => disk,
        Err(e) => {
            return report.must(ABOUT, format!("cannot read the free space of {}: {e}", folder.display()));
        }
    };
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let needed = 2 * (size(database) + size(&with_suffix(database, "-wal")));
    let space = format!("{:.0}% used, {} free", disk.used_percent, DecimalBytes(disk.free_bytes));
    if disk.free_bytes < needed {
        report.must(ABOUT, format!("{space}: a backup and a restore need {}", DecimalBytes(needed)));
    } else if disk.is_low() {
        report.must(ABOUT, format!("{space}: free some space before the disk is full"));
    } else {
        report.ok(ABOUT, space);
    }
}
