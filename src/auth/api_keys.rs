//! Lookup of the keys that callers present.

use std::path::Path;

use crate::auth::key::{KeyDigest, KeyId, Scopes};
use crate::auth::key_store::KeyStore;
use crate::domain::time::Timestamp;

/// Valid keys: the owner's key and the named keys.
#[derive(Debug)]
pub struct ApiKeys {
    owner: KeyDigest,
    pub(crate) named: KeyStore,
}

/// Valid key that came with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValidKey {
    pub id: KeyId,
    pub scopes: Scopes,
}

impl ApiKeys {
    /// Returns the owner's key without named keys.
    pub fn new(owner: &str) -> Self {
        Self { owner: KeyDigest::of(owner), named: KeyStore::default() }
    }

    /// Adds the named keys of `database`.
    pub(crate) fn with_named(self, database: &Path) -> Self {
        Self { named: KeyStore::open(database), ..self }
    }

    /// Looks a key up by its digest; `None` when it is not valid. Does no I/O.
    pub(crate) fn find(&self, presented: &str, now: Timestamp) -> Option<ValidKey> {
        let digest = KeyDigest::of(presented);
        let scopes = if self.owner == digest { Scopes::ALL } else { self.named.record_use(&digest, now)? };
        Some(ValidKey { id: digest.id(), scopes })
    }

    /// Returns the name of a key, `owner` for the owner's; `None` when it was revoked meanwhile.
    pub(crate) fn name(&self, id: KeyId) -> Option<String> {
        if self.owner.id() == id { Some("owner".to_owned()) } else { self.named.name(id) }
    }
}
