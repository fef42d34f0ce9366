//! Accepts connections and serves HTTP/1.1 on them, within the limits of `connections`.
//!
//! Rocket's own listener has no timeouts and no limit on connections and cannot be replaced, so this
//! module owns the sockets and `dispatch` passes the requests to Rocket.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rocket::tokio;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, sleep_until, timeout_at};

use crate::http::app::SharedApp;
use crate::http::connections::{Connection, MAX_CLOSING};
use crate::http::error::ApiError;
use crate::http::middleware::request_fairing::UNMATCHED;
use crate::http::request_id::RequestId;
use crate::http::server::dispatch::{Dispatcher, dispatch};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// Maximum size of the head of a request; every connection may hold a buffer of this size.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// Delay after a failed accept, as without a free file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Minimum interval between warnings about failed accepts.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Listens on `address`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server need not wait for old connections to expire.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Stage of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    Running,
    /// Running requests are completed; idle connections are closed.
    Draining,
    /// Every connection is closed.
    Closing,
}

/// Accepts connections until the stage leaves `Running`.
pub async fn accept(
    listener: TcpListener,
    app: SharedApp,
    dispatcher: Arc<Dispatcher>,
    stage: watch::Receiver<Lifecycle>,
) {
    let mut ended = stage.clone();
    let mut ended = pin!(ended.wait_for(|stage| *stage != Lifecycle::Running));
    let mut warned: Option<Instant> = None;
    // Bounds the open sockets: an evicted connection keeps its socket until its task has ended.
    let sockets = Arc::new(Semaphore::new(app.connections.capacity().connections + MAX_CLOSING));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut ended => return,
            accepted = async {
                let socket = Arc::clone(&sockets).acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, peer)| (stream, peer, socket))
            } => accepted,
        };
        match accepted {
            Ok((stream, peer, socket)) => {
                let Some(connection) = app.connections.register(peer, &app.settings.trusted_proxies) else {
                    app.metrics.count_closed_early();
                    continue;
                };
                let (app, dispatcher) = (Arc::clone(&app), Arc::clone(&dispatcher));
                let served = serve_connection(stream, connection, app, dispatcher, stage.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(socket);
                });
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                if warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                    warned = Some(Instant::now());
                    tracing::warn!("a connection could not be accepted: {e}");
                }
                app.connections.evict_one();
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Waits until every connection has ended or the deadline has passed. Returns whether all have ended.
pub async fn drained(app: &SharedApp, deadline: Instant) -> bool {
    loop {
        let removed = app.connections.removed.notified();
        if app.connections.open() == 0 {
            return true;
        }
        if timeout_at(deadline.into(), removed).await.is_err() {
            return false;
        }
    }
}

/// Reason for the end of a connection.
enum ConnectionEnd {
    /// The client closed it, or HTTP failed.
    Finished(Result<(), hyper::Error>),
    TimedOut,
    Evicted,
    ShutDown,
}

async fn serve_connection(
    stream: TcpStream,
    connection: Arc<Connection>,
    app: SharedApp,
    dispatcher: Arc<Dispatcher>,
    mut stage: watch::Receiver<Lifecycle>,
) {
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(TrackedStream { stream, connection: Arc::clone(&connection) });
    let service = service_fn(|request| {
        dispatch(Arc::clone(&app), Arc::clone(&dispatcher), Arc::clone(&connection), request)
    });
    let mut http = http1::Builder::new();
    http.preserve_header_case(true).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    let mut http = http.serve_connection(io, service);
    let end = {
        let mut evicted = pin!(connection.evicted.notified());
        let mut timer = pin!(sleep_until(Instant::now().into()));
        loop {
            // Every branch is polled whenever the task wakes, so `poll_due` notices each change.
            tokio::select! {
                biased;
                result = &mut http => break ConnectionEnd::Finished(result),
                () = &mut evicted => break ConnectionEnd::Evicted,
                () = poll_fn(|context| poll_due(&connection, timer.as_mut(), context)) => break ConnectionEnd::TimedOut,
                changed = stage.changed() => {
                    let now = *stage.borrow();
                    if changed.is_err() || now == Lifecycle::Closing || connection.is_silent() {
                        break ConnectionEnd::ShutDown;
                    }
                    if now == Lifecycle::Draining {
                        Pin::new(&mut http).graceful_shutdown();
                    }
                }
            }
        }
    };
    app.connections.remove(&connection);
    let stream = http.into_parts().io.into_inner().stream;
    match end {
        ConnectionEnd::Finished(Ok(())) => return,
        // A response was cut short. For HTTP/1.0, an orderly close would mark a complete body.
        ConnectionEnd::Finished(Err(e)) if e.is_user() => reset(&stream),
        ConnectionEnd::Finished(Err(e)) => {
            tracing::debug!(client = %connection.peer.ip(), "connection failed: {e}");
        }
        ConnectionEnd::TimedOut => {
            app.metrics.count_closed_early();
            if let Some(waited) = connection.incomplete_for() {
                request_timeout(&stream, &connection, &app, waited);
            }
        }
        ConnectionEnd::Evicted => app.metrics.count_closed_early(),
        ConnectionEnd::ShutDown => {}
    }
    if connection.is_working() {
        reset(&stream);
    }
}

/// Completes when the connection is overdue.
fn poll_due(connection: &Connection, mut timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<()> {
    loop {
        let Some(due) = connection.due() else { return Poll::Pending };
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        // A timer that fires early costs less than one that every byte resets.
        if timer.is_elapsed() || timer.deadline() > due.into() {
            timer.as_mut().reset(due.into());
        }
        ready!(timer.as_mut().poll(context));
    }
}

/// Discards unsent data, so that the client gets an error and not the end of a body.
fn reset(stream: &TcpStream) {
    if let Err(e) = stream.set_zero_linger() {
        tracing::debug!("a connection could not be reset: {e}");
    }
}

/// Responds to a client that did not complete its request. The client may not read it.
fn request_timeout(stream: &TcpStream, connection: &Connection, app: &SharedApp, waited: Duration) {
    let id = RequestId::random();
    drop(stream.try_write(&timeout_response(&id)));
    app.metrics.observe_request("other", UNMATCHED, 408, waited.as_secs_f64());
    let client = connection.peer.ip().to_canonical();
    tracing::info!(target: "request", id = id.as_str(), status = 408, client = %client, "request");
}

fn timeout_response(id: &RequestId) -> Vec<u8> {
    let body = ApiError::RequestTimeout.to_json(id);
    let mut response = format!(
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         X-Request-ID: {id}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend(body);
    response
}

/// Socket that records its traffic in the table of connections.
struct TrackedStream {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.connection.received();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.connection.sent();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.connection.sent();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_response_to_an_incomplete_request_is_well_formed_http() {
        let id = RequestId::random();
        let text = String::from_utf8(timeout_response(&id)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length: usize =
            head.lines().find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok()).unwrap();
        assert_eq!(body.len(), length);
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["status"], &problem["request_id"]), (&408.into(), &id.as_str().into()));
    }
}
