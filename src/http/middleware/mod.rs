//! Steps that every request passes before and after its handler.

pub(crate) mod catcher;
pub(crate) mod guard;
pub(crate) mod request_fairing;
pub(crate) mod security_headers;
