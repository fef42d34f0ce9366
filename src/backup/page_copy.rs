//! Page-by-page copy of a database in use, completed from its write-ahead log.
//!
//! The pages are copied while others keep writing. Later commits stay in the log, which is not reset while an
//! earlier reader is open. At the end SQLite applies a copy of the log to the copied pages, as in a crash
//! recovery, which takes time in proportion to the size of the log, not of the database.
//!
//! The copy is published unverified; the caller verifies it afterwards.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::backup::snapshot::SnapshotError;
use crate::db::error::StoreError;
use crate::db::schema;
use crate::fs::paths::{folder_of, with_suffix};
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;

/// Pages copied per step: 16 MiB.
const PAGES_PER_STEP: i32 = 4096;

/// Copied pages, and what is needed to complete them.
#[derive(Debug)]
pub struct PageCopy {
    temp: TempFile,
    log: PathBuf,
    /// Read transaction from before the copy, which keeps later commits in the log.
    reader: Connection,
}

impl PageCopy {
    /// Copies the pages of `database`, which is in WAL mode, into a temporary file in `folder`.
    pub fn of(database: &Path, folder: &Path, identity: &Identity) -> Result<Self, SnapshotError> {
        let fault = |e: rusqlite::Error| SnapshotError::of_copy(e, folder);
        let temp = TempFile::create(folder, identity).map_err(|e| SnapshotError::of_io(e, folder))?;
        let reader = schema::connect(database, schema::Role::Reader).map_err(fault)?;
        reader.execute_batch("begin; select count(*) from sqlite_schema").map_err(fault)?;
        temp.as_writer(|| copy_pages(&reader, temp.path()))?
            .map_err(|e| SnapshotError::of_copy(e, folder))?;
        temp.file().sync_all().map_err(|e| SnapshotError::of_io(e, folder))?;
        // The log is beside the target of a symbolic link.
        let log = with_suffix(&fs::canonicalize(database)?, "-wal");
        Ok(Self { temp, log, reader })
    }

    /// Completes the copy with what was committed since its start, and publishes it under the first unused name of
    /// `names`. The caller has locked other writers out, since later commits would be missing.
    pub fn finish(self, mut names: impl Iterator<Item = PathBuf>) -> Result<PathBuf, SnapshotError> {
        let folder = folder_of(self.temp.path()).to_owned();
        let log_copy = with_suffix(self.temp.path(), "-wal");
        let log = match File::open(&self.log) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        let Self { temp, reader, .. } = self;
        temp.as_writer(|| log.map_or(Ok(()), |log| copy_log(log, &log_copy)))
            .flatten()
            .map_err(|e| SnapshotError::of_io(e, &folder))?;
        drop(reader);
        temp.as_writer(|| apply_log(temp.path()))?.map_err(|e| SnapshotError::of_copy(e, &folder))?;
        temp.publish(&mut names).map_err(|e| SnapshotError::of_io(e, &folder))
    }
}

fn copy_pages(source: &Connection, path: &Path) -> Result<(), StoreError> {
    let mut copy = Connection::open(path)?;
    // An interrupted copy is removed, and a complete one is synced at once.
    copy.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
    copy.pragma_update(None, "synchronous", "off")?;
    let backup = Backup::new(source, &mut copy)?;
    loop {
        match backup.step(PAGES_PER_STEP)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => return Err(StoreError::Busy),
        }
    }
    drop(backup);
    copy.close().map_err(|(_, e)| e.into())
}

fn copy_log(mut log: File, to: &Path) -> io::Result<()> {
    let mut copied = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut log, &mut copied).map(drop)
}

/// Applies and removes the log. Uncommitted transactions are left out.
fn apply_log(path: &Path) -> rusqlite::Result<()> {
    let copy = Connection::open_with_flags(path, schema::READ_WRITE)?;
    // Exclusive: the index of the log stays in memory.
    copy.pragma_update(None, "locking_mode", "exclusive")?;
    copy.pragma_update(None, "synchronous", "off")?;
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
    copy.close().map_err(|(_, e)| e)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::backup::open::open_store;
    use crate::db::store::Options;
    use std::time::Duration;

    /// Every row and every object of the schema, in order.
    fn content(connection: &Connection) -> Vec<String> {
        let mut lines = Vec::new();
        for query in [
            "select * from coffee_logs order by id",
            "select * from heart_rate_logs order by id",
            "select name, seq from sqlite_sequence order by name",
            "select type, name, sql from sqlite_schema order by type, name",
        ] {
            let mut query = connection.prepare(query).unwrap();
            let columns = query.column_count();
            let mut rows = query.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values = (0..columns).map(|n| format!("{:?}", row.get_ref(n).unwrap()));
                lines.push(values.collect::<Vec<_>>().join("|"));
            }
        }
        lines
    }

    fn change(writer: &Connection, random: &mut fastrand::Rng) {
        let (many, some) = (random.u32(1..400), random.i64(2..40));
        let sql = match random.u32(0..6) {
            0 | 1 => format!(
                "with recursive n(n) as (select 1 union all select n + 1 from n where n < {many})
                 insert into heart_rate_logs (timestamp, bpm, context)
                 select {} + n, 60 + n % 90, 'resting' from n",
                random.i64(0..1_000_000_000)
            ),
            2 => format!("update heart_rate_logs set bpm = bpm + 1, notes = 'changed' where id % {some} = 0"),
            3 => format!("delete from heart_rate_logs where id % {some} = 1"),
            4 => format!("insert into coffee_logs (timestamp, caffeine_mg) values ({some}, 90)"),
            // Frees pages, and lets the file shrink.
            _ => "delete from heart_rate_logs where id > (select max(id) / 2 from heart_rate_logs)".into(),
        };
        writer.execute_batch(&sql).unwrap();
    }

    #[test]
    fn a_page_copy_holds_everything_that_was_committed_before_its_end_whatever_was_done_meanwhile() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..60 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("coffee.db");
            let options = Options::of_command(path.clone(), folder.path().join("backups"));
            open_store(&options).unwrap().close();
            let writer = schema::connect(&path, schema::Role::Writer).unwrap();
            let checkpoint = |random: &mut fastrand::Rng| {
                let mode = ["passive", "full", "restart", "truncate"][random.usize(0..4)];
                writer.busy_timeout(Duration::ZERO).unwrap();
                drop(writer.pragma_update_and_check(None, "wal_checkpoint", mode, |_| Ok(())));
            };
            for _ in 0..random.u32(0..8) {
                change(&writer, &mut random);
                if random.bool() {
                    checkpoint(&mut random);
                }
            }
            let copy = PageCopy::of(&path, folder.path(), &Identity::CALLER).unwrap();
            for _ in 0..random.u32(0..8) {
                change(&writer, &mut random);
                if random.bool() {
                    checkpoint(&mut random);
                }
            }
            // The one who finishes it holds the database, and has written something already.
            writer.execute_batch("begin immediate; update heart_rate_logs set bpm = 99").unwrap();
            let made = copy.finish(std::iter::once(folder.path().join("copy.db"))).unwrap();
            writer.execute_batch("rollback").unwrap();
            assert!(!with_suffix(&made, "-wal").exists());
            let copy = Connection::open(&made).unwrap();
            assert_eq!(content(&copy), content(&writer), "round {round}");
            let verdict: String = copy.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "round {round}");
        }
    }
}
