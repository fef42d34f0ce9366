//! What a handler gives back when all went well: JSON, written once.

use std::io::Cursor;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response;
use rocket::response::{Responder, Response};
use serde::Serialize;

use crate::http::error::ApiError;

/// A JSON answer.
#[derive(Debug)]
pub struct Answer {
    status: Status,
    body: Vec<u8>,
    header: Option<(&'static str, String)>,
}

/// Response body for a key that may write but not read: the id and the fields that were sent.
#[derive(Debug, Serialize)]
pub struct Acknowledged<T> {
    pub id: i64,
    #[serde(flatten)]
    pub sent: T,
}

/// What most handlers return.
pub type Answered = Result<Answer, ApiError>;

impl Answer {
    /// 200 with `value`.
    ///
    /// # Errors
    /// A fault of ours, when `value` has no JSON form.
    pub fn ok(value: &impl Serialize) -> Answered {
        let body = serde_json::to_vec(value).map_err(|e| {
            tracing::error!("an answer could not be written: {e}");
            ApiError::Internal
        })?;
        Ok(Self { status: Status::Ok, body, header: None })
    }

    /// 200 with `value`, or 404 when there is none.
    ///
    /// # Errors
    /// The 404, or a fault of ours.
    pub fn found(value: Option<impl Serialize>, missing: &'static str) -> Answered {
        value.map_or(Err(ApiError::NotFound(missing)), |value| Self::ok(&value))
    }

    /// JSON that was written before.
    pub fn raw(status: Status, body: Vec<u8>) -> Self {
        Self { status, body, header: None }
    }

    /// This answer with the place of what it shows.
    #[must_use]
    pub fn located(self, location: String) -> Self {
        Self { header: Some(("Location", location)), ..self }
    }

    /// This answer with another status.
    #[must_use]
    pub fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }

    /// This answer with a `Link` to the next page, when there is one.
    #[must_use]
    pub fn linked(self, next: Option<String>) -> Self {
        let header = next.map(|next| ("Link", format!("<{next}>; rel=\"next\"")));
        Self { header, ..self }
    }
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response
            .status(self.status)
            .raw_header("Content-Type", "application/json")
            // One chunk for a usual list, not one for every 4 KiB, and no larger than it is.
            .max_chunk_size(self.body.len().clamp(1, 64 << 10))
            .sized_body(self.body.len(), Cursor::new(self.body));
        if let Some((name, value)) = self.header {
            response.raw_header(name, value);
        }
        response.ok()
    }
}
