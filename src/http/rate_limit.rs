//! Rate limits for every caller and class, in bounded memory, calculated by the crate `governor`.
//!
//! Its algorithm (GCRA, the generic cell rate algorithm) stores one time for each caller: the arrival time, at
//! which the next request would come if the caller spread its requests evenly. With 60 requests a minute the
//! interval is 1 s. Each request moves the arrival time 1 s ahead; if it lies in the past, it is first set to now. A
//! request is rejected when its arrival time lies more than 59 s ahead, so that a burst of 60 is allowed.
//!
//! The state of the caller that was idle longest is evicted first. An evicted caller has its whole quota again.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter as Gcra};
use lru::LruCache;

use crate::auth::key::KeyId;
use crate::clock::Clock;
use crate::config::{LimitClass, Rate};
use crate::http::client_address::ClientNetwork;

/// Maximum number of callers of each class whose requests are counted.
const MAX_CALLERS: usize = 16_384;

/// Owner of a quota: a client and the valid key that it sent, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaOwner {
    pub client: ClientNetwork,
    pub key: Option<KeyId>,
}

/// Rest of a caller's quota after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub class: LimitClass,
    pub rate: Rate,
    /// Requests that are allowed now.
    pub remaining: u32,
    /// Seconds until one more request is allowed, rounded up.
    pub reset_seconds: u64,
}

/// Rate limiter with a quota for each class.
#[derive(Debug)]
pub struct RateLimiter {
    classes: [ClassLimiter; LimitClass::COUNT],
}

#[derive(Debug)]
struct ClassLimiter {
    rate: Rate,
    /// Time in which one request is refilled.
    interval: Nanos,
    clock: Clock,
    start: Nanos,
    arrivals: ArrivalTimes,
    gcra: Gcra<QuotaOwner, ArrivalTimes, Clock, StateInformationMiddleware>,
}

impl GovernorClock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.elapsed().into()
    }
}

/// Arrival time of each recent caller's next request, measured from the limiter's start; the caller that was
/// idle longest comes first.
#[derive(Clone, Debug)]
struct ArrivalTimes(Arc<Mutex<LruCache<QuotaOwner, Nanos>>>);

impl ArrivalTimes {
    fn lock(&self) -> MutexGuard<'_, LruCache<QuotaOwner, Nanos>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for ArrivalTimes {
    type Key = QuotaOwner;

    fn measure_and_replace<T, F, E>(&self, owner: &QuotaOwner, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut arrivals = self.lock();
        let (outcome, arrival) = f(arrivals.get(owner).copied())?;
        arrivals.put(*owner, arrival);
        if arrivals.len() > MAX_CALLERS {
            arrivals.pop_lru();
        }
        Ok(outcome)
    }
}

impl ClassLimiter {
    fn new(rate: Rate, clock: &Clock) -> Self {
        let burst = NonZeroU32::new(rate.requests).unwrap_or(NonZeroU32::MIN);
        let interval = rate.per / burst.get();
        let quota =
            Quota::with_period(interval).map_or_else(|| Quota::per_second(burst), |q| q.allow_burst(burst));
        // A bounded one would allocate its whole capacity; `measure_and_replace` keeps the bound.
        let arrivals = ArrivalTimes(Arc::new(Mutex::new(LruCache::unbounded())));
        let gcra = Gcra::new(quota, arrivals.clone(), clock.clone());
        let start = GovernorClock::now(clock);
        Self { rate, interval: interval.into(), clock: clock.clone(), start, arrivals, gcra }
    }

    /// Returns the time since the limiter's start.
    fn now(&self) -> Nanos {
        GovernorClock::now(&self.clock).saturating_sub(self.start)
    }

    fn charge(&self, owner: QuotaOwner) -> Result<(u32, u64), u64> {
        match self.gcra.check_key(&owner) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                // After 3 of 60 requests at once, the arrival time lies 3 intervals ahead and 57 remain. 58 remain as soon
                // as it lies only 2 intervals ahead, which is `target`.
                let target = u64::from(self.rate.requests.saturating_sub(remaining + 1));
                let arrival = self.arrivals.lock().peek(&owner).copied().unwrap_or_default();
                let reset = arrival.saturating_sub(self.interval * target).saturating_sub(self.now());
                Ok((remaining, reset.as_u64().div_ceil(1_000_000_000)))
            }
            Err(rejected) => {
                let wait = rejected.wait_time_from(GovernorClock::now(&self.clock));
                Err((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
            }
        }
    }

    /// Removes callers whose quota is whole again, and frees memory.
    fn remove_idle(&self) {
        // One interval of margin: a concurrent request may have read the clock earlier.
        let idle_before = self.now().saturating_sub(self.interval);
        let mut arrivals = self.arrivals.lock();
        // The callers after the first busy one were active more recently; a later cleanup removes them.
        while arrivals.peek_lru().is_some_and(|(_, arrival)| *arrival < idle_before) {
            arrivals.pop_lru();
        }
        // The map of an LruCache never shrinks by itself.
        let mut smaller = LruCache::unbounded();
        while let Some((owner, arrival)) = arrivals.pop_lru() {
            smaller.put(owner, arrival);
        }
        *arrivals = smaller;
    }
}

impl RateLimiter {
    /// Creates a limiter with a rate for each class.
    pub fn new(rates: &[Rate; LimitClass::COUNT], clock: &Clock) -> Self {
        Self { classes: rates.map(|rate| ClassLimiter::new(rate, clock)) }
    }

    /// Charges a request to its owner's quota.
    ///
    /// # Errors
    /// The allowance, with nothing remaining, when the quota is used up.
    pub fn charge(&self, class: LimitClass, owner: QuotaOwner) -> Result<Allowance, Allowance> {
        let limiter = &self.classes[class as usize];
        let allowance =
            |remaining, reset_seconds| Allowance { class, rate: limiter.rate, remaining, reset_seconds };
        match limiter.charge(owner) {
            Ok((remaining, reset_seconds)) => Ok(allowance(remaining, reset_seconds)),
            Err(reset_seconds) => Err(allowance(0, reset_seconds)),
        }
    }

    /// Returns the number of callers in memory, over all classes.
    pub fn tracked_callers(&self) -> usize {
        self.classes.iter().map(|class| class.arrivals.lock().len()).sum()
    }

    /// Removes callers whose quota is whole again, and frees memory.
    pub fn remove_idle(&self) {
        self.classes.iter().for_each(ClassLimiter::remove_idle);
    }
}
