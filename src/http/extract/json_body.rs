//! A request's body, read within bounds of size and time, and parsed into values that
//! cannot be invalid.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rocket::data::{Data, DataStream, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as Any;
use rocket::request::Request;
use rocket::tokio;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{timeout, timeout_at};

use crate::domain::limits::ValidationContext;
use crate::http::app::App;
use crate::http::dispatch::Arrival;
use crate::http::error::ApiError;
use crate::http::extract::validation::ValidationErrors;
use crate::http::middleware::guard::app;
use crate::http::middleware::request_context::Exchange;

/// Bodies up to this size need no part of the budget, bytes.
const FREE: u64 = 64 << 10;
/// Budget of all larger bodies that are being read and handled, bytes.
const IN_FLIGHT: u64 = 32 << 20;
/// Longest wait for a part of the budget.
const BUDGET_WAIT: Duration = Duration::from_secs(5);
/// What is sent beyond the limit is read and dropped, up to this much and for this long,
/// so that a client that is still sending can hear the refusal.
const DRAINED: u64 = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A body, parsed.
pub struct Body<T>(pub T);

/// What a body can be parsed into.
pub trait FromBody: Send + Sized + 'static {
    /// The largest body, bytes.
    fn limit(app: &App) -> u64 {
        app.settings.max_body
    }

    /// Parses it.
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors>;
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
    let (mut source, deadline, connection) = match Arrival::of(request).take_body() {
        Some((body, deadline, connection)) => (BodySource::Connected(body), deadline, Some(connection)),
        None => {
            let stream = data.open((limit + DRAINED).into());
            (BodySource::Local(Box::new(stream)), Instant::now() + app.settings.request_timeout, None)
        }
    };
    if let Some(connection) = connection {
        connection.await_body();
    }
    let body = read(app, request, &mut source, declared, limit, deadline.into()).await;
    if let Some(connection) = connection {
        connection.handle();
    }
    let body = body?;
    if body.len() as u64 <= FREE {
        return Ok(T::from_body(&body, &app.check())?);
    }
    // Parsing takes several times the size of the body, and too long for a thread that answers requests.
    let _turn = app.body_budget.parsing.acquire().await;
    let app = Arc::clone(app);
    let parsed = spawn_blocking(move || T::from_body(&body, &app.check())).await;
    Ok(parsed.map_err(|_| ApiError::Internal)??)
}

async fn read(
    app: &App,
    request: &Request<'_>,
    source: &mut BodySource<'_>,
    declared: Option<u64>,
    limit: u64,
    deadline: tokio::time::Instant,
) -> Result<Vec<u8>, ApiError> {
    if declared.is_none_or(|length| length <= limit) {
        let expected = declared.unwrap_or(limit);
        let mut body = Vec::with_capacity(usize::try_from(declared.unwrap_or(0).min(FREE)).unwrap_or(0));
        loop {
            let piece = match timeout_at(deadline, source.next()).await {
                Err(_) => return Err(ApiError::TooSlow),
                Ok(Err(_)) => return Err(ApiError::BadRequest("The body ended before it was complete")),
                Ok(Ok(None)) => return Ok(body),
                Ok(Ok(Some(piece))) => piece,
            };
            let length = (body.len() + piece.len()) as u64;
            if length > limit {
                break;
            }
            if length > FREE && body.len() as u64 <= FREE {
                let budget = app.body_budget.reserve(expected.max(length), deadline).await?;
                request.local_cache(|| budget);
                // All of it at once, so that it never moves; what does not arrive takes no memory.
                let exact = usize::try_from(expected.max(length)).unwrap_or(0);
                body.reserve_exact(exact - body.len());
            }
            body.extend_from_slice(&piece);
        }
    }
    let drain = async {
        let mut drained = 0;
        while let Ok(Some(piece)) = source.next().await
            && drained < DRAINED
        {
            drained += piece.len() as u64;
        }
    };
    drop(timeout(DRAIN_TIME, drain).await);
    Err(ApiError::TooLarge(limit))
}

/// Origin of a body's bytes.
enum BodySource<'r> {
    /// A connection.
    Connected(Incoming),
    /// A request without a connection, as in tests.
    Local(Box<DataStream<'r>>),
}

impl BodySource<'_> {
    /// Reads the next piece, or `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Connected(body) => loop {
                let Some(frame) = body.frame().await.transpose().map_err(io::Error::other)? else {
                    return Ok(None);
                };
                // Trailers are ignored.
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            },
            Self::Local(stream) => {
                let mut piece = BytesMut::with_capacity(8 << 10);
                let length = stream.read_buf(&mut piece).await?;
                Ok((length > 0).then(|| piece.freeze()))
            }
        }
    }
}

/// Memory that the large bodies of all requests share.
#[derive(Debug)]
pub struct BodyBudget {
    kibibytes: Arc<Semaphore>,
    /// Held while a large body is parsed.
    parsing: Semaphore,
}

/// Part of a [`BodyBudget`], returned when dropped; a request keeps it until its response has been sent.
#[derive(Debug)]
struct ReservedBody {
    _permit: OwnedSemaphorePermit,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self {
            kibibytes: Arc::new(Semaphore::new(kibibytes(IN_FLIGHT) as usize)),
            parsing: Semaphore::new(1),
        }
    }
}

impl BodyBudget {
    /// Reserves room for a body, waiting for a while when there is none.
    async fn reserve(&self, bytes: u64, deadline: tokio::time::Instant) -> Result<ReservedBody, ApiError> {
        let patience = deadline.min(tokio::time::Instant::now() + BUDGET_WAIT);
        // A body larger than the budget, as the settings may allow, is read alone.
        let wanted = kibibytes(bytes.min(IN_FLIGHT));
        match timeout_at(patience, Arc::clone(&self.kibibytes).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(ReservedBody { _permit: permit }),
            _ => Err(ApiError::BodiesInFlight),
        }
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
