//! Bytes of a request body as they arrive.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rocket::data::{Data, DataStream};
use rocket::request::Request;
use rocket::tokio;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use crate::http::connections::Connection;
use crate::http::raw_request::RawRequest;

/// Maximum number of bytes that are read and dropped after a limit, so that a client that is still sending can
/// receive the error.
pub const MAX_DRAINED_BYTES: u64 = 16 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Body that is being received. The connection is in the body phase as long as it exists.
pub struct BodySource<'r> {
    stream: BodyStream<'r>,
    connection: Option<&'r Connection>,
    /// Deadline for a whole body; `None` for a request without a connection.
    pub deadline: Option<Instant>,
}

enum BodyStream<'r> {
    Connection(Incoming),
    /// Request without a connection, in tests.
    Local(Box<DataStream<'r>>),
}

impl<'r> BodySource<'r> {
    /// Takes the body of a request. Without a connection, it ends after `max_bytes`.
    pub fn of(request: &'r Request<'_>, data: Data<'r>, max_bytes: u64) -> Self {
        match RawRequest::of(request).take_body() {
            Some((body, deadline, connection)) => {
                connection.enter_body_phase();
                Self {
                    stream: BodyStream::Connection(body),
                    connection: Some(connection),
                    deadline: Some(deadline.into()),
                }
            }
            None => {
                let stream = BodyStream::Local(Box::new(data.open(max_bytes.into())));
                Self { stream, connection: None, deadline: None }
            }
        }
    }

    /// Returns the next chunk, or `None` at the end.
    pub async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.stream {
            BodyStream::Connection(body) => loop {
                let Some(frame) = body.frame().await.transpose().map_err(io::Error::other)? else {
                    return Ok(None);
                };
                // Trailers are ignored.
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            },
            BodyStream::Local(stream) => {
                let mut chunk = BytesMut::with_capacity(8 << 10);
                let length = stream.read_buf(&mut chunk).await?;
                Ok((length > 0).then(|| chunk.freeze()))
            }
        }
    }

    /// Reads and drops the rest of the body, within limits of size and time.
    pub async fn drain(&mut self) {
        let drain = async {
            let mut drained = 0;
            while let Ok(Some(chunk)) = self.next_chunk().await
                && drained < MAX_DRAINED_BYTES
            {
                drained += chunk.len() as u64;
            }
        };
        drop(timeout(DRAIN_TIMEOUT, drain).await);
    }
}

impl Drop for BodySource<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            connection.enter_handling_phase();
        }
    }
}
