//! Steps that every request passes: context, guard, rate limits, headers, idle connections.

pub(crate) mod catcher;
pub(crate) mod client_address;
pub(crate) mod guard;
pub(crate) mod rate_limit;
pub(crate) mod request_context;
pub(crate) mod security_headers;
