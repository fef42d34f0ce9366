//! Identification of a request in `X-Request-ID`, the log and error responses.

use std::fmt;

use rocket::request::Request;

/// The client's `X-Request-ID` when it is well-formed, otherwise a random id.
#[derive(Clone, Debug)]
pub struct RequestId(String);

impl RequestId {
    /// Returns the id of `request`, the same at every call.
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| {
            let sent = request.headers().get_one("X-Request-ID").filter(|id| is_well_formed(id));
            sent.map_or_else(Self::random, |id| Self(id.to_owned()))
        })
    }

    /// Returns a new id.
    pub fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_well_formed(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}
