//! Answers that were given under an `Idempotency-Key`, kept 30 days: the same request
//! again gets the first answer and adds nothing.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::time::{DAY, Timestamp};

/// How long an answer is kept, microseconds.
const KEPT: i64 = 30 * DAY;

/// The client's key for one request, and the route it was sent to.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub route: &'static str,
    /// 1 to 255 characters.
    pub key: String,
}

/// What came of a request to store something.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored<T> {
    /// It was stored now.
    New(T),
    /// It was stored before, under the same key: the first answer, as JSON, and its id.
    Again { id: i64, answer: String },
    /// The key was used before, for another body.
    OtherBody,
}

/// Stores by `insert`, unless `key` says that it has been done.
pub fn once<T: Serialize>(
    connection: &Connection,
    key: Option<&IdempotencyKey>,
    asked: &impl Serialize,
    now: Timestamp,
    insert: impl FnOnce(&Connection) -> rusqlite::Result<(i64, T)>,
) -> rusqlite::Result<Stored<T>> {
    let Some(key) = key else { return insert(connection).map(|(_, made)| Stored::New(made)) };
    let json = |e: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(e.into());
    let fingerprint = Sha256::digest(serde_json::to_vec(asked).map_err(json)?);
    connection
        .prepare_cached("delete from idempotency_keys where created_at < ?")?
        .execute([now.minus(KEPT).micros()])?;
    let before = connection
        .prepare_cached(
            "select fingerprint, entry_id, answer from idempotency_keys where route = ? and key = ?",
        )?
        .query_row(params![key.route, key.key], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((first, id, answer)) = before {
        let same = first == fingerprint.as_slice();
        return Ok(if same { Stored::Again { id, answer } } else { Stored::OtherBody });
    }
    let (id, made) = insert(connection)?;
    let answer = serde_json::to_string(&made).map_err(json)?;
    connection
        .prepare_cached(
            "insert into idempotency_keys (route, key, fingerprint, entry_id, answer, created_at)
             values (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![key.route, key.key, fingerprint.as_slice(), id, answer, now.micros()])?;
    Ok(Stored::New(made))
}
