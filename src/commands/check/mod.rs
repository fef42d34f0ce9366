//! `check`: is this installation fit to be relied on? A line for each thing looked at, with what
//! to do about it. Nothing is changed.

mod data;
mod keys;
mod place;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use crate::commands::{Failure, counted, print};
use crate::config::{RawSettings, Settings};
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

/// How to say it.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Say it as a JSON array, an object for each thing
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: RawSettings,
}

/// How things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// It may be meant so.
    Advice,
    /// Something must be done.
    Must,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Must => "MUST",
        })
    }
}

/// What was found about one thing, and what to do about it.
#[derive(Debug, Serialize)]
struct Finding {
    state: State,
    about: &'static str,
    finding: String,
}

fn ok(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: State::Ok, about, finding: finding.into() }
}

fn advice(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: State::Advice, about, finding: finding.into() }
}

fn must(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: State::Must, about, finding: finding.into() }
}

/// Looks at everything and says what it found. `config` is the file that settings were read from.
///
/// # Errors
/// That something must be done.
pub fn run(args: CheckArgs, config: &Path) -> Result<(), Failure> {
    let settings = args.settings.check(|name| std::env::var(name).ok())?;
    let now = Timestamp::from(SystemTime::now());
    let database = &settings.place.database;
    let findings = match database.try_exists() {
        Ok(_) => everything(&settings, config, now)?,
        // All that lies there would seem not to be there.
        Err(e) => {
            let sentence = format!("{} cannot be looked at: {e}: run this with sudo", database.display());
            let mut findings = vec![must("files", sentence)];
            findings.extend(place::settings(&settings));
            findings.push(place::connections(&settings));
            findings.extend([place::clock(), place::unit()]);
            findings
        }
    };
    if args.json {
        let all = serde_json::to_string(&findings).map_err(anyhow::Error::from)?;
        print(&all)?;
    } else {
        for Finding { state, about, finding } in &findings {
            print(&format!("{state:<7} {about:<13} {finding}"))?;
        }
    }
    match findings.iter().filter(|finding| finding.state == State::Must).count() {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{} must be seen to", counted(n as u64, "thing")))),
    }
}

fn everything(settings: &Settings, config: &Path, now: Timestamp) -> Result<Vec<Finding>, Failure> {
    let database = &settings.place.database;
    // What only the caller may read, as the key, is looked at as the caller.
    let mut findings = place::key(settings, now);
    findings.extend(keys::config(settings, config));
    findings.extend(place::settings(settings));
    findings.push(place::connections(settings));
    findings.extend(place::files(settings));
    let identity = Identity::of_owner(database).map_err(anyhow::Error::from)?;
    findings.extend(keys::named(database, now));
    findings.extend(data::database(database, now));
    findings.extend(data::backups(&settings.place, &identity, now));
    findings.push(data::disk(database));
    findings.extend([place::clock(), place::unit()]);
    Ok(findings)
}

/// A time span in its largest unit: `3 hours`.
fn ago(micros: i64) -> String {
    let seconds = (micros / 1_000_000).unsigned_abs();
    match seconds {
        0..120 => counted(seconds, "second"),
        120..7_200 => counted(seconds / 60, "minute"),
        7_200..172_800 => counted(seconds / 3600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}
