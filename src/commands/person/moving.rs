//! `person freeze`, `archive`, `adopt` and `release`: a move to another machine.

use std::io;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::commands::person::{now, prepare, print_removal};
use crate::commands::{Failure, confirm, counted_entries, print, progress};
use crate::config::{CommonArgs, CommonSettings};
use crate::db::error::require_database;
use crate::db::lock_file::{LockRecord, LockState};
use crate::domain::person::PersonName;
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;
use crate::people::archive::{Adoption, adopt_archive, archive};
use crate::people::error::PersonError;
use crate::people::moving::{
    AdoptedPerson, FrozenMove, Release, current_move, existing_or_owner, freeze, release,
};
use crate::people::relocate::{adopt_folder, remove_unreleased};

/// Time after which a running server has found a new person.
const SERVER_DELAY: Duration = Duration::from_millis(1500);

#[derive(Args, Debug)]
pub struct FreezeArgs {
    /// Name of the person; `owner` for the owner
    name: PersonName,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
pub struct ArchiveArgs {
    /// Name of the person; `owner` for the owner
    name: PersonName,

    /// New file, outside of the data folder
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
pub struct AdoptArgs {
    /// File of `person archive`, or a folder in `removed/`
    #[arg(value_name = "FILE|FOLDER")]
    source: PathBuf,

    /// Name of the person [default: the former name]
    #[arg(long)]
    name: Option<PersonName>,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// Name of the person; `owner` for the owner
    name: PersonName,

    /// Keep a person here who was archived for another machine, which must not have released them
    #[arg(long)]
    undo: bool,

    /// Skip the confirmation prompt of --undo
    #[arg(long, short, requires = "undo")]
    yes: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Freezes a person.
pub fn run_freeze(args: &FreezeArgs) -> Result<(), Failure> {
    let FreezeArgs { name, common } = args;
    let (settings, _) = prepare(common)?;
    require_database(&existing_or_owner(&settings, name)?.database)?;
    let frozen = freeze(&settings, name, now())?;
    let since = frozen.frozen_since;
    print(&format!(
        "{name} is frozen since {since}: changes are rejected until `{}`",
        release_command(&frozen, name)
    ))
}

/// Returns the command that ends the freeze of a person who leaves this machine.
fn release_command(frozen: &FrozenMove, name: &PersonName) -> String {
    let undo = if frozen.is_archived { " --undo" } else { "" };
    format!("coffee-tracker person release {name}{undo}")
}

/// Freezes a person and writes their archive.
pub fn run_archive(args: &ArchiveArgs) -> Result<(), Failure> {
    let ArchiveArgs { name, file, common } = args;
    let (settings, identity) = prepare(common)?;
    let database = settings.of_person(name).database;
    ensure_not_protected(&settings.owner_database, file)?;
    ensure_not_protected(&database, file)?;
    let bar = progress::of_copy(false);
    let made = archive(&settings, name, file, &identity, now(), &|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let contents = made.inspect_err(|_| {
        if let Ok(Some(found)) = current_move(&database)
            && found.is_leaving()
        {
            eprintln!(
                "{name} is frozen: repeat the command, or undo it with `{}`",
                release_command(&found, name)
            );
        }
    })?;
    print(&format!("archived {name} as {}: {}", file.display(), counted_entries(&contents)))?;
    print(&format!("{name} is frozen here; next, adopt the file on the new machine"))
}

/// Adds a person from an archive or from `removed/`.
pub fn run_adopt(args: &AdoptArgs) -> Result<(), Failure> {
    let AdoptArgs { source, name, common } = args;
    let (settings, identity) = prepare(common)?;
    require_database(&settings.owner_database)?;
    if identity.as_caller(|| source.is_dir()).context("cannot act as the caller")? {
        adopt_removed(&settings, source, name.as_ref())
    } else {
        adopt(&settings, identity, source, name.as_ref())
    }
}

fn adopt_removed(settings: &CommonSettings, folder: &Path, name: Option<&PersonName>) -> Result<(), Failure> {
    let name = adopt_folder(settings, folder, name)?;
    print(&format!("adopted {} as {name}, whose keys work again", folder.display()))?;
    match current_move(&settings.of_person(&name).database)? {
        Some(_) => print(&format!("{name} is still frozen, because of a move to another machine")),
        None => Ok(()),
    }
}

fn adopt(
    settings: &CommonSettings,
    identity: Identity,
    file: &Path,
    name: Option<&PersonName>,
) -> Result<(), Failure> {
    let bar = progress::of_copy(false);
    let adopted = adopt_archive(settings, file, name, identity, now(), &|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let file = file.display();
    let (name, is_frozen) = match adopted? {
        Adoption::Added { name, contents } => {
            // Until then, it rejects the keys. After a crash, the wait is unnecessary and does no harm.
            if LockRecord::read(&settings.owner_database).state == LockState::Running {
                std::thread::sleep(SERVER_DELAY);
            }
            print(&format!("adopted {file} as {name}, frozen: {}", counted_entries(&contents)))?;
            (name, true)
        }
        Adoption::Known(AdoptedPerson { name, is_frozen }) => {
            let state = if is_frozen { "frozen" } else { "and released" };
            print(&format!("{file} was adopted as {name} before, {state}: nothing to do"))?;
            (name, is_frozen)
        }
    };
    if is_frozen {
        print(&format!(
            "the keys of the archive can read here; next, send requests here and run `coffee-tracker person release {name}`"
        ))?;
    }
    Ok(())
}

/// Removes a person whose adoption is undone.
pub fn run_remove_unreleased(
    settings: &CommonSettings,
    name: &PersonName,
    days: Option<u32>,
    as_json: bool,
) -> Result<(), Failure> {
    match remove_unreleased(settings, name, now())? {
        Some(removed) => print_removal(settings, name, days, removed, as_json),
        None if as_json => {
            print(&json!({"name": name, "folder": null, "backup": null, "deletion_at": null}).to_string())
        }
        None => print(&format!("there is no person named {name}: nothing to do")),
    }
}

/// Ends the freeze of a person.
pub fn run_release(args: &ReleaseArgs) -> Result<(), Failure> {
    let ReleaseArgs { name, undo, yes, common } = args;
    let (settings, _) = prepare(common)?;
    let person = existing_or_owner(&settings, name)?;
    let has_archive = match current_move(&person.database) {
        Err(PersonError::DamagedMove { .. }) if *undo => true,
        current => current?.is_some_and(|current| current.is_leaving() && current.is_archived),
    };
    if *undo && !*yes && has_archive && !confirm_undo(name)? {
        return print("nothing was changed");
    }
    let is_released = release(&settings, name, if *undo { Release::Undo } else { Release::Finish })?;
    match (is_released, undo) {
        (true, false) => print(&format!("released {name}")),
        (true, true) => print(&format!("released {name}, who stays here")),
        (false, _) => print(&format!("{name} is not frozen: nothing to do")),
    }
}

fn confirm_undo(name: &PersonName) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "undoing a move needs confirmation, and standard input is not a terminal: add --yes".into(),
        ));
    }
    print(&format!(
        "{name} was archived for another machine. If a machine has released {name}, both accept changes from now on, \
         and entries are lost. Remove {name} there first, and delete the archive."
    ))?;
    confirm(&format!("Has no other machine released {name}, and may {name} stay here? [y/N] "))
}
