//! `verify`: checks that files can be restored and prints the reasons if they cannot.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::backup::retention::newest_to_verify;
use crate::backup::verify::{VerificationReport, verify_file};
use crate::commands::backups::newest;
use crate::commands::{Failure, counted, counted_entries, everyone, newest_entry, print};
use crate::config::PersonArgs;
use crate::fs::privileges::Identity;

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Backups or databases to verify
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Verify the newest backup of each person in BACKUP_DIR, or of the one of --person
    #[arg(long, conflicts_with = "files")]
    newest: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    common: PersonArgs,
}

/// Verifies every file. Fails if one of them cannot be restored.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    if args.files.is_empty() && !args.newest {
        return Err(Failure::Usage(
            "no file given: name the files to verify, or use --newest for the newest backup of this database"
                .into(),
        ));
    }
    let (mut files, mut without) = (args.files.clone(), 0_u64);
    if args.newest {
        let people = everyone(&args.common)?;
        for settings in &people {
            match newest(settings, &Identity::CALLER, newest_to_verify) {
                Ok(file) => files.push(file),
                Err(failure) if people.len() > 1 => {
                    tracing::error!("{}: {failure}", settings.person);
                    without += 1;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    let (mut unfit, mut differing_rollups) = (0_u64, 0_u64);
    for file in &files {
        let found = verify_file(file);
        unfit += u64::from(!found.is_sound());
        differing_rollups += u64::from(!found.differing_rollups.is_empty());
        if args.json {
            print(&as_json(&found).to_string())?;
        } else {
            print(&as_text(&found))?;
        }
    }
    if without > 0 {
        return Err(Failure::Failed(format!("{} without a backup", counted_people(without))));
    }
    match (unfit, differing_rollups) {
        (0, 0) => Ok(()),
        (0, n) => Err(Failure::Failed(format!(
            "{} with wrong rollups: rebuild them with `coffee-tracker recount`",
            counted(n, "file")
        ))),
        (n, _) => Err(Failure::Failed(format!("{} cannot be restored", counted(n, "file")))),
    }
}

fn counted_people(number: u64) -> String {
    if number == 1 { "1 person".to_owned() } else { format!("{number} people") }
}

fn as_text(found: &VerificationReport) -> String {
    let path = found.path.display();
    let contents = found.contents.unwrap_or_default();
    if !found.is_sound() {
        let reasons: String = found.reasons.iter().map(|reason| format!("\n  {reason}")).collect();
        return format!("{path}: cannot be restored{reasons}");
    }
    let wrong = match found.differing_rollups.join(", ") {
        none if none.is_empty() => none,
        tables => format!("\n  wrong rollups: {tables} (a restore rebuilds them)"),
    };
    let undigested = match found.has_digests {
        true => "",
        false => "\n  no digests of its rows: it is a backup of an older version, or a database in use",
    };
    format!(
        "{path}: can be restored\n  {}, newest entry {}\n  schema {}, {}, SHA-256 {}{wrong}{undigested}",
        counted_entries(&contents),
        newest_entry(&contents),
        found.schema_version.unwrap_or(0),
        indicatif::DecimalBytes(found.size_bytes),
        found.sha256.as_deref().unwrap_or("unknown"),
    )
}

fn as_json(found: &VerificationReport) -> Value {
    let contents = found.contents;
    json!({
        "file": found.path,
        "restorable": found.is_sound(),
        "reasons": found.reasons,
        "miscounted": found.differing_rollups,
        "has_digests": found.has_digests,
        "schema_version": found.schema_version,
        "coffees": contents.map(|c| c.coffees),
        "readings": contents.map(|c| c.readings),
        "newest_entry": contents.and_then(|c| c.newest),
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
    })
}
