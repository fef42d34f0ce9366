//! Digests of a database's rows by table. They reveal changed content, which SQLite's integrity check
//! does not detect.
//!
//! A backup carries the digests of its source in the table `backup_digests`; a live database has none. The
//! digest of a table is the SHA-256 of
//!
//! - the number of its columns (8 bytes, big-endian) and the name of each, encoded as a text value,
//! - the values of its rows, in the order of the primary key and of the columns.
//!
//! A value is encoded as a tag of one byte and its bytes: 0 for null (no bytes); 1 for an integer (8 bytes,
//! big-endian); 2 for a real (its IEEE 754 bits, 8 bytes, big-endian); 3 for a text and 4 for a blob (length,
//! 8 bytes, big-endian, then the bytes). Pages, indexes and free space do not count. Rollups have no digest:
//! they are compared with the readings.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use crate::backup::expected_schema::TableShape;
use crate::db::schema::DIGEST_TABLE;

/// Encoded bytes that are buffered before they are hashed.
const COLLECTED: usize = 1 << 16;

/// Digest of the rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    pub table: String,
    pub rows: u64,
    pub sha256: [u8; 32],
    /// Texts that are not valid UTF-8 or contain a NUL character.
    pub bad_texts: u64,
}

impl TableDigest {
    /// Digests a table of the schema `database`: `main`, or the name of an attached database.
    pub fn of_table(c: &Connection, database: &str, shape: &TableShape) -> rusqlite::Result<Self> {
        let mut encoder = Encoder::new(shape);
        let mut query = c.prepare(&shape.select_from(database))?;
        let mut found = query.query([])?;
        let mut rows = 0;
        while let Some(row) = found.next()? {
            for column in 0..shape.columns.len() {
                encoder.add(row.get_ref(column)?);
            }
            rows += 1;
        }
        Ok(encoder.finish(shape.name.clone(), rows))
    }

    /// Digests the last ids as rows of `sqlite_sequence`.
    pub fn of_last_ids(ids: &[(String, i64)]) -> Self {
        let shape = TableShape::of_sequences();
        let mut ids: Vec<_> = ids.iter().collect();
        ids.sort_unstable();
        let mut encoder = Encoder::new(&shape);
        for (table, id) in &ids {
            encoder.add(ValueRef::Text(table.as_bytes()));
            encoder.add(ValueRef::Integer(*id));
        }
        encoder.finish(shape.name, ids.len() as u64)
    }

    /// Reports whether the rows are the same.
    pub fn is_of_same_rows(&self, other: &Self) -> bool {
        (&self.table, self.rows, self.sha256) == (&other.table, other.rows, other.sha256)
    }
}

/// Encodes and hashes values.
struct Encoder {
    hash: Sha256,
    collected: Vec<u8>,
    bad_texts: u64,
}

impl Encoder {
    fn new(shape: &TableShape) -> Self {
        let (hash, collected) = (Sha256::new(), Vec::with_capacity(COLLECTED + 4096));
        let mut encoder = Self { hash, collected, bad_texts: 0 };
        encoder.collected.extend_from_slice(&(shape.columns.len() as u64).to_be_bytes());
        shape.columns.iter().for_each(|name| encoder.add(ValueRef::Text(name.as_bytes())));
        encoder
    }

    fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.collected.push(0),
            ValueRef::Integer(number) => self.add_fixed(1, number.to_be_bytes()),
            ValueRef::Real(number) => self.add_fixed(2, number.to_bits().to_be_bytes()),
            ValueRef::Text(text) => {
                self.bad_texts += u64::from(text.contains(&0) || std::str::from_utf8(text).is_err());
                self.add_bytes(3, text);
            }
            ValueRef::Blob(bytes) => self.add_bytes(4, bytes),
        }
        if self.collected.len() >= COLLECTED {
            self.hash.update(&self.collected);
            self.collected.clear();
        }
    }

    fn add_fixed(&mut self, tag: u8, bytes: [u8; 8]) {
        self.collected.push(tag);
        self.collected.extend_from_slice(&bytes);
    }

    fn add_bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.add_fixed(tag, (bytes.len() as u64).to_be_bytes());
        self.collected.extend_from_slice(bytes);
    }

    fn finish(mut self, table: String, rows: u64) -> TableDigest {
        self.hash.update(&self.collected);
        TableDigest { table, rows, sha256: self.hash.finalize().into(), bad_texts: self.bad_texts }
    }
}

/// Adds digests to the backup that is attached as `copy`.
pub fn write_to_copy(c: &Connection, digests: &[TableDigest]) -> rusqlite::Result<()> {
    let mut insert = c.prepare("insert into copy.backup_digests values (?, ?, ?)")?;
    digests.iter().try_for_each(|digest| {
        let rows = i64::try_from(digest.rows).unwrap_or(i64::MAX);
        insert.execute(params![digest.table, rows, digest.sha256]).map(drop)
    })
}

/// Compares the digests that a file carries with those of its rows, and returns the tables that differ. `None`
/// when it carries none.
pub fn compare(c: &Connection, found: &[TableDigest]) -> rusqlite::Result<Option<Vec<String>>> {
    if !c.table_exists(Some("main"), DIGEST_TABLE)? {
        return Ok(None);
    }
    let mut carried: BTreeMap<String, (u64, [u8; 32])> = c
        .prepare("select table_name, row_count, sha256 from backup_digests")?
        .query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?))))?
        .collect::<rusqlite::Result<_>>()?;
    let differs = |own: &&TableDigest| carried.remove(&own.table) != Some((own.rows, own.sha256));
    let mut differing: Vec<String> = found.iter().filter(differs).map(|own| own.table.clone()).collect();
    differing.extend(carried.into_keys());
    Ok(Some(differing))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_documented_encoding() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(
            "create table t (id integer primary key, a, b); insert into t values (2, null, 'é'), (1, 1.5, x'00ff')",
        )
        .unwrap();
        let (name, columns) = ("t".to_owned(), ["id", "a", "b"].map(str::to_owned).to_vec());
        let shape = TableShape { name, columns, key: vec!["id".to_owned()], is_numbered: false };
        let length = |n: u64| n.to_be_bytes().to_vec();
        let text = |text: &str| [vec![3], length(text.len() as u64), text.as_bytes().to_vec()].concat();
        let encoded = [
            [length(3), text("id"), text("a"), text("b")].concat(),
            [vec![1], length(1), vec![2], 1.5_f64.to_bits().to_be_bytes().to_vec()].concat(),
            [vec![4], length(2), vec![0, 255], vec![1], length(2), vec![0], text("é")].concat(),
        ]
        .concat();
        let expected = TableDigest {
            table: "t".to_owned(),
            rows: 2,
            sha256: Sha256::digest(encoded).into(),
            bad_texts: 0,
        };
        assert_eq!(TableDigest::of_table(&c, "main", &shape).unwrap(), expected);
    }
}
