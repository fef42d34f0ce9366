//! Accepts connections and drives HTTP/1.1 on them, within the limits of `connections`.
//!
//! Rocket's own listener has no timeout and no limit on connections and cannot be replaced,
//! so Rocket routes and answers requests (`dispatch`) and this module owns the sockets.

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

use crate::http::app::Shared;
use crate::http::connections::{CLOSING, Connection};
use crate::http::dispatch::{Dispatcher, answer};
use crate::http::middleware::request_context::UNMATCHED;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;
/// Largest head of a request; every connection may hold a buffer of about this size.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// Pause after an accept has failed, as without a free descriptor.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Interval of warnings about failing accepts.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Listens on `address`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lifecycle of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    Running,
    /// Requests in progress are finished; connections without one are closed.
    Draining,
    /// Every connection is closed.
    Closing,
}

/// Accepts connections until the stage leaves `Running`.
pub async fn accept(
    listener: TcpListener,
    app: Shared,
    dispatcher: Arc<Dispatcher>,
    stage: watch::Receiver<Lifecycle>,
) {
    let mut ended = stage.clone();
    let mut ended = pin!(ended.wait_for(|stage| *stage != Lifecycle::Running));
    let mut warned: Option<Instant> = None;
    // Sockets of evicted connections are closed before many more are accepted.
    let sockets = Arc::new(Semaphore::new(app.connections.capacity().connections + CLOSING));
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
                let Some(connection) = app.connections.admit(peer, &app.settings.trusted_proxies) else {
                    app.metrics.idle_closed();
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
                if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!("a connection could not be accepted: {e}");
                }
                app.connections.evict_one();
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Waits until every connection has ended, or until the deadline. Returns whether all did.
pub async fn drained(app: &Shared, deadline: Instant) -> bool {
    loop {
        let left = app.connections.left.notified();
        if app.connections.open() == 0 {
            return true;
        }
        if timeout_at(deadline.into(), left).await.is_err() {
            return false;
        }
    }
}

/// Reason for the end of a connection.
enum End {
    /// The client or HTTP ended it.
    Over(Result<(), hyper::Error>),
    TimedOut,
    Evicted,
    ShutDown,
}

async fn serve_connection(
    stream: TcpStream,
    connection: Arc<Connection>,
    app: Shared,
    dispatcher: Arc<Dispatcher>,
    mut stage: watch::Receiver<Lifecycle>,
) {
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(Tracked { stream, connection: Arc::clone(&connection) });
    let service = service_fn(|request| {
        answer(Arc::clone(&app), Arc::clone(&dispatcher), Arc::clone(&connection), request)
    });
    let mut http = http1::Builder::new();
    http.preserve_header_case(true).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    let mut http = http.serve_connection(io, service);
    let end = {
        let mut evicted = pin!(connection.evicted.notified());
        let mut timer = pin!(sleep_until(Instant::now().into()));
        loop {
            // Whatever wakes the task, every branch is polled again: `due` sees each change.
            tokio::select! {
                biased;
                result = &mut http => break End::Over(result),
                () = &mut evicted => break End::Evicted,
                () = poll_fn(|context| poll_due(&connection, timer.as_mut(), context)) => break End::TimedOut,
                changed = stage.changed() => {
                    let now = *stage.borrow();
                    if changed.is_err() || now == Lifecycle::Closing || connection.is_silent() {
                        break End::ShutDown;
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
        End::Over(Ok(())) => return,
        // A response broke off. HTTP/1.0 knows the end of a body by an orderly end of the stream.
        End::Over(Err(e)) if e.is_user() => reset(&stream),
        End::Over(Err(e)) => tracing::debug!(client = %connection.peer.ip(), "connection failed: {e}"),
        End::TimedOut => {
            app.metrics.idle_closed();
            if let Some(waited) = connection.incomplete_for() {
                request_timeout(&stream, &connection, &app, waited);
            }
        }
        End::Evicted => app.metrics.idle_closed(),
        End::ShutDown => {}
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
        // A timer that fires too early is cheaper than one that every byte sets anew.
        if timer.is_elapsed() || timer.deadline() > due.into() {
            timer.as_mut().reset(due.into());
        }
        ready!(timer.as_mut().poll(context));
    }
}

/// Discards what was not sent yet, so that the client sees an error and not the end of a body.
fn reset(stream: &TcpStream) {
    if let Err(e) = stream.set_zero_linger() {
        tracing::debug!("a connection could not be reset: {e}");
    }
}

/// Responds to a client that did not finish its request. The client may not read it.
fn request_timeout(stream: &TcpStream, connection: &Connection, app: &Shared, waited: Duration) {
    let id = format!("{:032x}", fastrand::u128(..));
    drop(stream.try_write(timeout_response(&id).as_bytes()));
    app.metrics.observe("other", UNMATCHED, 408, waited.as_secs_f64());
    let client = connection.peer.ip().to_canonical();
    tracing::info!(target: "request", id = id.as_str(), status = 408, client = %client, "request");
}

fn timeout_response(id: &str) -> String {
    let body = format!(
        r#"{{"type":"about:blank","title":"Request Timeout","status":408,"detail":"The request did not arrive in time","request_id":"{id}"}}"#
    );
    format!(
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         X-Request-ID: {id}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Socket that records its traffic in the table of connections.
struct Tracked {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl AsyncRead for Tracked {
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

impl AsyncWrite for Tracked {
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
        let text = timeout_response("some-id");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length: usize =
            head.lines().find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok()).unwrap();
        assert_eq!(body.len(), length);
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["status"], &problem["request_id"]), (&408.into(), &"some-id".into()));
    }
}
