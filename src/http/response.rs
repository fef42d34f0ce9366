//! JSON responses of handlers.

use std::io::Cursor;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response;
use rocket::response::{Responder, Response};
use serde::Serialize;

use crate::http::error::ApiError;

/// JSON response.
#[derive(Debug)]
pub struct JsonResponse {
    status: Status,
    body: Vec<u8>,
    header: Option<(&'static str, String)>,
}

/// Result of a handler that responds with JSON.
pub type JsonResult = Result<JsonResponse, ApiError>;

impl JsonResponse {
    /// Returns 200 with `value`.
    pub fn ok(value: &impl Serialize) -> JsonResult {
        let body = serde_json::to_vec(value).map_err(|e| {
            tracing::error!("a response could not be serialized: {e}");
            ApiError::Internal
        })?;
        Ok(Self { status: Status::Ok, body, header: None })
    }

    /// Returns 200 with `value`, or 404 with the message `not_found` when there is none.
    pub fn found(value: Option<impl Serialize>, not_found: &'static str) -> JsonResult {
        value.map_or(Err(ApiError::NotFound(not_found)), |value| Self::ok(&value))
    }

    /// Returns 200 with serialized JSON.
    pub fn from_json(body: Vec<u8>) -> Self {
        Self { status: Status::Ok, body, header: None }
    }

    /// Sets the header of this response.
    #[must_use]
    pub fn with_header(self, name: &'static str, value: String) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

impl<'r> Responder<'r, 'static> for JsonResponse {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response
            .status(self.status)
            .raw_header("Content-Type", "application/json")
            // Sends a usual list in one chunk instead of one for every 4 KiB.
            .max_chunk_size(self.body.len().clamp(1, 64 << 10))
            .sized_body(self.body.len(), Cursor::new(self.body));
        if let Some((name, value)) = self.header {
            response.raw_header(name, value);
        }
        response.ok()
    }
}
