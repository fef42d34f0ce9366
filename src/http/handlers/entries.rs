//! Responses that coffees and heart rates have in common.

use rocket::http::uri::Origin;
use rocket::http::{RawStr, Status};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::idempotency::IdempotentOutcome;
use crate::domain::time::{DAY, Timestamp};
use crate::http::extract::query::Page;
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

    /// Returns 200 with a page of entries, of which one more than the limit was read. `Link` leads to the
    /// next page, if there is one.
    pub fn page<T: Serialize>(&self, uri: &Origin<'_>, mut entries: Vec<T>, page: Page) -> JsonResult {
        let has_more = entries.len() > page.limit as usize;
        entries.truncate(page.limit as usize);
        let response = JsonResponse::ok(&entries)?;
        if !has_more {
            return Ok(response);
        }
        let query = uri.query().map_or("", |query| query.as_str());
        let next = query_with_offset(query, u64::from(page.offset) + u64::from(page.limit));
        Ok(response.with_header("Link", format!("<{}?{next}>; rel=\"next\"", self.path)))
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
            IdempotentOutcome::KeyConflict => {
                let message = "was already used with a different body";
                return Err(FieldError::new(Location::Header, "Idempotency-Key", message).into());
            }
        };
        Ok(response.with_status(Status::Created).with_header("Location", format!("{}{id}", self.path)))
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

/// Returns the start and the end of the last `days` times 24 hours. Entries of `now` are included:
/// the end is exclusive.
pub fn rolling_window(now: Timestamp, days: u16) -> (Timestamp, Timestamp) {
    (now.minus(i64::from(days) * DAY), now.plus(1))
}

/// Replaces the field `offset` of a query. Its name may be percent-encoded.
fn query_with_offset(query: &str, offset: u64) -> String {
    let is_offset = |field: &str| {
        let name = field.split('=').next().unwrap_or(field);
        RawStr::new(name).url_decode().is_ok_and(|name| name == "offset")
    };
    let kept = query.split('&').filter(|field| !field.is_empty() && !is_offset(field));
    kept.map(|field| format!("{field}&")).collect::<String>() + &format!("offset={offset}")
}
