//! Memory budget that the large request bodies share.

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::http::error::ApiError;

/// Maximum size of a body that needs no part of the budget, bytes.
pub const SMALL_BODY_BYTES: u64 = 64 << 10;
/// Budget of all larger bodies that are being read and handled, bytes.
const BUDGET_BYTES: u64 = 32 << 20;
/// Maximum number of bodies that are parsed as they arrive; each keeps a blocking thread.
pub const MAX_STREAMS: usize = 8;
/// Maximum wait for a part of the budget.
const MAX_WAIT_FOR_BUDGET: Duration = Duration::from_secs(5);

/// Memory budget of large request bodies.
#[derive(Debug)]
pub struct BodyBudget {
    kibibytes: Arc<Semaphore>,
    /// Held while a large body is parsed.
    pub parsing: Semaphore,
    /// Held while a body is parsed as it arrives.
    streams: Arc<Semaphore>,
}

/// Part of a [`BodyBudget`], returned when dropped; a request keeps it until its response has been produced.
#[derive(Debug)]
pub struct BodyReservation {
    _permit: OwnedSemaphorePermit,
}

impl Default for BodyBudget {
    fn default() -> Self {
        let kibibytes = Arc::new(Semaphore::new(kibibytes(BUDGET_BYTES) as usize));
        Self { kibibytes, parsing: Semaphore::new(1), streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }
}

impl BodyBudget {
    /// Reserves memory for a body, and waits at most [`MAX_WAIT_FOR_BUDGET`] for it.
    pub async fn reserve(&self, bytes: u64, deadline: Instant) -> Result<BodyReservation, ApiError> {
        let deadline = deadline.min(deadline_of_wait());
        // A body larger than the budget, as the settings may allow, is read alone.
        let wanted = kibibytes(bytes.min(BUDGET_BYTES));
        match timeout_at(deadline, Arc::clone(&self.kibibytes).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(BodyReservation { _permit: permit }),
            _ => Err(ApiError::BodyBudgetExhausted),
        }
    }

    /// Reserves a blocking thread for a body that is parsed as it arrives.
    pub async fn reserve_stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        match timeout_at(deadline_of_wait(), Arc::clone(&self.streams).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::BodyBudgetExhausted),
        }
    }
}

fn deadline_of_wait() -> Instant {
    Instant::now() + MAX_WAIT_FOR_BUDGET
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
