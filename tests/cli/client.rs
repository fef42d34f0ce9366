//! HTTP/1.1 client on a single socket. It can send malformed requests and returns responses unchanged.

use std::io;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::helpers::KEY;

/// Timeout of each socket operation. It only guards against a hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A response as received.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that the response is a complete problem document with this status.
    #[track_caller]
    pub fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"].as_str(), self.header("X-Request-ID"));
        assert!(self.header("X-Process-Time").is_some());
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the server accepts connections")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Returns the socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request with the API key and this body.
    pub fn send_request(&mut self, method: &str, path: &str, more: &str, body: &str) -> io::Result<()> {
        self.send(request(method, path, more, body))
    }

    /// Sends a request with the API key and reads the response.
    pub fn try_request(&mut self, method: &str, path: &str, more: &str, body: &str) -> io::Result<Response> {
        self.send_request(method, path, more, body)?;
        self.read_response()
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.try_request("GET", path, "", "").unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    pub fn post(&mut self, path: &str, body: &str) -> Response {
        self.try_request("POST", path, "", body).unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Reads a response.
    pub fn read_response(&mut self) -> io::Result<Response> {
        let mut response = self.read_response_head()?;
        response.body = self.read_body(&response)?;
        Ok(response)
    }

    /// Reads the status line and the headers of a response.
    pub fn read_response_head(&mut self) -> io::Result<Response> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        Ok(Response { status, headers, body: Vec::new() })
    }

    /// Reads until the server closes the connection.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(e) if e.kind() != io::ErrorKind::ConnectionReset => Err(e),
            _ => Ok(rest),
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn read_body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = response.header("Content-Length").and_then(|l| l.parse::<usize>().ok()) {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        } else if response.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.read_line()?, 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                self.read_line()?;
                if size == 0 {
                    break;
                }
                body.append(&mut chunk);
            }
        } else if !matches!(response.status, 204 | 304) {
            body = self.read_to_end()?;
        }
        Ok(body)
    }
}

/// Returns the text of a request.
pub fn request(method: &str, path: &str, more: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{length}{more}\r\n{body}"
    )
}
