//! Extractors: parsed bodies, query parameters, ids and headers.

pub(crate) mod body_source;
pub(crate) mod headers;
pub(crate) mod json_body;
pub(crate) mod query;
pub(crate) mod received_file;
pub(crate) mod streamed_body;
