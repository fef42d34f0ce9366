//! Checks that every request passes before a handler sees it: rate limit, size of the headers,
//! `Host`, key and scope, in this order.
//!
//! The key is looked up first, because it decides which quota the request is charged to: a caller
//! without a valid key can use up nothing that belongs to a key. All of this happens before the body is read.
//!
//! The route table wraps every handler in [`Guarded`], so none can go without.

use std::convert::Infallible;
use std::sync::Arc;

use rocket::data::Data;
use rocket::http::{Method, Status};
use rocket::outcome::Outcome as Any;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::route;
use rocket::route::Handler;

use crate::auth::key::Scope;
use crate::auth::owner_key::ValidKey;
use crate::config::LimitClass;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::client_address::Client;
use crate::http::middleware::rate_limit::QuotaOwner;
use crate::http::middleware::request_context::Exchange;
use crate::http::middleware::security_headers::is_host_allowed;
use crate::http::routes;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever has a key with this scope.
    Key(Scope),
    /// Whoever has a key with the scope `metrics`, or anyone when metrics are public.
    Metrics,
}

impl Access {
    /// The scope that a key must have, where one is asked for.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Public => None,
            Self::Key(scope) => Some(scope),
            Self::Metrics => Some(Scope::Metrics),
        }
    }
}

/// The application a request belongs to.
pub fn app<'r>(request: &'r Request<'_>) -> Result<&'r Arc<App>, ApiError> {
    request.rocket().state::<Arc<App>>().ok_or(ApiError::Internal)
}

/// Lets a request in, or says why not.
///
/// # Errors
/// 400 for a foreign Host, 431 for too many headers, 429 over the limit, 401 without a key,
/// 403 with one that is not good for this.
pub fn admit(request: &Request<'_>, class: LimitClass, access: Access) -> Result<(), ApiError> {
    let app = app(request)?;
    let exchange = Exchange::of(request);
    let client = *exchange.client.get_or_init(|| Client::of(request, &app.settings.trusted_proxies));
    let needed = access.scope().filter(|_| app.needs_key(access));
    let headers = check_headers(request);
    // Headers that are too large are refused below; no key in them is worth a hash.
    let credentials = if headers.is_ok() { Credentials::of(request, app) } else { Credentials::Missing };
    let key = credentials.valid();
    if let Some(key) = key {
        exchange.scopes.get_or_init(|| key.scopes);
    }
    if let Some(limiter) = &app.limiter {
        let class = if needed.is_some() && key.is_none() { LimitClass::Unauthenticated } else { class };
        let charged = limiter.charge(class, QuotaOwner { client: client.key(), key: key.map(|key| key.id) });
        let (Ok(allowance) | Err(allowance)) = charged;
        exchange.allowance.get_or_init(|| allowance);
        if charged.is_err() {
            app.metrics.rate_limited(class);
            return Err(ApiError::TooMany(allowance.more_in));
        }
    }
    headers?;
    check_host(app, request)?;
    needed.map_or(Ok(()), |scope| authorize(app, client, credentials, scope))
}

/// Key that a request presents.
#[derive(Clone, Copy, Debug)]
enum Credentials {
    /// None, or a malformed one.
    Missing,
    /// A key that is wrong, revoked or expired.
    Invalid,
    Valid(ValidKey),
}

impl Credentials {
    fn of(request: &Request<'_>, app: &App) -> Self {
        let mut given = request.headers().get("Authorization");
        let presented = match (given.next(), given.next()) {
            (Some(one), None) => bearer(one),
            _ => None,
        };
        match presented.map(|key| app.keys.find(key, app.clock.now())) {
            None => Self::Missing,
            Some(None) => Self::Invalid,
            Some(Some(key)) => Self::Valid(key),
        }
    }

    fn valid(self) -> Option<ValidKey> {
        if let Self::Valid(key) = self { Some(key) } else { None }
    }
}

/// Names and values over 16 KiB in all are refused.
fn check_headers(request: &Request<'_>) -> Result<(), ApiError> {
    const LIMIT: usize = 16 << 10;
    let size: usize = request.headers().iter().map(|h| h.name.as_str().len() + h.value.len() + 4).sum();
    if size > LIMIT { Err(ApiError::HeadersTooLarge) } else { Ok(()) }
}

fn check_host(app: &App, request: &Request<'_>) -> Result<(), ApiError> {
    let mut hosts = request.headers().get("Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host_allowed(host, &app.settings.allowed_hosts, &app.host_name) => Ok(()),
        (Some(_), None) => Err(ApiError::BadRequest("This host name is not served here: see ALLOWED_HOSTS")),
        (None, _) => Err(ApiError::BadRequest("The Host header is missing")),
        (Some(_), Some(_)) => Err(ApiError::BadRequest("The Host header is given more than once")),
    }
}

fn authorize(app: &App, client: Client, credentials: Credentials, scope: Scope) -> Result<(), ApiError> {
    match credentials {
        Credentials::Valid(key) if key.scopes.has(scope) => Ok(()),
        Credentials::Valid(_) => {
            app.metrics.auth_failure("scope");
            Err(ApiError::Forbidden(scope))
        }
        Credentials::Missing => {
            app.metrics.auth_failure("missing");
            Err(ApiError::Unauthorized)
        }
        Credentials::Invalid => {
            app.metrics.auth_failure("wrong");
            match app.brake.wrong_key(client.key()) {
                Some(seconds) => Err(ApiError::TooMany(seconds)),
                None => Err(ApiError::Unauthorized),
            }
        }
    }
}

/// The key of `Bearer KEY`; the scheme's case does not matter.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.trim().split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && !key.contains(' ')).then_some(key)
}

/// The caller's right to see entries: a valid key with the scope `read`.
pub struct MayRead(pub bool);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for MayRead {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        Any::Success(Self(Exchange::of(request).may_read()))
    }
}

impl MayRead {
    /// The fields that were sent, when the answer must have nothing else of the entry.
    pub fn instead<T>(&self, sent: impl FnOnce() -> T) -> Option<T> {
        (!self.0).then(sent)
    }
}

/// A handler behind the gate.
#[derive(Clone)]
pub struct Guarded {
    pub inner: Box<dyn Handler>,
    pub template: &'static str,
    pub class: LimitClass,
    pub access: Access,
}

#[rocket::async_trait]
impl Handler for Guarded {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        if !routes::is_best(self.template, request.uri().path().as_str()) {
            return Any::forward(data, Status::NotFound);
        }
        let exchange = Exchange::of(request);
        exchange.route.get_or_init(|| self.template);
        if let Err(refusal) = admit(request, self.class, self.access) {
            return route::Outcome::from(request, refusal);
        }
        match self.inner.handle(request, data).await {
            Any::Success(response) => Any::Success(response),
            // A guard failed, and left word why.
            Any::Error(status) | Any::Forward((_, status)) => {
                let fault = exchange.take_fault().unwrap_or_else(|| without_word(status));
                route::Outcome::from(request, fault)
            }
        }
    }
}

fn without_word(status: Status) -> ApiError {
    match status.code {
        404 => ApiError::NotFound("Not found"),
        400..500 => ApiError::BadRequest("The request could not be read"),
        _ => ApiError::Internal,
    }
}

/// The methods of `Allow`: with GET comes HEAD, and OPTIONS always.
pub fn allow(methods: &[Method]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        names.push(method.as_str());
        if *method == Method::Get {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    names.join(", ")
}
