//! `person`: adds, lists, renames and removes people, and moves them to another machine.

mod moving;

use std::io;
use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::auth::key::{KeyName, Scopes};
use crate::auth::key_file::KeyFile;
use crate::backup::origin::count_backup;
use crate::backup::verify::Contents;
use crate::commands::table::print_table;
use crate::commands::{
    Failure, act_as_owner, confirm, counted_entries, newest_entry, print, progress, without_backup,
};
use crate::config::{CommonArgs, CommonSettings, RemovalArgs};
use crate::db::error::require_database;
use crate::domain::person::{DisplayName, PersonName};
use crate::domain::time::Timestamp;
use crate::fs::freeze_marker::freeze_marker;
use crate::fs::privileges::Identity;
use crate::people::add::{FIRST_KEY_SCOPES, add};
use crate::people::error::PersonError;
use crate::people::folder::{PeopleLock, display_name, existing, list, recover, set_display_name};
use crate::people::moving::{FrozenMove, current_move, ensure_not_frozen, existing_or_owner};
use crate::people::relocate::{Removal, remove, rename};
use crate::people::removed::{DeletionSchedule, RemovedFolder};

/// Name of the key that `add` creates.
const FIRST_KEY: &str = "first";

#[derive(Args, Debug)]
pub struct PersonCommandArgs {
    #[command(subcommand)]
    action: PersonCommand,
}

#[derive(Debug, Subcommand)]
enum PersonCommand {
    /// Add a person and print their first API key once
    Add {
        /// Name: 1 to 32 lower-case letters, digits or hyphens, starting with a letter or digit
        name: PersonName,

        /// Name that pages show
        #[arg(long, value_name = "TEXT")]
        display_name: Option<DisplayName>,

        /// Print the result as a JSON object
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        common: CommonArgs,
    },
    /// List the people with their entries and keys
    List {
        /// Print a JSON object
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        common: CommonArgs,
    },
    /// Change the name or the display name of a person
    ///
    /// Keys stay valid. A running server closes the person's database for a moment. The name of the owner is fixed.
    Rename {
        /// Present name
        name: PersonName,

        /// New name
        new: Option<PersonName>,

        /// Name that pages show; empty removes it
        #[arg(long, value_name = "TEXT", value_parser = optional_display_name, required_unless_present = "new")]
        display_name: Option<NewDisplayName>,

        #[command(flatten)]
        common: CommonArgs,
    },
    /// Remove a person after a last backup
    ///
    /// Their folder is moved to `removed/` beside the owner's database, from where `adopt` brings it back, until a
    /// running server deletes it for good.
    Remove {
        /// Name of the person
        name: PersonName,

        /// Skip the confirmation prompt
        #[arg(long, short)]
        yes: bool,

        /// Remove a person whose database is damaged and cannot be backed up
        #[arg(long)]
        without_backup: bool,

        /// Undo an adoption: remove a person who was not released here yet, without a backup or a prompt
        ///
        /// Fails if the person is here in another state. Succeeds if there is no such person.
        #[arg(long)]
        unreleased: bool,

        /// Print the result as a JSON object
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        removal: RemovalArgs,

        #[command(flatten)]
        common: CommonArgs,
    },
    /// Reject all changes of a person, before a move to another machine
    ///
    /// Reading goes on. `archive` does this by itself. The freeze outlasts restarts; `release` ends it.
    Freeze(moving::FreezeArgs),
    /// Freeze a person and write their data, keys and display name to one file, for another machine
    ///
    /// The person stays frozen, so that nothing is added here that the archive does not have. Repeat the command with the
    /// same file after an interruption; it is verified if it is already there.
    Archive(moving::ArchiveArgs),
    /// Add a person from an archive, or bring a removed one back
    ///
    /// A person from an archive is frozen until `release`.
    Adopt(moving::AdoptArgs),
    /// Accept changes of a frozen person again: on the new machine, or after `freeze` alone
    ///
    /// On the old machine, `--undo` keeps a person there who was archived. The new machine must then never release them.
    Release(moving::ReleaseArgs),
}

/// Display name to set, or `None` to remove it.
#[derive(Clone, Debug)]
struct NewDisplayName(Option<DisplayName>);

fn optional_display_name(text: &str) -> Result<NewDisplayName, &'static str> {
    if text.is_empty() { Ok(NewDisplayName(None)) } else { text.parse().map(Some).map(NewDisplayName) }
}

impl From<PersonError> for Failure {
    fn from(error: PersonError) -> Self {
        match error {
            PersonError::Owner | PersonError::Nameless => Self::Usage(error.to_string()),
            PersonError::Open(e) => e.into(),
            PersonError::Keys(e) => e.into(),
            PersonError::Restore(e) => e.into(),
            e => Self::busy_if(e.is_transient(), &e),
        }
    }
}

pub fn run(args: PersonCommandArgs) -> Result<(), Failure> {
    match args.action {
        PersonCommand::Add { name, display_name, json, common } => {
            let (settings, _) = prepare(&common)?;
            require_database(&settings.owner_database)?;
            add_person(&settings, &name, display_name.as_ref(), json)
        }
        PersonCommand::List { json, common } => {
            let (settings, _) = prepare(&common)?;
            list_people(&settings, json)
        }
        PersonCommand::Rename { name, new, display_name, common } => {
            let (settings, _) = prepare(&common)?;
            rename_person(&settings, &name, new.as_ref(), display_name)
        }
        PersonCommand::Remove { name, yes, without_backup, unreleased, json, removal, common } => {
            let (_, days) = removal.validate_with(&common)?;
            let (settings, identity) = prepare(&common)?;
            if unreleased {
                // With a wrong folder, nobody would be there.
                require_database(&settings.owner_database)?;
                return moving::run_remove_unreleased(&settings, &name, days, json);
            }
            if !yes && !confirm_removal(&settings, &name, days, !without_backup)? {
                return print("nothing was changed");
            }
            remove_person(&settings, &identity, &name, days, !without_backup, json)
        }
        PersonCommand::Freeze(args) => moving::run_freeze(&args),
        PersonCommand::Archive(args) => moving::run_archive(&args),
        PersonCommand::Adopt(args) => moving::run_adopt(&args),
        PersonCommand::Release(args) => moving::run_release(&args),
    }
}

/// Switches to the owner of the data, and finishes what killed commands left unfinished.
fn prepare(common: &CommonArgs) -> Result<(CommonSettings, Identity), Failure> {
    let settings = common.validate()?;
    let identity = act_as_owner(&settings.owner_database)?;
    // `list` works on a read-only file system, and commands that change something fail by themselves.
    if let Err(e) = recover(&settings) {
        tracing::warn!("what a killed command left unfinished could not be removed: {e}");
    }
    Ok((settings, identity))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn add_person(
    settings: &CommonSettings,
    name: &PersonName,
    display_name: Option<&DisplayName>,
    as_json: bool,
) -> Result<(), Failure> {
    let first = KeyName::parse(FIRST_KEY).map_err(|e| Failure::Failed(e.to_owned()))?;
    let key = add(settings, name, display_name, &first, now())?;
    let printed = match as_json {
        true => {
            let first_key = json!({"name": first, "scopes": FIRST_KEY_SCOPES, "key": key});
            json!({"name": name, "first_key": first_key}).to_string()
        }
        false => key.clone(),
    };
    writeln!(io::stdout(), "{printed}").and_then(|()| io::stdout().flush()).map_err(|e| {
        Failure::Failed(format!(
            "added {name} but cannot print their key: {e}: replace it with `coffee-tracker key rotate {first} --grace 0 --person {name}`"
        ))
    })?;
    if as_json {
        return Ok(());
    }
    let scopes = Scopes::from(FIRST_KEY_SCOPES.to_vec());
    eprintln!(
        "added {name} with the key {first} ({scopes}); save it now, it is not shown again
dashboard: http://HOST:PORT/#key={key}
from a shell: curl -H \"Authorization: Bearer $KEY\" http://HOST:PORT/me"
    );
    Ok(())
}

/// Line of the list.
struct ListedPerson {
    settings: CommonSettings,
    display_name: Option<String>,
    /// `None` when the database is missing or damaged.
    contents: Option<Contents>,
    /// `None` when the file of keys is damaged.
    keys: Option<usize>,
    /// Move to another machine; `None` when the person is not frozen, or the marker is damaged.
    current_move: Option<FrozenMove>,
    /// Text about a damaged marker.
    damaged_move: Option<String>,
}

impl ListedPerson {
    fn of(settings: CommonSettings) -> Self {
        let database = &settings.database;
        let keys = KeyFile::of(database).read().ok();
        let now = now();
        let (current_move, damaged_move) = match current_move(database) {
            Ok(found) => (found, None),
            Err(e) => {
                tracing::error!("{e}");
                let marker = freeze_marker(database);
                (None, Some(format!("frozen, but the file {} is damaged", marker.display())))
            }
        };
        Self {
            display_name: display_name(database),
            contents: count_backup(database).ok(),
            keys: keys.map(|(keys, _)| keys.iter().filter(|key| key.is_valid_at(now)).count()),
            current_move,
            damaged_move,
            settings,
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "name": self.settings.person,
            "display_name": self.display_name,
            "database": self.settings.database,
            "size_bytes": std::fs::metadata(&self.settings.database).map(|file| file.len()).ok(),
            "coffees": self.contents.map(|c| c.coffees),
            "readings": self.contents.map(|c| c.readings),
            "newest_entry_at": self.contents.and_then(|c| c.newest),
            "keys": self.keys,
            "frozen_since": self.current_move.as_ref().map(|current| current.frozen_since),
            "move": self.current_move.as_ref().map(|current| json!({"id": current.id, "direction": current.direction})),
        })
    }

    fn as_row(&self) -> [String; 6] {
        let contents = self.contents.as_ref();
        [
            self.settings.person.to_string(),
            self.display_name.clone().unwrap_or_default(),
            contents.map_or_else(|| "unreadable".to_owned(), counted_entries),
            contents.map_or_else(String::new, newest_entry),
            self.keys.map_or_else(|| "damaged".to_owned(), |keys| keys.to_string()),
            match &self.current_move {
                Some(current) => {
                    format!("{}, frozen since {}", current.direction.name(), current.frozen_since)
                }
                None => self.damaged_move.clone().unwrap_or_default(),
            },
        ]
    }
}

fn list_people(settings: &CommonSettings, json: bool) -> Result<(), Failure> {
    let others =
        list(settings).with_context(|| format!("cannot list {}", settings.people_folder().display()))?;
    let names = std::iter::once(PersonName::owner()).chain(others);
    let people: Vec<ListedPerson> = names.map(|name| ListedPerson::of(settings.of_person(&name))).collect();
    if json {
        let people: Vec<Value> = people.iter().map(ListedPerson::as_json).collect();
        return print(&json!({ "people": people }).to_string());
    }
    let columns = ["NAME", "DISPLAY NAME", "ENTRIES", "NEWEST ENTRY", "KEYS", "MOVE"];
    print_table(columns, people.iter().map(ListedPerson::as_row))
}

fn rename_person(
    settings: &CommonSettings,
    name: &PersonName,
    new: Option<&PersonName>,
    display_name: Option<NewDisplayName>,
) -> Result<(), Failure> {
    let mut name = name;
    if let Some(new) = new {
        rename(settings, name, new)?;
        print(&format!("renamed {name} to {new}"))?;
        name = new;
    }
    if let Some(NewDisplayName(shown)) = display_name {
        require_database(&existing_or_owner(settings, name)?.database)?;
        // `freeze` holds it, too.
        let _lock = PeopleLock::acquire(settings)?;
        let person = existing_or_owner(settings, name)?;
        ensure_not_frozen(&person)?;
        set_display_name(&person.database, shown.as_ref()).map_err(PersonError::at(&person.database))?;
        match shown {
            Some(shown) => print(&format!("{name} is shown as {}", shown.as_str()))?,
            None => print(&format!("{name} has no display name"))?,
        }
    }
    Ok(())
}

/// Asks whether to remove a person, who is deleted after `days` days. Without a backup, the person is kept.
fn confirm_removal(
    settings: &CommonSettings,
    name: &PersonName,
    days: Option<u32>,
    is_backed_up: bool,
) -> Result<bool, Failure> {
    let person = existing(settings, name)?;
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "a removal needs confirmation, and standard input is not a terminal: add --yes".into(),
        ));
    }
    let entries = count_backup(&person.database).ok();
    let entries = entries.as_ref().map_or_else(|| "unreadable".to_owned(), counted_entries);
    let folder = settings.removed_folder();
    let end = match days {
        Some(days) if is_backed_up => format!("deleted after {days} days"),
        Some(days) => format!("deleted after {days} days if there is an earlier backup"),
        None => "not deleted".to_owned(),
    };
    print(&format!(
        "Removing {name} ({entries}). Their keys stop working. The folder is moved to {} and {end}.",
        folder.display()
    ))?;
    confirm("Remove this person? [y/N] ")
}

fn remove_person(
    settings: &CommonSettings,
    identity: &Identity,
    name: &PersonName,
    days: Option<u32>,
    is_backed_up: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let bar = progress::of_copy(false);
    let removed = remove(settings, name, is_backed_up, identity, now(), &|stage| progress::show(&bar, stage));
    bar.finish_and_clear();
    let removed = removed.map_err(|error| match error {
        PersonError::Backup(e) => {
            match without_backup("nobody was removed, because the last backup failed", e) {
                Failure::Busy(why) => Failure::Busy(why),
                other => {
                    Failure::Failed(format!("{other}; add --without-backup to remove {name} without one"))
                }
            }
        }
        e => e.into(),
    })?;
    print_removal(settings, name, days, removed, as_json)
}

fn print_removal(
    settings: &CommonSettings,
    name: &PersonName,
    days: Option<u32>,
    Removal { folder, backup }: Removal,
    as_json: bool,
) -> Result<(), Failure> {
    let schedule = DeletionSchedule::read(settings, days);
    let deletion_at =
        RemovedFolder::from_path(&folder).and_then(|removed| schedule.deletion_time(&removed, now()));
    if as_json {
        let backup = backup.map(|backup| backup.path);
        let result = json!({"name": name, "folder": folder, "backup": backup, "deletion_at": deletion_at});
        return print(&result.to_string());
    }
    if let Some(backup) = backup {
        print(&format!(
            "made the last backup {} ({}, {})",
            backup.path.display(),
            counted_entries(&backup.contents),
            DecimalBytes(backup.size_bytes)
        ))?;
    }
    print(&format!("removed {name}; to undo this: coffee-tracker person adopt {}", folder.display()))?;
    match deletion_at {
        Some(at) => {
            let date = settings.zone.date(at);
            print(&format!("a running server deletes this folder for good on {date} (REMOVED_PERSON_DAYS)"))
        }
        None => Ok(()),
    }
}
