//! `key`: makes, lists, ends and replaces named API keys, whether a server runs or not.

use std::io;
use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::auth::key::{KeyName, NamedKey, Scope, Scopes};
use crate::auth::key_file::{KeyFile, KeyFileError};
use crate::auth::last_used::LastUsed;
use crate::commands::{Failure, print, unwritten};
use crate::config::RawPlace;
use crate::db::error::require_database;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

/// The longest that a replaced key may go on holding, days.
const LONGEST_GRACE: u64 = 366;

/// What to do with which key.
#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it: it cannot be shown again
    Add(AddArgs),
    /// Show every key that holds: name, scopes, when it was made, last used, and ends
    List(ListArgs),
    /// End a key at once: that of a lost phone
    Revoke(RevokeArgs),
    /// Make another key of that name and print it; the old one goes on holding for a while
    Rotate(RotateArgs),
}

#[derive(Args, Debug)]
struct AddArgs {
    /// What to call it: 1 to 50 letters, digits, `-`, `_` or `.`
    #[arg(value_parser = KeyName::parse)]
    name: KeyName,

    /// What it is good for, comma-separated: read, write, metrics
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = Scope::parse,
          default_values = ["read", "write"])]
    scope: Vec<Scope>,

    #[command(flatten)]
    place: RawPlace,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// As a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: RawPlace,
}

#[derive(Args, Debug)]
struct RevokeArgs {
    /// What it is called
    #[arg(value_parser = KeyName::parse)]
    name: KeyName,

    #[command(flatten)]
    place: RawPlace,
}

#[derive(Args, Debug)]
struct RotateArgs {
    /// What it is called
    #[arg(value_parser = KeyName::parse)]
    name: KeyName,

    /// How long the old key goes on holding, such as 30m, 24h or 7d; 0 ends it at once
    #[arg(long, value_name = "TIME", value_parser = grace, default_value = "24h")]
    grace: Duration,

    #[command(flatten)]
    place: RawPlace,
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::Unwritable { path, error: why } => unwritten(&path.display().to_string(), &why),
            KeyFileError::Busy(_) => Self::Busy(error.to_string()),
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

/// Does it.
///
/// # Errors
/// Why it does not.
pub fn run(args: KeyArgs) -> Result<(), Failure> {
    let now = Timestamp::from(SystemTime::now());
    match args.action {
        Action::Add(args) => {
            let scopes = Scopes::from(args.scope);
            let key = file(args.place)?.0.add(&args.name, scopes, now)?;
            show(&args.name, &key)?;
            eprintln!("{}: {scopes}. Keep it now: it is not shown again.", args.name);
            Ok(())
        }
        Action::List(args) => {
            let (file, uses) = file(args.place)?;
            let (mut keys, _) = file.read()?;
            keys.retain(|key| key.is_valid_at(now));
            keys.sort_by(|a, b| (&a.name, b.created).cmp(&(&b.name, a.created)));
            print(&if args.json { as_json(&keys, &uses).to_string() } else { as_text(&keys, &uses) })
        }
        Action::Revoke(args) => {
            file(args.place)?.0.revoke(&args.name, now)?;
            print(&format!("revoked {}", args.name))
        }
        Action::Rotate(args) => {
            let end = now.plus(i64::try_from(args.grace.as_micros()).unwrap_or(i64::MAX));
            let key = file(args.place)?.0.rotate(&args.name, now, end)?;
            show(&args.name, &key)?;
            let old =
                if args.grace.is_zero() { "no more".to_owned() } else { format!("until {}", short(end)) };
            eprintln!("{}: keep the new key now, it is not shown again. The old one holds {old}.", args.name);
            Ok(())
        }
    }
}

/// The keys of a database, as its owner, and when they were last used.
fn file(place: RawPlace) -> Result<(KeyFile, LastUsed), Failure> {
    let database = place.check()?.database;
    Identity::of_owner(&database).context("the rights of the database's owner")?;
    // Keys beside a file that no server serves would open nothing, and nobody would see why.
    require_database(&database)?;
    Ok((KeyFile::of(&database), LastUsed::read(&database)))
}

/// Prints a new key, alone, so that a script can take it. Unlike elsewhere it matters that
/// somebody reads it.
fn show(name: &KeyName, key: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{key}").and_then(|()| io::stdout().flush()).map_err(|e| {
        let mend = format!("`coffee-tracker key rotate {name} --grace 0` makes another");
        Failure::Failed(format!("the key {name} is made but cannot be printed: {e}; {mend}"))
    })
}

fn as_text(keys: &[NamedKey], uses: &LastUsed) -> String {
    if keys.is_empty() {
        return "There are no named keys; the owner's key is good for everything.".to_owned();
    }
    let width = keys.iter().map(|key| key.name.to_string().len()).max().unwrap_or(0).max("NAME".len());
    let row = |name: &str, scopes: &str, created: &str, used: &str, expires: &str| {
        format!("{name:<width$}  {scopes:<18}  {created:<20}  {used:<20}  {expires}")
    };
    let mut lines = vec![row("NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES")];
    lines.extend(keys.iter().map(|key| {
        let used = uses.of(&key.digest).map_or_else(|| "never".to_owned(), short);
        let expires = key.expires.map_or_else(|| "never".to_owned(), short);
        row(&key.name.to_string(), &key.scopes.to_string(), &short(key.created), &used, &expires)
    }));
    lines.join("\n")
}

fn as_json(keys: &[NamedKey], uses: &LastUsed) -> Value {
    let object = |key: &NamedKey| {
        json!({
            "name": key.name,
            "scopes": key.scopes,
            "created": key.created,
            "last_used": uses.of(&key.digest),
            "expires": key.expires,
        })
    };
    keys.iter().map(object).collect()
}

/// To the second: `2025-07-23T14:30:00Z`.
fn short(at: Timestamp) -> String {
    format!("{}Z", &at.text().as_str()[..19])
}

/// Reads `90s`, `30m`, `24h`, `7d` or `0`.
fn grace(text: &str) -> Result<Duration, String> {
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
    let fits = seconds.filter(|seconds| *seconds <= LONGEST_GRACE * 86_400);
    fits.map(Duration::from_secs)
        .ok_or_else(|| format!("must be a time such as 30m, 24h or 7d, up to {LONGEST_GRACE}d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_a_number_and_a_unit() {
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
}
