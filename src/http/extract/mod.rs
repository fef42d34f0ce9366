//! Extractors: parsed request bodies and query parameters.

pub(crate) mod json_body;
pub(crate) mod query;
