//! Responses to requests with an `Idempotency-Key`, kept for 30 days of the server's running time. A repeated
//! request gets the first response and stores nothing.
//!
//! Ages are measured in running time of the server, see [`ResponseClock`]. Wall-clock time is unsuitable: a
//! machine without a clock battery starts with an old date and is corrected later.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::time::{DAY, Timestamp};

/// Retention of a response, microseconds.
const RETENTION: i64 = 30 * DAY;

/// Idempotency key of a request, and its route. API keys of one person share them, so that another device may repeat
/// a request.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub route: &'static str,
    /// 1 to 255 characters.
    pub key: String,
    /// Monotonic time between the start of the server and the request.
    pub elapsed: Duration,
}

/// Clock of the stored responses. It advances only while the server runs, and continues after a restart where
/// the last run stored its newest response. A database that is closed and opened again keeps its clock.
///
/// `created_at` holds its times. They begin with the date of the first response and then lag behind
/// wall-clock time by at least the time that the server is off.
#[derive(Debug)]
pub struct ResponseClock(Mutex<RecordedTime>);

/// Time of the clock, and the server's running time when it was recorded.
#[derive(Clone, Copy, Debug)]
struct RecordedTime {
    /// `None` before the database is first opened, or before its first response.
    micros: Option<i64>,
    elapsed: Duration,
}

impl ResponseClock {
    /// Creates a clock that starts at the running time `elapsed`.
    pub fn starting_at(elapsed: Duration) -> Self {
        Self(Mutex::new(RecordedTime { micros: None, elapsed }))
    }

    /// Continues from the newest stored response when a database is first opened.
    pub fn resume(&self, connection: &Connection) -> rusqlite::Result<()> {
        let newest = newest(connection)?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.micros = last.micros.or(newest);
        Ok(())
    }

    /// Returns the clock's time at the running time `elapsed`. If the newest response is not the one recorded, as
    /// after a restore, it is the time of that response.
    fn time(&self, connection: &Connection, elapsed: Duration, now: Timestamp) -> rusqlite::Result<i64> {
        let newest = newest(connection)?;
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = newest else { return Ok(now.micros()) };
        if last.micros != Some(newest) {
            return Ok(newest);
        }
        let passed = elapsed.saturating_sub(last.elapsed).as_micros();
        Ok(newest.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
    }

    /// Records that a response was stored at this time. If the transaction is rolled back, [`Self::time`] notices that
    /// the newest response is another one.
    fn record(&self, micros: i64, elapsed: Duration) {
        let recorded = RecordedTime { micros: Some(micros), elapsed };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = recorded;
    }
}

fn newest(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("select max(created_at) from idempotency_keys indexed by idempotency_keys_by_age")?
        .query_row([], |row| row.get(0))
}

/// Outcome of a request with an optional idempotency key.
#[derive(Clone, Debug, PartialEq)]
pub enum IdempotentOutcome<T> {
    /// Stored by this request.
    New(T),
    /// Stored by an earlier request with the same key: its id, and its response as JSON.
    Replayed { id: i64, answer: String },
    /// The key was used with different content.
    KeyConflict,
}

/// Runs `insert`, unless a request with the same key has done so.
pub fn execute_once<T: Serialize>(
    connection: &Connection,
    key: Option<(&IdempotencyKey, &ResponseClock)>,
    content: &impl Serialize,
    now: Timestamp,
    insert: impl FnOnce(&Connection) -> rusqlite::Result<(i64, T)>,
) -> rusqlite::Result<IdempotentOutcome<T>> {
    let Some((key, clock)) = key else {
        return insert(connection).map(|(_, entry)| IdempotentOutcome::New(entry));
    };
    let json_error = |e: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(e.into());
    let fingerprint = Sha256::digest(serde_json::to_vec(content).map_err(json_error)?);
    let at = clock.time(connection, key.elapsed, now)?;
    let oldest = at.saturating_sub(RETENTION);
    let stored = connection
        .prepare_cached(
            "select fingerprint, entry_id, answer from idempotency_keys
             where route = ? and key = ? and created_at >= ?",
        )?
        .query_row(params![key.route, key.key, oldest], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((stored_fingerprint, id, answer)) = stored {
        let same = stored_fingerprint == fingerprint.as_slice();
        return Ok(if same {
            IdempotentOutcome::Replayed { id, answer }
        } else {
            IdempotentOutcome::KeyConflict
        });
    }
    connection
        .prepare_cached(
            "delete from idempotency_keys indexed by idempotency_keys_by_age where created_at < ?",
        )?
        .execute([oldest])?;
    let (id, entry) = insert(connection)?;
    let answer = serde_json::to_string(&entry).map_err(json_error)?;
    connection
        .prepare_cached(
            "insert into idempotency_keys (route, key, fingerprint, entry_id, answer, created_at)
             values (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![key.route, key.key, fingerprint.as_slice(), id, answer, at])?;
    clock.record(at, key.elapsed);
    Ok(IdempotentOutcome::New(entry))
}
