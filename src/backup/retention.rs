//! Listing and removal of backups. Only files named by a backup are considered, and only those of the same
//! database are removed.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::backup::origin::BackupOrigin;
use crate::domain::time::{DAY, Timestamp, file_name_time};
use crate::fs::protected_paths::is_same_file;

/// Retention rules. A backup that either rule keeps stays; the newest one always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of newest backups to keep.
    pub newest: Option<u32>,
    /// Number of days of 24 hours whose backups are kept.
    pub days: Option<u32>,
}

/// Result of removing old backups.
#[derive(Debug, Default)]
pub struct RetentionResult {
    pub removed: Vec<PathBuf>,
    /// Backups with a name in the future, made while a clock was wrong. They are kept and not counted.
    pub ahead: Vec<PathBuf>,
    /// Backups of unknown origin. They are kept and not counted.
    pub unattributed: Vec<PathBuf>,
    /// Backups that could not be removed.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Suffix of a safety copy, the backup that a restore makes of the state before it.
pub const BEFORE_RESTORE: &str = "_before-restore";

/// Kind of a backup, from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackupKind {
    /// Made by `backup`, a migration, or `prune`.
    Regular,
    /// Safety copy, made by a restore of the state before it.
    Safety,
}

/// Backup in a folder.
#[derive(Clone, Debug)]
pub struct BackupFile {
    pub path: PathBuf,
    pub kind: BackupKind,
    pub origin: BackupOrigin,
    /// It is a backup of the database for which the folder was listed.
    pub is_own: bool,
    /// Its name is in the future.
    pub is_ahead: bool,
    made: BackupName,
}

impl BackupFile {
    /// Returns the time in its name as RFC 3339.
    pub fn made_at(&self) -> String {
        let [year, month, day, hour, minute, second] =
            [0..4, 4..6, 6..8, 9..11, 11..13, 13..15].map(|range| &self.made.second[range]);
        format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
    }
}

/// Lists the backups in `folder`, newest first. A `database` with such a name is no backup. For an unknown
/// owner, backups that are all of one database count as its own.
pub fn list_backups(
    folder: &Path,
    database: &Path,
    owner: &BackupOrigin,
    now: Timestamp,
) -> io::Result<Vec<BackupFile>> {
    let now = file_name_time(now);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(made) = BackupName::of(&path)
            && fs::symlink_metadata(&path).is_ok_and(|file| file.is_file())
            && !is_same_file(database, &path)
        {
            let (origin, is_ahead) = (BackupOrigin::of_backup(&path), made.second > now);
            files.push(BackupFile { path, kind: made.kind, origin, is_own: false, is_ahead, made });
        }
    }
    files.sort_unstable_by(|one, other| other.made.cmp(&one.made));
    let owner = if *owner == BackupOrigin::Unknown { common_origin(&files) } else { owner.clone() };
    for file in &mut files {
        file.is_own = file.origin == owner && owner != BackupOrigin::Unknown;
    }
    Ok(files)
}

/// Returns the path of the backup with this name in `folder`; `None` when the name is not one of a backup, or there is
/// no such file.
pub fn find_backup(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    let is_in_folder = !name.contains('/') && BackupName::of(&path).is_some();
    let is_file = || fs::symlink_metadata(&path).is_ok_and(|file| file.is_file());
    (is_in_folder && is_file()).then_some(path)
}

/// Returns the database that all identified files are of.
fn common_origin(files: &[BackupFile]) -> BackupOrigin {
    let is_known = |origin: &&BackupOrigin| matches!(origin, BackupOrigin::Known(_));
    let mut known = files.iter().map(|file| &file.origin).filter(is_known);
    match known.next() {
        None => BackupOrigin::Unmarked,
        Some(first) if known.all(|origin| origin == first) => first.clone(),
        Some(_) => BackupOrigin::Unknown,
    }
}

/// Removes the backups of this database in `folder` that the rules do not keep. Backups of other databases or
/// of unknown origin stay and are not counted. A safety copy is removed together with the backups older than
/// it.
pub fn remove_old(
    folder: &Path,
    database: &Path,
    owner: &BackupOrigin,
    retention: Retention,
    now: Timestamp,
) -> io::Result<RetentionResult> {
    if retention == (Retention { newest: None, days: None }) {
        return Ok(RetentionResult::default());
    }
    let mut cleared = RetentionResult::default();
    let oldest_kept = retention.days.map(|days| file_name_time(now.minus(i64::from(days) * DAY)));
    let count = retention.newest.map_or(1, |n| n.max(1));
    let mut kept = 0;
    for file in list_backups(folder, database, owner, now)? {
        if !file.is_own || !matches!(owner, BackupOrigin::Known(_)) {
            if file.is_own || !matches!(file.origin, BackupOrigin::Known(_)) {
                cleared.unattributed.push(file.path);
            }
        } else if file.is_ahead {
            cleared.ahead.push(file.path);
        } else if kept < count || oldest_kept.as_ref().is_some_and(|oldest| file.made.second >= *oldest) {
            kept += u32::from(file.kind == BackupKind::Regular);
        } else {
            match fs::remove_file(&file.path) {
                Ok(()) => cleared.removed.push(file.path),
                Err(e) => cleared.failed.push((file.path, e)),
            }
        }
    }
    cleared.removed.reverse();
    cleared.ahead.reverse();
    Ok(cleared)
}

/// Returns the newest backup of a database, ignoring safety copies and names in the future.
pub fn newest_backup(files: Vec<BackupFile>) -> Option<PathBuf> {
    newest_of(files, |file| file.is_own)
}

/// Returns the newest backup to verify. An unreadable one counts, as it may be the database's own.
pub fn newest_to_verify(files: Vec<BackupFile>) -> Option<PathBuf> {
    newest_of(files, |file| file.is_own || file.origin == BackupOrigin::Unknown)
}

fn newest_of(files: Vec<BackupFile>, counts: fn(&BackupFile) -> bool) -> Option<PathBuf> {
    let is_candidate = |file: &BackupFile| counts(file) && file.kind == BackupKind::Regular && !file.is_ahead;
    files.into_iter().find(is_candidate).map(|file| file.path)
}

/// Time in a backup's name, by which backups sort.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BackupName {
    /// `YYYYMMDD_HHMMSS`, UTC.
    second: String,
    /// Number among several backups within a second.
    place: u32,
    kind: BackupKind,
}

impl BackupName {
    /// Parses `coffee_YYYYMMDD_HHMMSS.db` and `coffee_YYYYMMDD_HHMMSS_2.db`, each optionally with
    /// `_before-restore` before the extension.
    fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_prefix("coffee_")?.strip_suffix(".db")?;
        let (stem, kind) = match stem.strip_suffix(BEFORE_RESTORE) {
            Some(stem) => (stem, BackupKind::Safety),
            None => (stem, BackupKind::Regular),
        };
        let (second, rest) = stem.split_at_checked(15)?;
        let is_digit = |(n, byte)| if n == 8 { byte == b'_' } else { u8::is_ascii_digit(&byte) };
        let place = match rest {
            "" => 1,
            rest => rest.strip_prefix('_')?.parse().ok().filter(|n| *n > 1)?,
        };
        second.bytes().enumerate().all(is_digit).then(|| Self { second: second.to_owned(), place, kind })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::db::database_id::DatabaseId;

    const OWN: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    /// Writes a backup with this id, or one of an older version.
    fn lay(path: &Path, id: Option<&str>) {
        let backup = rusqlite::Connection::open(path).unwrap();
        let sql = format!(
            "pragma journal_mode = off; pragma application_id = {}",
            crate::db::schema::APPLICATION_ID
        );
        backup.execute_batch(&sql).unwrap();
        if let Some(id) = id {
            backup
                .execute_batch("create table database_identity (only_row integer primary key, id text)")
                .unwrap();
            backup.execute("insert into database_identity (id) values (?)", [id]).unwrap();
        }
    }

    /// A folder with these backups of one database, what is removed from it, and what stays.
    fn after(files: &[&str], newest: Option<u32>, days: Option<u32>) -> (Vec<String>, Vec<String>) {
        after_with(files, &[], newest, days)
    }

    /// The same with others, which have these ids.
    fn after_with(
        files: &[&str],
        others: &[(&str, Option<&str>)],
        newest: Option<u32>,
        days: Option<u32>,
    ) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| lay(&folder.path().join(name), Some(OWN)));
        others.iter().for_each(|(name, id)| lay(&folder.path().join(name), *id));
        let owner = BackupOrigin::Known(DatabaseId::parse(OWN).unwrap());
        let cleared =
            remove_old(folder.path(), Path::new("coffee.db"), &owner, Retention { newest, days }, now())
                .unwrap();
        assert!(cleared.failed.is_empty(), "{cleared:?}");
        let removed = cleared.removed;
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut removed: Vec<_> = removed.iter().map(|path| name(path)).collect();
        let mut stays: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| name(&e.unwrap().path())).collect();
        removed.sort_unstable();
        stays.sort_unstable();
        (removed, stays)
    }

    /// 2026-06-20T12:00:00Z
    fn now() -> Timestamp {
        Timestamp::clamped(1_781_956_800_000_000)
    }

    #[test]
    fn backups_of_others_and_those_without_an_id_stay_and_push_none_out() {
        let others = [
            ("coffee_20260601_020000.db", Some(OTHER)),
            ("coffee_20260602_020000.db", None),
            ("coffee_20260620_020000.db", Some(OTHER)),
            ("coffee_20260620_030000.db", None),
        ];
        let (removed, stays) = after_with(&FILES, &others, Some(4), None);
        assert_eq!(removed, FILES[..1]);
        assert_eq!(stays.len(), 8);
    }

    #[test]
    fn a_safety_copy_pushes_no_backup_out_and_goes_with_those_that_are_older() {
        let files = [
            "coffee_20260617_020000.db",
            "coffee_20260617_030000_before-restore.db",
            "coffee_20260618_020000.db",
            "coffee_20260618_030000_before-restore.db",
            "coffee_20260618_030000_2_before-restore.db",
            "coffee_20260619_020000.db",
        ];
        assert_eq!(after(&files, Some(2), None).0, files[..2]);
        assert_eq!(after(&files, Some(1), None).0, [&files[..3], &[files[4], files[3]]].concat());
        assert_eq!(after(&files[3..5], Some(1), None).0, [""; 0]);
    }

    #[test]
    fn the_newest_is_the_databases_own_and_no_safety_copy() {
        let folder = tempfile::tempdir().unwrap();
        for (name, id) in [
            ("coffee_20260617_020000.db", Some(OWN)),
            ("coffee_20260618_020000.db", Some(OWN)),
            ("coffee_20260618_030000_before-restore.db", Some(OWN)),
            ("coffee_20260619_020000.db", Some(OTHER)),
            ("coffee_20260619_030000.db", None),
            ("coffee_20990101_000000.db", Some(OWN)),
        ] {
            lay(&folder.path().join(name), id);
        }
        let newest = |owner: &BackupOrigin| {
            let files = list_backups(folder.path(), Path::new("coffee.db"), owner, now()).unwrap();
            newest_backup(files).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        let of = |id: &str| BackupOrigin::Known(DatabaseId::parse(id).unwrap());
        assert_eq!(newest(&of(OWN)).as_deref(), Some("coffee_20260618_020000.db"));
        assert_eq!(newest(&of(OTHER)).as_deref(), Some("coffee_20260619_020000.db"));
        assert_eq!(newest(&of(&OWN.replace('0', "1"))), None);
        assert_eq!(newest(&BackupOrigin::Unmarked).as_deref(), Some("coffee_20260619_030000.db"));
        assert_eq!(newest(&BackupOrigin::Unknown), None, "of two databases");
        fs::remove_file(folder.path().join("coffee_20260619_020000.db")).unwrap();
        assert_eq!(newest(&BackupOrigin::Unknown).as_deref(), Some("coffee_20260618_020000.db"));
    }

    const FILES: [&str; 5] = [
        "coffee_20260617_020000.db",
        "coffee_20260618_020000.db",
        "coffee_20260619_020000.db",
        "coffee_20260619_020000_2.db",
        "coffee_20260619_020000_10.db",
    ];

    #[test]
    fn the_newest_stay_and_a_tenth_of_one_second_is_newer_than_its_second() {
        let (removed, stays) = after(&FILES, Some(2), None);
        assert_eq!(removed, FILES[..3]);
        assert_eq!(stays, ["coffee_20260619_020000_10.db", "coffee_20260619_020000_2.db"]);
    }

    #[test]
    fn what_either_rule_keeps_stays() {
        assert_eq!(after(&FILES, Some(1), Some(3)).0, FILES[..1], "over three days old");
        assert_eq!(after(&FILES, Some(4), Some(1)).0, FILES[..1]);
        assert_eq!(after(&FILES, None, None).0, [""; 0]);
    }

    #[test]
    fn the_newest_stays_however_old_it_is() {
        let (removed, stays) =
            after(&["coffee_20200101_000000.db", "coffee_20210101_000000.db"], None, Some(1));
        assert_eq!((removed.len(), stays), (1, vec!["coffee_20210101_000000.db".to_owned()]));
    }

    #[test]
    fn backups_of_a_time_to_come_stay_and_push_none_out() {
        let ahead = ["coffee_20260620_120001.db", "coffee_20990101_000000.db"];
        let (removed, stays) = after(&[&FILES[..], &ahead].concat(), Some(1), None);
        assert_eq!(removed, FILES[..4]);
        assert_eq!(stays, ["coffee_20260619_020000_10.db", ahead[0], ahead[1]]);
    }

    #[test]
    fn what_no_backup_named_is_never_touched() {
        let others = [
            "coffee.db",
            "coffee_20200101_000000.db.txt",
            "coffee_20200101_000000_1.db",
            "coffee_20200101-000000.db",
            "coffee_2020010_0000000.db",
            "my_coffee_20200101_000000.db",
            "coffee_20200101_000000_x.db",
        ];
        let with_two = [&others[..], &["coffee_20260619_020000.db", "coffee_20200101_000000.db"]].concat();
        let (removed, stays) = after(&with_two, Some(1), None);
        assert_eq!(removed, ["coffee_20200101_000000.db"]);
        assert_eq!(stays.len(), others.len() + 1);
    }
}
