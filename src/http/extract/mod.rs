//! Extractors: parsed bodies, query parameters, ids and headers.

pub(crate) mod headers;
pub(crate) mod json_body;
pub(crate) mod query;
