//! The HTTP server: routes, middleware, extractors, handlers and responses. The only module that uses Rocket.
//!
//! Bottom to top: state and errors of the application (the files of this folder down to `response`),
//! `extract`, `middleware`, `handlers`, `routes` and `openapi`, `server`.

pub(crate) mod app;
pub(crate) mod auth_throttle;
pub(crate) mod body_budget;
pub(crate) mod client_address;
pub(crate) mod connections;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod handlers;
pub(crate) mod middleware;
pub(crate) mod openapi;
pub(crate) mod prefers_html;
pub(crate) mod rate_limit;
pub(crate) mod raw_request;
pub(crate) mod request_context;
pub(crate) mod request_id;
pub(crate) mod response;
pub(crate) mod routes;
pub(crate) mod server;
pub(crate) mod validation;

pub use app::{App, AppOptions, SharedApp};
pub use connections::Capacity;
pub use middleware::guard::{Access, RouteEntry};
pub use openapi::text as openapi_document;
pub use routes::table;
pub use server::{LaunchError, rocket, serve, workers};
