//! Named API keys: what each may do, and until when.
//!
//! Keys are kept as SHA-256 digests; a key itself is shown once, when it is made. `file` is
//! where they lie, `uses` when each was last used. The owner's key is not among them, and
//! who may ask for what is decided in `http`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::time::Timestamp;

/// What a key may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To look at coffees and heart rates.
    Read,
    /// To log, change and delete them.
    Write,
    /// To look at `/metrics`.
    Metrics,
}

impl Scope {
    /// Every scope, in the order of its bit.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Metrics];

    /// Its name, as commands and answers have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Metrics => "metrics",
        }
    }

    /// The scope of that name.
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let named = Self::ALL.into_iter().find(|scope| scope.name() == text.trim());
        named.ok_or("must be read, write or metrics")
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    /// All of them: the owner's.
    pub const ALL: Self = Self(0b111);

    /// Is this one among them?
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
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

/// What a key is called: 1 to 50 letters, digits and `-_.` of ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    const MAX_LENGTH: usize = 50;

    /// Reads a name.
    ///
    /// # Errors
    /// A phrase that says what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must have 1 to 50 letters, digits, `-`, `_` or `.`")
        }
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

/// A key's SHA-256 digest: tells keys apart, and gives none away.
///
/// Comparisons need no constant time: a caller cannot choose the first bytes of a digest without finding
/// a key for them, so the time of a comparison reveals nothing that helps to find the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The short form by which rate limits tell valid keys apart.
    pub fn id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        KeyId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// The first 64 bits of a valid key's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FORM: &str = "must be a SHA-256 digest: 64 hexadecimal digits";
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(FORM);
        }
        for (n, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| FORM)?;
        }
        Ok(Self(digest))
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        hexadecimal(&digest.0)
    }
}

/// A key as it is kept. Two have the same name while the older one is being replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// A misspelt `expires` must not make a key that holds for ever.
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    pub name: KeyName,
    pub scopes: Scopes,
    pub created: Timestamp,
    /// `None`: it holds until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(rename = "sha256")]
    pub digest: KeyDigest,
}

impl NamedKey {
    /// Does it hold then?
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// A new key of 256 random bits: `ct_` and 64 hexadecimal digits.
pub fn make_key() -> Result<String, String> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|e| e.to_string())?;
    Ok(format!("ct_{}", hexadecimal(&random)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_to_fifty_plain_characters() {
        for (name, fits) in [
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
            assert_eq!(KeyName::parse(name).is_ok(), fits, "{name:?}");
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
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() -> Result<(), &'static str> {
        let digest = KeyDigest::of("abc");
        let text = String::from(digest);
        // FIPS 180-4's example.
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(KeyDigest::try_from(text.clone())?, digest);
        for wrong in [&text[1..], &format!("{text}0"), &text.replace('b', "g"), &"é".repeat(32)] {
            assert!(KeyDigest::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn every_key_that_is_made_is_another() -> Result<(), String> {
        let (one, other) = (make_key()?, make_key()?);
        assert!(one.starts_with("ct_") && one.len() == 67, "{one}");
        assert_ne!(one, other);
        Ok(())
    }
}
