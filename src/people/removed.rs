//! Removed people: their folders in `removed/`, and the deletion of those who were removed long ago.
//!
//! A folder is deleted after a number of days, which is counted in three ways: since the time in its name, since its
//! last change, and in days on which a running server has found it. All three must have passed. A machine without a
//! clock battery may start with a wrong time, and the first two alone would then delete somebody who was just removed.
//! A folder without a backup of its database is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::backup::origin::BackupOrigin;
use crate::backup::retention::list_backups;
use crate::config::CommonSettings;
use crate::domain::person::PersonName;
use crate::domain::time::{DAY, HOUR, SECOND, Timestamp, parse_file_name_time};
use crate::fs::temp_file::{rename_no_replace, sync_parent_folder, write_atomically};
use crate::people::error::PersonError;
use crate::people::folder::PeopleLock;

/// File in `removed/` with the number of days on which a server has found each folder.
const SEEN_DAYS_FILE: &str = ".seen-days.json";
/// Database in the folder of a person.
const DATABASE: &str = "coffee.db";
/// Prefix of the names of folders that are being deleted.
const DELETING: &str = ".deleting-";
/// Minimum time between two counts, so that a server that is often restarted does not count a day twice.
const MIN_DAY: i64 = 20 * HOUR;
/// Maximum time between two counts. After a longer time, the server was stopped or the clock was changed.
const MAX_DAY: i64 = 48 * HOUR;
/// Interval of the deletions.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Time until a failed deletion is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(3600);

/// Folder of a removed person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedFolder {
    /// Name of the folder: `anna-20260620_120000`, or with a number, as in `anna-20260620_120000_2`.
    pub folder: String,
    /// Former name of the person.
    pub name: PersonName,
    pub removed_at: Timestamp,
}

impl RemovedFolder {
    /// Parses the name of a folder.
    pub fn parse(folder: &str) -> Option<Self> {
        let (name, rest) = folder.rsplit_once('-')?;
        let (time, number) = rest.split_at_checked("YYYYMMDD_HHMMSS".len())?;
        let is_number =
            |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !number.is_empty() && !number.strip_prefix('_').is_some_and(is_number) {
            return None;
        }
        let name: PersonName = name.parse().ok()?;
        let removed_at = parse_file_name_time(time)?;
        (!name.is_owner()).then(|| Self { folder: folder.to_owned(), name, removed_at })
    }

    /// Parses the last part of a path.
    pub fn from_path(path: &Path) -> Option<Self> {
        Self::parse(path.file_name()?.to_str()?)
    }
}

/// Returns the folders of removed people, which have a database, newest first. Without `removed/`, there are none.
pub fn list_removed(settings: &CommonSettings) -> io::Result<Vec<RemovedFolder>> {
    let removed = settings.removed_folder();
    let mut folders = folders_in(&removed, "")?;
    folders.retain(|folder| removed.join(&folder.folder).join(DATABASE).is_file());
    folders.sort_by(|one, other| (other.removed_at, &other.folder).cmp(&(one.removed_at, &one.folder)));
    Ok(folders)
}

/// Returns the folders whose names are a prefix and the name of a removed folder. A symbolic link is not a folder.
fn folders_in(removed: &Path, prefix: &str) -> io::Result<Vec<RemovedFolder>> {
    let entries = match fs::read_dir(removed) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let folder = name.to_str().and_then(|name| RemovedFolder::parse(name.strip_prefix(prefix)?));
        if entry.file_type()?.is_dir() {
            folders.extend(folder);
        }
    }
    Ok(folders)
}

/// Days on which a running server has found each folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SeenDays {
    /// Time of the last count.
    counted_at: Option<Timestamp>,
    days: BTreeMap<String, u32>,
}

impl SeenDays {
    /// Reads the file. If that is impossible, the count starts again, so that nobody is deleted too early.
    fn read(removed: &Path) -> Self {
        let text = fs::read(removed.join(SEEN_DAYS_FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn of(&self, folder: &RemovedFolder) -> u32 {
        self.days.get(&folder.folder).copied().unwrap_or(0)
    }

    /// Counts a day for each folder if the last count was about a day ago, and saves the result. If it was longer ago
    /// or lies in the future, no day is counted, because the clock may have been changed.
    fn count(&mut self, removed: &Path, folders: &[RemovedFolder], now: Timestamp) -> io::Result<()> {
        let elapsed = self.counted_at.map(|at| now.micros() - at.micros());
        let is_same_day = elapsed.is_some_and(|elapsed| (0..MIN_DAY).contains(&elapsed));
        if is_same_day || folders.is_empty() && self.days.is_empty() {
            return Ok(());
        }
        let passed = u32::from(elapsed.is_some_and(|elapsed| (MIN_DAY..=MAX_DAY).contains(&elapsed)));
        let count = |folder: &RemovedFolder| {
            self.days.get(&folder.folder).map_or(0, |days| days.saturating_add(passed))
        };
        let days = folders.iter().map(|folder| (folder.folder.clone(), count(folder))).collect();
        *self = Self { counted_at: Some(now), days };
        write_atomically(&removed.join(SEEN_DAYS_FILE), &serde_json::to_vec(self)?)
    }
}

/// Schedule by which removed people are deleted.
#[derive(Debug)]
pub struct DeletionSchedule<'a> {
    settings: &'a CommonSettings,
    days: Option<u32>,
    seen: SeenDays,
}

impl<'a> DeletionSchedule<'a> {
    /// Reads the schedule for this number of days; `None` keeps removed people forever.
    pub fn read(settings: &'a CommonSettings, days: Option<u32>) -> Self {
        Self { settings, days, seen: SeenDays::read(&settings.removed_folder()) }
    }

    /// Returns the time from which a running server deletes a folder; `None` when it is kept forever.
    pub fn deletion_time(&self, folder: &RemovedFolder, now: Timestamp) -> Option<Timestamp> {
        self.old_enough_at(folder, now).filter(|_| has_backup(self.settings, folder, now))
    }

    /// Returns the time at which a folder is old enough; `None` for a symbolic link.
    fn old_enough_at(&self, folder: &RemovedFolder, now: Timestamp) -> Option<Timestamp> {
        let days = self.days?;
        let removed = self.settings.removed_folder();
        last_change(&removed)?;
        let changed = last_change(&removed.join(&folder.folder))?;
        let after = |at: Timestamp, days: u32| at.plus(i64::from(days) * DAY);
        let unseen = days.saturating_sub(self.seen.of(folder));
        Some(after(folder.removed_at, days).max(after(changed, days)).max(after(now, unseen)))
    }

    fn is_old(&self, folder: &RemovedFolder, now: Timestamp) -> bool {
        self.old_enough_at(folder, now).is_some_and(|at| at <= now)
    }
}

/// Reports whether there is a readable backup of the database of a removed person.
fn has_backup(settings: &CommonSettings, folder: &RemovedFolder, now: Timestamp) -> bool {
    let database = settings.removed_folder().join(&folder.folder).join(DATABASE);
    let origin = BackupOrigin::of_backup(&database);
    let backups = settings.of_person(&folder.name).backups;
    matches!(origin, BackupOrigin::Known(_))
        && list_backups(&backups, &database, &origin, now)
            .is_ok_and(|files| files.iter().any(|file| file.is_own))
}

/// Daily deletion of people who were removed long ago, by a running server.
#[derive(Debug, Default)]
pub struct DailyDeletion {
    /// Running time of the server from which the next one is due.
    next: Duration,
    /// Folders without a backup that have been logged.
    kept: BTreeSet<String>,
}

impl DailyDeletion {
    /// Deletes the folders of people who were removed more than `days` days ago, unless this was done in the last 24
    /// hours. A failure is logged, and the deletion is tried again after an hour.
    pub fn run_if_due(&mut self, settings: &CommonSettings, days: u32, elapsed: Duration, now: Timestamp) {
        if elapsed < self.next {
            return;
        }
        let is_done = self.run(settings, days, now).unwrap_or_else(|e| {
            tracing::warn!("removed people could not be deleted for good: {e}");
            false
        });
        self.next = elapsed + if is_done { INTERVAL } else { RETRY_INTERVAL };
    }

    /// Deletes the folders. Returns whether everything succeeded.
    fn run(&mut self, settings: &CommonSettings, days: u32, now: Timestamp) -> Result<bool, PersonError> {
        let removed = settings.removed_folder();
        // A symbolic link could lead to folders of another program.
        if last_change(&removed).is_none() {
            return Ok(true);
        }
        let unfinished = folders_in(&removed, DELETING).map_err(PersonError::at(&removed))?;
        let mut folders = list_removed(settings).map_err(PersonError::at(&removed))?;
        let mut schedule = DeletionSchedule::read(settings, Some(days));
        let counted = schedule.seen.count(&removed, &folders, now);
        counted.map_err(PersonError::at(removed.join(SEEN_DAYS_FILE)))?;
        folders.retain(|folder| schedule.is_old(folder, now) && self.has_backup(settings, folder, now));
        if folders.is_empty() && unfinished.is_empty() {
            return Ok(true);
        }
        // Nobody can be brought back from here on. The folder of somebody who was brought back meanwhile is gone.
        let _lock = PeopleLock::try_acquire(settings)?;
        folders.retain(|folder| schedule.is_old(folder, now));
        let mut is_done = true;
        for RemovedFolder { folder, .. } in &unfinished {
            is_done &= report(folder, days, &delete_hidden(&removed, folder));
        }
        for RemovedFolder { folder, .. } in &folders {
            is_done &= report(folder, days, &hide_and_delete(&removed, folder));
        }
        Ok(is_done)
    }

    /// Reports whether a folder has a backup, and logs once if it has none.
    fn has_backup(&mut self, settings: &CommonSettings, folder: &RemovedFolder, now: Timestamp) -> bool {
        let is_found = has_backup(settings, folder, now);
        if !is_found && self.kept.insert(folder.folder.clone()) {
            let backups = settings.of_person(&folder.name).backups;
            let backups = backups.display();
            tracing::warn!("removed/{} is kept: {backups} has no backup of its database", folder.folder);
        }
        is_found
    }
}

/// Logs a deletion, and returns whether it succeeded.
fn report(folder: &str, days: u32, deleted: &io::Result<()>) -> bool {
    match deleted {
        Ok(()) => tracing::info!("deleted removed/{folder} for good (REMOVED_PERSON_DAYS={days})"),
        Err(e) => tracing::warn!("removed/{folder} could not be deleted for good: {e}"),
    }
    deleted.is_ok()
}

/// Returns the time at which the content or the attributes of a folder have last changed; `None` for anything else.
fn last_change(path: &Path) -> Option<Timestamp> {
    let found = fs::symlink_metadata(path).ok()?;
    let at = |seconds: i64, nanos: i64| seconds.saturating_mul(SECOND).saturating_add(nanos / 1000);
    let changed = at(found.mtime(), found.mtime_nsec()).max(at(found.ctime(), found.ctime_nsec()));
    found.is_dir().then(|| Timestamp::clamped(changed))
}

/// Deletes a folder after renaming it, so that a half deleted one cannot be brought back.
fn hide_and_delete(removed: &Path, folder: &str) -> io::Result<()> {
    let hidden = removed.join(format!("{DELETING}{folder}"));
    if !rename_no_replace(&removed.join(folder), &hidden)? {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", hidden.display())));
    }
    sync_parent_folder(&hidden)?;
    delete_hidden(removed, folder)
}

/// Deletes a renamed folder. Symbolic links in it are deleted, not followed.
fn delete_hidden(removed: &Path, folder: &str) -> io::Result<()> {
    fs::remove_dir_all(removed.join(format!("{DELETING}{folder}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;
    use crate::db::schema::APPLICATION_ID;
    use crate::domain::calendar::Zone;
    use crate::domain::time::file_name_time;

    /// Id of the databases of all people here.
    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn settings(folder: &Path) -> CommonSettings {
        CommonSettings::of_owner(folder.join("coffee.db"), folder.join("backups"), Zone::utc())
    }

    /// The time of this machine, since the test cannot set the change time of a folder.
    fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// Writes a database with this id.
    fn create_database(path: &Path, id: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let database = rusqlite::Connection::open(path).unwrap();
        let sql = format!(
            "pragma application_id = {APPLICATION_ID};
             create table database_identity (only_row integer primary key, id text);
             insert into database_identity (id) values ('{id}')"
        );
        database.execute_batch(&sql).unwrap();
    }

    /// Creates the folder of a person who was removed at this time, without a backup, and returns its name.
    fn removed_without_backup(settings: &CommonSettings, name: &str, at: Timestamp) -> String {
        let folder = format!("{name}-{}", file_name_time(at));
        create_database(&settings.removed_folder().join(&folder).join(DATABASE), ID);
        folder
    }

    fn backup_of(settings: &CommonSettings, name: &str) -> PathBuf {
        settings.of_person(&name.parse().unwrap()).backups.join("coffee_20260101_000000.db")
    }

    /// The same with a backup.
    fn removed_person(settings: &CommonSettings, name: &str, at: Timestamp) -> String {
        create_database(&backup_of(settings, name), ID);
        removed_without_backup(settings, name, at)
    }

    fn run_once(settings: &CommonSettings, now: Timestamp) {
        DailyDeletion::default().run_if_due(settings, 30, Duration::ZERO, now);
    }

    /// Runs the daily deletion on these days after `start`.
    fn run_daily(settings: &CommonSettings, start: Timestamp, days: std::ops::RangeInclusive<i64>) {
        days.for_each(|day| run_once(settings, start.plus(day * DAY + HOUR)));
    }

    /// The time from which a folder is to be deleted.
    fn planned(settings: &CommonSettings, folder: &str, now: Timestamp) -> Option<Timestamp> {
        let removed = RemovedFolder::parse(folder).unwrap();
        DeletionSchedule::read(settings, Some(30)).deletion_time(&removed, now)
    }

    fn names(settings: &CommonSettings) -> Vec<String> {
        list_removed(settings).unwrap().into_iter().map(|folder| folder.folder).collect()
    }

    #[test]
    fn a_removed_folder_has_the_name_of_the_person_and_the_time() {
        for (folder, name) in [
            ("anna-20260620_120000", Some("anna")),
            ("anna-lisa-20260620_120000_2", Some("anna-lisa")),
            ("7-20260620_120000", Some("7")),
            ("anna", None),
            ("anna-20260620", None),
            ("-20260620_120000", None),
            ("Anna-20260620_120000", None),
            ("anna-20260620_12000x", None),
            ("anna-20260620_120000_", None),
            ("anna-20260620_120000_x", None),
            ("anna-20260620_120000-2", None),
            ("anna-20260620_1200002", None),
            ("anna-20261320_120000", None),
            ("anna-20260620_120060", None),
            ("owner-20260620_120000", None),
            (".deleting-anna-20260620_120000", None),
        ] {
            let found = RemovedFolder::parse(folder);
            assert_eq!(found.as_ref().map(|found| found.name.as_str()), name, "{folder}");
            let time = found.map(|found| found.removed_at.to_string());
            assert!(time.is_none_or(|time| time == "2026-06-20T12:00:00.000000Z"), "{folder}");
        }
    }

    #[test]
    fn a_removed_person_is_deleted_once_a_server_has_found_the_folder_on_as_many_days() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_person(&settings, "anna", start);
        let later = removed_person(&settings, "ben", start.plus(DAY));
        run_daily(&settings, start, 0..=29);
        assert_eq!(names(&settings), [later.clone(), anna]);
        // Restarts of the server do not count.
        run_daily(&settings, start, 29..=29);
        run_daily(&settings, start, 30..=30);
        assert_eq!(names(&settings), [later]);
        run_daily(&settings, start, 31..=31);
        assert_eq!(names(&settings), [""; 0]);
    }

    #[test]
    fn the_planned_deletion_is_the_latest_of_the_three_times() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let old = removed_person(&settings, "anna", start.minus(400 * DAY));
        let ahead = removed_person(&settings, "ben", start.plus(400 * DAY));
        assert_eq!(planned(&settings, &old, start.plus(DAY)), Some(start.plus(31 * DAY)));
        let by_name = RemovedFolder::parse(&ahead).unwrap().removed_at.plus(30 * DAY);
        assert_eq!(planned(&settings, &ahead, start), Some(by_name));
        run_daily(&settings, start, 0..=10);
        assert_eq!(planned(&settings, &old, start.plus(15 * DAY)), Some(start.plus(35 * DAY)));
        // Long ago by the clock and by the days, but changed later than that.
        let changed = last_change(&settings.removed_folder().join(&old)).unwrap();
        assert_eq!(planned(&settings, &old, start.minus(30 * DAY)), Some(changed.plus(30 * DAY)));
        let removed = RemovedFolder::parse(&old).unwrap();
        assert_eq!(DeletionSchedule::read(&settings, None).deletion_time(&removed, start), None);
        let link = "carla-20200101_000000";
        std::os::unix::fs::symlink(&old, settings.removed_folder().join(link)).unwrap();
        fs::create_dir(backup_of(&settings, "carla").parent().unwrap()).unwrap();
        fs::copy(backup_of(&settings, "anna"), backup_of(&settings, "carla")).unwrap();
        assert_eq!(planned(&settings, link, start), None);
    }

    #[test]
    fn a_clock_that_is_wrong_deletes_nobody_too_early() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_person(&settings, "anna", start);
        // By the name, ben was removed long ago.
        let ben = removed_person(&settings, "ben", start.minus(400 * DAY));
        run_daily(&settings, start, 0..=1);
        let ahead = start.plus(3650 * DAY);
        run_daily(&settings, ahead, 0..=28);
        run_daily(&settings, start, 2..=2);
        assert_eq!(planned(&settings, &ben, ahead), Some(ahead.plus(DAY)));
        // The folders were found on 30 days, but were changed later than that.
        run_daily(&settings, start, 3..=29);
        assert_eq!(names(&settings), [anna, ben]);
        run_daily(&settings, start, 31..=31);
        assert_eq!(names(&settings), [""; 0]);
    }

    #[test]
    fn a_clock_that_is_set_back_and_forth_counts_no_days() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_person(&settings, "anna", start);
        for hour in 0..200 {
            run_once(&settings, start.plus(hour * HOUR));
            run_once(&settings, start.plus(3650 * DAY + hour * HOUR));
        }
        assert_eq!(names(&settings), std::slice::from_ref(&anna));
        // Nor does the time for which no server ran.
        run_daily(&settings, start, 1000..=1000);
        let seen = SeenDays::read(&settings.removed_folder());
        assert_eq!(seen.days.get(&anna), Some(&0));
    }

    #[test]
    fn who_has_no_backup_of_the_same_database_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_without_backup(&settings, "anna", start);
        // A backup of another person who had the name.
        let ben = removed_without_backup(&settings, "ben", start);
        create_database(&backup_of(&settings, "ben"), "fedcba9876543210fedcba9876543210");
        // Nobody can tell of which database the backup is.
        let carla = removed_person(&settings, "carla", start);
        fs::write(settings.removed_folder().join(&carla).join(DATABASE), "flat white").unwrap();
        let mut deletion = DailyDeletion::default();
        for day in 0..40 {
            let elapsed = u32::try_from(day).unwrap() * INTERVAL;
            deletion.run_if_due(&settings, 30, elapsed, start.plus(day * DAY + HOUR));
        }
        assert_eq!(names(&settings).len(), 3);
        assert_eq!(deletion.kept, BTreeSet::from([anna.clone(), ben.clone(), carla.clone()]));
        for kept in [&anna, &ben, &carla] {
            assert_eq!(planned(&settings, kept, start), None, "{kept}");
        }
        create_database(&backup_of(&settings, "anna"), ID);
        assert!(planned(&settings, &anna, start).is_some());
        run_daily(&settings, start, 40..=40);
        assert!(!names(&settings).contains(&anna) && names(&settings).len() == 2);
    }

    #[test]
    fn only_folders_with_the_name_and_the_database_of_a_removed_person_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let removed = settings.removed_folder();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir_all(elsewhere.join("inside")).unwrap();
        let anna = removed_person(&settings, "anna", start);
        std::os::unix::fs::symlink(&elsewhere, removed.join(&anna).join("link")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, removed.join("ben-20200101_000000")).unwrap();
        fs::write(removed.join("carla-20200101_000000"), "a file").unwrap();
        let resembling = ["owner-20200101_000000", "photos-20200101_000000"];
        for name in ["notes", "anna-20200101", ".deleting-notes"].iter().chain(&resembling) {
            fs::create_dir(removed.join(name)).unwrap();
        }
        fs::create_dir(removed.join("photos-20200101_000000/coffee.db")).unwrap();
        run_daily(&settings, start, 0..=40);
        let mut left: Vec<_> =
            fs::read_dir(&removed).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let kept = [".deleting-notes", SEEN_DAYS_FILE, "anna-20200101", "ben-20200101_000000"];
        let others = ["carla-20200101_000000", "notes", resembling[0], resembling[1]];
        assert_eq!(left, [kept, others].concat());
        assert!(elsewhere.join("inside").exists());
        // Nor through a link in place of `removed/`.
        let moved = folder.path().join("moved");
        fs::rename(&removed, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &removed).unwrap();
        removed_person(&settings, "dora", start);
        run_daily(&settings, start, 0..=40);
        assert_eq!(names(&settings).len(), 1);
    }

    #[test]
    fn a_deletion_that_failed_or_was_interrupted_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_person(&settings, "anna", start);
        let hidden = settings.removed_folder().join(format!("{DELETING}{anna}"));
        fs::write(&hidden, "in the way").unwrap();
        run_daily(&settings, start, 0..=31);
        assert_eq!(names(&settings), [anna]);
        fs::remove_file(&hidden).unwrap();
        run_daily(&settings, start, 32..=32);
        assert_eq!(names(&settings), [""; 0]);
        assert!(!hidden.exists());
        fs::create_dir_all(hidden.join("inside")).unwrap();
        run_daily(&settings, start, 33..=33);
        assert!(!hidden.exists());
    }

    #[test]
    fn a_deletion_is_tried_again_an_hour_after_another_command_was_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        removed_person(&settings, "anna", start);
        run_daily(&settings, start, 0..=29);
        let mut deletion = DailyDeletion::default();
        let mut run_at = |hours: i64| {
            let elapsed = Duration::from_secs(3600 * u64::try_from(hours).unwrap());
            deletion.run_if_due(&settings, 30, elapsed, start.plus(31 * DAY + hours * HOUR));
            names(&settings).len()
        };
        let lock = PeopleLock::acquire(&settings).unwrap();
        assert_eq!(run_at(0), 1);
        drop(lock);
        assert_eq!(run_at(0), 1);
        assert_eq!(run_at(1), 0);
        removed_person(&settings, "ben", start);
        assert_eq!((run_at(2), deletion.next), (1, 25 * RETRY_INTERVAL));
    }

    #[test]
    fn without_removed_people_nothing_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        run_daily(&settings, now(), 0..=1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
