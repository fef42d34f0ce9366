//! Extractors: parsed request bodies and query parameters.

pub(crate) mod entry_body;
pub(crate) mod json_body;
pub(crate) mod query;
pub(crate) mod validation;
