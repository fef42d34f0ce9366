//! Hands requests of a connection to Rocket, and Rocket's responses to the connection.
//!
//! Rocket routes and answers through the public `rocket::local` interface, which runs the
//! fairings, guards and handlers of a launched server without a socket. Bodies do not pass
//! through Rocket: `body` takes them from the [`Arrival`], within its limits.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use rocket::http::uri::Origin;
use rocket::http::{Header, Method};
use rocket::local::asynchronous::{Client as Rocket, LocalResponse};
use rocket::request::Request;
use rocket::tokio;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::http::app::Shared;
use crate::http::connections::Connection;

/// Largest response body that is sent in one piece.
const SMALL: usize = 64 << 10;

/// A launched Rocket without a listener.
pub type Dispatcher = Rocket;

/// Body of a response: whole, or streamed.
pub type ResponseBody = Either<Full<Bytes>, StreamBody<ReceiverStream<io::Result<Frame<Bytes>>>>>;

/// Transport side of a request that came through a connection; empty in tests without one.
#[derive(Debug, Default)]
pub struct Arrival {
    source: Option<PendingBody>,
    /// The method is none that Rocket knows.
    pub is_method_unknown: bool,
}

#[derive(Debug)]
struct PendingBody {
    body: Mutex<Option<Incoming>>,
    deadline: Instant,
    connection: Arc<Connection>,
}

impl Arrival {
    /// Arrival of `request`.
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(Self::default)
    }

    /// Reports whether the request came through a connection.
    pub fn is_connected(&self) -> bool {
        self.source.is_some()
    }

    /// Takes the body, its deadline and the connection. Returns `None` the second time.
    pub fn take_body(&self) -> Option<(Incoming, Instant, &Connection)> {
        let source = self.source.as_ref()?;
        let body = source.body.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((body, source.deadline, &source.connection))
    }
}

/// Answers one request.
///
/// # Errors
/// The response was lost: the connection cannot go on.
pub async fn answer(
    app: Shared,
    dispatcher: Arc<Dispatcher>,
    connection: Arc<Connection>,
    request: hyper::Request<Incoming>,
) -> io::Result<HyperResponse> {
    let deadline = app.connections.begin_request(&connection);
    let (sender, receiver) = oneshot::channel();
    // A task of its own: a client that leaves does not cancel what its request began.
    tokio::spawn(async move {
        let (head, body) = request.into_parts();
        let known = method_of(&head.method);
        let arrival = Arrival {
            source: Some(PendingBody {
                body: Mutex::new(Some(body)),
                deadline,
                connection: Arc::clone(&connection),
            }),
            is_method_unknown: known.is_none(),
        };
        // No route has this method.
        let mut local = dispatcher.req(known.unwrap_or(Method::Trace), origin_of(&head.uri));
        local.set_remote(connection.peer);
        let target_host = host_of_target(&head.uri);
        if let Some(host) = target_host {
            local.inner_mut().add_header(Header::new("Host", host.to_owned()));
        }
        for (name, value) in &head.headers {
            if target_host.is_some() && name == hyper::header::HOST {
                continue;
            }
            // Rocket reads UTF-8 alone.
            if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
                local.inner_mut().add_header(Header::new(name.as_str(), value));
            }
        }
        local.inner().local_cache(|| arrival);
        let has_body = known != Some(Method::Head);
        respond(local.dispatch().await, has_body, sender, &connection).await;
    });
    receiver.await.map_err(|e| io::Error::new(io::ErrorKind::BrokenPipe, e))?
}

fn method_of(method: &hyper::Method) -> Option<Method> {
    let known: Method = method.as_str().parse().ok()?;
    (known.as_str() == method.as_str()).then_some(known)
}

/// Host that an absolute request target names. It takes the place of the `Host` header (RFC 9112, 3.2.2).
fn host_of_target(uri: &hyper::Uri) -> Option<&str> {
    uri.scheme().and_then(|_| uri.authority()).map(|authority| authority.as_str())
}

/// Path and query. Bytes that a URI must not contain are percent-encoded.
fn origin_of(uri: &hyper::Uri) -> Origin<'_> {
    let text = uri.path_and_query().map_or("/", |target| target.as_str());
    Origin::parse(text).or_else(|_| Origin::parse_owned(encoded(text))).unwrap_or(Origin::ROOT)
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 32);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'?' | b'&' | b'=' | b'%' => {
                encoded.push(byte.into());
            }
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b':'
            | b'@' => {
                encoded.push(byte.into());
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

type HyperResponse = hyper::Response<ResponseBody>;

async fn respond(
    mut response: LocalResponse<'_>,
    has_body: bool,
    sender: oneshot::Sender<io::Result<HyperResponse>>,
    connection: &Connection,
) {
    let mut head = hyper::Response::builder().status(response.status().code);
    for header in response.headers().iter() {
        head = head.header(header.name.as_str(), header.value.as_bytes());
    }
    let length = response.headers().get_one("Content-Length").and_then(|n| n.parse::<usize>().ok());
    let with = |head: hyper::http::response::Builder, body| head.body(body).map_err(io::Error::other);
    let is_empty = matches!(response.status().code, 204 | 304);
    if has_body
        && !is_empty
        && let Some(length) = length.filter(|length| *length <= SMALL)
    {
        let mut whole = Vec::with_capacity(length);
        let read = response.read_to_end(&mut whole).await;
        let head = read.and_then(|_| with(head, Either::Left(Full::new(whole.into()))));
        drop(response);
        connection.complete_request();
        drop(sender.send(head));
        return;
    }
    // An empty body of unknown size leaves the Content-Length of a HEAD or a 304 alone.
    let (pieces, receiver) = mpsc::channel(1);
    connection.send();
    if sender.send(with(head, Either::Right(StreamBody::new(ReceiverStream::new(receiver))))).is_err() {
        return;
    }
    let mut buffer = BytesMut::new();
    loop {
        connection.handle();
        buffer.reserve(SMALL);
        let piece = match response.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => Ok(Frame::data(buffer.split().freeze())),
            Err(e) => Err(e),
        };
        let is_last = piece.is_err();
        connection.send();
        if pieces.send(piece).await.is_err() || is_last {
            break;
        }
    }
    // The end of the stream lets the next request begin.
    connection.complete_request();
    drop(pieces);
}
