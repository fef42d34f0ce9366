//! Named keys of a person of a running server, as requests manage them. A change is in effect when it returns.

use std::sync::Arc;

use crate::auth::key::{KeyDigest, KeyName, KeyRequest};
use crate::auth::key_file::{KeyFile, KeyFileError};
use crate::auth::key_store::ListedKey;
use crate::auth::pairing::{Pairing, PairingSecret, StartedPairing};
use crate::domain::time::Timestamp;
use crate::people::person::Person;
use crate::people::registry::People;

/// Named keys of one person.
#[derive(Clone, Debug)]
pub struct PersonKeys {
    people: Arc<People>,
    person: Arc<Person>,
}

/// New key. Its text cannot be looked up later.
pub struct CreatedKey {
    pub listed: ListedKey,
    pub text: String,
}

/// Key that replaces another one.
pub struct RotatedKey {
    pub new: CreatedKey,
    /// Time at which the former key expires.
    pub old_expires: Timestamp,
}

/// Exchanges the secrets of pairings for keys. It reaches the keys of a person only with a secret.
pub struct CodeRedeemer(Arc<People>);

impl CodeRedeemer {
    /// Gives access to the pairings of everyone.
    pub fn new(people: Arc<People>) -> Self {
        Self(people)
    }

    /// Creates the key of the pairing that has this secret, and returns it with its person; `None` when there is no such
    /// pairing. When the key cannot be created, the pairing continues. Blocks on files.
    pub fn redeem(&self, secret: &PairingSecret) -> Result<Option<(CreatedKey, Arc<Person>)>, KeyFileError> {
        let Some(pairing) = self.0.pairings.claim(secret) else { return Ok(None) };
        let Some(person) = self.0.find(&pairing.person) else { return Ok(None) };
        let created = PersonKeys::new(Arc::clone(&self.0), Arc::clone(&person)).add(&pairing.request);
        match &created {
            Ok(_) => self.0.pairings.complete(&pairing.id),
            Err(_) => self.0.pairings.release(&pairing.id),
        }
        Ok(Some((created?, person)))
    }
}

impl PersonKeys {
    /// Gives access to the keys of `person`.
    pub fn new(people: Arc<People>, person: Arc<Person>) -> Self {
        Self { people, person }
    }

    pub fn person(&self) -> &Person {
        &self.person
    }

    /// Returns the valid keys, newest first.
    pub fn list(&self) -> Vec<ListedKey> {
        self.person.keys.list(self.people.clock.now())
    }

    /// Creates a key. Blocks on files.
    pub fn add(&self, request: &KeyRequest) -> Result<CreatedKey, KeyFileError> {
        let KeyRequest { name, scopes, expires } = request;
        let text = self.change(|file, now| file.add(name, *scopes, *expires, now))?;
        self.created(name, text)
    }

    /// Revokes every key of that name. Blocks on files.
    pub fn revoke(&self, name: &KeyName) -> Result<(), KeyFileError> {
        let revoked = self.change(|file, now| file.revoke(name, now))?;
        self.person.revoked_keys.record(name.clone(), revoked, self.people.clock.elapsed());
        Ok(())
    }

    /// Makes the keys valid again that [`PersonKeys::revoke`] revoked last under this name, and returns the newest of
    /// them; `None` when that was more than ten minutes ago, or they have expired. Blocks on files.
    pub fn undo_revoke(&self, name: &KeyName) -> Result<Option<ListedKey>, KeyFileError> {
        let elapsed = self.people.clock.elapsed();
        let Some(revoked) = self.person.revoked_keys.find(name, elapsed) else { return Ok(None) };
        match self.change(|file, now| file.restore(name, &revoked, now)) {
            Err(KeyFileError::UnknownName(_)) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => {
                self.person.revoked_keys.remove(&revoked, elapsed);
                Ok(self.list().into_iter().find(|listed| listed.key.name == *name))
            }
        }
    }

    /// Replaces a key; the former one expires after `grace` microseconds or earlier. Blocks on files.
    pub fn rotate(&self, name: &KeyName, grace: i64) -> Result<RotatedKey, KeyFileError> {
        let (text, end) = self.change(|file, now| {
            let end = now.plus(grace);
            Ok((file.rotate(name, now, end)?, end))
        })?;
        let new = self.created(name, text)?;
        // The new key has the expiry that the former one had.
        let old_expires = new.listed.key.expires.map_or(end, |before| before.min(end));
        Ok(RotatedKey { new, old_expires })
    }

    /// Starts the pairing of a device that gets such a key.
    pub fn start_pairing(&self, request: KeyRequest) -> Result<StartedPairing, KeyFileError> {
        self.person.keys.require_free(&request.name, self.people.clock.now())?;
        self.people.pairings.start(self.person.name(), request).map_err(KeyFileError::Random)
    }

    /// Returns a pairing of the person.
    pub fn pairing(&self, id: &str) -> Option<Pairing> {
        self.people.pairings.find(self.person.name(), id)
    }

    /// Ends a pairing of the person. Returns whether there was one.
    pub fn end_pairing(&self, id: &str) -> bool {
        self.people.pairings.remove(self.person.name(), id)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&KeyFile, Timestamp) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let changed = self.person.keys.change(|file| {
            if self.person.is_leaving() {
                return Err(KeyFileError::Busy(file.path().to_owned()));
            }
            change(file, self.people.clock.now())
        });
        if !self.person.name().is_owner() {
            self.people.index_keys();
        }
        changed
    }

    fn created(&self, name: &KeyName, text: String) -> Result<CreatedKey, KeyFileError> {
        let listed = self.person.keys.get(&KeyDigest::of(&text));
        // A command may have revoked it meanwhile.
        let listed = listed.ok_or_else(|| KeyFileError::UnknownName(name.clone()))?;
        Ok(CreatedKey { listed, text })
    }
}
