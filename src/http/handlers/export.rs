//! `/export`: all entries as a stream.
//!
//! A blocking thread reads entries and puts chunks into a short queue, from which the body takes them as
//! fast as the client reads. After an error the connection is reset, so that a client never takes a part of
//! a file for the whole.

use std::io;
use std::io::{BufWriter, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocket::request::Request;
use rocket::response::{Responder, Response};
use rocket::tokio::io::AsyncRead;
use rocket::tokio::runtime::Handle;
use rocket::tokio::sync::{mpsc, oneshot};
use rocket::tokio::task::spawn_blocking;
use rocket::tokio::time::timeout;
use rocket::{State, response};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use crate::db::error::StoreError;
use crate::domain::entry::EntryKind;
use crate::http::app::SharedApp;
use crate::http::error::ApiError;
use crate::http::extract::headers::{Caller, PersonOfRequest};
use crate::http::extract::query::{ExportFormat, Query, TimeRange};
use crate::http::request_id::RequestId;
use crate::transfer::export::{ExportError, ExportFilter, ExportSlot};
use crate::transfer::formats::writer::{EntryWriter, TextFormat};

/// Size of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Maximum number of chunks in the queue.
const MAX_QUEUED_CHUNKS: usize = 2;
/// Maximum duration of an export, which keeps the write-ahead log from being truncated.
const MAX_DURATION: Duration = Duration::from_secs(30 * 60);

/// Export coffees
///
/// Oldest first, as CSV or JSON Lines, with every column; `coffee-tracker import` reads both. The response is
/// streamed: when the connection is reset, the file is incomplete. `csv` and `jsonl` have every text unchanged; to
/// open the file in a spreadsheet, which may evaluate a cell that starts with `=`, use `spreadsheet`.
#[utoipa::path(get, path = "/export/coffee", operation_id = "export_coffees", tag = "coffee",
    params(ExportFormat, TimeRange),
    responses((status = 200, description = "All coffees in the time range", content(
        (String = "text/csv", example = "id,timestamp,caffeine_mg,coffee_type,notes,source\n1,2025-07-23T14:30:00.123456Z,95,espresso,\"after lunch, outside\",\n"),
        (String = "application/x-ndjson", example = "{\"id\":1,\"timestamp\":\"2025-07-23T14:30:00.123456Z\",\"caffeine_mg\":95,\"coffee_type\":\"espresso\",\"notes\":\"after lunch, outside\",\"source\":null}\n")),
        headers(("Content-Disposition" = String, description = "File name: `attachment; filename=\"coffee_20250723.csv\"`")))))]
#[rocket::get("/export/coffee")]
pub async fn coffee(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    caller: Caller,
    query: Query<(ExportFormat, TimeRange)>,
) -> Result<Download, ApiError> {
    Download::start(app, person, caller, EntryKind::Coffee, query.0).await
}

/// Export heart rates
///
/// Oldest first, as CSV or JSON Lines, with every column; `coffee-tracker import` reads both. The response is
/// streamed: when the connection is reset, the file is incomplete. `csv` and `jsonl` have every text unchanged; to
/// open the file in a spreadsheet, which may evaluate a cell that starts with `=`, use `spreadsheet`.
#[utoipa::path(get, path = "/export/heartrate", operation_id = "export_readings", tag = "heart rate",
    params(ExportFormat, TimeRange),
    responses((status = 200, description = "All readings in the time range", content(
        (String = "text/csv", example = "id,timestamp,bpm,context,notes,source\n1,2025-07-23T14:30:00.123456Z,72,resting,,Watch\n"),
        (String = "application/x-ndjson", example = "{\"id\":1,\"timestamp\":\"2025-07-23T14:30:00.123456Z\",\"bpm\":72,\"context\":\"resting\",\"notes\":null,\"source\":\"Watch\"}\n")),
        headers(("Content-Disposition" = String, description = "File name: `attachment; filename=\"heartrate_20250723.csv\"`")))))]
#[rocket::get("/export/heartrate")]
pub async fn heart_rate(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    caller: Caller,
    query: Query<(ExportFormat, TimeRange)>,
) -> Result<Download, ApiError> {
    Download::start(app, person, caller, EntryKind::HeartRate, query.0).await
}

/// Body that is streamed while the export runs.
type ExportBody = Pin<Box<dyn AsyncRead + Send>>;

/// Response with an exported file.
pub struct Download {
    content_type: &'static str,
    file_name: String,
    /// `None` for HEAD.
    body: Option<ExportBody>,
}

impl Download {
    async fn start(
        app: &SharedApp,
        person: PersonOfRequest,
        caller: Caller,
        kind: EntryKind,
        (ExportFormat { format }, range): (ExportFormat, TimeRange),
    ) -> Result<Self, ApiError> {
        let content_type = match format {
            TextFormat::Csv | TextFormat::SpreadsheetCsv => "text/csv; charset=utf-8; header=present",
            TextFormat::JsonLines => "application/x-ndjson",
        };
        let name = match kind {
            EntryKind::Coffee => "coffee",
            EntryKind::HeartRate => "heartrate",
        };
        let today = app.settings.common.zone.date(app.clock.now()).to_string().replace('-', "");
        let variant = if format == TextFormat::SpreadsheetCsv { "_spreadsheet" } else { "" };
        let file_name = format!("{name}_{today}{variant}.{}", format.extension());
        let extract = ExportFilter { kind, since: range.since, until: range.until };
        let body = match caller.is_head {
            true => None,
            false => Some(stream(app, person, caller.request_id, extract, format).await?),
        };
        Ok(Self { content_type, file_name, body })
    }
}

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response
            .raw_header("Content-Type", self.content_type)
            .raw_header("Content-Disposition", format!("attachment; filename=\"{}\"", self.file_name));
        if let Some(body) = self.body {
            response.max_chunk_size(CHUNK_BYTES).streamed_body(body);
        }
        response.ok()
    }
}

/// Starts an export. Returns as soon as the first entry has been read, or with the error that prevents it.
async fn stream(
    app: &SharedApp,
    person: PersonOfRequest,
    request_id: RequestId,
    extract: ExportFilter,
    format: TextFormat,
) -> Result<ExportBody, ApiError> {
    let slot = person.store.export_slot().await?;
    let (started, has_started) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    let producer = Producer { app: Arc::clone(app), person, request_id, extract, format };
    spawn_blocking(move || producer.run(&slot, started, sender));
    has_started
        .await
        .unwrap_or_else(|_| Err(StoreError::Internal("an export ended before it started".into())))?;
    Ok(queue_body(receiver))
}

/// Chunk, or `None` at the end of a complete export.
type QueueItem = Option<Vec<u8>>;

/// Export on a blocking thread.
struct Producer {
    app: SharedApp,
    person: PersonOfRequest,
    request_id: RequestId,
    extract: ExportFilter,
    format: TextFormat,
}

impl Producer {
    fn run(
        self,
        slot: &ExportSlot,
        started: oneshot::Sender<Result<(), StoreError>>,
        sender: mpsc::Sender<QueueItem>,
    ) {
        let start = Instant::now();
        let mut started = Some(started);
        match self.produce(slot, &mut started, sender) {
            Ok((rows, bytes)) => {
                let seconds = start.elapsed().as_secs_f64();
                tracing::info!(id = self.request_id.as_str(), rows, bytes, seconds, "export completed");
            }
            Err(ExportError::Store(error)) => match started {
                // Nothing has been sent yet, so the response can report the error.
                Some(started) => drop(started.send(Err(error))),
                None => tracing::error!(id = self.request_id.as_str(), "export aborted: {error}"),
            },
            Err(ExportError::Output(e)) => {
                tracing::info!(id = self.request_id.as_str(), "export not read to its end: {e}");
            }
        }
    }

    fn produce(
        &self,
        slot: &ExportSlot,
        started: &mut Option<oneshot::Sender<Result<(), StoreError>>>,
        sender: mpsc::Sender<QueueItem>,
    ) -> Result<(u64, u64), ExportError> {
        let queue = ChunkQueue { sender, bytes: 0, deadline: Instant::now() + MAX_DURATION };
        let chunks = BufWriter::with_capacity(CHUNK_BYTES, queue);
        let mut writer = EntryWriter::new(chunks, self.format, self.extract.kind)
            .map_err(ExportError::Output)?
            .in_zone(&self.app.settings.common.zone);
        let on_start = || drop(started.take().map(|started| started.send(Ok(()))));
        let rows = self.person.store.export(slot, &self.extract, on_start, |entry| writer.write(entry))?;
        let queue = writer.finish().and_then(|chunks| Ok(chunks.into_inner()?));
        let bytes = queue.and_then(|queue| queue.send(None).map(|()| queue.bytes));
        Ok((rows, bytes.map_err(ExportError::Output)?))
    }
}

/// Writer that queues what it is given as a chunk.
struct ChunkQueue {
    sender: mpsc::Sender<QueueItem>,
    bytes: u64,
    deadline: Instant,
}

impl ChunkQueue {
    /// Queues an item. Waits for the client until the deadline.
    fn send(&self, item: QueueItem) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match Handle::current().block_on(async { timeout(left, self.sender.send(item)).await }) {
            Ok(sent) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for ChunkQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Some(bytes.to_vec()))?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a body that reads the queue. Fails when the queue ends without `None`, because the export failed.
fn queue_body(receiver: mpsc::Receiver<QueueItem>) -> ExportBody {
    let aborted = Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    let items = ReceiverStream::new(receiver).map(Ok).chain(tokio_stream::once(aborted));
    let chunks = items.map_while(|item| item.map(|chunk| chunk.map(Bytes::from)).transpose());
    Box::pin(StreamReader::new(chunks))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[rocket::async_test]
    async fn an_export_ends_after_its_maximum_duration_even_if_the_client_still_reads() {
        let (sender, mut receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        let mut queue = ChunkQueue { sender, bytes: 0, deadline: Instant::now() };
        let write = move || queue.write_all(&[0; CHUNK_BYTES]).map_err(|e| e.kind());
        assert_eq!(spawn_blocking(write).await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert!(receiver.recv().await.is_none());
    }

    #[rocket::async_test]
    async fn writing_fails_after_the_client_disconnected() {
        let (sender, mut receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        let mut queue = ChunkQueue { sender, bytes: 0, deadline: Instant::now() + MAX_DURATION };
        let write = move || queue.write_all(&[1; 7]).map(|()| queue);
        let mut queue = spawn_blocking(write).await.unwrap().unwrap();
        assert!(matches!(receiver.recv().await, Some(Some(chunk)) if chunk == [1; 7]));
        assert_eq!(queue.bytes, 7);
        drop(receiver);
        let write = move || queue.write_all(&[1; CHUNK_BYTES]).map_err(|e| e.kind());
        assert_eq!(spawn_blocking(write).await.unwrap(), Err(io::ErrorKind::BrokenPipe));
    }
}
