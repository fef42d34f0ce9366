//! The HTTP server: routes, middleware, extractors, handlers and responses. The only module that uses Rocket.

pub(crate) mod acceptor;
pub(crate) mod app;
pub(crate) mod connections;
pub(crate) mod dispatch;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod handlers;
pub(crate) mod middleware;
pub(crate) mod openapi;
pub(crate) mod response;
pub(crate) mod routes;
pub(crate) mod schemas;
pub(crate) mod server;

pub use app::{App, Shared, rocket, workers};
pub use connections::Capacity;
pub use middleware::guard::Access;
pub use openapi::text as openapi_document;
pub use routes::{Entry, table};
pub use server::{LaunchError, serve};
