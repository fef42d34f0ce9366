//! Verification of a file: every reason why it cannot be restored. It changes nothing and creates no file.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use crate::backup::content_digest::TableDigest;
use crate::backup::expected_schema::TableShape;
use crate::backup::{content_digest, expected_schema};
use crate::db::replace_file::is_interrupted;
use crate::db::{rollups, schema};
use crate::domain::time::Timestamp;
use crate::fs::paths::{file_uri, with_suffix};

/// Entries of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub coffees: u64,
    pub readings: u64,
    /// Timestamp of the newest entry.
    pub newest: Option<Timestamp>,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerificationReport {
    pub path: PathBuf,
    /// Reasons why the file cannot be restored; empty when it can.
    pub reasons: Vec<String>,
    pub size_bytes: u64,
    /// SHA-256 of the file in hexadecimal; `None` when it could not be read to its end.
    pub sha256: Option<String>,
    /// Rollup tables that differ from the readings. All entries are there; statistics over long periods are
    /// wrong until the rollups are rebuilt, which a restore does.
    pub differing_rollups: Vec<&'static str>,
    pub schema_version: Option<i64>,
    pub contents: Option<Contents>,
    /// The file carries digests of its rows, as backups do.
    pub has_digests: bool,
    /// Digests of its rows.
    pub(super) digests: Vec<TableDigest>,
}

impl VerificationReport {
    /// Reports whether the file can be restored.
    pub fn is_sound(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Returns the value of a step. An error becomes a reason, after the description of the `failure`.
    fn record_failure<T, E: Display>(&mut self, failure: &str, step: Result<T, E>) -> Option<T> {
        step.map_err(|e| self.reasons.push(format!("{failure}: {e}"))).ok()
    }
}

/// Maximum number of reported integrity errors.
const MOST_FAULTS: u32 = 20;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Verifies a file.
pub fn verify_file(path: &Path) -> VerificationReport {
    verify_and_keep_open(path).0
}

/// Verifies a file and keeps it open, so that later reads come from the verified file even if its name is taken
/// over.
pub fn verify_and_keep_open(path: &Path) -> (VerificationReport, Option<Connection>) {
    let size_bytes = fs::metadata(path).map_or(0, |file| file.len());
    let mut report = VerificationReport { path: path.to_owned(), size_bytes, ..Default::default() };
    // The log is beside the target of a symbolic link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(reason) = header_fault(path) {
        report.reasons.push(reason);
        return (report, None);
    }
    report.sha256 = report.record_failure("it cannot be read to its end", sha256(path));
    let connection = report.record_failure("it cannot be opened", open_without_side_files(path));
    if let Some(connection) = &connection {
        verify_content(connection, &mut report);
    }
    (report, connection)
}

/// Checks what can be checked without SQLite.
fn header_fault(path: &Path) -> Option<String> {
    let mut header = [0; 100];
    let size = match fs::metadata(path) {
        Ok(file) if file.is_dir() => return Some("it is a folder, not a file".into()),
        Ok(file) => file.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some("there is no such file".into()),
        Err(e) => return Some(format!("it cannot be read: {e}")),
    };
    if size == 0 {
        return Some("it is empty".into());
    }
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) if header.starts_with(MAGIC) => {}
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Some(format!("it cannot be read: {e}")),
        _ => return Some("it is not a SQLite database".into()),
    }
    // https://www.sqlite.org/fileformat.html, "The Database Header": 1 stands for 65,536.
    let number = |at: usize| {
        u64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size,
    };
    let (pages, is_current) = (number(28), number(24) == number(92));
    let expected = page * pages;
    if is_current && size < expected && !has_log(path) {
        return Some(format!("it is truncated: {size} of {expected} bytes"));
    }
    is_interrupted(path).then(|| {
        "a replacement of this file was interrupted, and its log is elsewhere: start the server once".into()
    })
}

fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|end| fs::metadata(with_suffix(path, end)).is_ok_and(|log| log.len() > 0))
}

/// Opens a file for reading without creating files beside it. A file with a log is a database in use or a copy
/// of one, and is read together with its log.
pub fn open_without_side_files(path: &Path) -> rusqlite::Result<Connection> {
    let is_there = |end| fs::exists(with_suffix(path, end)).unwrap_or(false);
    let connection = if is_there("-wal") && is_there("-shm") {
        connect(path, "mode=ro")?
    } else if has_log(path) {
        // No process has it open. `exclusive` keeps the index of the log in memory rather than in a new file. It takes
        // an exclusive lock, which a read-only connection cannot acquire: `unix-none` omits locking.
        let alone = connect(path, "mode=ro&vfs=unix-none")?;
        alone.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        alone.pragma_update(None, "locking_mode", "exclusive")?;
        alone
    } else {
        connect(path, "mode=ro&immutable=1")?
    };
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    configure_for_full_read(&connection)?;
    Ok(connection)
}

/// Applies the settings for reading a whole file that may be damaged or made by somebody else.
pub fn configure_for_full_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    // Also opens the log's index, while the process still has the caller's identity.
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))
}

/// Opens a file with URI parameters. The flags of the connection, which also bound those of attached files, allow
/// writing: a copy can be attached for writing to a database that is opened with `mode=ro`.
pub fn connect(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(file_uri(path, parameters), schema::READ_WRITE | OpenFlags::SQLITE_OPEN_URI)
}

/// Check of an open file with a schema version. It adds its results to the report.
type ContentCheck = fn(&Connection, i64, &mut VerificationReport) -> rusqlite::Result<()>;

/// Verifies the content and counts the entries.
fn verify_content(connection: &Connection, report: &mut VerificationReport) {
    let version = match schema::identify(connection, &report.path) {
        Ok(Some(version)) => version,
        Ok(None) => return report.reasons.push("it is an empty database".into()),
        Err(e) => return report.reasons.push(e.to_string()),
    };
    report.schema_version = Some(version);
    for (failure, check) in [
        ("it cannot be read", verify_encoding as ContentCheck),
        ("it is damaged", verify_integrity),
        ("its tables cannot be compared", verify_schema),
    ] {
        let step = check(connection, version, report);
        report.record_failure(failure, step);
    }
    // Each of these relies on what was checked before it.
    for (failure, check) in [
        ("it cannot be read", verify_values as ContentCheck),
        ("its rows cannot be read", verify_rows),
        ("it cannot be read", count_entries),
        ("its rollups cannot be compared", compare_rollups),
    ] {
        if report.is_sound() {
            let step = check(connection, version, report);
            report.record_failure(failure, step);
        }
    }
}

fn verify_encoding(c: &Connection, _: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    let encoding: String = c.pragma_query_value(None, "encoding", |row| row.get(0))?;
    if encoding != "UTF-8" {
        report.reasons.push(format!("its text is {encoding}, and must be UTF-8"));
    }
    Ok(())
}

fn verify_integrity(c: &Connection, _: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    c.pragma(None, "integrity_check", MOST_FAULTS, |row| {
        let line: String = row.get(0)?;
        if line != "ok" {
            report.reasons.push(format!("it is damaged: {line}"));
        }
        Ok(())
    })
}

fn verify_schema(c: &Connection, version: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    let differences = expected_schema::differences(c, version)?;
    report.reasons.extend(differences.iter().map(ToString::to_string));
    Ok(())
}

/// Checks that values obey the CHECKs of their tables, and ids their bounds.
fn verify_values(c: &Connection, version: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    let mut query = c.prepare(include_str!("../../sql/out_of_range_rows.sql"))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let table = row.get_ref(0)?.as_str()?;
        match row.get(1)? {
            0 => {}
            1 => report.reasons.push(format!("it is damaged: a row of {table} has a value out of bounds")),
            n => report.reasons.push(format!("it is damaged: {n} rows of {table} have values out of bounds")),
        }
    }
    report.reasons.extend(expected_schema::id_faults(c, version)?);
    Ok(())
}

/// Digests every row, and compares the result with the digests that the file carries.
fn verify_rows(c: &Connection, version: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    let mut shapes = expected_schema::table_shapes(&expected_schema::model(version)?)?;
    shapes.retain(|shape| !rollups::TABLES.contains(&shape.name.as_str()));
    shapes.push(TableShape::of_sequences());
    for shape in &shapes {
        let digest = TableDigest::of_table(c, "main", shape)?;
        if digest.bad_texts > 0 {
            let (table, n) = (&digest.table, digest.bad_texts);
            let texts = if n == 1 { "1 text".to_owned() } else { format!("{n} texts") };
            report
                .reasons
                .push(format!("it is damaged: {table} has {texts} with invalid UTF-8 or a NUL character"));
        }
        report.digests.push(digest);
    }
    if let Some(differing) = content_digest::compare(c, &report.digests)? {
        report.has_digests = true;
        report.reasons.extend(differing.into_iter().map(|table| {
            format!("it is damaged: the rows of {table} differ from those that were backed up")
        }));
    }
    Ok(())
}

fn count_entries(c: &Connection, _: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    report.contents = Some(contents(c)?);
    Ok(())
}

fn compare_rollups(c: &Connection, version: i64, report: &mut VerificationReport) -> rusqlite::Result<()> {
    if rollups::are_in(version) {
        report.differing_rollups = rollups::differing_tables(c)?;
    }
    Ok(())
}

/// Counts the entries of a database.
pub fn contents(connection: &Connection) -> rusqlite::Result<Contents> {
    let (coffees, readings) = schema::count_rows(connection)?;
    let newest: Option<i64> = connection.query_row(
        "select max(at) from (select max(timestamp) as at from coffee_logs indexed by coffee_logs_by_time
         union all select max(timestamp) from heart_rate_logs indexed by heart_rate_logs_by_time)",
        [],
        |row| row.get(0),
    )?;
    Ok(Contents { coffees, readings, newest: newest.map(Timestamp::clamped) })
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => digest.update(&chunk[..n]),
        }
    }
    Ok(hex::encode(digest.finalize()))
}
