//! Responses that coffees and heart rates have in common.

use rocket::http::Status;
use rocket::http::uri::Origin;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::idempotency::IdempotentOutcome;
use crate::domain::time::{DAY, Timestamp};
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldError, Location};

/// Path and messages of a collection of entries.
pub struct Collection {
    pub path: &'static str,
    pub not_found: &'static str,
    pub deleted: &'static str,
}

/// Response body for a caller without the scope `read`: the id and the fields that the caller sent.
#[derive(Debug, Serialize)]
struct Acknowledgement<T> {
    id: i64,
    #[serde(flatten)]
    sent: T,
}

/// Response body of `DELETE`.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    message: &'static str,
    #[schema(minimum = 1)]
    id: i64,
}

/// Response body of statistics over a period without entries.
#[derive(Serialize, ToSchema)]
pub struct NoData {
    message: String,
    #[schema(minimum = 1, maximum = 3650)]
    days: u16,
}

impl NoData {
    /// Returns the response for a period of `days` days without data of this kind.
    pub fn of(kind: &str, days: u16) -> Self {
        Self { message: format!("No {kind} data in last {days} days"), days }
    }
}

impl Collection {
    /// Returns 200 with an entry, or 404.
    pub fn found(&self, entry: Option<impl Serialize>) -> JsonResult {
        JsonResponse::found(entry, self.not_found)
    }

    /// Returns 200 with a page of entries, of which one more than `limit` was read.
    pub fn page<T: Serialize>(
        &self,
        uri: &Origin<'_>,
        entries: Vec<T>,
        limit: u32,
        offset: u32,
    ) -> JsonResult {
        JsonResponse::page(uri, self.path, entries, limit, offset)
    }

    /// Returns 201 with a new entry, or the first response to a request that is repeated. With `sent`, a
    /// repeated response has only the id and those fields.
    pub fn created<T: Serialize>(
        &self,
        outcome: IdempotentOutcome<T>,
        id: impl Fn(&T) -> i64,
        sent: Option<impl Serialize>,
    ) -> JsonResult {
        let (id, response) = match outcome {
            IdempotentOutcome::New(entry) => (id(&entry), JsonResponse::ok(&entry)?),
            IdempotentOutcome::Replayed { id, answer } => match sent {
                Some(sent) => (id, JsonResponse::ok(&Acknowledgement { id, sent })?),
                None => (id, JsonResponse::from_json(answer.into_bytes())),
            },
            IdempotentOutcome::KeyReused => {
                let message = "was already used with a different body";
                return Err(FieldError::new(Location::Header, "Idempotency-Key", message).into());
            }
        };
        Ok(response.with_status(Status::Created).with_location(format!("{}{id}", self.path)))
    }

    /// Returns 200 with the changed entry, or 404. With `sent`, the response has only the id and those fields.
    pub fn changed(
        &self,
        entry: Option<impl Serialize>,
        id: i64,
        sent: Option<impl Serialize>,
    ) -> JsonResult {
        match sent {
            Some(sent) => self.found(entry.map(|_| Acknowledgement { id, sent })),
            None => self.found(entry),
        }
    }

    /// Returns 200 after a deletion, or 404 when there was no such entry.
    pub fn deleted(&self, was_deleted: bool, id: i64) -> JsonResult {
        self.found(was_deleted.then_some(Deleted { message: self.deleted, id }))
    }
}

/// Returns the start and the end of the last `days` times 24 hours. Entries of this instant are included.
pub fn rolling_window(now: Timestamp, days: u16) -> (Timestamp, Timestamp) {
    (now.minus(i64::from(days) * DAY), now.plus(1))
}
