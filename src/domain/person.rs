//! Names of a person whose data the server stores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of a person: 1 to 32 lower-case letters, digits and hyphens, starting with a letter or digit. It is also the
/// name of the person's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonName(String);

impl PersonName {
    const MAX_LENGTH: usize = 32;
    const OWNER: &str = "owner";

    /// Returns the name of the owner, whose database `DATABASE_URL` names.
    pub fn owner() -> Self {
        Self(Self::OWNER.to_owned())
    }

    /// Reports whether this is the owner.
    pub fn is_owner(&self) -> bool {
        self.0 == Self::OWNER
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersonName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let has_length = (1..=Self::MAX_LENGTH).contains(&text.len());
        // Names are arguments of commands, where a leading hyphen marks an option.
        if has_length && text.bytes().all(is_allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err("must have 1 to 32 lower-case letters, digits or hyphens, and start with a letter or digit")
        }
    }
}

impl TryFrom<String> for PersonName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PersonName> for String {
    fn from(name: PersonName) -> Self {
        name.0
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Name of a person as pages show it: free text of 1 to 100 characters on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

impl DisplayName {
    const MAX_LENGTH: usize = 100;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DisplayName {
    type Err = &'static str;

    /// Parses a name. Control characters and spaces around it are removed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let without_controls: String = text.chars().filter(|c| !c.is_control()).collect();
        let name = without_controls.trim();
        if (1..=Self::MAX_LENGTH).contains(&name.chars().count()) {
            Ok(Self(name.to_owned()))
        } else {
            Err("must have 1 to 100 characters")
        }
    }
}

impl TryFrom<String> for DisplayName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DisplayName> for String {
    fn from(name: DisplayName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_name_has_1_to_32_lower_case_letters_digits_and_hyphens() {
        for (name, is_valid) in [
            ("anna", true),
            ("7", true),
            ("a-", true),
            ("-", false),
            ("-a", false),
            (&"n".repeat(32), true),
            (&"n".repeat(33), false),
            ("", false),
            ("Anna", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("jörg", false),
        ] {
            assert_eq!(name.parse::<PersonName>().is_ok(), is_valid, "{name:?}");
        }
    }

    #[test]
    fn a_display_name_has_1_to_100_characters_without_control_characters() {
        for (text, name) in [
            ("Anna", Some("Anna")),
            (" Jörg \n", Some("Jörg")),
            ("An\u{7}na\r\nM.", Some("AnnaM.")),
            ("", None),
            (" \t", None),
            (&"é".repeat(100), Some(&*"é".repeat(100))),
            (&"n".repeat(101), None),
        ] {
            let parsed = text.parse::<DisplayName>().ok();
            assert_eq!(parsed.as_ref().map(DisplayName::as_str), name, "{text:?}");
        }
    }
}
