//! Request bodies, read within limits of size and time and parsed into validated values.

use std::sync::Arc;

use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::Request;
use rocket::tokio;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::domain::limits::ValidationContext;
use crate::http::app::App;
use crate::http::body_budget::SMALL_BODY_BYTES;
use crate::http::error::ApiError;
use crate::http::extract::body_source::{BodySource, MAX_DRAINED_BYTES};
use crate::http::request_context::RequestContext;
use crate::http::validation::ValidationErrors;

/// Parsed body.
pub struct JsonBody<T>(pub T);

/// Type that a body can be parsed into.
pub trait FromBody: Send + Sized + 'static {
    /// Returns the maximum size in bytes.
    fn max_bytes(app: &App) -> u64 {
        app.settings.max_body_bytes
    }

    /// Parses and validates a body.
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors>;
}

#[rocket::async_trait]
impl<'r, T: FromBody> FromData<'r> for JsonBody<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match parse(request, data).await {
            Ok(parsed) => RocketOutcome::Success(Self(parsed)),
            Err(error) => {
                RequestContext::of(request).set_error(error);
                // Any error status: the guard responds with the error that was stored.
                RocketOutcome::Error((Status::UnprocessableEntity, ()))
            }
        }
    }
}

async fn parse<'r, T: FromBody>(request: &'r Request<'_>, data: Data<'r>) -> Result<T, ApiError> {
    let app = App::of(request)?;
    let max_bytes = T::max_bytes(app);
    let mut source = BodySource::of(request, data, max_bytes + MAX_DRAINED_BYTES);
    let deadline = source.deadline.unwrap_or_else(|| Instant::now() + app.settings.request_timeout);
    let body = read(app, request, &mut source, max_bytes, deadline).await;
    drop(source);
    let body = body?;
    let newest_entry = RequestContext::of(request).newest_entry();
    if body.len() as u64 <= SMALL_BODY_BYTES {
        return Ok(T::from_body(&body, &app.validation_context(newest_entry))?);
    }
    // Parsing a large body takes several times its size in memory, and blocks too long for an async worker.
    let _permit = app.body_budget.parsing.acquire().await;
    let app = Arc::clone(app);
    let parsed = spawn_blocking(move || T::from_body(&body, &app.validation_context(newest_entry))).await;
    Ok(parsed.map_err(|_| ApiError::Internal)??)
}

async fn read(
    app: &App,
    request: &Request<'_>,
    source: &mut BodySource<'_>,
    max_bytes: u64,
    deadline: Instant,
) -> Result<Vec<u8>, ApiError> {
    let declared = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    if declared.is_none_or(|length| length <= max_bytes) {
        let expected = declared.unwrap_or(max_bytes);
        let capacity = declared.unwrap_or(0).min(SMALL_BODY_BYTES);
        let mut body = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
        loop {
            let chunk = match timeout_at(deadline, source.next_chunk()).await {
                Err(_) => return Err(ApiError::RequestTimeout),
                Ok(Err(_)) => return Err(ApiError::BadRequest("The body is incomplete")),
                Ok(Ok(None)) => return Ok(body),
                Ok(Ok(Some(chunk))) => chunk,
            };
            let length = (body.len() + chunk.len()) as u64;
            if length > max_bytes {
                break;
            }
            if length > SMALL_BODY_BYTES && body.len() as u64 <= SMALL_BODY_BYTES {
                let bytes = expected.max(length);
                let reservation = app.body_budget.reserve(bytes, deadline).await?;
                // Kept by the request, and so returned once the response has been produced.
                request.local_cache(|| reservation);
                // Allocated once, so that the body is never moved; unused pages take no memory.
                body.reserve_exact(usize::try_from(bytes).unwrap_or(0) - body.len());
            }
            body.extend_from_slice(&chunk);
        }
    }
    source.drain().await;
    Err(ApiError::BodyTooLarge(max_bytes))
}
