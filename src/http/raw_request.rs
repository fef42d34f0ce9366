//! Parts of an HTTP request that do not pass through Rocket.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::body::Incoming;
use rocket::request::Request;

use crate::http::connections::Connection;

/// Unread body and connection of a request; empty in tests without a connection.
#[derive(Debug, Default)]
pub struct RawRequest {
    source: Option<UnreadBody>,
    /// Rocket has no such method.
    pub is_method_unknown: bool,
}

#[derive(Debug)]
struct UnreadBody {
    body: Mutex<Option<Incoming>>,
    deadline: Instant,
    connection: Arc<Connection>,
}

impl RawRequest {
    /// Creates the raw parts of a request on `connection`.
    pub fn new(
        body: Incoming,
        deadline: Instant,
        connection: Arc<Connection>,
        is_method_unknown: bool,
    ) -> Self {
        let source = UnreadBody { body: Mutex::new(Some(body)), deadline, connection };
        Self { source: Some(source), is_method_unknown }
    }

    /// Returns the raw parts of `request`.
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
