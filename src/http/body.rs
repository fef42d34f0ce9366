//! A request's body, read within bounds of size and time, and parsed into values that
//! cannot be invalid.

use std::time::Duration;

use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as Any;
use rocket::request::Request;
use rocket::tokio::io::{AsyncReadExt, copy, sink};
use rocket::tokio::time::timeout;

use super::App;
use super::admission::app;
use super::error::ApiError;
use super::exchange::Exchange;
use crate::model::coffee::{CoffeeChange, NewCoffee};
use crate::model::fields::Unfit;
use crate::model::heart_rate::{NewReading, ReadingBatch, ReadingChange};
use crate::model::rules::Check;

/// A batch may be this large, bytes, whatever other bodies may.
const BATCH_LIMIT: u64 = 8 << 20;
/// What is sent beyond the limit is read and dropped, up to this much and for this long,
/// so that a client that is still sending can hear the refusal.
const DRAINED: u64 = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A body, parsed.
pub struct Body<T>(pub T);

/// What a body can be parsed into.
pub trait FromBody: Sized {
    /// The largest body, bytes.
    fn limit(app: &App) -> u64 {
        app.settings.max_body
    }

    /// Parses it.
    fn from_body(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit>;
}

macro_rules! from_body {
    ($($type:ty),*) => {$(
        impl FromBody for $type {
            fn from_body(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
                Self::from_json(body, check)
            }
        }
    )*};
}

from_body!(NewCoffee, CoffeeChange, NewReading, ReadingChange);

impl FromBody for ReadingBatch {
    fn limit(app: &App) -> u64 {
        app.settings.max_body.max(BATCH_LIMIT)
    }

    fn from_body(body: &[u8], check: &Check<'_>) -> Result<Self, Unfit> {
        Self::from_json(body, check)
    }
}

#[rocket::async_trait]
impl<'r, T: FromBody> FromData<'r> for Body<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match parse(request, data).await {
            Ok(parsed) => Any::Success(Self(parsed)),
            Err(fault) => {
                Exchange::of(request).set_fault(fault);
                Any::Error((Status::UnprocessableEntity, ()))
            }
        }
    }
}

async fn parse<T: FromBody>(request: &Request<'_>, data: Data<'_>) -> Result<T, ApiError> {
    let app = app(request)?;
    let limit = T::limit(app);
    let declared = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    let body = read(data, declared, limit, app.settings.request_timeout).await?;
    Ok(T::from_body(&body, &app.check())?)
}

async fn read(
    data: Data<'_>,
    declared: Option<u64>,
    limit: u64,
    patience: Duration,
) -> Result<Vec<u8>, ApiError> {
    let mut stream = data.open((limit + DRAINED).into());
    let mut body = Vec::with_capacity(usize::try_from(declared.unwrap_or(0).min(4096)).unwrap_or(0));
    if declared.is_none_or(|length| length <= limit) {
        let arrival = timeout(patience, (&mut stream).take(limit + 1).read_to_end(&mut body)).await;
        match arrival {
            Err(_) => return Err(ApiError::TooSlow),
            Ok(Err(_)) => return Err(ApiError::BadRequest("The body ended before it was complete")),
            Ok(Ok(_)) if body.len() as u64 <= limit => return Ok(body),
            Ok(Ok(_)) => {}
        }
    }
    drop(body);
    drop(timeout(DRAIN_TIME, copy(&mut stream, &mut sink())).await);
    Err(ApiError::TooLarge(limit))
}
