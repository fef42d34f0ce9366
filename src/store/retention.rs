//! Which backups of a folder are kept. Only files that a backup named are looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::own::is_same;
use crate::model::time::{DAY, Timestamp};

/// What is kept. A backup that either rule keeps stays; the newest always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub newest: Option<u32>,
    /// Those of the last so many days of 24 hours.
    pub days: Option<u32>,
}

/// What became of old backups.
#[derive(Debug, Default)]
pub struct Cleared {
    pub removed: Vec<PathBuf>,
    /// Backups named after times to come, by a clock that was wrong then or is now: they stay,
    /// and count for nothing.
    pub ahead: Vec<PathBuf>,
    /// Those that should have gone, and why they are still there.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Removes the backups in `folder` that are not kept. A `database` that lies there under such a
/// name is no backup.
///
/// # Errors
/// The file system's, when the folder cannot be listed.
pub fn remove_old(
    folder: &Path,
    database: &Path,
    retention: Retention,
    now: Timestamp,
) -> io::Result<Cleared> {
    if retention == (Retention { newest: None, days: None }) {
        return Ok(Cleared::default());
    }
    let Backups { made, ahead } = Backups::of(folder, database, now)?;
    let mut cleared = Cleared { ahead, ..Cleared::default() };
    let oldest_kept = retention.days.map(|days| second(now.minus(i64::from(days) * DAY)));
    let count = retention.newest.map_or(1, |n| n.max(1)) as usize;
    for (made, path) in made.into_iter().rev().skip(count) {
        let is_young = oldest_kept.as_ref().is_some_and(|oldest| made.second >= *oldest);
        if is_young {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => cleared.removed.push(path),
            Err(e) => cleared.failed.push((path, e)),
        }
    }
    Ok(cleared)
}

/// The newest backup in `folder`, if there is one. Those of a time to come are none.
///
/// # Errors
/// The file system's, when the folder cannot be listed.
pub fn newest_backup(folder: &Path, database: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    Ok(Backups::of(folder, database, now)?.made.pop().map(|(_, path)| path))
}

/// The backups of a folder.
#[derive(Debug, Default)]
struct Backups {
    /// Oldest first.
    made: Vec<(Made, PathBuf)>,
    /// Named after a time to come.
    ahead: Vec<PathBuf>,
}

impl Backups {
    fn of(folder: &Path, database: &Path, now: Timestamp) -> io::Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(made) = Made::of(&path).filter(|_| is_file(&path) && !is_same(database, &path)) else {
                continue;
            };
            if made.second > second(now) {
                found.ahead.push(path);
            } else {
                found.made.push((made, path));
            }
        }
        found.made.sort_unstable();
        Ok(found)
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// When a backup was made, by its name: they sort by it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    /// `YYYYMMDD_HHMMSS`, UTC.
    second: String,
    /// Of several within that second.
    place: u32,
}

impl Made {
    /// Reads `coffee_YYYYMMDD_HHMMSS.db` and `coffee_YYYYMMDD_HHMMSS_2.db`.
    fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_prefix("coffee_")?.strip_suffix(".db")?;
        let (second, rest) = stem.split_at_checked(15)?;
        let is_digit = |(n, byte)| if n == 8 { byte == b'_' } else { u8::is_ascii_digit(&byte) };
        let place = match rest {
            "" => 1,
            rest => rest.strip_prefix('_')?.parse().ok().filter(|n| *n > 1)?,
        };
        second.bytes().enumerate().all(is_digit).then(|| Self { second: second.to_owned(), place })
    }
}

/// An instant as backups are named after it: `YYYYMMDD_HHMMSS`, UTC.
pub fn second(at: Timestamp) -> String {
    let text = at.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}_{}", &digits[..8], &digits[8..])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    /// A folder with these files, what is removed from it, and what stays.
    fn after(files: &[&str], newest: Option<u32>, days: Option<u32>) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| fs::write(folder.path().join(name), "x").unwrap());
        // 2026-06-20T12:00:00Z
        let now = Timestamp::clamped(1_781_956_800_000_000);
        let cleared =
            remove_old(folder.path(), Path::new("coffee.db"), Retention { newest, days }, now).unwrap();
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
