//! Minimal HTTP/1.1 client: requests as bytes, and responses parsed only for their status and length.
//!
//! Responses without `Content-Length`, chunked ones included, are errors: no measured route returns one.
//! [`send`] opens a connection per request; [`Client`] keeps one and measures times.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Timeout for reading a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a `GET` request with the usual headers of a small client.
pub fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n\r\n")
        .into_bytes()
}

/// Builds a `POST` request with a JSON body.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Parsed head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Bytes of the head, including the empty line.
    pub length: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Head {
    /// Reports whether the status is 2xx.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Parses the head of a response. Returns `None` while it is incomplete.
///
/// # Errors
/// The bytes are not HTTP/1.1, or the length of the body is not declared.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut status = None;
    let mut body = None;
    let mut start = 0;
    while let Some(length) = bytes.get(start..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let line = bytes.get(start..start + length).unwrap_or_default().trim_ascii_end();
        start += length + 1;
        if status.is_none() {
            status = Some(parse_status(line)?);
        } else if line.is_empty() {
            let body = body.context("the response has no Content-Length")?;
            return Ok(status.map(|status| Head { status, length: start, body }));
        } else if let Some(value) = header(line, b"content-length:") {
            body = Some(std::str::from_utf8(value.trim_ascii())?.parse()?);
        } else {
            ensure!(header(line, b"transfer-encoding:").is_none(), "the response has a Transfer-Encoding");
        }
    }
    Ok(None)
}

/// Returns the value of a header line with this name.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (line_name, value) = line.split_at_checked(name.len())?;
    line_name.eq_ignore_ascii_case(name).then_some(value)
}

/// Parses the code in `HTTP/1.1 200 OK`.
fn parse_status(line: &[u8]) -> Result<u16> {
    let code = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let Some(code) = code else {
        bail!("not HTTP/1.1: {}", String::from_utf8_lossy(line));
    };
    Ok(std::str::from_utf8(code)?.parse()?)
}

/// A complete response.
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

/// Sends a request on a new connection and reads the response.
pub fn send(address: SocketAddr, request: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the connection was closed before the end of the response");
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let Some(head) = parse_head(&bytes)? else { continue };
        if let Some(body) = bytes.get(head.length..head.length + head.body) {
            return Ok(Response { status: head.status, body: String::from_utf8_lossy(body).into_owned() });
        }
    }
}

/// Sends a request on a new connection and returns an error unless the status is 2xx.
pub fn send_ok(address: SocketAddr, request: &[u8]) -> Result<Response> {
    let response = send(address, request)?;
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    ensure!(
        (200..300).contains(&response.status),
        "{} returned status {}: {}",
        String::from_utf8_lossy(line),
        response.status,
        response.body
    );
    Ok(response)
}

/// Client with one keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Times of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimes {
    /// Value of `X-Process-Time`; `None` from another server.
    pub process_time: Option<Duration>,
    /// Time from the first byte sent to the last one received.
    pub round_trip: Duration,
    /// Bytes of the body.
    pub bytes: usize,
}

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads the response. Returns an error unless the status is 2xx.
    pub fn send(&mut self, request: &[u8]) -> Result<ResponseTimes> {
        let began = Instant::now();
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 64 * 1024];
        loop {
            let count = self.stream.read(&mut chunk)?;
            ensure!(count > 0, "the connection was closed before the end of the response");
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let Some(head) = parse_head(&self.buffer)? else { continue };
            if self.buffer.len() < head.length + head.body {
                continue;
            }
            let round_trip = began.elapsed();
            let text = String::from_utf8_lossy(&self.buffer);
            let line =
                String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default());
            ensure!(head.is_success(), "{line} returned status {}: {text}", head.status);
            let process_time = text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
                let value = header(line.as_bytes(), b"x-process-time:")?;
                std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_secs_f64)
            });
            return Ok(ResponseTimes { process_time, round_trip, bytes: head.body });
        }
    }
}
