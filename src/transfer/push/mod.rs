//! Payloads that health apps push over HTTP, read as they arrive. Memory grows with the samples that are kept, not
//! with long texts or with what is ignored.

pub mod bounded_strings;
pub mod hc_webhook;
pub mod health_auto_export;
pub mod json;
pub mod parsed_push;
