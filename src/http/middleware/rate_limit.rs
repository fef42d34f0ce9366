//! Rate limits: governor's GCRA for every caller and class, in a bounded memory.
//!
//! The store under it forgets the caller that was idle longest, so that calls from a
//! million addresses cost a few megabytes and nobody inside the limit is refused.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use lru::LruCache;

use crate::auth::key::KeyId;
use crate::clock::Clock;
use crate::config::{LimitClass, Rate};
use crate::http::middleware::client_address::ClientKey;

/// Callers remembered for each class.
const CALLERS: usize = 16_384;
/// Clients whose failed logins are remembered.
const SUSPECTS: usize = 4_096;
/// Failed logins in a minute before wrong keys are no longer looked at.
const FAILURES: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// The owner of a quota: a client and the valid key that it sent, if it sent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaOwner {
    pub client: ClientKey,
    pub key: Option<KeyId>,
}

/// Rest of a caller's quota after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub class: LimitClass,
    pub rate: Rate,
    /// Requests that may follow at once.
    pub remaining: u32,
    /// Seconds until one more is allowed, rounded up.
    pub more_in: u64,
}

/// The limits of every class.
#[derive(Debug)]
pub struct Limiter {
    classes: [ClassLimiter; LimitClass::COUNT],
}

#[derive(Debug)]
struct ClassLimiter {
    rate: Rate,
    /// Nanoseconds that one request takes to be forgotten.
    interval: u64,
    clock: Ticks,
    recent: Recent,
    limiter: RateLimiter<QuotaOwner, Recent, Ticks, StateInformationMiddleware>,
}

/// Our clock as governor wants it: nanoseconds since the limiter was made.
#[derive(Clone, Debug)]
struct Ticks {
    clock: Clock,
    start: Duration,
}

impl GovernorClock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.clock.elapsed().saturating_sub(self.start).into()
    }
}

/// Each caller's theoretical arrival time, for the most recent callers only.
#[derive(Clone, Debug)]
struct Recent(Arc<Mutex<LruCache<QuotaOwner, u64>>>);

impl Recent {
    fn callers(&self) -> MutexGuard<'_, LruCache<QuotaOwner, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrival(&self, caller: QuotaOwner) -> u64 {
        self.callers().peek(&caller).copied().unwrap_or(0)
    }
}

impl StateStore for Recent {
    type Key = QuotaOwner;

    fn measure_and_replace<T, F, E>(&self, caller: &QuotaOwner, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut callers = self.callers();
        let (outcome, arrival) = f(callers.get(caller).copied().map(Nanos::new))?;
        callers.put(*caller, arrival.as_u64());
        if callers.len() > CALLERS {
            callers.pop_lru();
        }
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<QuotaOwner> for Recent {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut callers = self.callers();
        while callers.peek_lru().is_some_and(|(_, arrival)| *arrival < drop_below.as_u64()) {
            callers.pop_lru();
        }
    }

    fn shrink_to_fit(&self) {
        let mut callers = self.callers();
        if callers.len() * 4 < callers.cap().get().min(CALLERS) {
            let mut smaller = LruCache::unbounded();
            while let Some((caller, arrival)) = callers.pop_lru() {
                smaller.put(caller, arrival);
            }
            *callers = smaller;
        }
    }

    fn len(&self) -> usize {
        self.callers().len()
    }

    fn is_empty(&self) -> bool {
        self.callers().is_empty()
    }
}

impl Limiter {
    /// Limits at these rates.
    pub fn new(rates: &[Rate; LimitClass::COUNT], clock: &Clock) -> Self {
        let classes = rates.map(|rate| {
            let burst = NonZeroU32::new(rate.requests).unwrap_or(NonZeroU32::MIN);
            let interval = rate.per / burst.get();
            let quota = Quota::with_period(interval)
                .map_or_else(|| Quota::per_second(burst), |q| q.allow_burst(burst));
            let clock = Ticks { clock: clock.clone(), start: clock.elapsed() };
            let recent = Recent(Arc::new(Mutex::new(LruCache::unbounded())));
            ClassLimiter {
                rate,
                interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
                limiter: RateLimiter::new(quota, recent.clone(), clock.clone()),
                clock,
                recent,
            }
        });
        Self { classes }
    }

    /// Charges a request. `Err` holds the same, with nothing remaining: refuse it.
    ///
    /// # Errors
    /// The caller is over its quota.
    pub fn charge(&self, class: LimitClass, caller: QuotaOwner) -> Result<Allowance, Allowance> {
        let ClassLimiter { rate, interval, clock, recent, limiter } = &self.classes[class.index()];
        let allowance = |remaining, more_in: u64| Allowance { class, rate: *rate, remaining, more_in };
        match limiter.check_key(&caller) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                // One more fits when the arrival time lies one interval less than the rest of the burst ahead.
                let used = u64::from(rate.requests.saturating_sub(remaining + 1));
                let at = recent.arrival(caller).saturating_sub(used * interval);
                Ok(allowance(remaining, seconds(at.saturating_sub(clock.now().as_u64()))))
            }
            Err(refused) => {
                let wait = refused.wait_time_from(clock.now());
                let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
                Err(allowance(0, seconds(nanos).max(1)))
            }
        }
    }

    /// Callers remembered, over all classes.
    pub fn tracked(&self) -> usize {
        self.classes.iter().map(|class| class.limiter.len()).sum()
    }

    /// Forgets the callers whose quota is whole again, and gives the memory back.
    pub fn sweep(&self) {
        for class in &self.classes {
            class.limiter.retain_recent();
            class.limiter.shrink_to_fit();
        }
    }
}

fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// Slows down whoever guesses keys: after ten wrong ones in a minute the rest of that
/// minute's wrong keys get 429. A right key always passes.
#[derive(Debug)]
pub struct Brake {
    clock: Clock,
    /// When a client's minute began, and its failures since.
    suspects: Mutex<LruCache<ClientKey, (Duration, u32)>>,
}

impl Brake {
    /// A brake that nobody has stepped on.
    pub fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), suspects: Mutex::new(LruCache::unbounded()) }
    }

    /// Counts a wrong key; seconds to wait when there have been too many.
    pub fn wrong_key(&self, client: ClientKey) -> Option<u64> {
        let now = self.clock.elapsed();
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, failures) = match suspects.get(&client) {
            Some((began, failures)) if now < *began + MINUTE => (*began, failures.saturating_add(1)),
            _ => (now, 1),
        };
        suspects.put(client, (began, failures));
        if suspects.len() > SUSPECTS {
            suspects.pop_lru();
        }
        let left = (began + MINUTE).saturating_sub(now);
        (failures > FAILURES).then(|| seconds(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)).max(1))
    }
}
