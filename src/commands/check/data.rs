//! Checks of the database, its backups and the disk space.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use indicatif::DecimalBytes;

use crate::backup::retention::newest_to_verify;
use crate::backup::verify::verify_file;
use crate::commands::backups::{all, other_backups};
use crate::commands::check::{Finding, advice, format_age, must, ok};
use crate::commands::counted;
use crate::config::CommonSettings;
use crate::db::health::BackupRecord;
use crate::db::lock_file::{LockRecord, LockState};
use crate::db::replace_file::ensure_not_lost;
use crate::domain::time::Timestamp;
use crate::fs::disk_space::Disk;
use crate::fs::paths::with_suffix;
use crate::fs::privileges::Identity;

/// Checks that the database is intact and has no entries in the future.
pub fn database(database: &Path, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "database";
    if let Err(e) = ensure_not_lost(database) {
        return vec![must(ABOUT, format!("{e} (docs/RUNBOOK.md, The database is gone)"))];
    }
    if matches!(LockRecord::read(database).state, LockState::Moved { .. }) {
        let sentence = format!(
            "{} or its log was moved, deleted or replaced while the server was running (docs/RUNBOOK.md, The database is gone)",
            database.display()
        );
        return vec![must(ABOUT, sentence)];
    }
    if !database.exists() {
        return vec![advice(
            ABOUT,
            format!("{} does not exist yet: the first start creates it", database.display()),
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
        "{} is intact: {}, {}, {}",
        database.display(),
        DecimalBytes(found.size_bytes),
        counted(contents.coffees, "coffee"),
        counted(contents.readings, "reading"),
    );
    let mut findings = vec![ok(ABOUT, sound)];
    if !found.differing_rollups.is_empty() {
        let sentence = "its rollups are wrong: run `coffee-tracker recount`";
        findings.push(must(ABOUT, sentence));
    }
    if let Some(newest) = contents.newest.filter(|newest| *newest > now) {
        let sentence =
            format!("the newest entry is dated {newest}, in the future: set the clock or correct the entry");
        findings.push(must(ABOUT, sentence));
    }
    findings
}

/// Checks that the newest backup is recent, can be restored and is on another disk.
pub fn backups(settings: &CommonSettings, identity: &Identity, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "backups";
    let folder = settings.backups.display();
    let (newest, others): (Option<PathBuf>, String) = match all(settings, identity) {
        Ok(files) => {
            let others = other_backups(&files);
            (newest_to_verify(files), others)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return vec![must(
                ABOUT,
                format!("there is no folder {folder}: run `coffee-tracker backup` every night"),
            )];
        }
        Err(e) => return vec![must(ABOUT, format!("cannot read {folder}: {e}"))],
    };
    let Some(newest) = newest else {
        let sentence = format!(
            "there is no backup of this database in {folder}{others}: run `coffee-tracker backup` every night"
        );
        return vec![must(ABOUT, sentence)];
    };
    let name = newest.display();
    let found = verify_file(&newest);
    let mut findings = Vec::new();
    let age = fs::metadata(&newest)
        .and_then(|m| m.modified())
        .map(|at| now.micros() - Timestamp::from(at).micros());
    findings.push(match age {
        _ if !found.is_sound() => must(
            ABOUT,
            format!("{name} cannot be restored: {}: make another backup", found.reasons.join("; ")),
        ),
        Ok(age) if age > BackupRecord::STALE => {
            must(ABOUT, format!("{name} is {} old: check the timer of the backups", format_age(age)))
        }
        Ok(age) if !found.has_digests => {
            let sentence = format!(
                "{name} can be restored, {} old, without digests (made by an older version)",
                format_age(age)
            );
            ok(ABOUT, sentence)
        }
        Ok(age) => ok(ABOUT, format!("{name} can be restored, {} old", format_age(age))),
        Err(e) => must(ABOUT, format!("{name}: {e}")),
    });
    if fs::metadata(&newest).is_ok_and(|file| file.mode() & 0o077 != 0) {
        findings.push(must(ABOUT, format!("other users can read {name}: run `chmod 600 {name}`")));
    }
    if let Some(why) = BackupRecord::read(&settings.database).error {
        findings.push(must(ABOUT, format!("the last backup failed: {why}: run `coffee-tracker backup`")));
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    if device(&newest).is_some() && device(&newest) == device(&settings.database) {
        let sentence = "they are on the same disk as the database: copy them to another disk too";
        findings.push(advice(ABOUT, sentence));
    }
    findings
}

/// Checks the free disk space.
pub fn disk(database: &Path) -> Finding {
    const ABOUT: &str = "disk";
    let folder = database.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("."));
    let disk = match Disk::of(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
        Ok(disk) => disk,
        Err(e) => return must(ABOUT, format!("cannot read the free space of {}: {e}", folder.display())),
    };
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let needed = 2 * (size(database) + size(&with_suffix(database, "-wal")));
    let sentence = format!("{:.0}% used, {} free", disk.used_percent, DecimalBytes(disk.free_bytes));
    if disk.free_bytes < needed {
        return must(ABOUT, format!("{sentence}: a backup and a restore need {}", DecimalBytes(needed)));
    }
    if disk.is_low() {
        return must(ABOUT, format!("{sentence}: free some space before the disk is full"));
    }
    ok(ABOUT, sentence)
}
