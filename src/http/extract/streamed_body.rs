//! Request bodies that are parsed as they arrive, so that memory does not grow with their size.

use std::io;
use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::Request;
use rocket::tokio;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::domain::limits::ValidationContext;
use crate::http::app::App;
use crate::http::body_budget::StreamReservation;
use crate::http::error::ApiError;
use crate::http::extract::body_source::{BodySource, MAX_DRAINED_BYTES};
use crate::http::request_context::RequestContext;
use crate::http::validation::ValidationErrors;

/// Maximum number of received chunks that wait to be parsed.
const QUEUED_CHUNKS: usize = 4;

/// Parsed body. Its memory stays reserved until it is dropped.
pub struct StreamedBody<T> {
    pub parsed: T,
    _reservation: StreamReservation,
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

/// Receives and parses a body. There is no deadline for the whole, since a phone may send a large one over a slow
/// network, but it must not pause for longer than the idle timeout.
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
    let reservation = app.body_budget.reserve_stream(declared.unwrap_or(max_bytes)).await?;
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let newest_entry = RequestContext::of(request).newest_entry();
    let parser = Arc::clone(app);
    let parsed = spawn_blocking(move || {
        T::from_stream(
            &mut ChunkReader { receiver, chunk: Bytes::new() },
            &parser.validation_context(newest_entry),
        )
    });
    let received = pass_on(&mut source, &chunks, max_bytes, app).await;
    // Ends the parser, also when the body is incomplete.
    drop(chunks);
    let parsed = parsed.await.map_err(|_| ApiError::Internal)?;
    received?;
    Ok(StreamedBody { parsed: parsed?, _reservation: reservation })
}

/// Passes the chunks of a body to its parser. When the parser has ended early, the rest is dropped.
async fn pass_on(
    source: &mut BodySource<'_>,
    chunks: &mpsc::Sender<Bytes>,
    max_bytes: u64,
    app: &App,
) -> Result<(), ApiError> {
    let mut length = 0;
    loop {
        let chunk = match timeout(app.settings.idle_timeout, source.next_chunk()).await {
            Err(_) => return Err(ApiError::RequestTimeout),
            Ok(Err(_)) => return Err(ApiError::BadRequest("The body is incomplete")),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(chunk))) => chunk,
        };
        length += chunk.len() as u64;
        if length > max_bytes {
            source.drain().await;
            return Err(ApiError::BodyTooLarge(max_bytes));
        }
        if chunks.send(chunk).await.is_err() {
            source.drain().await;
            return Ok(());
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
