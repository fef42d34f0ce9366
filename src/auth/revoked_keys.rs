//! Keys of a person that a request has revoked, so that this can be undone for a while.
//!
//! They are in memory only: after a restart, a revoked key stays revoked.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::key::{KeyName, NamedKey};

/// Time in which a revocation can be undone.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Maximum number of revocations.
const MAX_REVOCATIONS: usize = 20;

/// The latest revocations, oldest first.
#[derive(Debug, Default)]
pub struct RevokedKeys(Mutex<VecDeque<Revocation>>);

/// Revocation of all keys of one name, of which there are several while one replaces another.
#[derive(Debug)]
struct Revocation {
    name: KeyName,
    keys: Vec<NamedKey>,
    at: Duration,
}

impl RevokedKeys {
    /// Records a revocation. `elapsed` is a monotonic time.
    pub fn record(&self, name: KeyName, keys: Vec<NamedKey>, elapsed: Duration) {
        let mut recent = self.recent(elapsed);
        recent.push_back(Revocation { name, keys, at: elapsed });
        if recent.len() > MAX_REVOCATIONS {
            recent.pop_front();
        }
    }

    /// Returns the keys that were revoked last under this name; `None` when it was too long ago.
    pub fn find(&self, name: &KeyName, elapsed: Duration) -> Option<Vec<NamedKey>> {
        let recent = self.recent(elapsed);
        recent.iter().rfind(|revocation| revocation.name == *name).map(|revocation| revocation.keys.clone())
    }

    /// Removes the revocation of these keys, once they are valid again.
    pub fn remove(&self, keys: &[NamedKey], elapsed: Duration) {
        self.recent(elapsed).retain(|revocation| revocation.keys != keys);
    }

    /// Drops what is too old.
    fn recent(&self, elapsed: Duration) -> MutexGuard<'_, VecDeque<Revocation>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|revocation| elapsed < revocation.at + MAX_AGE);
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::{KeyDigest, Scopes};
    use crate::domain::time::Timestamp;

    fn key(name: &str, text: &str) -> Result<NamedKey, &'static str> {
        let (name, digest) = (KeyName::parse(name)?, KeyDigest::of(text));
        Ok(NamedKey { name, scopes: Scopes::default(), created: Timestamp::MIN, expires: None, digest })
    }

    #[test]
    fn the_last_revocation_of_a_name_is_found_for_10_minutes() -> Result<(), &'static str> {
        let (revoked, name) = (RevokedKeys::default(), KeyName::parse("phone")?);
        let (first, second) = (vec![key("phone", "first")?], vec![key("phone", "second")?]);
        let seconds = Duration::from_secs;
        revoked.record(name.clone(), first.clone(), seconds(0));
        revoked.record(name.clone(), second.clone(), seconds(300));
        assert_eq!(revoked.find(&name, seconds(599)), Some(second.clone()));
        revoked.remove(&second, seconds(599));
        assert_eq!(revoked.find(&name, seconds(599)), Some(first));
        assert_eq!(revoked.find(&name, seconds(600)), None);
        Ok(())
    }

    #[test]
    fn the_oldest_of_more_than_20_revocations_is_dropped() -> Result<(), &'static str> {
        let revoked = RevokedKeys::default();
        for n in 0..21 {
            let name = format!("key-{n}");
            revoked.record(KeyName::parse(&name)?, vec![key(&name, &name)?], Duration::ZERO);
        }
        assert_eq!(revoked.find(&KeyName::parse("key-0")?, Duration::ZERO), None);
        assert!(revoked.find(&KeyName::parse("key-1")?, Duration::ZERO).is_some());
        Ok(())
    }
}
