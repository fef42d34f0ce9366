//! The guard: checks that every request must pass before its handler runs and its body is read. In this order:
//! rate limit, size of the headers, `Host`, key, scope and origin.
//!
//! A header of a trusted proxy may name the caller instead of a key. A request that changes something must then come
//! from a page of this server: the origin is checked in this case only.
//!
//! The key is looked up first, but rejected last: it decides which quota the request is charged to, so that a
//! caller without a valid key cannot use up a quota that belongs to a key.

use std::sync::Arc;

use rocket::data::Data;
use rocket::http::{Method, Status};
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Request};
use rocket::route::{Handler, Route};
use rocket::tokio::task::spawn_blocking;
use rocket::{Build, Rocket, request, route};

use crate::auth::key::Scope;
use crate::config::{CommonSettings, LimitClass};
use crate::http::app::App;
use crate::http::client_address::{Client, is_from_proxy};
use crate::http::error::ApiError;
use crate::http::extract::query::extractor_error;
use crate::http::middleware::security_headers::is_host_allowed;
use crate::http::rate_limit::QuotaOwner;
use crate::http::request_context::RequestContext;
use crate::people::keys::{CodeRedeemer, PersonKeys};
use crate::people::registry::{People, ValidKey};

/// Maximum size of the names and values of all headers, bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Authorization that a route requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Open to everyone.
    Public,
    /// Any valid key.
    AnyKey,
    /// A key with this scope.
    Key(Scope),
    /// A key with the scope `metrics`, unless metrics are public.
    Metrics,
}

impl Access {
    /// Returns the scope that a key must have, as the API document states it.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Public | Self::AnyKey => None,
            Self::Key(scope) => Some(scope),
            Self::Metrics => Some(Scope::Metrics),
        }
    }

    /// Reports whether a key is required under these settings.
    pub fn requires_key(self, metrics_public: bool) -> bool {
        match self {
            Self::Public => false,
            Self::Metrics => !metrics_public,
            Self::AnyKey | Self::Key(_) => true,
        }
    }
}

/// The registry of people. The type is private, so that only this module can take it out of a request: a handler
/// reaches the database of its caller and no other.
struct PeopleState(Arc<People>);

/// Gives the guard access to the registry of people.
pub fn with_people(rocket: Rocket<Build>, people: Arc<People>) -> Rocket<Build> {
    rocket.manage(PeopleState(people))
}

fn people<'r>(request: &'r Request<'_>) -> Result<&'r Arc<People>, ApiError> {
    Ok(&request.rocket().state::<PeopleState>().ok_or(ApiError::Internal)?.0)
}

/// Open route that shows the limits of the caller, if there is a key.
const INFO_ROUTE: &str = "/info";
/// Open route that exchanges the code of a pairing for a key.
const PAIR_ROUTE: &str = "/pair";
/// Routes of files to import. The command that reads them needs a database with the current schema, and opening it
/// migrates the schema.
const IMPORT_ROUTES: [&str; 2] = ["/imports", "/imports/<id>"];
/// Open routes that report on everyone.
const MONITORING_ROUTES: [&str; 2] = ["/health", "/metrics"];

/// Everyone whose data the server stores, for the routes that report on them and those that require the scope `admin`.
pub struct Everyone(pub Arc<People>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Everyone {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let context = RequestContext::of(request);
        let is_monitoring = context.route.get().is_some_and(|route| MONITORING_ROUTES.contains(route));
        let allowed = if is_monitoring || context.scope.get() == Some(&Scope::Admin) {
            people(request).map(|people| Self(Arc::clone(people)))
        } else {
            Err(ApiError::Internal)
        };
        allowed.map_or_else(|error| extractor_error(request, error), Outcome::Success)
    }
}

/// Keys of the person to whom the key of the request belongs, on routes that require the scope `manage` or `admin`.
#[rocket::async_trait]
impl<'r> FromRequest<'r> for PersonKeys {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let context = RequestContext::of(request);
        let allowed = match (context.scope.get(), context.key.get()) {
            (Some(Scope::Manage | Scope::Admin), Some(key)) => {
                people(request).map(|people| Self::new(Arc::clone(people), Arc::clone(&key.person)))
            }
            _ => Err(ApiError::Internal),
        };
        allowed.map_or_else(|error| extractor_error(request, error), Outcome::Success)
    }
}

/// Paths of the files of the person to whom the key of the request belongs, for the routes that manage them.
pub struct OwnFiles(pub CommonSettings);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for OwnFiles {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        own_files(request).map_or_else(|error| extractor_error(request, error), Outcome::Success)
    }
}

/// Returns the files of the caller on a route that requires the scope `manage` or `admin`.
pub fn own_files(request: &Request<'_>) -> Result<OwnFiles, ApiError> {
    let context = RequestContext::of(request);
    match (context.scope.get(), context.key.get()) {
        (Some(Scope::Manage | Scope::Admin), Some(key)) => {
            Ok(OwnFiles(App::of(request)?.settings.common.of_person(key.person.name())))
        }
        _ => Err(ApiError::Internal),
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for CodeRedeemer {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, ()> {
        let allowed = if RequestContext::of(request).route.get() == Some(&PAIR_ROUTE) {
            people(request).map(|people| Self::new(Arc::clone(people)))
        } else {
            Err(ApiError::Internal)
        };
        allowed.map_or_else(|error| extractor_error(request, error), Outcome::Success)
    }
}

/// Puts the database of the person to whom the key belongs into the context, on routes that use it.
async fn provide_database(request: &Request<'_>, access: Access) -> Result<(), ApiError> {
    let context = RequestContext::of(request);
    let Some(key) = context.key.get() else { return Ok(()) };
    let is_required = matches!(access, Access::Key(Scope::Read | Scope::Write))
        || context.route.get().is_some_and(|route| IMPORT_ROUTES.contains(route));
    if is_required || context.route.get() == Some(&INFO_ROUTE) {
        match people(request)?.open(&key.person).await {
            Ok(database) => drop(context.database.set(database)),
            Err(reason) if is_required => return Err(reason.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Rejects changes of a person who is being moved to another machine, before their body is read. A person who was just
/// frozen is noticed within a second; until then, the writer thread and commands reject the changes.
async fn check_frozen(request: &Request<'_>, access: Access) -> Result<(), ApiError> {
    let context = RequestContext::of(request);
    let may_change = matches!(access, Access::Key(Scope::Write | Scope::Manage))
        && !matches!(context.method, Method::Get | Method::Head);
    let Some(key) = context.key.get().filter(|key| may_change && key.person.is_frozen()) else {
        return Ok(());
    };
    // The person may just have been released.
    let person = Arc::clone(&key.person);
    match spawn_blocking(move || person.refresh_freeze()).await {
        Ok(false) => Ok(()),
        _ => Err(ApiError::PersonFrozen),
    }
}

/// Charges the request to its rate limit and checks its headers, host and key.
pub fn check(request: &Request<'_>, class: LimitClass, access: Access) -> Result<(), ApiError> {
    let app = App::of(request)?;
    let context = RequestContext::of(request);
    let client = *context.client.get_or_init(|| Client::of(request, &app.settings.trusted_proxies));
    let requires_key = access.requires_key(app.settings.metrics_public);
    let header_size = check_header_size(request);
    // Oversized headers are rejected below; hashing a key from them would be wasted.
    let credentials = if header_size.is_ok() { Credentials::of(request, app)? } else { Credentials::Missing };
    let key = credentials.valid().map(|key| context.key.get_or_init(|| key.clone()));
    if let Some(limiter) = &app.limiter {
        let class = if requires_key && key.is_none() { LimitClass::Unauthenticated } else { class };
        let owner = QuotaOwner { client: client.network(), key: key.map(|key| key.id) };
        let charged = limiter.charge(class, owner);
        let (Ok(allowance) | Err(allowance)) = charged;
        context.allowance.get_or_init(|| allowance);
        if charged.is_err() {
            app.metrics.count_rate_limited(class);
            return Err(ApiError::TooManyRequests(allowance.reset_seconds));
        }
    }
    header_size?;
    check_host(app, request)?;
    if requires_key { authorize(app, request, client, &credentials, access) } else { Ok(()) }
}

/// Key that a request presents.
#[derive(Clone, Debug)]
enum Credentials {
    /// Missing or malformed `Authorization` header, or one that was not looked up.
    Missing,
    /// A key that is unknown, revoked or expired.
    Wrong,
    Valid(ValidKey),
}

impl Credentials {
    fn of(request: &Request<'_>, app: &App) -> Result<Self, ApiError> {
        let mut headers = request.headers().get("Authorization");
        let key = match (headers.next(), headers.next()) {
            (Some(header), None) => bearer_key(header),
            _ => None,
        };
        let people = people(request)?;
        match (key, proxy_user(request, app)) {
            (Some(key), _) => Ok(people.find_key(key).map_or(Self::Wrong, Self::Valid)),
            (None, Some(name)) if is_expected_person(request, name) => {
                Ok(people.find_proxy_user(name).map_or(Self::Missing, Self::Valid))
            }
            (None, Some(_)) => Ok(Self::Missing),
            (None, None) => Ok(Self::Missing),
        }
    }

    fn valid(&self) -> Option<&ValidKey> {
        if let Self::Valid(key) = self { Some(key) } else { None }
    }
}

/// Returns the key of `Bearer KEY`; the case of the scheme does not matter.
fn bearer_key(header: &str) -> Option<&str> {
    let (scheme, key) = header.trim().split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && !key.contains(' ')).then_some(key)
}

/// Returns the name in the header of a trusted proxy.
fn proxy_user<'r>(request: &'r Request<'_>, app: &App) -> Option<&'r str> {
    let header = app.settings.auth_proxy_header.as_deref()?;
    let mut names = request.headers().get(header);
    match (names.next(), names.next()) {
        (Some(name), None) if is_from_proxy(request, &app.settings.trusted_proxies) => Some(name.trim()),
        _ => None,
    }
}

/// Reports whether `X-Person`, if present, names this person. The dashboard sends it, because somebody else may have
/// signed in at the proxy since the page was loaded.
fn is_expected_person(request: &Request<'_>, name: &str) -> bool {
    request.headers().get_one("X-Person").is_none_or(|expected| expected == name)
}

/// Rejects a request that changes something and was sent by a page of another origin, when the proxy and not a key
/// identifies the caller. Browsers send `Sec-Fetch-Site` over HTTPS, and `Origin` with every such request.
fn check_origin(request: &Request<'_>, key: &ValidKey) -> Result<(), ApiError> {
    if !key.is_from_proxy() || matches!(RequestContext::of(request).method, Method::Get | Method::Head) {
        return Ok(());
    }
    let header = |name| request.headers().get_one(name);
    let is_same_origin = match (header("Sec-Fetch-Site"), header("Origin"), header("Host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
        }
        _ => false,
    };
    if is_same_origin { Ok(()) } else { Err(ApiError::CrossOrigin) }
}

fn check_header_size(request: &Request<'_>) -> Result<(), ApiError> {
    // `: ` and CRLF add four bytes to each header.
    let size: usize = request.headers().iter().map(|h| h.name.as_str().len() + h.value.len() + 4).sum();
    if size > MAX_HEADER_BYTES { Err(ApiError::HeadersTooLarge) } else { Ok(()) }
}

fn check_host(app: &App, request: &Request<'_>) -> Result<(), ApiError> {
    let mut hosts = request.headers().get("Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host_allowed(host, &app.current().allowed_hosts, &app.host_name) => Ok(()),
        (Some(host), None) => Err(ApiError::HostNotAllowed(host.to_owned())),
        (None, _) => Err(ApiError::BadRequest("The Host header is missing")),
        (Some(_), Some(_)) => Err(ApiError::BadRequest("The Host header is repeated")),
    }
}

fn authorize(
    app: &App,
    request: &Request<'_>,
    client: Client,
    credentials: &Credentials,
    access: Access,
) -> Result<(), ApiError> {
    let (reason, error) = match credentials {
        Credentials::Valid(key) => match access.scope() {
            Some(scope) if !key.scopes.has(scope) => ("scope", ApiError::Forbidden(scope)),
            // They report on everyone.
            Some(Scope::Metrics) if !key.person.name().is_owner() => {
                ("scope", ApiError::Forbidden(Scope::Metrics))
            }
            _ => match check_origin(request, key) {
                Ok(()) => return Ok(()),
                Err(error) => ("origin", error),
            },
        },
        Credentials::Missing => ("missing", ApiError::Unauthorized),
        Credentials::Wrong => {
            let wait = app.auth_throttle.record_failure(client.network());
            ("wrong", wait.map_or(ApiError::Unauthorized, ApiError::TooManyRequests))
        }
    };
    app.metrics.count_auth_failure(reason);
    Err(error)
}

/// Route with its rate limit and authorization.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    pub route: Route,
    /// Path with placeholders, as people write it: `/coffee/`, `/coffee/<id>`.
    pub template: &'static str,
    pub class: LimitClass,
    pub access: Access,
}

/// Every route.
#[derive(Clone, Copy, Debug)]
pub struct RouteTable(pub &'static [RouteEntry]);

impl RouteTable {
    /// Returns the routes, each behind [`check`].
    pub fn guarded(self) -> impl Iterator<Item = Route> {
        self.0.iter().map(move |entry| {
            let mut route = entry.route.clone();
            route.handler = Box::new(GuardedHandler { entry, table: self });
            route
        })
    }

    /// Returns the template of the routes at `path` and their methods; `None` when there are none.
    pub fn methods_at(self, path: &str) -> Option<(&'static str, Vec<Method>)> {
        let matching = self.0.iter().filter(|entry| matches(entry.template, path));
        // A literal segment takes precedence over a placeholder.
        let best = matching.min_by_key(|entry| entry.template.contains('<'))?.template;
        let methods = self.0.iter().filter(|entry| entry.template == best).map(|entry| entry.route.method);
        Some((best, methods.collect()))
    }
}

fn matches(template: &str, path: &str) -> bool {
    let mut expected = template.split('/').filter(|s| !s.is_empty());
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    loop {
        match (expected.next(), segments.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.ends_with("..>") => return true,
            (Some(name), Some(segment)) if name == segment || name.starts_with('<') => {}
            _ => return false,
        }
    }
}

/// Handler of a route behind [`check`].
#[derive(Clone)]
struct GuardedHandler {
    entry: &'static RouteEntry,
    table: RouteTable,
}

#[rocket::async_trait]
impl Handler for GuardedHandler {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        let RouteEntry { route, template, class, access } = self.entry;
        // `DELETE /coffee/today` is not allowed (405), rather than a deletion of the id `today`.
        let is_best = |path| self.table.methods_at(path).is_none_or(|(best, _)| best == *template);
        if template.contains('<') && !is_best(request.uri().path().as_str()) {
            return Outcome::forward(data, Status::NotFound);
        }
        let context = RequestContext::of(request);
        context.route.get_or_init(|| template);
        if let Some(scope) = access.scope() {
            context.scope.get_or_init(|| scope);
        }
        let checked = match check(request, *class, *access) {
            Ok(()) => match check_frozen(request, *access).await {
                Ok(()) => provide_database(request, *access).await,
                refused => refused,
            },
            refused => refused,
        };
        if let Err(error) = checked {
            return route::Outcome::from(request, error);
        }
        match route.handler.handle(request, data).await {
            Outcome::Success(response) => Outcome::Success(response),
            // An extractor failed and stored its error in the context.
            Outcome::Error(status) | Outcome::Forward((_, status)) => {
                let error = context.take_error().unwrap_or_else(|| error_for(status));
                route::Outcome::from(request, error)
            }
        }
    }
}

fn error_for(status: Status) -> ApiError {
    match status.code {
        404 => ApiError::NotFound("Not found"),
        400..500 => ApiError::BadRequest("Malformed request"),
        _ => ApiError::Internal,
    }
}
