//! `check`: reports whether the installation is secure and reliable, and how to fix what is not. Changes nothing.

mod data;
mod installation;
mod keys;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use crate::commands::{Failure, counted, print};
use crate::config::{Settings, SettingsArgs};
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Print a JSON array with an object per finding
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    /// A setting that may be intentional.
    Advice,
    /// A problem to fix.
    Must,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK:",
            Self::Advice => "WARN:",
            Self::Must => "FAIL:",
        })
    }
}

/// Result of one check, with the action to take.
#[derive(Debug, Serialize)]
struct Finding {
    state: Severity,
    about: &'static str,
    finding: String,
}

fn ok(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: Severity::Ok, about, finding: finding.into() }
}

fn advice(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: Severity::Advice, about, finding: finding.into() }
}

fn must(about: &'static str, finding: impl Into<String>) -> Finding {
    Finding { state: Severity::Must, about, finding: finding.into() }
}

/// Runs all checks and prints their findings. `config` is the file that settings were read from.
pub fn run(args: &CheckArgs, config: &Path) -> Result<(), Failure> {
    let settings = args.settings.validate(|name| std::env::var(name).ok())?;
    let now = Timestamp::from(SystemTime::now());
    let database = &settings.common.database;
    let findings = match database.try_exists() {
        Ok(_) => everything(&settings, config, now)?,
        // Without access to the folder, every file in it would appear to be missing.
        Err(e) => {
            let sentence = format!("cannot access {}: {e}: run this command with sudo", database.display());
            let mut findings = vec![must("files", sentence)];
            findings.extend(installation::settings(&settings));
            findings.push(installation::connections(&settings));
            findings.extend([installation::clock(), installation::unit()]);
            findings
        }
    };
    if args.json {
        let all = serde_json::to_string(&findings).map_err(anyhow::Error::from)?;
        print(&all)?;
    } else {
        for Finding { state, about, finding } in &findings {
            print(&format!("{state:<5} {about:<11} {finding}"))?;
        }
    }
    match findings.iter().filter(|finding| finding.state == Severity::Must).count() {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("found {}", counted(n as u64, "problem")))),
    }
}

fn everything(settings: &Settings, config: &Path, now: Timestamp) -> Result<Vec<Finding>, Failure> {
    let database = &settings.common.database;
    // The key may be readable only by the caller, so it is checked before the switch to the owner.
    let mut findings = installation::key(settings, now);
    findings.extend(keys::config(settings, config));
    findings.extend(installation::settings(settings));
    findings.push(installation::connections(settings));
    findings.extend(installation::files(settings));
    let identity = Identity::of_owner(database).map_err(anyhow::Error::from)?;
    findings.extend(keys::named(database, now));
    findings.extend(data::database(database, now));
    findings.extend(data::backups(&settings.common, &identity, now));
    findings.push(data::disk(database));
    findings.extend([installation::clock(), installation::unit()]);
    Ok(findings)
}

/// Formats a time span in its largest unit: `3 hours`.
fn format_age(micros: i64) -> String {
    let seconds = (micros / 1_000_000).unsigned_abs();
    match seconds {
        0..120 => counted(seconds, "second"),
        120..7_200 => counted(seconds / 60, "minute"),
        7_200..172_800 => counted(seconds / 3600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}
