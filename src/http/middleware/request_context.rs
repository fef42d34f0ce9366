//! One request and its answer: id, clock, and, at the end, headers, log line, metrics.
//!
//! A fairing begins and ends it. A request that Rocket could not read reaches no fairing;
//! the catcher ends those by the same function.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rocket::data::Data;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Method;
use rocket::http::uri::Origin;
use rocket::request::Request;
use rocket::response::Response;

use crate::auth::key::{Scope, Scopes};
use crate::http::app::App;
use crate::http::dispatch::Arrival;
use crate::http::error::ApiError;
use crate::http::middleware::client_address::Client;
use crate::http::middleware::rate_limit::Allowance;
use crate::http::middleware::security_headers;

/// What is known about the request at hand.
#[derive(Debug)]
pub struct Exchange {
    /// The client's own id for it, when it is well-formed, else ours.
    pub id: String,
    /// As it was sent: Rocket turns HEAD into GET.
    pub method: Method,
    began: Instant,
    /// The fairing never saw it.
    pub salvaged: bool,
    /// The route's template, once it is known.
    pub route: OnceLock<&'static str>,
    pub client: OnceLock<Client>,
    pub allowance: OnceLock<Allowance>,
    /// The scopes of the valid key that came with the request.
    pub scopes: OnceLock<Scopes>,
    fault: Mutex<Option<ApiError>>,
}

/// The route of whatever no route answers.
pub const UNMATCHED: &str = "unmatched";

impl Exchange {
    fn begin(request: &Request<'_>, salvaged: bool) -> Self {
        let sent = request.headers().get_one("X-Request-ID").filter(|id| is_well_formed(id));
        Self {
            id: sent.map_or_else(|| format!("{:032x}", fastrand::u128(..)), str::to_owned),
            method: request.method(),
            began: Instant::now(),
            salvaged,
            route: OnceLock::new(),
            client: OnceLock::new(),
            allowance: OnceLock::new(),
            scopes: OnceLock::new(),
            fault: Mutex::new(None),
        }
    }

    /// The exchange a request belongs to.
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| Self::begin(request, true))
    }

    /// Reports whether the caller may read entries.
    pub fn may_read(&self) -> bool {
        self.scopes.get().is_some_and(|scopes| scopes.has(Scope::Read))
    }

    /// Keeps why a guard failed: Rocket itself remembers only the status.
    pub fn set_fault(&self, fault: ApiError) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Why a guard failed.
    pub fn take_fault(&self) -> Option<ApiError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds the headers every answer has, writes the log line, counts.
    pub fn end(&self, app: &App, request: &Request<'_>, response: &mut Response<'_>) {
        let took = self.began.elapsed();
        let status = response.status().code;
        let route = self.route.get().copied().unwrap_or(UNMATCHED);
        let bytes = response.body().preset_size().unwrap_or(0);
        let client = self.client.get_or_init(|| Client::of(request, &app.settings.trusted_proxies));
        security_headers::add(app, request, self, response, took);
        // Rocket reads a method it does not know as GET.
        let is_unknown = self.salvaged || Arrival::of(request).is_method_unknown;
        let method = if is_unknown { "other" } else { self.method.as_str() };
        app.metrics.observe(method, route, status, took.as_secs_f64());
        // The path may carry a filter's words; the template says enough.
        tracing::info!(
            target: "request",
            id = self.id.as_str(),
            method,
            route,
            status,
            ms = took.as_micros() as f64 / 1000.0,
            client = %client.address,
            bytes,
            "request"
        );
    }
}

/// 1 to 128 of the characters that ids are made of.
fn is_well_formed(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

/// Begins and ends every exchange.
pub struct ExchangeFairing(pub Arc<App>);

#[rocket::async_trait]
impl Fairing for ExchangeFairing {
    fn info(&self) -> Info {
        Info { name: "exchange", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        request.local_cache(|| Exchange::begin(request, false));
        if let Some(uri) = normal(request.uri()) {
            request.set_uri(uri);
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        Exchange::of(request).end(&self.0, request, response);
        // For the connection, and before Rocket takes the body off an answer to HEAD.
        if Arrival::of(request).is_connected()
            && !response.headers().contains("Transfer-Encoding")
            && let Some(size) = response.body_mut().size().await
        {
            response.set_raw_header("Content-Length", size.to_string());
        }
    }
}

/// The same place without doubled and trailing slashes; `None` when it has none.
fn normal(uri: &Origin<'_>) -> Option<Origin<'static>> {
    let path = uri.path().as_str();
    if path == "/" || !(path.ends_with('/') || path.contains("//")) {
        return None;
    }
    let mut clean = String::with_capacity(path.len() + 32);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        clean.push('/');
        clean.push_str(segment);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    if let Some(query) = uri.query() {
        clean.push('?');
        clean.push_str(query.as_str());
    }
    Origin::parse_owned(clean).ok()
}
