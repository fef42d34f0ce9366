//! Everything that can go wrong with a request, as the one problem document (RFC 9457).
//!
//! Only this file knows statuses, and only it logs faults, when they are ours. What the
//! inside said goes to the log, never into an answer.

use std::io::Cursor;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response;
use rocket::response::{Responder, Response};
use serde::Serialize;

use crate::auth::key::Scope;
use crate::http::extract::validation::{FieldError, ValidationErrors};
use crate::http::middleware::request_context::Exchange;

/// Why a request is not answered as it wished.
#[derive(Clone, Debug)]
pub enum ApiError {
    /// 400: not HTTP-sane.
    BadRequest(&'static str),
    /// 401: no key, a malformed one, or a wrong one; never said which.
    Unauthorized,
    /// 403: the key is right, but lacks this scope.
    Forbidden(Scope),
    /// 404: nothing here, or no such entry.
    NotFound(&'static str),
    /// 405: the path is known, the method is not; these are.
    MethodNotAllowed(String),
    /// 408: the body took too long.
    TooSlow,
    /// 413: the body is larger than this many bytes.
    TooLarge(u64),
    /// 422: fields that do not fit.
    Unfit(ValidationErrors),
    /// 429: over the limit for this many seconds.
    TooMany(u64),
    /// 431: the headers are larger than 16 KiB.
    HeadersTooLarge,
    /// 503: too many large bodies are being read.
    BodiesInFlight,
    /// 500 or 503: the store failed.
    Store(crate::db::error::StoreError),
    /// 500: a fault of ours, logged where it happened.
    Internal,
}

/// Seconds after which a passing fault is worth another try.
const RETRY_AFTER: u64 = 2;

impl From<ValidationErrors> for ApiError {
    fn from(unfit: ValidationErrors) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::Unfit(error.into())
    }
}

impl From<crate::db::error::StoreError> for ApiError {
    fn from(error: crate::db::error::StoreError) -> Self {
        Self::Store(error)
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    request_id: &'a str,
}

impl ApiError {
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(_) => (400, "Bad Request"),
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden(_) => (403, "Forbidden"),
            Self::NotFound(_) => (404, "Not Found"),
            Self::MethodNotAllowed(_) => (405, "Method Not Allowed"),
            Self::TooSlow => (408, "Request Timeout"),
            Self::TooLarge(_) => (413, "Content Too Large"),
            Self::Unfit(_) => (422, "Unprocessable Content"),
            Self::TooMany(_) => (429, "Too Many Requests"),
            Self::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Self::Store(crate::db::error::StoreError::Internal(_)) | Self::Internal => {
                (500, "Internal Server StoreError")
            }
            Self::BodiesInFlight | Self::Store(_) => (503, "Service Unavailable"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::BadRequest(detail) | Self::NotFound(detail) => (*detail).to_owned(),
            Self::Unauthorized => "A valid API key is needed: Authorization: Bearer KEY".to_owned(),
            Self::Forbidden(scope) => format!("This API key lacks the scope {}", scope.name()),
            Self::MethodNotAllowed(allow) => format!("This path answers {allow}"),
            Self::TooSlow => "The request did not arrive in time".to_owned(),
            Self::TooLarge(limit) => format!("The body must not be larger than {limit} bytes"),
            Self::Unfit(unfit) => unfit.to_string(),
            Self::TooMany(seconds) => format!("Too many requests: try again in {seconds} s"),
            Self::HeadersTooLarge => "The headers must not be larger than 16 KiB in all".to_owned(),
            Self::BodiesInFlight => "Too many large bodies are being received: try again".to_owned(),
            Self::Store(crate::db::error::StoreError::Busy) => "The store is busy: try again".to_owned(),
            Self::Store(crate::db::error::StoreError::Full) => {
                "No room is left on the disk: nothing was stored".to_owned()
            }
            Self::Store(crate::db::error::StoreError::Unwritable(_)) => {
                "The disk takes no writes (a quota, a limit or a fault): nothing was stored".to_owned()
            }
            Self::Store(crate::db::error::StoreError::Displaced) => {
                "The database file was moved, deleted or replaced: writes are refused".to_owned()
            }
            Self::Store(crate::db::error::StoreError::Closed) => {
                "The server is stopping: try again".to_owned()
            }
            Self::Store(crate::db::error::StoreError::Internal(_)) | Self::Internal => {
                "Something went wrong inside; the log has it under this request id".to_owned()
            }
            Self::Store(_) => "The store is unavailable".to_owned(),
        }
    }

    fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Unauthorized => Some(("WWW-Authenticate", "Bearer".to_owned())),
            Self::Forbidden(scope) => {
                // As RFC 6750 has it.
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope.name());
                Some(("WWW-Authenticate", challenge))
            }
            Self::MethodNotAllowed(allow) => Some(("Allow", allow.clone())),
            Self::TooMany(seconds) => Some(("Retry-After", seconds.to_string())),
            Self::Store(crate::db::error::StoreError::Internal(_)) => None,
            Self::BodiesInFlight | Self::Store(_) => Some(("Retry-After", RETRY_AFTER.to_string())),
            // What is left of the body would be read as the next request.
            Self::TooSlow | Self::TooLarge(_) => Some(("Connection", "close".to_owned())),
            _ => None,
        }
    }

    fn log(&self, request_id: &str) {
        match self {
            Self::Store(crate::db::error::StoreError::Busy | crate::db::error::StoreError::Closed) => {}
            Self::Store(fault) => tracing::error!(id = request_id, kind = fault.kind(), "{fault}"),
            _ => {}
        }
    }

    /// The answer that says so.
    pub fn respond<'r>(&self, request_id: &str) -> Response<'r> {
        self.log(request_id);
        let (status, title) = self.status();
        let problem = Problem {
            kind: "about:blank",
            title,
            status,
            detail: self.detail(),
            errors: if let Self::Unfit(unfit) = self { &unfit.0 } else { &[] },
            request_id,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::build();
        response
            .status(Status::new(status))
            .raw_header("Content-Type", "application/problem+json")
            .sized_body(body.len(), Cursor::new(body));
        if let Some((name, value)) = self.header() {
            response.raw_header(name, value);
        }
        response.finalize()
    }
}

impl<'r> Responder<'r, 'static> for ApiError {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Ok(self.respond(&Exchange::of(request).id))
    }
}
