//! JSON responses of handlers.

use std::io::Cursor;

use rocket::http::uri::Origin;
use rocket::http::{RawStr, Status};
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

    /// Returns 200 with a page of a list of which one entry more than `limit` was read. `Link` leads
    /// to the next page, if there is one.
    pub fn page<T: Serialize>(
        uri: &Origin<'_>,
        path: &str,
        mut entries: Vec<T>,
        limit: u32,
        offset: u32,
    ) -> JsonResult {
        let has_more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let header = has_more.then(|| {
            let query = uri.query().map_or("", |query| query.as_str());
            let next = query_with_offset(query, u64::from(offset) + u64::from(limit));
            ("Link", format!("<{path}?{next}>; rel=\"next\""))
        });
        Ok(Self { header, ..Self::ok(&entries)? })
    }

    /// Returns 200 with serialized JSON.
    pub fn from_json(body: Vec<u8>) -> Self {
        Self { status: Status::Ok, body, header: None }
    }

    /// Sets the header `Location`.
    #[must_use]
    pub fn with_location(self, location: String) -> Self {
        Self { header: Some(("Location", location)), ..self }
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }
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
