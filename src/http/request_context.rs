//! State of one request, shared by middleware, extractors and handlers.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rocket::http::Method;
use rocket::request::Request;

use crate::auth::key::Scope;
use crate::domain::time::Timestamp;
use crate::http::client_address::Client;
use crate::http::error::ApiError;
use crate::http::rate_limit::Allowance;
use crate::people::database::PersonDatabase;
use crate::people::registry::ValidKey;

/// State of one request.
#[derive(Debug)]
pub struct RequestContext {
    /// Method as it was sent, before Rocket turns HEAD into GET; TRACE for a method that Rocket does not have.
    pub method: Method,
    pub started: Instant,
    /// Rocket could not parse the request and ran no fairing.
    pub skipped_fairings: bool,
    /// Template of the matching route.
    pub route: OnceLock<&'static str>,
    pub client: OnceLock<Client>,
    pub allowance: OnceLock<Allowance>,
    /// Valid API key that came with the request.
    pub key: OnceLock<ValidKey>,
    /// Database of the person to whom the key belongs, on routes that use it.
    pub database: OnceLock<Arc<PersonDatabase>>,
    /// Scope that the route requires.
    pub scope: OnceLock<Scope>,
    error: Mutex<Option<ApiError>>,
}

impl RequestContext {
    /// Starts the context of a request that reached the request fairing.
    pub fn start(request: &Request<'_>) {
        request.local_cache(|| Self::new(request, false));
    }

    /// Returns the context of `request`. When none was started, no fairing ran, and a context that records this
    /// is created.
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| Self::new(request, true))
    }

    fn new(request: &Request<'_>, skipped_fairings: bool) -> Self {
        Self {
            method: request.method(),
            started: Instant::now(),
            skipped_fairings,
            route: OnceLock::new(),
            client: OnceLock::new(),
            allowance: OnceLock::new(),
            key: OnceLock::new(),
            database: OnceLock::new(),
            scope: OnceLock::new(),
            error: Mutex::new(None),
        }
    }

    /// Reports whether the caller may read entries.
    pub fn may_read(&self) -> bool {
        self.key.get().is_some_and(|key| key.scopes.has(Scope::Read))
    }

    /// Returns the time of the caller's newest entry; [`Timestamp::MIN`] when there is none.
    pub fn newest_entry(&self) -> Timestamp {
        self.database.get().map_or(Timestamp::MIN, |database| database.newest_entry())
    }

    /// Stores the error of an extractor, of which Rocket keeps only the status.
    pub fn set_error(&self, error: ApiError) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Takes the error that an extractor stored.
    pub fn take_error(&self) -> Option<ApiError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
