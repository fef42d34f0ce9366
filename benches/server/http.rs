//! HTTP/1.1 as the load generator needs it: requests as ready bytes, answers read just
//! far enough to know their status and where they end.
//!
//! An answer without a Content-Length, or a chunked one, is a fault here: no route under
//! measurement gives one. `ask` is the one-off client for probes and for `/metrics`, `Client`
//! one that stays connected and takes times.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a single probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// A `GET` with the usual headers of a small client.
pub fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n\r\n")
        .into_bytes()
}

/// A `POST` of JSON.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Bytes up to and with the empty line.
    pub length: usize,
    /// Bytes of body after it.
    pub body: usize,
}

impl Head {
    /// Whether the request was served.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Reads an answer's head; `None` while its end has not arrived.
///
/// # Errors
/// What arrived is not HTTP/1.1, or its length cannot be known.
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
            let body = body.context("an answer without Content-Length")?;
            return Ok(status.map(|status| Head { status, length: start, body }));
        } else if let Some(value) = header(line, b"content-length:") {
            body = Some(std::str::from_utf8(value.trim_ascii())?.parse()?);
        } else {
            ensure!(header(line, b"transfer-encoding:").is_none(), "an answer of unknown length");
        }
    }
    Ok(None)
}

/// The value of a header line, when it is the named one.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (own, value) = line.split_at_checked(name.len())?;
    own.eq_ignore_ascii_case(name).then_some(value)
}

/// The code in `HTTP/1.1 200 OK`.
fn parse_status(line: &[u8]) -> Result<u16> {
    let code = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let Some(code) = code else {
        bail!("not HTTP/1.1: {}", String::from_utf8_lossy(line));
    };
    Ok(std::str::from_utf8(code)?.parse()?)
}

/// A whole answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Sends one request on a connection of its own and waits for the answer.
///
/// # Errors
/// Nobody listens, the connection breaks, or ten seconds pass.
pub fn ask(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PROBE_PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the connection was closed before the answer ended");
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let Some(head) = parse_head(&bytes)? else { continue };
        if let Some(body) = bytes.get(head.length..head.length + head.body) {
            return Ok(Answer { status: head.status, body: String::from_utf8_lossy(body).into_owned() });
        }
    }
}

/// Asks once and insists on success.
///
/// # Errors
/// As `ask`, or a status other than 2xx.
pub fn ask_well(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let answer = ask(address, request)?;
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    ensure!(
        (200..300).contains(&answer.status),
        "{} was answered with {}: {}",
        String::from_utf8_lossy(line),
        answer.status,
        answer.body
    );
    Ok(answer)
}

/// One keep-alive connection that asks, waits, and asks again.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// What the answer says of itself in `X-Process-Time`; none from another server.
    pub own: Option<Duration>,
    /// From the first byte sent to the last one received.
    pub trip: Duration,
    /// Bytes of the body.
    pub bytes: usize,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PROBE_PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request, reads its answer to the end, and insists on success.
    ///
    /// # Errors
    /// The connection breaks, ten seconds pass, or the status is not 2xx.
    pub fn ask(&mut self, request: &[u8]) -> Result<Timed> {
        let began = Instant::now();
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 64 * 1024];
        loop {
            let count = self.stream.read(&mut chunk)?;
            ensure!(count > 0, "the connection was closed before the answer ended");
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let Some(head) = parse_head(&self.buffer)? else { continue };
            if self.buffer.len() < head.length + head.body {
                continue;
            }
            let trip = began.elapsed();
            let text = String::from_utf8_lossy(&self.buffer);
            let line =
                String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default());
            ensure!(head.is_success(), "{line} was answered with {}: {text}", head.status);
            let own = text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
                let value = header(line.as_bytes(), b"x-process-time:")?;
                std::str::from_utf8(value).ok()?.trim().parse().ok().map(Duration::from_secs_f64)
            });
            return Ok(Timed { own, trip, bytes: head.body });
        }
    }
}
