//! Throttle for attempts to guess an API key: answers clients that send many invalid keys with 429 instead of 401.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::Clock;
use crate::http::client_address::ClientNetwork;

/// Maximum number of clients whose failed attempts are counted.
const MAX_CLIENTS: usize = 4_096;
/// Failed attempts in a window that are still answered with 401.
const MAX_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Counts invalid keys by client. After [`MAX_FAILURES`] in a window, further invalid keys are
/// rejected until the window ends; a valid key always passes.
#[derive(Debug)]
pub struct AuthThrottle {
    clock: Clock,
    /// Start of the window and number of failures.
    clients: Mutex<LruCache<ClientNetwork, (Duration, u32)>>,
}

impl AuthThrottle {
    /// Creates a throttle without recorded failures.
    pub fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), clients: Mutex::new(LruCache::unbounded()) }
    }

    /// Records an invalid key. Returns the seconds to wait when there were too many.
    pub fn record_failure(&self, client: ClientNetwork) -> Option<u64> {
        let now = self.clock.elapsed();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, failures) = match clients.get(&client) {
            Some((start, failures)) if now < *start + WINDOW => (*start, failures.saturating_add(1)),
            _ => (now, 1),
        };
        clients.put(client, (start, failures));
        if clients.len() > MAX_CLIENTS {
            clients.pop_lru();
        }
        let left = (start + WINDOW).saturating_sub(now);
        (failures > MAX_FAILURES).then(|| left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}
