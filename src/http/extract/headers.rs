//! Extractors for request headers, and for the caller that the guard has identified.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use rocket::http::Method;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::{FromRequest, Outcome, Request};
use utoipa::IntoParams;

use crate::db::idempotency::IdempotencyKey;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::extract::query::extractor_error;
use crate::http::request_context::RequestContext;
use crate::http::request_id::RequestId;
use crate::http::validation::{FieldError, Location};
use crate::people::database::PersonDatabase;
use crate::people::registry::ValidKey;

/// Caller of a request.
pub struct Caller {
    pub request_id: RequestId,
    /// The method is HEAD, so that no body is needed.
    pub is_head: bool,
    /// The caller's key has the scope `read`.
    pub may_read: bool,
    /// Database of the caller, on routes that use it.
    pub database: Option<Arc<PersonDatabase>>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let context = RequestContext::of(request);
        RocketOutcome::Success(Self {
            request_id: RequestId::of(request).clone(),
            is_head: context.method == Method::Head,
            may_read: context.may_read(),
            database: context.database.get().cloned(),
        })
    }
}

/// Key of a request, on routes that require one.
#[rocket::async_trait]
impl<'r> FromRequest<'r> for ValidKey {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match RequestContext::of(request).key.get() {
            Some(key) => Outcome::Success(key.clone()),
            None => extractor_error(request, ApiError::Unauthorized),
        }
    }
}

/// Database of the person to whom the key of the request belongs.
#[derive(Clone)]
pub struct PersonOfRequest(Arc<PersonDatabase>);

impl Deref for PersonOfRequest {
    type Target = PersonDatabase;

    fn deref(&self) -> &PersonDatabase {
        &self.0
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for PersonOfRequest {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match RequestContext::of(request).database.get() {
            Some(database) => Outcome::Success(Self(Arc::clone(database))),
            // The route table does not require the scope `read` or `write` for this route.
            None => extractor_error(request, ApiError::Internal),
        }
    }
}

/// Header that makes a request safe to retry.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct IdempotencyKeyHeader {
    /// Unique key of this request, for example a UUID. A repeated request with the same key and content gets
    /// the first response again and adds nothing; with other content it is rejected. Keys are kept for 30 days of
    /// the server's running time.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = r"\S", nullable = false)]
    idempotency_key: Option<String>,
}

/// Parsed header `Idempotency-Key`.
pub struct IdempotencyHeader(pub Option<IdempotencyKey>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for IdempotencyHeader {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match idempotency_key(request) {
            Ok(key) => RocketOutcome::Success(Self(key)),
            Err(error) => extractor_error(request, error),
        }
    }
}

fn idempotency_key(request: &Request<'_>) -> Result<Option<IdempotencyKey>, ApiError> {
    let invalid = |message| Err(FieldError::new(Location::Header, "Idempotency-Key", message).into());
    let mut headers = request.headers().get("Idempotency-Key");
    match (headers.next().map(str::trim), headers.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => invalid("must be given once"),
        (Some(key), None) if (1..=255).contains(&key.chars().count()) => Ok(Some(IdempotencyKey {
            route: RequestContext::of(request).route.get().copied().unwrap_or_default(),
            key: key.to_owned(),
            elapsed: App::of(request)?.clock.elapsed(),
        })),
        _ => invalid("must have 1 to 255 characters"),
    }
}
