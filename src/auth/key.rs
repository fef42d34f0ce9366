//! API keys, their scopes, names and digests.
//!
//! Keys are stored as SHA-256 digests; a key itself is shown once, when it is created.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::random::random_hex;
use crate::domain::time::Timestamp;

/// Permission of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read coffees and heart rates.
    Read,
    /// Add, change and delete coffees and heart rates.
    Write,
    /// Read `/metrics`.
    Metrics,
    /// Manage one's own keys and backups.
    Manage,
    /// Manage everything. The owner's key alone has it: a file of named keys that grants it is damaged.
    #[serde(skip_deserializing)]
    Admin,
}

impl Scope {
    /// All scopes, in the order of their bits.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Metrics, Self::Manage, Self::Admin];
    /// Scopes that a named key can have.
    pub const OF_NAMED_KEYS: [Self; 4] = [Self::Read, Self::Write, Self::Metrics, Self::Manage];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Metrics => "metrics",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    /// Parses the name of a scope that a named key can have.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let named = Self::OF_NAMED_KEYS.into_iter().find(|scope| scope.name() == text.trim());
        named.ok_or("must be read, write, metrics or manage; the owner's key alone has admin")
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    /// All scopes, which the owner's key has.
    pub const ALL: Self = Self(0b1_1111);

    /// Reports whether the set contains `scope`.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Returns the set without `scope`.
    #[must_use]
    pub const fn without(self, scope: Scope) -> Self {
        Self(self.0 & !(1 << scope as u8))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        Scope::ALL.into_iter().filter(|scope| scopes.has(*scope)).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Vec::from(*self).into_iter().map(Scope::name).collect();
        f.pad(&names.join(","))
    }
}

/// Name of a key: 1 to 50 ASCII letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    const MAX_LENGTH: usize = 50;

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must have 1 to 50 letters, digits, `-`, `_` or `.`")
        }
    }

    /// Parses the name of a new key, which must not be `.` or `..`: HTTP clients turn the path `/people/anna/keys/..` into
    /// `/people/anna/`.
    pub fn parse_new(text: &str) -> Result<Self, &'static str> {
        if matches!(text, "." | "..") { Err("must not be `.` or `..`") } else { Self::parse(text) }
    }
}

impl TryFrom<String> for KeyName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// SHA-256 digest of a key.
///
/// Comparisons need not take constant time: a caller cannot choose the first bytes of a digest without finding
/// a key that has them, so the duration of a comparison does not help to find the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyDigest(#[serde(with = "hex")] [u8; 32]);

impl KeyDigest {
    /// Computes the digest of a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Returns the short form that identifies a valid key in rate limits.
    pub fn id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        KeyId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// First 64 bits of the digest of a valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

/// Stored key. Two keys have the same name while one replaces the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// A misspelt `expires` must not result in a key that never expires.
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    pub name: KeyName,
    pub scopes: Scopes,
    pub created: Timestamp,
    /// `None` when the key never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(rename = "sha256")]
    pub digest: KeyDigest,
}

/// Key to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    pub name: KeyName,
    pub scopes: Scopes,
    /// `None` when the key never expires.
    pub expires: Option<Timestamp>,
}

impl NamedKey {
    /// Reports whether the key has not expired.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// Creates a key of 256 random bits: `ct_` and 64 hexadecimal digits. Fails when the system has no random numbers.
pub fn make_key() -> Result<String, String> {
    Ok(format!("ct_{}", random_hex::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_name_has_1_to_50_letters_digits_and_punctuation_characters() {
        for (name, is_valid) in [
            ("phone", true),
            ("Anna.s_i-Phone.15", true),
            ("..", true),
            (&"n".repeat(50), true),
            (&"n".repeat(51), false),
            ("", false),
            ("my phone", false),
            ("phone\n", false),
            ("tëlephone", false),
            ("a/b", false),
        ] {
            assert_eq!(KeyName::parse(name).is_ok(), is_valid, "{name:?}");
            assert_eq!(KeyName::parse_new(name).is_ok(), is_valid && name != "..", "{name:?}");
        }
    }

    #[test]
    fn scopes_are_a_set() {
        let some = Scopes::from(vec![Scope::Metrics, Scope::Read, Scope::Metrics]);
        assert_eq!(some.to_string(), "read,metrics");
        assert!(!some.has(Scope::Write));
        assert_eq!(Scopes::from(Scope::ALL.to_vec()), Scopes::ALL);
        assert!(Scope::ALL.into_iter().all(|scope| Scopes::ALL.has(scope)));
        assert_eq!(Scopes::default().to_string(), "");
        assert_eq!(Scopes::ALL.without(Scope::Metrics).to_string(), "read,write,manage,admin");
        assert_eq!(some.without(Scope::Write), some);
    }

    #[test]
    fn no_named_key_has_the_scope_admin() {
        assert!(Scope::parse("admin").is_err());
        for scope in Scope::OF_NAMED_KEYS {
            assert_eq!(Scope::parse(scope.name()), Ok(scope));
            assert_eq!(serde_json::from_str::<Scope>(&format!("\"{}\"", scope.name())).ok(), Some(scope));
        }
        let error = serde_json::from_str::<Scopes>(r#"["read", "admin"]"#).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("unknown variant `admin`")), "{error:?}");
    }

    #[test]
    fn a_digest_is_parsed_from_its_own_text() -> serde_json::Result<()> {
        let digest = KeyDigest::of("abc");
        let text = serde_json::to_string(&digest)?;
        // Example of FIPS 180-4.
        assert_eq!(text, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
        assert_eq!(serde_json::from_str::<KeyDigest>(&text)?, digest);
        for wrong in [text.replacen('b', "", 1), text.replacen('b', "bb", 1), text.replace('b', "g")] {
            assert!(serde_json::from_str::<KeyDigest>(&wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn every_created_key_is_different() -> Result<(), String> {
        let (one, other) = (make_key()?, make_key()?);
        assert!(one.starts_with("ct_") && one.len() == 67, "{one}");
        assert_ne!(one, other);
        Ok(())
    }
}
