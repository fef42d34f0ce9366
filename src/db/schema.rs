//! Schema: application id, migrations, and the settings of connections.
//!
//! Migrations run in one transaction together with the version number, after a backup of a file that holds
//! data.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::db::error::{AtPath, FailedBackup, OpenError, StoreError};
use crate::db::rollups;
use crate::fs::failpoint::failpoint;

/// `application_id` of our files: "Coff" in ASCII.
pub const APPLICATION_ID: i64 = 0x436f_6666;

/// Table of a backup's digests.
pub const DIGEST_TABLE: &str = "backup_digests";

/// Migrations; the nth leads to `user_version` n.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../sql/0001_initial.sql"),
    include_str!("../../sql/0002_heart_rate_counts.sql"),
    include_str!("../../sql/0003_integrity.sql"),
    include_str!("../../sql/0004_packed_days.sql"),
    include_str!("../../sql/0005_profile.sql"),
    include_str!("../../sql/0006_weekday_bedtimes.sql"),
    include_str!("../../sql/0007_sources.sql"),
];

/// Returns the migrations of this program.
///
/// A debug build adds one from the file that `COFFEE_TRACKER_NEXT_SCHEMA` names, so that tests can migrate a
/// schema as a later version will.
pub fn migrations() -> &'static [&'static str] {
    static KNOWN: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        #[cfg(debug_assertions)]
        if let Some(next) = std::env::var_os("COFFEE_TRACKER_NEXT_SCHEMA")
            && let Ok(sql) = std::fs::read_to_string(next)
        {
            return [&MIGRATIONS[..], &[&*sql.leak()]].concat();
        }
        MIGRATIONS.to_vec()
    });
    &KNOWN
}

/// Returns the newest schema version of this program.
pub fn newest() -> i64 {
    i64::try_from(migrations().len()).unwrap_or(i64::MAX)
}

/// SQLite's page cache per connection, in KiB.
const CACHE_KIB: i64 = 1024;

/// Busy timeout of a connection, milliseconds. Readers wait only during a recovery.
const BUSY_TIMEOUT_MS: u64 = 250;

/// Role of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The only connection that writes.
    Writer,
    /// A connection that never writes.
    Reader,
}

/// Flags for opening an existing file. A connection is used by one thread at a time.
pub const READ_WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Opens a connection with our settings.
pub fn connect(path: &Path, role: Role) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(path, READ_WRITE)?;
    configure(&mut connection, role)?;
    Ok(connection)
}

/// Applies our settings to a connection. WAL is a property of the file: see [`prepare`].
pub fn configure(connection: &mut Connection, role: Role) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Plans do not depend on bound values; otherwise SQLite would plan again for every binding.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    // In WAL mode: fsync at every commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    match role {
        Role::Writer => {
            // A checkpoint after 2048 pages (8 MiB). The log shrinks to that size after a burst.
            connection.pragma_update(None, "wal_autocheckpoint", 2048)?;
            connection.pragma_update(None, "journal_size_limit", 8 << 20)
        }
        Role::Reader => connection.pragma_update(None, "query_only", true),
    }
}

/// Lets a command's connection wait up to a minute for the database, retrying every millisecond: a busy server
/// releases it only briefly.
pub fn set_long_busy_timeout(connection: &Connection) -> rusqlite::Result<()> {
    const ATTEMPTS: i32 = 60_000;
    connection.busy_handler(Some(|attempt| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        attempt < ATTEMPTS
    }))
}

/// Returns the schema version of a file, or `None` when it is empty.
///
/// # Errors
/// It belongs to another program, or is newer than this program.
pub fn identify(connection: &Connection, path: &Path) -> Result<Option<i64>, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).at(path);
    let (application, found, known) = (pragma("application_id")?, pragma("user_version")?, newest());
    let path_buf = path.to_owned();
    if application == APPLICATION_ID {
        let is_newer = found > known;
        return if is_newer {
            Err(OpenError::NewerSchema { path: path_buf, found, known })
        } else {
            Ok(Some(found))
        };
    }
    let (tables, docker_stack): (i64, i64) = connection
        .query_row(
            "select count(*), count(*) filter (where type = 'table' and name in ('coffee_logs', 'heart_rate_logs'))
             from sqlite_schema",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .at(path)?;
    match (application, found, tables, docker_stack) {
        (0, _, 0, _) => Ok(None),
        (0, 0, _, 1..) => Err(OpenError::DockerStack { path: path_buf }),
        _ => Err(OpenError::Foreign { path: path_buf }),
    }
}

/// Returns the schema version of a database.
///
/// # Errors
/// Like [`identify`], and [`OpenError::Empty`].
pub fn version_of(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    identify(connection, path)?.ok_or_else(|| OpenError::Empty { path: path.to_owned() })
}

/// Migrates a database to the newest schema, and calls `backup` first when there is data to lose. After an
/// error nothing has changed.
pub fn prepare(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
    backup: impl FnOnce() -> Result<(), FailedBackup>,
) -> Result<(), OpenError> {
    let newest = migrations.len();
    let version = identify(connection, path)?.and_then(|found| usize::try_from(found).ok()).unwrap_or(0);
    let failed = |why: String, is_transient: bool| OpenError::Migration {
        path: path.to_owned(),
        to: i64::try_from(newest).unwrap_or(i64::MAX),
        why,
        is_transient,
    };
    let began = Instant::now();
    let is_older = version > 0 && version < newest;
    if is_older {
        tracing::info!("the database has schema {version}: backing it up, then bringing it to {newest}");
        backup().map_err(|e| failed(e.why, e.is_transient))?;
    }
    let fault = |e: rusqlite::Error| match StoreError::from(e) {
        StoreError::Full => OpenError::Full { path: path.to_owned() },
        other => failed(other.to_string(), other.is_transient()),
    };
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).at(path)?;
    if mode != "wal" {
        return Err(OpenError::File {
            path: path.to_owned(),
            why: format!("its file system does not support a write-ahead log (journal mode {mode})"),
        });
    }
    migrate(connection, version, migrations).map_err(fault)?;
    // A backup that was copied there by hand.
    drop_digests(connection).map_err(fault)?;
    if is_older {
        tracing::info!(seconds = began.elapsed().as_secs(), "the database has schema {newest}");
    }
    Ok(())
}

/// Runs the migrations after `version` in one transaction.
pub fn migrate(connection: &mut Connection, version: usize, migrations: &[&str]) -> rusqlite::Result<()> {
    if version >= migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in &migrations[version..] {
        transaction.execute_batch(migration)?;
        failpoint("migration.step");
    }
    let newest = i64::try_from(migrations.len()).unwrap_or(0);
    if rollups::are_in(newest) && !rollups::are_in(i64::try_from(version).unwrap_or(0)) {
        // Plain SQL would take ten times the time, or the memory.
        rollups::recount(&transaction)?;
        failpoint("migration.counted");
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest)?;
    failpoint("migration.commit");
    transaction.commit()?;
    failpoint("migration.done");
    Ok(())
}

/// Drops the digests of a backup, which are valid until the first write.
pub fn drop_digests(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("drop table if exists backup_digests")
}

/// Drops the statistics of `ANALYZE`. No query needs them, and outdated ones mislead the planner.
pub fn drop_statistics(connection: &Connection) -> rusqlite::Result<()> {
    const LEFT: &str =
        "select exists (select 1 from sqlite_schema where name in ('sqlite_stat1', 'sqlite_stat4'))";
    if connection.query_row(LEFT, [], |row| row.get(0))? {
        // The reset makes this connection drop the statistics that it has loaded.
        connection.execute_batch(
            "drop table if exists sqlite_stat1; drop table if exists sqlite_stat4; pragma writable_schema = reset",
        )?;
    }
    Ok(())
}

/// Returns the number of coffees and of readings.
pub fn count_rows(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection.query_row(
        "select (select count(*) from coffee_logs), (select count(*) from heart_rate_logs)",
        [],
        |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())),
    )
}
