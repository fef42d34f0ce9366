//! Request bodies that are parsed as they arrive. Only the result is kept, whose memory is reserved in the budget of large
//! bodies.

use std::io;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::Request;
use rocket::tokio;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::limits::ValidationContext;
use crate::http::app::App;
use crate::http::body_budget::{BodyReservation, SMALL_BODY_BYTES};
use crate::http::error::ApiError;
use crate::http::extract::body_source::{BodySource, MAX_DRAINED_BYTES};
use crate::http::request_context::RequestContext;
use crate::http::validation::ValidationErrors;

/// Maximum number of received chunks that wait to be parsed.
const QUEUED_CHUNKS: usize = 4;
/// Time limit for receiving a body: a phone may send a large one over a slow network.
const MAX_DURATION: Duration = Duration::from_secs(300);

/// Parsed body. Its memory stays reserved until it is dropped.
pub struct StreamedBody<T> {
    pub parsed: T,
    /// `None` for a small body.
    _memory: Option<BodyReservation>,
}

/// Type that a body can be parsed into while it arrives.
pub trait FromStream: Send + Sized + 'static {
    /// Returns the maximum size in bytes.
    fn max_bytes(app: &App) -> u64;

    /// Parses and validates a body. Its memory must be bounded by the size of the body.
    fn from_stream(body: &mut dyn Read, context: &ValidationContext<'_>) -> Result<Self, ValidationErrors>;
}

#[rocket::async_trait]
impl<'r, T: FromStream> FromData<'r> for StreamedBody<T> {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match receive(request, data).await {
            Ok(body) => RocketOutcome::Success(body),
            Err(error) => {
                RequestContext::of(request).set_error(error);
                RocketOutcome::Error((Status::UnprocessableEntity, ()))
            }
        }
    }
}

/// Receives and parses a body. The client must not pause for longer than the idle timeout.
async fn receive<'r, T: FromStream>(
    request: &'r Request<'_>,
    data: Data<'r>,
) -> Result<StreamedBody<T>, ApiError> {
    let app = App::of(request)?;
    let max_bytes = T::max_bytes(app);
    let mut source = BodySource::of(request, data, max_bytes + MAX_DRAINED_BYTES);
    let declared = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max_bytes) {
        source.drain().await;
        return Err(ApiError::BodyTooLarge(max_bytes));
    }
    let _thread = app.body_budget.reserve_stream().await?;
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let newest_entry = RequestContext::of(request).newest_entry();
    let app_of_parser = Arc::clone(app);
    let parsed = spawn_blocking(move || {
        let mut body = ChunkReader { receiver, chunk: Bytes::new() };
        T::from_stream(&mut body, &app_of_parser.validation_context(newest_entry))
    });
    let received = pass_on(&mut source, chunks, app, declared, max_bytes).await;
    let parsed = parsed.await.map_err(|_| ApiError::Internal)?;
    let memory = received?;
    Ok(StreamedBody { parsed: parsed?, _memory: memory })
}

/// Passes the chunks of a body to its parser, and reserves memory once it is no longer small. When the parser has ended
/// early, the rest is dropped.
async fn pass_on(
    source: &mut BodySource<'_>,
    chunks: mpsc::Sender<Bytes>,
    app: &App,
    declared: Option<u64>,
    max_bytes: u64,
) -> Result<Option<BodyReservation>, ApiError> {
    let deadline = Instant::now() + MAX_DURATION;
    let (mut length, mut memory) = (0, None);
    loop {
        let next_chunk = timeout(app.settings.idle_timeout, source.next_chunk());
        let chunk = match timeout_at(deadline, next_chunk).await {
            Err(_) | Ok(Err(_)) => return Err(ApiError::RequestTimeout),
            Ok(Ok(Err(_))) => return Err(ApiError::BadRequest("The body is incomplete")),
            Ok(Ok(Ok(None))) => return Ok(memory),
            Ok(Ok(Ok(Some(chunk)))) => chunk,
        };
        length += chunk.len() as u64;
        if length > max_bytes {
            source.drain().await;
            return Err(ApiError::BodyTooLarge(max_bytes));
        }
        if length > SMALL_BODY_BYTES && memory.is_none() {
            memory = Some(app.body_budget.reserve(declared.unwrap_or(max_bytes), deadline).await?);
        }
        if chunks.send(chunk).await.is_err() {
            source.drain().await;
            return Ok(memory);
        }
    }
}

/// Blocking reader of received chunks.
struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
