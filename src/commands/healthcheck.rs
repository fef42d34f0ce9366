//! `healthcheck`: asks a running server for its health, for service managers, containers and scripts.
//!
//! Speaks plain HTTP alone. A server behind a proxy with TLS is asked at its own address.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Deserialize;

use crate::commands::{Failure, print};
use crate::config::AddressArgs;
use crate::domain::text::{escape_control, shorten};

/// Time limit for everything, the resolution of the name included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a response that is read, bytes.
const MAX_RESPONSE_BYTES: u64 = 256 << 10;
/// Maximum length of a text of the server that is printed, in characters.
const MAX_TEXT: usize = 200;

#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Address of the server, such as http://192.168.1.5:8000 [default: the one that HOST and PORT set]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    address: AddressArgs,
}

/// Server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Name or IP address, without brackets.
    host: String,
    port: u16,
    path: String,
    host_header: String,
}

/// Part of a response of `/health`.
#[derive(Debug, Deserialize)]
struct ReportedHealth {
    status: String,
    version: String,
    database: ReportedDatabase,
}

#[derive(Debug, Deserialize)]
struct ReportedDatabase {
    state: String,
    error: Option<String>,
    person: Option<String>,
}

/// Asks the server, and prints one sentence.
pub fn run(args: &HealthcheckArgs) -> Result<(), Failure> {
    let target = match &args.url {
        Some(url) => Target::parse(url).map_err(|reason| Failure::Usage(format!("--url {url}: {reason}")))?,
        None => Target::configured(args.address.validate()?)?,
    };
    let (send, receive) = channel();
    let asked = target.clone();
    std::thread::Builder::new()
        .name("healthcheck".to_owned())
        .spawn(move || send.send(asked.request()))
        .context("cannot start a thread")?;
    let response = receive.recv_timeout(TIMEOUT).map_err(|_| {
        Failure::Failed(format!("{target} has not responded within {} seconds", TIMEOUT.as_secs()))
    })?;
    let response = response.map_err(|e| Failure::Failed(format!("{target} is not reachable: {e:#}")))?;
    match judge(&response) {
        Ok(alive) => print(&format!("{target} is {alive}")),
        Err(reason) => Err(Failure::Failed(format!("{target} {reason}"))),
    }
}

/// Returns the address at which this machine reaches a server that listens on `address`.
pub fn local_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Target {
    /// Returns the server that listens on this address.
    fn configured(address: SocketAddr) -> Result<Self, Failure> {
        if address.port() == 0 {
            let reason = "PORT=0 does not tell the port of the server: use --url".to_owned();
            return Err(Failure::Usage(reason));
        }
        let here = local_address(address);
        // This name is accepted whatever ALLOWED_HOSTS is.
        let host_header = format!("localhost:{}", here.port());
        Ok(Self { host: here.ip().to_string(), port: here.port(), path: "/health".to_owned(), host_header })
    }

    /// Parses an `http` URL; `http://` and the path may be missing.
    fn parse(url: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be an address such as http://192.168.1.5:8000";
        if !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains(['@', '#', '?', '\\']) {
            return Err(FORM);
        }
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err("https is not supported: use the http address of the server behind the proxy");
            }
            Some(_) => return Err(FORM),
            None => url,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) if host.contains(':') => (host, port),
            Some(_) => return Err(FORM),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(FORM)?,
            None if port.is_empty() => 80,
            None => return Err(FORM),
        };
        if host.is_empty() || host.contains(['[', ']']) {
            return Err(FORM);
        }
        let path = path.trim_end_matches('/');
        let path = match path {
            "" => "/health".to_owned(),
            path if path == "health" || path.ends_with("/health") => format!("/{path}"),
            path => format!("/{path}/health"),
        };
        Ok(Self { host: host.to_owned(), port, path, host_header: authority.to_owned() })
    }

    /// Sends a request to the first address that accepts a connection, and returns the response.
    fn request(&self) -> anyhow::Result<Vec<u8>> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        let mut stream = Err(anyhow!("{} has no address", self.host));
        for address in addresses {
            stream = TcpStream::connect(address).map_err(Into::into);
            if stream.is_ok() {
                break;
            }
        }
        let mut stream = stream?;
        // Version 1.0, so that a proxy neither sends chunks nor keeps the connection.
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: coffee-tracker-healthcheck\r\nAccept: application/json\r\n\r\n",
            self.path, self.host_header
        );
        stream.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
        Ok(response)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "http://{host}:{}", self.port)
    }
}

/// Returns the rest of the sentence about a server that is alive, or about one that is not.
fn judge(response: &[u8]) -> Result<String, String> {
    let other = || "is not a Coffee Tracker: its response has another form".to_owned();
    let text = String::from_utf8_lossy(response);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(other)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|line| line.split(' ').nth(1)).ok_or_else(other)?;
    match status {
        "200" | "503" => {}
        "400" => return Err("rejects the host name of the URL: add it to ALLOWED_HOSTS".to_owned()),
        "429" => {
            return Err("limits requests: check less often, or raise RATE_LIMIT_HEALTH".to_owned());
        }
        _ => return Err(format!("is not a Coffee Tracker: it responds with status {}", printable(status))),
    }
    let ReportedHealth { status, version, database } = serde_json::from_str(body).map_err(|_| other())?;
    let version = printable(&version);
    let whose = database.person.map(|person| format!(" of {}", printable(&person))).unwrap_or_default();
    let state = printable(&database.state);
    match status.as_str() {
        "alive" => Ok(format!("alive: Coffee Tracker {version}, database{whose} {state}")),
        "degraded" => {
            let reason = database.error.map(|e| format!(", {}", printable(&e))).unwrap_or_default();
            Err(format!("is degraded: Coffee Tracker {version}, database{whose} {state}{reason}"))
        }
        _ => Err(other()),
    }
}

/// Returns a text of the server without control characters, and not longer than a sentence.
fn printable(text: &str) -> String {
    escape_control(&shorten(text, MAX_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16, path: &str, host_header: &str) -> Target {
        let [host, path, host_header] = [host, path, host_header].map(str::to_owned);
        Target { host, port, path, host_header }
    }

    #[test]
    fn the_url_may_lack_scheme_port_and_path() {
        for (url, expected) in [
            ("http://pi.local:8000", target("pi.local", 8000, "/health", "pi.local:8000")),
            ("HTTP://pi.local:8000/", target("pi.local", 8000, "/health", "pi.local:8000")),
            ("pi", target("pi", 80, "/health", "pi")),
            ("127.0.0.1:81/health", target("127.0.0.1", 81, "/health", "127.0.0.1:81")),
            ("http://[::1]:8000", target("::1", 8000, "/health", "[::1]:8000")),
            ("http://home/coffee/", target("home", 80, "/coffee/health", "home")),
        ] {
            assert_eq!(Target::parse(url), Ok(expected), "{url}");
        }
        for url in [
            "",
            "http://",
            "ftp://pi",
            "http://pi:x",
            "http://pi:0",
            "http://pi:1:2",
            "http://[::1",
            "http://[pi]:1",
            "http://a@pi",
            "http://pi/?a",
            "http://pi /",
            "http://pi\r\nX: 1",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse("https://pi").is_err_and(|reason| reason.contains("https is not supported")));
    }

    #[test]
    fn a_text_of_the_server_is_printed_without_control_characters() {
        let body = r#"{"status": "alive", "version": "1\u001b[2J", "database": {"state": "ok"}}"#;
        let judged = judge(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
        assert_eq!(judged, Ok(r"alive: Coffee Tracker 1\u{1b}[2J, database ok".to_owned()));
    }
}
