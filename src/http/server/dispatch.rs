//! Hands requests of a connection to Rocket, and Rocket's responses to the connection.
//!
//! Rocket routes through the public interface `rocket::local`, which runs the fairings and handlers of a
//! launched server without a socket. Bodies do not pass through Rocket: `json_body` takes them from the
//! [`RawRequest`], within its limits.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rocket::http::uri::Origin;
use rocket::http::{Header, Method};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::tokio;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::http::app::SharedApp;
use crate::http::connections::Connection;
use crate::http::raw_request::RawRequest;

/// Maximum size of a body that is sent in one piece, and of the chunks of a streamed one, bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes that Rocket's parser rejects in a path or query.
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'\'')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A launched Rocket without a listener.
pub type Dispatcher = Client;

/// Body of a response: whole, or streamed.
pub type ResponseBody = Either<Full<Bytes>, StreamBody<ReceiverStream<io::Result<Frame<Bytes>>>>>;

/// Returns the response to a request. Fails when the response was lost; the connection must then be closed.
pub async fn dispatch(
    app: SharedApp,
    dispatcher: Arc<Dispatcher>,
    connection: Arc<Connection>,
    request: hyper::Request<Incoming>,
) -> io::Result<HyperResponse> {
    let deadline = app.connections.begin_request(&connection);
    let (sender, receiver) = oneshot::channel();
    // In a task of its own, so that a client that disconnects does not cancel its request.
    tokio::spawn(async move {
        let (head, body) = request.into_parts();
        let method = method_of(&head.method);
        let raw = RawRequest::new(body, deadline, Arc::clone(&connection), method.is_none());
        // No route has the method TRACE.
        let mut local = dispatcher.req(method.unwrap_or(Method::Trace), origin_of(&head.uri));
        local.set_remote(connection.peer);
        let target_host = host_of_target(&head.uri);
        if let Some(host) = target_host {
            local.inner_mut().add_header(Header::new("Host", host.to_owned()));
        }
        for (name, value) in &head.headers {
            if target_host.is_some() && name == hyper::header::HOST {
                continue;
            }
            // Rocket accepts UTF-8 only; other values are Latin-1, as in HTTP/1.1 before RFC 7230.
            let value = match std::str::from_utf8(value.as_bytes()) {
                Ok(value) => value.to_owned(),
                Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
            };
            local.inner_mut().add_header(Header::new(name.as_str(), value));
        }
        local.inner().local_cache(|| raw);
        let has_body = method != Some(Method::Head);
        respond(local.dispatch().await, has_body, sender, &connection).await;
    });
    receiver.await.map_err(|e| io::Error::new(io::ErrorKind::BrokenPipe, e))?
}

fn method_of(method: &hyper::Method) -> Option<Method> {
    // Methods are case-sensitive, but Rocket's parser ignores case.
    let parsed: Method = method.as_str().parse().ok()?;
    (parsed.as_str() == method.as_str()).then_some(parsed)
}

/// Returns the host of an absolute request target, which replaces the `Host` header (RFC 9112, 3.2.2).
fn host_of_target(uri: &hyper::Uri) -> Option<&str> {
    uri.scheme().and_then(|_| uri.authority()).map(|authority| authority.as_str())
}

/// Returns path and query. Bytes that a URI must not contain are percent-encoded.
fn origin_of(uri: &hyper::Uri) -> Origin<'_> {
    let text = uri.path_and_query().map_or("/", |target| target.as_str());
    Origin::parse(text)
        .or_else(|_| Origin::parse_owned(utf8_percent_encode(text, NOT_IN_URI).to_string()))
        .unwrap_or(Origin::ROOT)
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
    let with_body = |body| head.body(body).map_err(io::Error::other);
    let is_empty = matches!(response.status().code, 204 | 304);
    if has_body
        && !is_empty
        && let Some(length) = length.filter(|length| *length <= CHUNK_BYTES)
    {
        let mut body = Vec::with_capacity(length);
        let read = response.read_to_end(&mut body).await;
        let response_to_send = read.and_then(|_| with_body(Either::Left(Full::new(body.into()))));
        drop(response);
        connection.complete_request();
        drop(sender.send(response_to_send));
        return;
    }
    // A stream has no size, so the Content-Length of a response to HEAD and of a 304 is kept.
    let (chunks, receiver) = mpsc::channel(1);
    connection.enter_sending_phase();
    if sender.send(with_body(Either::Right(StreamBody::new(ReceiverStream::new(receiver))))).is_err() {
        return;
    }
    let mut buffer = BytesMut::new();
    loop {
        connection.enter_handling_phase();
        buffer.reserve(CHUNK_BYTES);
        let chunk = match response.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => Ok(Frame::data(buffer.split().freeze())),
            Err(e) => Err(e),
        };
        let is_last = chunk.is_err();
        connection.enter_sending_phase();
        if chunks.send(chunk).await.is_err() || is_last {
            break;
        }
    }
    // Before the end of the stream, after which the next request may start.
    connection.complete_request();
    drop(chunks);
}
