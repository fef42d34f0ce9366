//! Errors of a request, and the problem document (RFC 9457) that reports them.
//!
//! Every JSON error gets its status here, and errors of the store, except busy and closed, are logged here. Details
//! of an internal error go to the log and never into a response.

use std::io::Cursor;
use std::sync::Arc;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response;
use rocket::response::{Responder, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::key::Scope;
use crate::auth::key_file::{KeyFileError, MAX_KEYS};
use crate::db::error::StoreError;
use crate::http::prefers_html::prefers_html;
use crate::http::request_id::RequestId;
use crate::http::validation::{FieldError, ValidationErrors};
use crate::jobs::program::CommandFailure;
use crate::jobs::queue::JobActive;
use crate::people::person::Unavailable;

/// Error of a request. The message is the `detail` of the problem document.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: malformed request.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 400: requests for this `Host` are not served.
    #[error("Host name not allowed: add it to ALLOWED_HOSTS")]
    HostNotAllowed(String),
    /// 401: missing, malformed or invalid key.
    #[error("A valid API key is required: Authorization: Bearer KEY")]
    Unauthorized,
    /// 403: valid key without this scope.
    #[error("This API key lacks the scope {}", .0.name())]
    Forbidden(Scope),
    /// 403: a page of another origin sent the request, and a proxy identified the caller.
    #[error("Changes are accepted only from pages of this server: use an API key")]
    CrossOrigin,
    /// 404: no such path or entry.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405: the path supports these methods only.
    #[error("Allowed methods: {0}")]
    MethodNotAllowed(String),
    /// 408: the headers or the body were not received in time.
    #[error("The request was not received in time")]
    RequestTimeout,
    /// 409: the request contradicts the present state.
    #[error("{0}")]
    Conflict(String),
    /// 413: there is not enough space on the disk for the body.
    #[error("{0}")]
    NoRoom(String),
    /// 413: the body is larger than this many bytes.
    #[error("The body must not be larger than {0} bytes")]
    BodyTooLarge(u64),
    /// 416: the file of this many bytes has no such range.
    #[error("The file has {0} bytes")]
    RangeNotSatisfiable(u64),
    /// 422: invalid fields.
    #[error("{0}")]
    Invalid(ValidationErrors),
    /// 429: retry after this many seconds.
    #[error("Too many requests: try again in {0} s")]
    TooManyRequests(u64),
    /// 431: the headers are larger than 16 KiB.
    #[error("The headers must not be larger than 16 KiB in total")]
    HeadersTooLarge,
    /// 503: too many large bodies are being read.
    #[error("Too many large requests are in progress: try again")]
    BodyBudgetExhausted,
    /// 500 or 503: error of the database.
    #[error("{}", store_detail(.0))]
    Store(StoreError),
    /// 503: the database failed after a part of the samples was stored.
    #[error("Only a part was stored, because the database is busy, full or unavailable: send it again")]
    PartlyStored(StoreError),
    /// 500 or 503: error of the file of the named keys.
    #[error("{}", key_file_detail(.0))]
    KeyFile(Arc<KeyFileError>),
    /// 503: the database of the caller is damaged or missing, as has been logged.
    #[error("Your database is unavailable: the server's log has the reason")]
    PersonUnavailable,
    /// 503: nothing of the person may change until the move to another machine has ended.
    #[error("This person is being moved to another machine: try again")]
    PersonFrozen,
    /// 500 or 503: a command of the server failed.
    #[error("{0}")]
    Command(CommandFailure),
    /// 500: internal error that has been logged already.
    #[error("{INTERNAL_DETAIL}")]
    Internal,
}

/// Page for a browser whose `Host` is not allowed. It cannot use the files of `static/`, which the browser
/// would request from the same host.
const HOST_NOT_ALLOWED: &str = include_str!("host_not_allowed.html");

const INTERNAL_DETAIL: &str = "Internal error: the server's log has details under this request id";

fn store_detail(error: &StoreError) -> &'static str {
    match error {
        StoreError::Busy => "The database is busy: try again",
        StoreError::Full => "The disk is full: nothing was stored",
        StoreError::Unwritable(_) => "The disk is not writable (quota, limit or fault): nothing was stored",
        StoreError::Displaced => "The database file was moved, deleted or replaced: writes are rejected",
        StoreError::Closed => "The server is shutting down: try again",
        StoreError::Internal(_) => INTERNAL_DETAIL,
        _ => "The database is unavailable",
    }
}

fn key_file_detail(error: &KeyFileError) -> &'static str {
    match error {
        KeyFileError::Busy(_) => "Another change of the keys is in progress: try again",
        KeyFileError::Unwritable { .. } => "The keys cannot be written (disk full, quota, limit or fault)",
        _ => INTERNAL_DETAIL,
    }
}

/// Value of `Retry-After` for every 503, seconds.
const RETRY_AFTER_SECONDS: u64 = 2;

impl From<ValidationErrors> for ApiError {
    fn from(errors: ValidationErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error.into())
    }
}

impl From<Unavailable> for ApiError {
    fn from(reason: Unavailable) -> Self {
        match reason {
            Unavailable::Busy => Self::Store(StoreError::Busy),
            Unavailable::Broken(_) => Self::PersonUnavailable,
        }
    }
}

impl From<KeyFileError> for ApiError {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::NameTaken(name) => {
                Self::Conflict(format!("A key named {name} exists already: choose another name"))
            }
            KeyFileError::TooMany => {
                Self::Conflict(format!("There are {MAX_KEYS} keys, which is the maximum: revoke one first"))
            }
            KeyFileError::UnknownName(_) => Self::NotFound("Key not found"),
            KeyFileError::Frozen(_) => Self::PersonFrozen,
            error => Self::KeyFile(Arc::new(error)),
        }
    }
}

impl From<JobActive> for ApiError {
    fn from(error: JobActive) -> Self {
        Self::Conflict(error.to_string())
    }
}

impl From<CommandFailure> for ApiError {
    fn from(failure: CommandFailure) -> Self {
        Self::Command(failure)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Frozen => Self::PersonFrozen,
            error => Self::Store(error),
        }
    }
}

/// Problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Always `about:blank`: the status defines the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Reason phrase of the status.
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Explanation of this occurrence.
    detail: String,
    /// On 422 only: one entry for every invalid field.
    #[schema(value_type = Vec<FieldError>, required = false, min_items = 1)]
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// `X-Request-ID` of the response, under which the log has details.
    request_id: &'a str,
}

impl ApiError {
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(_) | Self::HostNotAllowed(_) => (400, "Bad Request"),
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden(_) | Self::CrossOrigin => (403, "Forbidden"),
            Self::NotFound(_) => (404, "Not Found"),
            Self::MethodNotAllowed(_) => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::Conflict(_) => (409, "Conflict"),
            Self::RangeNotSatisfiable(_) => (416, "Range Not Satisfiable"),
            Self::BodyTooLarge(_) | Self::NoRoom(_) => (413, "Content Too Large"),
            Self::Invalid(_) => (422, "Unprocessable Content"),
            Self::TooManyRequests(_) => (429, "Too Many Requests"),
            Self::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Self::KeyFile(error) if !error.is_temporary() => (500, "Internal Server Error"),
            Self::Command(failure) if !failure.is_transient => (500, "Internal Server Error"),
            Self::Store(StoreError::Internal(_)) | Self::Internal => (500, "Internal Server Error"),
            Self::BodyBudgetExhausted
            | Self::PersonUnavailable
            | Self::PersonFrozen
            | Self::KeyFile(_)
            | Self::Command(_)
            | Self::PartlyStored(_)
            | Self::Store(_) => (503, "Service Unavailable"),
        }
    }

    fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Unauthorized => Some(("WWW-Authenticate", "Bearer".to_owned())),
            Self::Forbidden(scope) => {
                // RFC 6750, section 3.
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope.name());
                Some(("WWW-Authenticate", challenge))
            }
            Self::MethodNotAllowed(allowed) => Some(("Allow", allowed.clone())),
            Self::TooManyRequests(seconds) => Some(("Retry-After", seconds.to_string())),
            Self::RangeNotSatisfiable(size) => Some(("Content-Range", format!("bytes */{size}"))),
            Self::KeyFile(error) if !error.is_temporary() => None,
            Self::Command(failure) if !failure.is_transient => None,
            Self::Store(StoreError::Internal(_)) => None,
            Self::BodyBudgetExhausted
            | Self::PersonUnavailable
            | Self::PersonFrozen
            | Self::KeyFile(_)
            | Self::Command(_)
            | Self::PartlyStored(_)
            | Self::Store(_) => Some(("Retry-After", RETRY_AFTER_SECONDS.to_string())),
            // The body is unread, so hyper closes the connection.
            Self::RequestTimeout | Self::BodyTooLarge(_) | Self::NoRoom(_) => {
                Some(("Connection", "close".to_owned()))
            }
            _ => None,
        }
    }

    fn log(&self, id: &RequestId) {
        match self {
            Self::Store(StoreError::Busy | StoreError::Closed) | Self::PartlyStored(StoreError::Frozen) => {}
            Self::Store(error) | Self::PartlyStored(error) => {
                tracing::error!(id = id.as_str(), kind = error.kind(), "{error}");
            }
            Self::KeyFile(error) if matches!(**error, KeyFileError::Busy(_)) => {}
            Self::KeyFile(error) => tracing::error!(id = id.as_str(), "{error}"),
            Self::Command(failure) => tracing::error!(id = id.as_str(), "{failure}"),
            _ => {}
        }
    }

    /// Returns the problem document as JSON.
    pub fn to_json(&self, id: &RequestId) -> Vec<u8> {
        let (status, title) = self.status();
        let problem = Problem {
            kind: "about:blank",
            title,
            status,
            detail: self.to_string(),
            errors: if let Self::Invalid(errors) = self { &errors.0 } else { &[] },
            request_id: id.as_str(),
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// Returns the page that explains the error to a person; `None` where the problem document is enough.
    fn to_html(&self) -> Option<Vec<u8>> {
        let Self::HostNotAllowed(host) = self else { return None };
        // Anything else in the header is not a host name, and could be markup.
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        let name = host.split(':').next().filter(|name| !name.is_empty() && name.chars().all(is_name));
        Some(HOST_NOT_ALLOWED.replace("{host}", name.unwrap_or("coffee.example")).into_bytes())
    }

    /// Logs the error and returns the response that reports it.
    pub fn respond<'r>(&self, request: &Request<'_>) -> Response<'r> {
        let id = RequestId::of(request);
        self.log(id);
        let page = self.to_html().filter(|_| prefers_html(request));
        let content_type =
            if page.is_some() { "text/html; charset=utf-8" } else { "application/problem+json" };
        let body = page.unwrap_or_else(|| self.to_json(id));
        let mut response = Response::build();
        response
            .status(Status::new(self.status().0))
            .raw_header("Content-Type", content_type)
            .sized_body(body.len(), Cursor::new(body));
        if let Some((name, value)) = self.header() {
            response.raw_header(name, value);
        }
        response.finalize()
    }
}

impl<'r> Responder<'r, 'static> for ApiError {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        Ok(self.respond(request))
    }
}
