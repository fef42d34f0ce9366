//! API keys: the owner's key, the named keys of devices, their scopes, and the file that holds them.

pub mod key;
pub mod key_file;
pub mod key_store;
pub mod owner_key;
pub mod pairing;
pub mod random;
pub mod revoked_keys;
