//! `check`: reports whether the installation is secure and reliable, and how to fix what is not. Changes nothing.

mod data;
mod installation;
mod keys;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use crate::commands::{Failure, act_as_owner, counted, print};
use crate::config::{CommonSettings, SettingsArgs};
use crate::domain::person::PersonName;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;
use crate::people::folder;

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
    /// Person whose data was checked, except the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<PersonName>,
    finding: String,
}

/// Results of the checks so far.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    /// Person whose data is being checked, except the owner.
    person: Option<PersonName>,
}

impl Findings {
    fn ok(&mut self, about: &'static str, finding: impl Into<String>) {
        self.push(Severity::Ok, about, finding.into());
    }

    fn advice(&mut self, about: &'static str, finding: impl Into<String>) {
        self.push(Severity::Advice, about, finding.into());
    }

    fn must(&mut self, about: &'static str, finding: impl Into<String>) {
        self.push(Severity::Must, about, finding.into());
    }

    fn push(&mut self, state: Severity, about: &'static str, finding: String) {
        self.list.push(Finding { state, about, person: self.person.clone(), finding });
    }
}

/// Runs all checks and prints their findings. `config` is the file that settings were read from.
pub fn run(args: &CheckArgs, config: &Path) -> Result<(), Failure> {
    let settings = args.settings.validate(|name| std::env::var(name).ok())?;
    let now = Timestamp::from(SystemTime::now());
    let database = &settings.common.database;
    let mut report = Findings::default();
    let access = database.try_exists();
    match &access {
        Ok(_) => {
            // The key may be readable only by the caller, so it is checked before the switch to the owner.
            installation::key(&mut report, &settings, now);
            keys::config(&mut report, &settings, config);
        }
        // Without access to the folder, every file in it would appear to be missing.
        Err(e) => report
            .must("files", format!("cannot access {}: {e}: run this command with sudo", database.display())),
    }
    installation::settings(&mut report, &settings);
    installation::connections(&mut report, &settings);
    if access.is_ok() {
        installation::files(&mut report, &settings);
        let identity = act_as_owner(database)?;
        data_of(&mut report, &settings.common, &identity, now);
        match folder::list(&settings.common) {
            Ok(names) => {
                for name in names {
                    let settings = settings.common.of_person(&name);
                    report.person = Some(name);
                    data_of(&mut report, &settings, &identity, now);
                }
                report.person = None;
            }
            Err(e) => {
                let people = settings.common.people_folder();
                report.must("people", format!("cannot read {}: {e}", people.display()));
            }
        }
        data::disk(&mut report, database);
    }
    installation::clock(&mut report);
    installation::unit(&mut report);
    if args.json {
        let all = serde_json::to_string(&report.list).map_err(anyhow::Error::from)?;
        print(&all)?;
    } else {
        for Finding { state, about, person, finding } in &report.list {
            let person = person.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            print(&format!("{state:<5} {about:<11} {person}{finding}"))?;
        }
    }
    match report.list.iter().filter(|finding| finding.state == Severity::Must).count() {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("found {}", counted(n as u64, "problem")))),
    }
}

/// Checks the keys, the database and the backups of a person.
fn data_of(report: &mut Findings, settings: &CommonSettings, identity: &Identity, now: Timestamp) {
    keys::named(report, &settings.database, now);
    data::current_move(report, &settings.database);
    data::database(report, &settings.database, now);
    data::backups(report, settings, identity, now);
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
