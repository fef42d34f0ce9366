//! `/export`: every entry, streamed.
//!
//! A blocking thread reads and writes chunks into a short queue; the body takes them from
//! there, as fast as the client takes them from the body. An answer that has begun can
//! only be broken off, so that nobody takes half a file for a whole one.

use std::io;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rocket::http::Method;
use rocket::outcome::Outcome as Any;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{Responder, Response};
use rocket::tokio::io::{AsyncRead, ReadBuf};
use rocket::tokio::runtime::Handle;
use rocket::tokio::sync::{mpsc, oneshot};
use rocket::tokio::task::spawn_blocking;
use rocket::tokio::time::timeout;
use rocket::{State, response};

use crate::db::error::StoreError;
use crate::domain::entry::EntryKind;
use crate::http::app::Shared;
use crate::http::error::ApiError;
use crate::http::extract::query::{ExportQuery, Query};
use crate::http::middleware::request_context::Exchange;
use crate::transfer::export::{ExportError, ExportSlot, Extract};
use crate::transfer::formats::writer::{EntryWriter, TextFormat};

/// Bytes in a chunk.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for the client.
const WAITING: usize = 2;
/// The longest that one export may hold its connection, and with it the write-ahead log.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Export coffees
///
/// Oldest first, as CSV or as JSON Lines, with every column; `coffee-tracker import` reads both. It is
/// streamed: a connection that ends before the answer does means that the file is not whole.
/// Text is exported unaltered, and a spreadsheet may run a cell that begins with `=`.
#[utoipa::path(get, path = "/export/coffee", operation_id = "export_coffees", tag = "coffee",
    params(crate::http::schemas::ExportFormat, crate::http::schemas::Span),
    responses((status = 200, description = "Every coffee of the span", content(
        (String = "text/csv", example = "id,timestamp,caffeine_mg,coffee_type,notes,source\n1,2025-07-23T14:30:00.123456Z,95,espresso,\"after lunch, outside\",\n"),
        (String = "application/x-ndjson", example = "{\"id\":1,\"timestamp\":\"2025-07-23T14:30:00.123456Z\",\"caffeine_mg\":95,\"coffee_type\":\"espresso\",\"notes\":\"after lunch, outside\",\"source\":null}\n")),
        headers(("Content-Disposition" = String, description = "A name for the file: `attachment; filename=\"coffee_20250723.csv\"`")))))]
#[rocket::get("/export/coffee")]
pub async fn coffee(
    app: &State<Shared>,
    caller: Caller,
    query: Query<ExportQuery>,
) -> Result<Download, ApiError> {
    Download::begin(app, caller, EntryKind::Coffee, &query.0).await
}

/// Export heart rates
///
/// Oldest first, as CSV or as JSON Lines, with every column; `coffee-tracker import` reads both. It is
/// streamed: a connection that ends before the answer does means that the file is not whole.
/// Text is exported unaltered, and a spreadsheet may run a cell that begins with `=`.
#[utoipa::path(get, path = "/export/heartrate", operation_id = "export_readings", tag = "heart rate",
    params(crate::http::schemas::ExportFormat, crate::http::schemas::Span),
    responses((status = 200, description = "Every reading of the span", content(
        (String = "text/csv", example = "id,timestamp,bpm,context,notes,source\n1,2025-07-23T14:30:00.123456Z,72,resting,,Watch\n"),
        (String = "application/x-ndjson", example = "{\"id\":1,\"timestamp\":\"2025-07-23T14:30:00.123456Z\",\"bpm\":72,\"context\":\"resting\",\"notes\":null,\"source\":\"Watch\"}\n")),
        headers(("Content-Disposition" = String, description = "A name for the file: `attachment; filename=\"heartrate_20250723.csv\"`")))))]
#[rocket::get("/export/heartrate")]
pub async fn heart_rate(
    app: &State<Shared>,
    caller: Caller,
    query: Query<ExportQuery>,
) -> Result<Download, ApiError> {
    Download::begin(app, caller, EntryKind::HeartRate, &query.0).await
}

/// Who asked, and under which id.
pub struct Caller {
    request_id: String,
    wants_body: bool,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let exchange = Exchange::of(request);
        Any::Success(Self { request_id: exchange.id.clone(), wants_body: exchange.method != Method::Head })
    }
}

/// A file on its way.
pub struct Download {
    content_type: &'static str,
    file_name: String,
    /// `None`: the client asked for the headers alone.
    chunks: Option<Chunks>,
}

impl Download {
    async fn begin(
        app: &Shared,
        caller: Caller,
        kind: EntryKind,
        query: &ExportQuery,
    ) -> Result<Self, ApiError> {
        let content_type = match query.format {
            TextFormat::Csv => "text/csv; charset=utf-8; header=present",
            TextFormat::JsonLines => "application/x-ndjson",
        };
        let name = match kind {
            EntryKind::Coffee => "coffee",
            EntryKind::HeartRate => "heartrate",
        };
        let today = app.settings.place.zone.date(app.clock.now()).to_string().replace('-', "");
        let file_name = format!("{name}_{today}.{}", query.format.extension());
        let extract = Extract { kind, since: query.since, until: query.until };
        let chunks = match caller.wants_body {
            true => Some(stream(app, caller, extract, query.format).await?),
            false => None,
        };
        Ok(Self { content_type, file_name, chunks })
    }
}

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response
            .raw_header("Content-Type", self.content_type)
            .raw_header("Content-Disposition", format!("attachment; filename=\"{}\"", self.file_name));
        if let Some(chunks) = self.chunks {
            response.max_chunk_size(CHUNK).streamed_body(chunks);
        }
        response.ok()
    }
}

/// Starts reading; returns when the first entry was found, or why there is no answer.
async fn stream(
    app: &Shared,
    caller: Caller,
    extract: Extract,
    format: TextFormat,
) -> Result<Chunks, ApiError> {
    let place = app.store.export_place().await?;
    let (begun, has_begun) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = Producer { app: Arc::clone(app), request_id: caller.request_id, extract, format };
    spawn_blocking(move || reader.run(&place, begun, sender));
    has_begun
        .await
        .unwrap_or_else(|_| Err(StoreError::Internal("an export ended before it began".into())))?;
    Ok(Chunks { receiver, chunk: Vec::new(), at: 0, has_ended: false })
}

/// What the body is told.
enum Piece {
    Chunk(Vec<u8>),
    /// All of it was sent. An end without this word is a break.
    End,
}

/// Reads and writes, on a blocking thread.
struct Producer {
    app: Shared,
    request_id: String,
    extract: Extract,
    format: TextFormat,
}

impl Producer {
    fn run(
        self,
        place: &ExportSlot,
        begun: oneshot::Sender<Result<(), StoreError>>,
        sender: mpsc::Sender<Piece>,
    ) {
        let began = Instant::now();
        let mut begun = Some(begun);
        match self.produce(place, &mut begun, sender) {
            Ok((rows, bytes)) => {
                let seconds = began.elapsed().as_secs_f64();
                tracing::info!(id = self.request_id.as_str(), rows, bytes, seconds, "exported");
            }
            Err(ExportError::Store(fault)) => match begun {
                // Nothing was sent yet, so that it can still be said.
                Some(begun) => drop(begun.send(Err(fault))),
                None => tracing::error!(id = self.request_id.as_str(), "an export broke off: {fault}"),
            },
            Err(ExportError::Target(e)) => {
                tracing::info!(id = self.request_id.as_str(), "an export was not taken to its end: {e}");
            }
        }
    }

    fn produce(
        &self,
        place: &ExportSlot,
        begun: &mut Option<oneshot::Sender<Result<(), StoreError>>>,
        sender: mpsc::Sender<Piece>,
    ) -> Result<(u64, u64), ExportError> {
        let queue = Queue { sender, chunk: Vec::new(), bytes: 0, deadline: Instant::now() + LONGEST };
        let mut writer =
            EntryWriter::new(queue, self.format, self.extract.kind).map_err(ExportError::Target)?;
        let tell = || drop(begun.take().map(|begun| begun.send(Ok(()))));
        let rows = self.app.store.export(place, &self.extract, tell, |entry| writer.write(entry))?;
        let ended = writer.finish().and_then(|mut queue| queue.send(Piece::End).map(|()| queue.bytes));
        Ok((rows, ended.map_err(ExportError::Target)?))
    }
}

/// Gathers chunks and queues them.
struct Queue {
    sender: mpsc::Sender<Piece>,
    chunk: Vec<u8>,
    bytes: u64,
    deadline: Instant,
}

impl Queue {
    /// Waits for the client, at most as long as an export may last.
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match Handle::current().block_on(async { timeout(left, self.sender.send(piece)).await }) {
            Ok(sent) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.bytes += chunk.len() as u64;
        self.send(Piece::Chunk(chunk))
    }
}

/// The body: what was queued, in order.
struct Chunks {
    receiver: mpsc::Receiver<Piece>,
    chunk: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl AsyncRead for Chunks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        if self.at == self.chunk.len() {
            match ready!(self.receiver.poll_recv(context)) {
                Some(Piece::Chunk(chunk)) => (self.chunk, self.at) = (chunk, 0),
                Some(Piece::End) => {
                    self.has_ended = true;
                    return Poll::Ready(Ok(()));
                }
                // The connection is reset: the client must not take this for the whole file.
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            }
        }
        let taken = buffer.remaining().min(self.chunk.len() - self.at);
        buffer.put_slice(&self.chunk[self.at..self.at + taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    fn queue(deadline: Instant) -> (Queue, mpsc::Receiver<Piece>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Queue { sender, chunk: Vec::new(), bytes: 0, deadline }, receiver)
    }

    #[rocket::async_test]
    async fn an_export_that_lasts_too_long_ends_though_its_client_would_take_more() {
        let (mut queue, mut receiver) = queue(Instant::now());
        let write = move || queue.write_all(&[0; CHUNK]).map_err(|e| e.kind());
        assert_eq!(spawn_blocking(write).await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert!(receiver.recv().await.is_none());
    }

    #[rocket::async_test]
    async fn chunks_are_full_but_for_the_last_and_nobody_writes_for_a_client_that_left() {
        let (mut queue, mut receiver) = queue(Instant::now() + LONGEST);
        let write = move || {
            queue.write_all(&[1; CHUNK + 7]).and_then(|()| queue.flush()).unwrap();
            queue
        };
        let mut queue = spawn_blocking(write).await.unwrap();
        for length in [CHUNK, 7] {
            assert!(matches!(receiver.recv().await, Some(Piece::Chunk(chunk)) if chunk.len() == length));
        }
        assert_eq!(queue.bytes, CHUNK as u64 + 7);
        drop(receiver);
        let write = move || queue.write_all(&[1; CHUNK]).map_err(|e| e.kind());
        assert_eq!(spawn_blocking(write).await.unwrap(), Err(io::ErrorKind::BrokenPipe));
    }
}
