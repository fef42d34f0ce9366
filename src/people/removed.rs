//! Removed people: their folders in `removed/`, and the deletion of those who were removed long ago.
//!
//! A folder is deleted when it is old by its name and by its last change, and a running server has seen it for as many
//! days. Wall-clock time alone is unsuitable: with a clock that was or is wrong, as on a machine without a clock
//! battery, somebody would be deleted who has just been removed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::config::CommonSettings;
use crate::domain::person::PersonName;
use crate::domain::time::{DAY, HOUR, SECOND, Timestamp, parse_file_name_time};
use crate::fs::temp_file::{rename_no_replace, sync_parent_folder, write_atomically};
use crate::people::error::PersonError;
use crate::people::folder::PeopleLock;

/// File in `removed/` with the number of days for which a server has seen each folder.
const DAYS_FILE: &str = ".days.json";
/// Prefix of folders that are being deleted.
const DELETED: &str = ".deleted-";
/// Minimum time between two counts of a day, so that a server that is restarted often does not count too many.
const MIN_DAY: i64 = 20 * HOUR;

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
    pub fn at(path: &Path) -> Option<Self> {
        Self::parse(path.file_name()?.to_str()?)
    }
}

/// Returns the folders of removed people, newest first. Without `removed/`, there are none.
pub fn list_removed(settings: &CommonSettings) -> io::Result<Vec<RemovedFolder>> {
    let mut folders = folders_in(&settings.removed_folder(), "")?;
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

/// Days for which a running server has seen each folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SeenDays {
    /// Time of the last count.
    counted_at: Option<Timestamp>,
    days: BTreeMap<String, u32>,
}

impl SeenDays {
    /// Reads the file. If that is impossible, the count starts again, so that nobody is deleted too early.
    fn read(removed: &Path) -> Self {
        let text = fs::read(removed.join(DAYS_FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn of(&self, folder: &RemovedFolder) -> u32 {
        self.days.get(&folder.folder).copied().unwrap_or(0)
    }

    /// Counts a day for each of the folders, unless the last one was counted a few hours ago, and saves the result.
    fn count(&mut self, removed: &Path, folders: &[RemovedFolder], now: Timestamp) -> io::Result<()> {
        let is_same_day = |at: Timestamp| (now.micros() - at.micros()).abs() < MIN_DAY;
        if self.counted_at.is_some_and(is_same_day) || folders.is_empty() && self.days.is_empty() {
            return Ok(());
        }
        let count =
            |folder: &RemovedFolder| self.days.get(&folder.folder).map_or(0, |days| days.saturating_add(1));
        let days = folders.iter().map(|folder| (folder.folder.clone(), count(folder))).collect();
        *self = Self { counted_at: Some(now), days };
        write_atomically(&removed.join(DAYS_FILE), &serde_json::to_vec(self)?)
    }
}

/// Schedule by which removed people are deleted.
#[derive(Debug)]
pub struct DeletionSchedule {
    days: Option<u32>,
    seen: SeenDays,
}

impl DeletionSchedule {
    /// Reads the schedule for this number of days; `None` keeps removed people forever.
    pub fn read(settings: &CommonSettings, days: Option<u32>) -> Self {
        Self { days, seen: SeenDays::read(&settings.removed_folder()) }
    }

    /// Returns the time from which a running server deletes a folder; `None` when it is kept forever.
    pub fn deleted_at(&self, folder: &RemovedFolder, now: Timestamp) -> Option<Timestamp> {
        let days = self.days?;
        let due = folder.removed_at.plus(i64::from(days) * DAY);
        let unseen = days.saturating_sub(self.seen.of(folder));
        Some(if due > now { due } else { now.plus(i64::from(unseen) * DAY) })
    }
}

/// Deletes the folders of people who were removed more than `days` days ago, as a server does once a day. A failure is
/// logged, and tried again the next time.
pub fn delete_expired(settings: &CommonSettings, days: u32, now: Timestamp) {
    if let Err(e) = try_delete_expired(settings, days, now) {
        tracing::warn!("removed people could not be deleted for good: {e}");
    }
}

fn try_delete_expired(settings: &CommonSettings, days: u32, now: Timestamp) -> Result<(), PersonError> {
    let removed = settings.removed_folder();
    // A symbolic link could lead to folders of another program.
    if !fs::symlink_metadata(&removed).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let unfinished = folders_in(&removed, DELETED).map_err(PersonError::at(&removed))?;
    let mut folders = list_removed(settings).map_err(PersonError::at(&removed))?;
    let mut seen = SeenDays::read(&removed);
    seen.count(&removed, &folders, now).map_err(PersonError::at(removed.join(DAYS_FILE)))?;
    let is_old = |at: Timestamp| at.plus(i64::from(days) * DAY) <= now;
    folders.retain(|folder| is_old(folder.removed_at) && seen.of(folder) >= days);
    if folders.is_empty() && unfinished.is_empty() {
        return Ok(());
    }
    // Nobody is brought back from now on.
    let _lock = PeopleLock::acquire(settings)?;
    for RemovedFolder { folder, .. } in &unfinished {
        report(folder, days, delete_hidden(&removed, folder));
    }
    for RemovedFolder { folder, .. } in &folders {
        match last_change(&removed.join(folder)) {
            Ok(Some(at)) if is_old(at) => report(folder, days, hide_and_delete(&removed, folder)),
            Ok(_) => {}
            // It was brought back meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => report(folder, days, Err(e)),
        }
    }
    Ok(())
}

fn report(folder: &str, days: u32, deleted: io::Result<()>) {
    match deleted {
        Ok(()) => tracing::info!("deleted removed/{folder} for good (REMOVED_PERSON_DAYS={days})"),
        Err(e) => tracing::warn!("removed/{folder} could not be deleted for good: {e}"),
    }
}

/// Returns the time at which the content or the attributes of a folder have last changed; `None` for anything else.
fn last_change(path: &Path) -> io::Result<Option<Timestamp>> {
    let found = fs::symlink_metadata(path)?;
    let at = |seconds: i64, nanos: i64| seconds.saturating_mul(SECOND).saturating_add(nanos / 1000);
    let changed = at(found.mtime(), found.mtime_nsec()).max(at(found.ctime(), found.ctime_nsec()));
    Ok(found.is_dir().then(|| Timestamp::clamped(changed)))
}

/// Renames a folder and deletes it, so that nobody is brought back who is half deleted.
fn hide_and_delete(removed: &Path, folder: &str) -> io::Result<()> {
    let hidden = removed.join(format!("{DELETED}{folder}"));
    if !rename_no_replace(&removed.join(folder), &hidden)? {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", hidden.display())));
    }
    sync_parent_folder(&hidden)?;
    delete_hidden(removed, folder)
}

/// Deletes a folder that was renamed. Symbolic links in it are deleted, and not followed.
fn delete_hidden(removed: &Path, folder: &str) -> io::Result<()> {
    fs::remove_dir_all(removed.join(format!("{DELETED}{folder}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::calendar::Zone;
    use crate::domain::time::file_name_time;

    fn settings(folder: &Path) -> CommonSettings {
        CommonSettings::of_owner(folder.join("coffee.db"), folder.join("backups"), Zone::utc())
    }

    /// The time of this machine, since the test cannot set the change time of a folder.
    fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// Creates the folder of a person who was removed at this time, and returns its name.
    fn removed_person(settings: &CommonSettings, name: &str, at: Timestamp) -> String {
        let folder = format!("{name}-{}", file_name_time(at));
        let path = settings.removed_folder().join(&folder);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("coffee.db"), "data").unwrap();
        folder
    }

    /// Runs the daily deletion on these days after `start`.
    fn run_daily(settings: &CommonSettings, start: Timestamp, days: std::ops::RangeInclusive<i64>) {
        days.for_each(|day| delete_expired(settings, 30, start.plus(day * DAY + HOUR)));
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
            (".deleted-anna-20260620_120000", None),
        ] {
            let found = RemovedFolder::parse(folder);
            assert_eq!(found.as_ref().map(|found| found.name.as_str()), name, "{folder}");
            let time = found.map(|found| found.removed_at.to_string());
            assert!(time.is_none_or(|time| time == "2026-06-20T12:00:00.000000Z"), "{folder}");
        }
    }

    #[test]
    fn a_removed_person_is_deleted_once_a_server_has_seen_the_folder_for_as_many_days() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let anna = removed_person(&settings, "anna", start);
        let later = removed_person(&settings, "ben", start.plus(DAY));
        let removed = RemovedFolder::parse(&anna).unwrap();
        let planned = |at| DeletionSchedule::read(&settings, Some(30)).deleted_at(&removed, at);
        assert_eq!(planned(start), Some(removed.removed_at.plus(30 * DAY)));
        run_daily(&settings, start, 0..=29);
        assert_eq!(names(&settings), [later.clone(), anna]);
        // Restarts of the server do not count.
        run_daily(&settings, start, 29..=29);
        run_daily(&settings, start, 30..=30);
        assert_eq!(names(&settings), [later]);
        assert_eq!(DeletionSchedule::read(&settings, None).deleted_at(&removed, start), None);
        run_daily(&settings, start, 31..=31);
        assert_eq!(names(&settings), [""; 0]);
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
        run_daily(&settings, ahead, 0..=27);
        run_daily(&settings, start, 2..=2);
        assert_eq!(names(&settings), [anna.clone(), ben.clone()]);
        let removed = RemovedFolder::parse(&ben).unwrap();
        let planned = DeletionSchedule::read(&settings, Some(60)).deleted_at(&removed, ahead);
        assert_eq!(planned, Some(ahead.plus(30 * DAY)));
        // The folders have been seen for 30 days, but were changed later than that.
        run_daily(&settings, start, 3..=29);
        assert_eq!(names(&settings), [anna, ben]);
        run_daily(&settings, start, 31..=31);
        assert_eq!(names(&settings), [""; 0]);
    }

    #[test]
    fn only_folders_with_the_name_of_a_removed_person_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, start) = (settings(folder.path()), now());
        let removed = settings.removed_folder();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir_all(elsewhere.join("inside")).unwrap();
        let anna = removed_person(&settings, "anna", start);
        std::os::unix::fs::symlink(&elsewhere, removed.join(&anna).join("link")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, removed.join("ben-20200101_000000")).unwrap();
        fs::write(removed.join("carla-20200101_000000"), "a file").unwrap();
        for name in ["notes", "anna-20200101", "owner-20200101_000000", ".deleted-notes"] {
            fs::create_dir(removed.join(name)).unwrap();
        }
        run_daily(&settings, start, 0..=40);
        let mut left: Vec<_> =
            fs::read_dir(&removed).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let kept =
            [".days.json", ".deleted-notes", "anna-20200101", "ben-20200101_000000", "carla-20200101_000000"];
        assert_eq!(left, [&kept[..], &["notes", "owner-20200101_000000"]].concat());
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
        let hidden = settings.removed_folder().join(format!("{DELETED}{anna}"));
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
    fn without_removed_people_nothing_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        run_daily(&settings, now(), 0..=1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
