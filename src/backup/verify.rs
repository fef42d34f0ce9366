//! Verification of a file: every reason why it cannot be restored. It changes nothing and creates no file.

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
use crate::db::schema::FileKind;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationReport {
    pub path: PathBuf,
    /// Reasons why the file cannot be restored; empty when it can.
    pub reasons: Vec<String>,
    pub size_bytes: u64,
    /// Digest of the file in hexadecimal; `None` when it could not be read.
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
    let mut found = VerificationReport {
        path: path.to_owned(),
        reasons: Vec::new(),
        size_bytes: fs::metadata(path).map_or(0, |m| m.len()),
        sha256: None,
        differing_rollups: Vec::new(),
        schema_version: None,
        contents: None,
        has_digests: false,
        digests: Vec::new(),
    };
    // The log is beside the target of a symbolic link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(reason) = header_fault(path) {
        found.reasons.push(reason);
        return (found, None);
    }
    if is_interrupted(path) {
        found.reasons.push(
            "a replacement of this file was interrupted, and its log is elsewhere: start the server once"
                .into(),
        );
        return (found, None);
    }
    match sha256(path) {
        Ok(digest) => found.sha256 = Some(digest),
        Err(e) => found.reasons.push(format!("it cannot be read to its end: {e}")),
    }
    match open_without_side_files(path) {
        Ok(connection) => {
            verify_content(&connection, &mut found);
            (found, Some(connection))
        }
        Err(e) => {
            found.reasons.push(format!("it cannot be opened: {e}"));
            (found, None)
        }
    }
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
        Ok(()) => return Some("it is not a SQLite database".into()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Some("it is not a SQLite database".into());
        }
        Err(e) => return Some(format!("it cannot be read: {e}")),
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
    (is_current && size < expected && !has_log(path))
        .then(|| format!("it is truncated: {size} of {expected} bytes"))
}

fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|end| fs::metadata(with_suffix(path, end)).is_ok_and(|log| log.len() > 0))
}

/// Opens a file for reading without creating files beside it. A file with a log is a database in use or a copy
/// of one, and is read together with its log.
pub fn open_without_side_files(path: &Path) -> rusqlite::Result<Connection> {
    let is_there = |end| fs::exists(with_suffix(path, end)).unwrap_or(false);
    let connection = if is_there("-wal") && is_there("-shm") {
        connect_read_only(path, "")?
    } else if has_log(path) {
        // Nobody has it open. Keeping the index of its log in memory takes an exclusive lock, which a reader
        // can have only without locking.
        let alone = connect_read_only(path, "&vfs=unix-none")?;
        alone.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        alone.pragma_update(None, "locking_mode", "exclusive")?;
        alone
    } else {
        connect_read_only(path, "&immutable=1")?
    };
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    // Also opens the log's index, while the process still has the caller's identity.
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Opens a file for reading. The flag in the URI leaves attached files writable.
fn connect_read_only(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    connect(path, &format!("mode=ro{parameters}"))
}

/// Opens a file with URI parameters.
pub fn connect(path: &Path, parameters: &str) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(file_uri(path, parameters), flags)
}

/// Verifies the content and counts the entries.
fn verify_content(connection: &Connection, found: &mut VerificationReport) {
    let version = match schema::identify(connection, &found.path) {
        Ok(FileKind::Ours(version)) => version,
        Ok(FileKind::Empty) => return found.reasons.push("it is an empty database".into()),
        Err(e) => return found.reasons.push(e.to_string()),
    };
    found.schema_version = Some(version);
    match connection.pragma_query_value(None, "encoding", |row| row.get::<_, String>(0)) {
        Ok(encoding) if encoding == "UTF-8" => {}
        Ok(encoding) => found.reasons.push(format!("its text is {encoding}, and must be UTF-8")),
        Err(e) => found.reasons.push(format!("it cannot be read: {e}")),
    }
    match faults(connection) {
        Ok(faults) => found.reasons.extend(faults),
        Err(e) => found.reasons.push(format!("it is damaged: {e}")),
    }
    match expected_schema::schema_faults(connection, version) {
        Ok(faults) => found.reasons.extend(faults),
        Err(e) => found.reasons.push(format!("its tables cannot be compared: {e}")),
    }
    if found.reasons.is_empty() {
        let out_of_range_rows = out_of_range_rows(connection);
        match out_of_range_rows
            .and_then(|faults| Ok((faults, expected_schema::id_faults(connection, version)?)))
        {
            Ok((faults, ids)) => found.reasons.extend(faults.into_iter().chain(ids)),
            Err(e) => found.reasons.push(format!("it cannot be read: {e}")),
        }
    }
    if found.reasons.is_empty()
        && let Err(e) = verify_rows(connection, version, found)
    {
        found.reasons.push(format!("its rows cannot be read: {e}"));
    }
    if found.reasons.is_empty() {
        match contents(connection) {
            Ok(contents) => found.contents = Some(contents),
            Err(e) => found.reasons.push(format!("it cannot be read: {e}")),
        }
    }
    if found.reasons.is_empty() && rollups::are_in(version) {
        match rollups::differing_tables(connection) {
            Ok(tables) => found.differing_rollups = tables,
            Err(e) => found.reasons.push(format!("its rollups cannot be compared: {e}")),
        }
    }
}

/// Returns the errors of SQLite's integrity check.
fn faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut faults = Vec::new();
    connection.pragma(None, "integrity_check", MOST_FAULTS, |row| {
        let line: String = row.get(0)?;
        if line != "ok" {
            faults.push(format!("it is damaged: {line}"));
        }
        Ok(())
    })?;
    Ok(faults)
}

/// Returns the tables with values that violate their CHECKs.
fn out_of_range_rows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut query = connection.prepare(include_str!("../../sql/out_of_range_rows.sql"))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        match (row.get_ref(0)?.as_str()?, row.get(1)?) {
            (_, 0) => {}
            (table, 1) => faults.push(format!("it is damaged: a row of {table} has a value out of bounds")),
            (table, n) => {
                faults.push(format!("it is damaged: {n} rows of {table} have values out of bounds"));
            }
        }
    }
    Ok(faults)
}

/// Digests every row, and compares the result with the digests that the file carries.
fn verify_rows(c: &Connection, version: i64, found: &mut VerificationReport) -> rusqlite::Result<()> {
    let mut table_shapes = expected_schema::table_shapes(&expected_schema::model(version)?)?;
    table_shapes.retain(|shape| !rollups::TABLES.contains(&shape.name.as_str()));
    table_shapes.push(TableShape::of_sequences());
    for shape in &table_shapes {
        let digest = TableDigest::of_table(c, "main", shape)?;
        if digest.bad_texts > 0 {
            let (table, n) = (&digest.table, digest.bad_texts);
            let texts = if n == 1 { "1 text".to_owned() } else { format!("{n} texts") };
            found
                .reasons
                .push(format!("it is damaged: {table} has {texts} with invalid UTF-8 or a NUL character"));
        }
        found.digests.push(digest);
    }
    if let Some(differing) = content_digest::compare(c, &found.digests)? {
        found.has_digests = true;
        found.reasons.extend(differing.into_iter().map(|table| {
            format!("it is damaged: the rows of {table} differ from those that were backed up")
        }));
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
