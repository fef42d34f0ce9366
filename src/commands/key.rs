//! `key`: creates, lists, revokes and rotates named API keys.

use std::io;
use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::auth::key::{KeyName, NamedKey, Scope, Scopes};
use crate::auth::key_file::{KeyFile, KeyFileError};
use crate::auth::key_store::{LastUses, read_last_uses};
use crate::commands::table::print_table;
use crate::commands::{Failure, act_as_owner, print, unwritten};
use crate::config::PersonArgs;
use crate::db::error::require_database;
use crate::domain::calendar::{Date, Zone};
use crate::domain::time::Timestamp;

/// Maximum of `--grace`, days.
const MAX_GRACE_DAYS: u64 = 366;
/// Maximum of `--expires`, days: about a century.
const MAX_LIFETIME_DAYS: u64 = 36_500;

#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key and print it once
    Add {
        /// Name of the key: 1 to 50 letters, digits, `-`, `_` or `.`
        #[arg(value_parser = KeyName::parse_new)]
        name: KeyName,

        /// Scopes, comma-separated: read, write, metrics (for keys of the owner only), manage (one's own keys and
        /// backups)
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = Scope::parse,
              default_value = "read,write")]
        scope: Vec<Scope>,

        /// Last day on which the key is valid, such as 2027-01-31, or its lifetime, such as 90d [default: no expiry]
        #[arg(long, value_name = "DATE|TIME", value_parser = Expiry::parse)]
        expires: Option<Expiry>,

        #[command(flatten)]
        common: PersonArgs,
    },
    /// List the valid keys with their scopes, creation, last use and expiry
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        common: PersonArgs,
    },
    /// Revoke a key, such as that of a lost phone (takes effect within two seconds)
    Revoke {
        /// Name of the key
        #[arg(value_parser = KeyName::parse)]
        name: KeyName,

        #[command(flatten)]
        common: PersonArgs,
    },
    /// Replace a key and print the new one; the old one stays valid for a grace period
    Rotate {
        /// Name of the key
        #[arg(value_parser = KeyName::parse)]
        name: KeyName,

        /// Grace period of the old key, such as 30m, 24h or 7d; 0 revokes it within two seconds
        #[arg(long, value_name = "TIME", value_parser = grace, default_value = "24h")]
        grace: Duration,

        #[command(flatten)]
        common: PersonArgs,
    },
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::Unwritable { path, error: why } => unwritten(&path.display().to_string(), &why),
            KeyFileError::Busy(_) | KeyFileError::Frozen(_) => Self::Busy(error.to_string()),
            KeyFileError::Unreadable { .. } | KeyFileError::Damaged { .. } => {
                Self::Configuration(vec![error.to_string()])
            }
            KeyFileError::NameTaken(_)
            | KeyFileError::UnknownName(_)
            | KeyFileError::TooMany
            | KeyFileError::Random(_) => Self::Failed(error.to_string()),
        }
    }
}

pub fn run(args: KeyArgs) -> Result<(), Failure> {
    let now = Timestamp::from(SystemTime::now());
    match args.action {
        KeyCommand::Add { name, scope, expires, common } => {
            let scopes = Scopes::from(scope);
            if scopes.has(Scope::Metrics) && common.person.as_ref().is_some_and(|person| !person.is_owner()) {
                return Err(Failure::Usage(
                    "/metrics is about everyone: only a key of the owner can have the scope metrics"
                        .to_owned(),
                ));
            }
            let expires = expires.map(|expiry| expiry.instant(now, &common.validate()?.zone)).transpose()?;
            let key = file(&common)?.0.add(&name, scopes, expires, now)?;
            print_key(&name, &key)?;
            let end = expires.map_or_else(String::new, |end| format!(", valid until {}", short(end)));
            eprintln!("created key {name} ({scopes}{end}); save it now, it is not shown again");
            Ok(())
        }
        KeyCommand::List { json, common } => {
            let (file, uses) = file(&common)?;
            let (mut keys, _) = file.read()?;
            keys.retain(|key| key.is_valid_at(now));
            keys.sort_by(|a, b| (&a.name, b.created).cmp(&(&b.name, a.created)));
            if json { print(&as_json(&keys, &uses).to_string()) } else { print_keys(&keys, &uses) }
        }
        KeyCommand::Revoke { name, common } => {
            file(&common)?.0.revoke(&name, now)?;
            print(&format!("revoked key {name}"))
        }
        KeyCommand::Rotate { name, grace, common } => {
            let end = now.plus(i64::try_from(grace.as_micros()).unwrap_or(i64::MAX));
            let key = file(&common)?.0.rotate(&name, now, end)?;
            print_key(&name, &key)?;
            let old = match grace.is_zero() {
                true => "is revoked".to_owned(),
                false => format!("is valid until {}", short(end)),
            };
            eprintln!("rotated key {name}; save it now, it is not shown again; the old key {old}");
            Ok(())
        }
    }
}

/// Opens the key file of the database, and the record of when keys were last used.
fn file(common: &PersonArgs) -> Result<(KeyFile, LastUses), Failure> {
    let database = common.validate()?.database;
    act_as_owner(&database)?;
    // Keys for a database that does not exist would be of no use.
    require_database(&database)?;
    Ok((KeyFile::of(&database), read_last_uses(&database)))
}

/// Prints a new key on a line of its own, for scripts. Unlike elsewhere, a closed pipe is an error.
fn print_key(name: &KeyName, key: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{key}").and_then(|()| io::stdout().flush()).map_err(|e| {
        Failure::Failed(format!(
            "created key {name} but cannot print it: {e}: replace it with `coffee-tracker key rotate {name} --grace 0`"
        ))
    })
}

fn print_keys(keys: &[NamedKey], uses: &LastUses) -> Result<(), Failure> {
    if keys.is_empty() {
        return print("no named keys");
    }
    let or_never = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), short);
    let row = |key: &NamedKey| {
        let (used, expires) = (or_never(uses.get(&key.digest).copied()), or_never(key.expires));
        [key.name.to_string(), key.scopes.to_string(), short(key.created), used, expires]
    };
    print_table(["NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES"], keys.iter().map(row))
}

fn as_json(keys: &[NamedKey], uses: &LastUses) -> Value {
    let object = |key: &NamedKey| {
        json!({
            "name": key.name,
            "scopes": key.scopes,
            "created": key.created,
            "last_used": uses.get(&key.digest),
            "expires": key.expires,
        })
    };
    keys.iter().map(object).collect()
}

/// Formats an instant to the second: `2025-07-23T14:30:00Z`.
fn short(at: Timestamp) -> String {
    format!("{}Z", &at.text().as_str()[..19])
}

/// Expiry of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// The key is valid up to and including this day.
    LastDay(Date),
    After(Duration),
}

impl Expiry {
    /// Parses `2027-01-31` or `90d`.
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(date) = text.parse() {
            return Ok(Self::LastDay(date));
        }
        let lifetime = duration(text, MAX_LIFETIME_DAYS).filter(|time| !time.is_zero());
        lifetime.map(Self::After).ok_or_else(|| {
            format!("must be a day such as 2027-01-31, or a duration such as 12h or 90d, up to {MAX_LIFETIME_DAYS}d")
        })
    }

    /// Returns the first instant at which the key is no longer valid.
    fn instant(self, now: Timestamp, zone: &Zone) -> Result<Timestamp, Failure> {
        let end = match self {
            Self::LastDay(date) => zone.day(date).1,
            Self::After(lifetime) => now.plus(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX)),
        };
        if end <= now { Err(Failure::Usage("--expires is in the past".to_owned())) } else { Ok(end) }
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    duration(text, MAX_GRACE_DAYS)
        .ok_or_else(|| format!("must be a duration such as 30m, 24h or 7d, up to {MAX_GRACE_DAYS}d"))
}

/// Parses `90s`, `30m`, `24h`, `7d` or `0`. Returns `None` for anything else, and for more than `max_days`.
fn duration(text: &str, max_days: u64) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "" if number == "0" => Some(1),
        _ => None,
    };
    let seconds = unit.zip(number.parse::<u64>().ok()).and_then(|(unit, n)| n.checked_mul(unit));
    seconds.filter(|seconds| *seconds <= max_days * 86_400).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_is_a_number_with_a_unit() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("0h", Some(0)),
            ("90s", Some(90)),
            ("30m", Some(1800)),
            ("24h", Some(86_400)),
            ("366d", Some(366 * 86_400)),
            ("367d", None),
            ("24", None),
            ("", None),
            ("h", None),
            ("-1h", None),
            ("1.5h", None),
            ("1 h", None),
            ("1w", None),
            ("24H", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("١h", None),
        ] {
            assert_eq!(grace(text).ok().map(|time| time.as_secs()), seconds, "{text:?}");
        }
    }

    #[test]
    fn a_key_expires_after_its_last_day_or_its_lifetime() -> Result<(), Box<dyn std::error::Error>> {
        let berlin = Zone::named("Europe/Berlin")?;
        let now = berlin.parse("2027-01-01T12:00")?;
        for (text, end) in [
            ("90d", Some("2027-04-01T11:00:00Z")),
            ("12h", Some("2027-01-01T23:00:00Z")),
            ("2027-01-31", Some("2027-01-31T23:00:00Z")),
            ("2027-01-01", Some("2027-01-01T23:00:00Z")),
            ("2026-12-31", None),
        ] {
            let found = Expiry::parse(text)?.instant(now, &berlin).ok().map(short);
            assert_eq!(found.as_deref(), end, "{text}");
        }
        for text in ["", "0", "0d", "soon", "2027-02-30", "2027-1-1", "36501d", "-1d"] {
            assert!(Expiry::parse(text).is_err(), "{text:?}");
        }
        Ok(())
    }
}
